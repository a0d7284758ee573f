// Model-specific registers by name, one or many at once.
import { type Core, checkU32, checkU64, WasmVmxError } from "../core/index.ts";
import { captureState, restoreState } from "../snapshot/index.ts";

/** MSRs that have a name here, as the SDM names them. @sdm 4 "Model-Specific Registers (MSRs)" */
export const MSR_INDEX = {
  IA32_TIME_STAMP_COUNTER: 0x10,
  IA32_PLATFORM_ID: 0x17,
  IA32_APIC_BASE: 0x1b,
  IA32_FEATURE_CONTROL: 0x3a,
  IA32_TSC_ADJUST: 0x3b,
  IA32_SPEC_CTRL: 0x48,
  IA32_PRED_CMD: 0x49,
  IA32_BIOS_UPDT_TRIG: 0x79,
  IA32_BIOS_SIGN_ID: 0x8b,
  MSR_PLATFORM_INFO: 0xce,
  IA32_MTRRCAP: 0xfe,
  MSR_MISC_FEATURES_ENABLES: 0x140,
  IA32_SYSENTER_CS: 0x174,
  IA32_SYSENTER_ESP: 0x175,
  IA32_SYSENTER_EIP: 0x176,
  IA32_MCG_CAP: 0x179,
  IA32_MCG_STATUS: 0x17a,
  IA32_MISC_ENABLE: 0x1a0,
  IA32_DEBUGCTL: 0x1d9,
  IA32_PAT: 0x277,
  IA32_MTRR_DEF_TYPE: 0x2ff,
  IA32_VMX_BASIC: 0x480,
  IA32_VMX_PINBASED_CTLS: 0x481,
  IA32_VMX_PROCBASED_CTLS: 0x482,
  IA32_VMX_EXIT_CTLS: 0x483,
  IA32_VMX_ENTRY_CTLS: 0x484,
  IA32_VMX_MISC: 0x485,
  IA32_VMX_CR0_FIXED0: 0x486,
  IA32_VMX_CR0_FIXED1: 0x487,
  IA32_VMX_CR4_FIXED0: 0x488,
  IA32_VMX_CR4_FIXED1: 0x489,
  IA32_VMX_VMCS_ENUM: 0x48a,
  IA32_VMX_PROCBASED_CTLS2: 0x48b,
  IA32_VMX_EPT_VPID_CAP: 0x48c,
  IA32_VMX_TRUE_PINBASED_CTLS: 0x48d,
  IA32_VMX_TRUE_PROCBASED_CTLS: 0x48e,
  IA32_VMX_TRUE_EXIT_CTLS: 0x48f,
  IA32_VMX_TRUE_ENTRY_CTLS: 0x490,
  IA32_VMX_VMFUNC: 0x491,
  IA32_TSC_DEADLINE: 0x6e0,
  IA32_XSS: 0xda0,
  IA32_PKG_HDC_CTL: 0xdb0,
  IA32_PM_CTL1: 0xdb1,
  IA32_THREAD_STALL: 0xdb2,
  IA32_EFER: 0xc000_0080,
  IA32_STAR: 0xc000_0081,
  IA32_LSTAR: 0xc000_0082,
  IA32_CSTAR: 0xc000_0083,
  IA32_FMASK: 0xc000_0084,
  IA32_FS_BASE: 0xc000_0100,
  IA32_GS_BASE: 0xc000_0101,
  IA32_KERNEL_GS_BASE: 0xc000_0102,
  IA32_TSC_AUX: 0xc000_0103,
} as const;
export type MsrName = keyof typeof MSR_INDEX;
export const MSR_NAMES = Object.keys(MSR_INDEX) as MsrName[];

/** Values by name; those that the processor does not have are left out. */
export type MsrValues = { -readonly [N in MsrName]?: bigint };
/** Values to write, by name or by index; pairs where the order matters. */
export type MsrUpdate =
  | ({ readonly [N in MsrName]?: bigint | number } & { readonly [index: number]: bigint | number })
  | Iterable<readonly [MsrName | number, bigint | number]>;

/** WRMSR of this value would raise #GP(0). Nothing was written. */
export class MsrError extends WasmVmxError {
  override name = "MsrError";
  constructor(
    readonly msr: MsrName | number,
    readonly index: number,
    readonly value: bigint,
  ) {
    super(
      `WRMSR of 0x${value.toString(16)} to ${typeof msr === "string" ? `${msr} (0x${index.toString(16)})` : `0x${index.toString(16)}`} raises #GP(0); no MSR of this write has changed`,
    );
  }
}

function indexOf(msr: MsrName | number): number {
  if (typeof msr === "number") return checkU32("index", msr);
  if (Object.hasOwn(MSR_INDEX, msr)) return MSR_INDEX[msr];
  throw new TypeError(
    `there is no MSR named ${JSON.stringify(msr)}: names are those of MSR_NAMES, others go by number`,
  );
}

/** Of an object the names come as they are, and what looks like a number is one. */
function pairs(update: MsrUpdate): Iterable<readonly [MsrName | number, bigint | number]> {
  if (Symbol.iterator in update) return update;
  return Object.entries(update)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => [/^\d+$/.test(key) ? Number(key) : (key as MsrName), value] as const);
}

/** The MSRs of a machine, as RDMSR and WRMSR at CPL 0 see them. Hooks are not asked. */
export class Msrs {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** All MSRs that have a name and exist. */
  read(): MsrValues;
  /** These, by what they were asked by; undefined where RDMSR would raise #GP(0). */
  read<M extends MsrName | number>(msrs: readonly M[]): Record<M, bigint | undefined>;
  read(msrs?: readonly (MsrName | number)[]): Record<string, bigint | undefined> {
    const indices = (msrs ?? MSR_NAMES).map((msr) => [msr, indexOf(msr)] as const);
    const values: Record<string, bigint | undefined> = {};
    for (const [msr, index] of indices) {
      const value = this.#core.rdmsr(index);
      if (value !== undefined || msrs !== undefined) values[msr] = value;
    }
    return values;
  }

  /**
   * Writes several MSRs, in order (of an object: numbers first). Where one of them would raise #GP(0) there is an MsrError and
   * none has changed; only what a device has seen of a local APIC's registers stays.
   */
  write(update: MsrUpdate): void {
    const writes = Array.from(pairs(update), ([msr, value]) => {
      return { msr, index: indexOf(msr), value: checkU64(String(msr), value) };
    });
    const before = writes.length > 1 ? captureState(this.#core) : undefined;
    for (const { msr, index, value } of writes) {
      if (this.#core.wrmsr(index, value)) continue;
      if (before) restoreState(this.#core, before);
      throw new MsrError(msr, index, value);
    }
  }
}
