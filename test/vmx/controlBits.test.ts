// Every control bit of control-bits.csv that the capability MSRs offer makes a difference: the same guest with the bit 1
// and with it 0. A new control without a row here fails.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { DR7, EFER, MSR_PAT, RIP, TSC_BASE } from "../../assembly/abi/state.ts";
import { advertised } from "../../scripts/vmx-features.ts";
import { table } from "../../scripts/vmx-tables.ts";
import {
  APIC_PAGE,
  BITMAP,
  delivery,
  EPT_ROOT,
  type ExitCase,
  exitTable,
  identityEpt,
  secondary,
  tprShadow,
  VAPIC,
} from "./exitTable.ts";
import type { Fields } from "./guests.ts";
import { HANDLER, RAX, RBX, RCX, RDX, Running, START, u32 } from "./running.ts";

const vmx = new Running();
beforeEach(() => {
  vmx.core.raiseInterrupt(-1);
  vmx.fresh();
});

const FIELD: Readonly<Record<string, string>> = {
  "pin-based": "PIN_BASED_CONTROLS",
  "primary-proc-based": "PRIMARY_PROC_BASED_CONTROLS",
  "secondary-proc-based": "SECONDARY_PROC_BASED_CONTROLS",
  "primary-exit": "PRIMARY_EXIT_CONTROLS",
  entry: "ENTRY_CONTROLS",
  "vm-function": "VM_FUNCTION_CONTROLS",
};
const BASE: Fields = {
  PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED),
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
  SECONDARY_PROC_BASED_CONTROLS: 0n,
  PRIMARY_EXIT_CONTROLS: u32(c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE),
  ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED, c.ENTRY_IA_32E_MODE_GUEST),
  VM_FUNCTION_CONTROLS: 0n,
};

interface Row extends Partial<ExitCase> {
  /** What is seen with the bit 1 and with it 0. */
  readonly want: readonly [unknown, unknown];
  /** Looks after the run; default: the exit reason. */
  readonly see?: () => unknown;
}

const reason = () => Number(vmx.read("EXIT_REASON"));
const rip = () => vmx.read("GUEST_RIP");
/** The exit of exitTable with the bit, VMCALL behind the instruction without it. */
const exits = (name: string, number: number, off = 18): Row => ({ ...exitTable[name], want: [number, off] });
const UD: Fields = { EXCEPTION_BITMAP: 0x40n };
const GP: Fields = { EXCEPTION_BITMAP: 0x2000n };
const RDTSC = [0x0f, 0x31];
const FROM_CR8 = [0x44, 0x0f, 0x20, 0xc3];
const openMsrs: Fields = {
  PRIMARY_PROC_BASED_CONTROLS: BASE.PRIMARY_PROC_BASED_CONTROLS! | u32(c.PRIMARY_USE_MSR_BITMAPS),
  MSR_BITMAP_ADDRESS: BITMAP,
};
const OTHER_PAT = 0x0007040600070400n;
/** A supervisor page that EPT lets user-mode addresses execute only. */
const splitPages = () => {
  identityEpt(vmx);
  vmx.poke64(EPT_ROOT, (EPT_ROOT + 0x1000n) | 7n | 0x400n);
  vmx.poke64(EPT_ROOT + 0x1000n, 0xb7n);
};

const rows: Readonly<Record<string, Row>> = {
  "pin-based: external-interrupt exiting": {
    ...exitTable.EXTERNAL_INTERRUPT!,
    set: { GUEST_RFLAGS: 0x202n },
    want: [1, 18],
  },
  "pin-based: NMI exiting": { code: [0x90], event: () => vmx.core.raiseNmi(), want: [0, 18] },
  "pin-based: virtual NMIs": {
    code: [0x90],
    set: { PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_NMI_EXITING), GUEST_INTERRUPTIBILITY_STATE: 8n },
    event: () => vmx.core.raiseNmi(),
    want: [0, 18],
  },
  "pin-based: activate VMX-preemption timer": exits("PREEMPTION_TIMER", 52),
  "pin-based: process posted interrupts": {
    code: [0x90],
    set: {
      ...delivery(),
      PRIMARY_EXIT_CONTROLS: BASE.PRIMARY_EXIT_CONTROLS! | u32(c.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT),
      POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0xf2n,
      POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: BITMAP,
    },
    event: () => vmx.core.raiseInterrupt(0xf2),
    want: [18, 1],
  },
  "primary-proc-based: interrupt-window exiting": exits("INTERRUPT_WINDOW", 7),
  "primary-proc-based: use TSC offsetting": {
    code: RDTSC,
    set: { TSC_OFFSET: 0x12n << 56n },
    see: () => vmx.gpr(RDX) >> 24n,
    want: [0x12n, 0n],
  },
  "primary-proc-based: HLT exiting": { ...exitTable.HLT!, want: [12, "halt"] },
  "primary-proc-based: INVLPG exiting": exits("INVLPG", 14),
  "primary-proc-based: MWAIT exiting": exits("MWAIT", 36),
  "primary-proc-based: RDPMC exiting": { code: [0x0f, 0x33], set: GP, want: [15, 0] },
  "primary-proc-based: RDTSC exiting": exits("RDTSC", 16),
  "primary-proc-based: CR3-load exiting": { code: [0x0f, 0x22, 0xd8], gprs: { [RAX]: 0x4000n }, want: [28, 18] },
  "primary-proc-based: CR3-store exiting": exits("CR_ACCESS", 28),
  "primary-proc-based: CR8-load exiting": { code: [0x44, 0x0f, 0x22, 0xc0], want: [28, 18] },
  "primary-proc-based: CR8-store exiting": { code: FROM_CR8, want: [28, 18] },
  "primary-proc-based: use TPR shadow": {
    code: FROM_CR8,
    set: { VIRTUAL_APIC_ADDRESS: VAPIC, TPR_THRESHOLD: 0n },
    before: () => vmx.poke64(VAPIC + 0x80n, 0x70n),
    see: () => vmx.gpr(RBX),
    want: [7n, 0n],
  },
  "primary-proc-based: NMI-window exiting": exits("NMI_WINDOW", 8),
  "primary-proc-based: MOV-DR exiting": exits("DR_ACCESS", 29),
  "primary-proc-based: unconditional I/O exiting": exits("IO_INSTRUCTION", 30),
  "primary-proc-based: use I/O bitmaps": {
    code: [0xe6, 0x80],
    set: { IO_BITMAP_A_ADDRESS: BITMAP, IO_BITMAP_B_ADDRESS: BITMAP },
    before: () => vmx.poke(BITMAP + 0x10n, [1]),
    want: [30, 18],
  },
  "primary-proc-based: monitor trap flag": exits("MONITOR_TRAP_FLAG", 37),
  "primary-proc-based: use MSR bitmaps": {
    code: [0x0f, 0x32],
    gprs: { [RCX]: 0x10n },
    set: { MSR_BITMAP_ADDRESS: BITMAP },
    want: [18, 31],
  },
  "primary-proc-based: MONITOR exiting": { ...exitTable.MONITOR!, gprs: { [RAX]: 0x9000n }, want: [39, 18] },
  "primary-proc-based: PAUSE exiting": exits("PAUSE", 40),
  "primary-proc-based: activate secondary controls": {
    code: [0x0f, 0x09],
    set: {
      PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED),
      SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_WBINVD_EXITING),
    },
    want: [54, 18],
  },
  "secondary-proc-based: virtualize APIC accesses": { ...exitTable.APIC_ACCESS!, set: tprShadow(), want: [44, 18] },
  "secondary-proc-based: enable EPT": exits("EPT_VIOLATION", 48),
  "secondary-proc-based: descriptor-table exiting": exits("GDTR_IDTR_ACCESS", 46),
  "secondary-proc-based: enable RDTSCP": { code: [0x0f, 0x01, 0xf9], set: UD, want: [18, 0] },
  "secondary-proc-based: virtualize x2APIC mode": {
    code: [0x0f, 0x32],
    gprs: { [RCX]: 0x808n },
    set: {
      ...tprShadow(),
      ...GP,
      MSR_BITMAP_ADDRESS: BITMAP,
      PRIMARY_PROC_BASED_CONTROLS: openMsrs.PRIMARY_PROC_BASED_CONTROLS! | u32(c.PRIMARY_USE_TPR_SHADOW),
    },
    want: [18, 0],
  },
  "secondary-proc-based: enable VPID": { set: { VPID: 0n }, want: ["error 7", 18] },
  "secondary-proc-based: WBINVD exiting": exits("WBINVD", 54),
  "secondary-proc-based: unrestricted guest": {
    set: {
      ...secondary(c.SECONDARY_ENABLE_EPT),
      EPT_POINTER: EPT_ROOT | 0x1en,
      ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED),
      GUEST_CR0: 0x31n,
      GUEST_IA32_EFER: 0n,
      GUEST_CS_ACCESS_RIGHTS: 0xc09bn,
    },
    before: identityEpt,
    want: [18, "failed"],
  },
  "secondary-proc-based: APIC-register virtualization": {
    ...exitTable.APIC_ACCESS!,
    set: tprShadow(c.SECONDARY_VIRTUALIZE_APIC_ACCESSES),
    want: [18, 44],
  },
  "secondary-proc-based: virtual-interrupt delivery": {
    code: [0x90],
    set: { ...delivery(), GUEST_INTERRUPT_STATUS: 0x31n, GUEST_RFLAGS: 0x202n },
    see: rip,
    want: [HANDLER + 0x310n, START + 1n],
  },
  "secondary-proc-based: PAUSE-loop exiting": {
    code: [0xf3, 0x90, 0xf3, 0x90],
    set: { PLE_GAP: 10n, PLE_WINDOW: 0n },
    want: [40, 18],
  },
  "secondary-proc-based: RDRAND exiting": exits("RDRAND", 57),
  "secondary-proc-based: enable INVPCID": {
    code: [0x66, 0x0f, 0x38, 0x82, 0x03],
    gprs: { [RBX]: 0x9000n, [RAX]: 2n },
    set: UD,
    want: [18, 0],
  },
  "secondary-proc-based: enable VM functions": {
    code: [0x0f, 0x01, 0xd4],
    set: UD,
    want: [59, 0],
  },
  "secondary-proc-based: VMCS shadowing": {
    code: [0x0f, 0x78, 0xcb],
    gprs: { [RCX]: 0x681en },
    set: { VMREAD_BITMAP_ADDRESS: BITMAP, VMWRITE_BITMAP_ADDRESS: BITMAP },
    want: [18, 23],
  },
  "secondary-proc-based: RDSEED exiting": exits("RDSEED", 61),
  "secondary-proc-based: enable PML": exits("PML_FULL", 62),
  "secondary-proc-based: enable XSAVES/XRSTORS": {
    ...exitTable.XSAVES!,
    set: { ...exitTable.XSAVES!.set, ...UD },
    want: [63, 0],
  },
  "secondary-proc-based: mode-based execute control for EPT": {
    code: [0x90],
    set: { ...secondary(c.SECONDARY_ENABLE_EPT), EPT_POINTER: EPT_ROOT | 0x1en },
    before: splitPages,
    // user pages, so that bit 10 of the leaf counts
    want: [48, 18],
  },
  "secondary-proc-based: use TSC scaling": {
    code: RDTSC,
    set: {
      PRIMARY_PROC_BASED_CONTROLS: BASE.PRIMARY_PROC_BASED_CONTROLS! | u32(c.PRIMARY_USE_TSC_OFFSETTING),
      TSC_MULTIPLIER: 0n,
      TSC_OFFSET: 5n,
    },
    before: () => vmx.write64(TSC_BASE, 1_000_000n),
    see: () => (vmx.gpr(RAX) === 5n ? "offset only" : "scaled by 1"),
    want: ["offset only", "scaled by 1"],
  },
  "primary-exit: save debug controls": {
    code: [0x0f, 0x23, 0xf8], // mov dr7, rax
    gprs: { [RAX]: 0x401n },
    see: () => vmx.read("GUEST_DR7"),
    want: [0x401n, 0x400n],
  },
  "primary-exit: host address-space size": {
    set: { PRIMARY_EXIT_CONTROLS: u32(c.EXIT_REQUIRED) },
    want: [18, "error 8"],
  },
  "primary-exit: acknowledge interrupt on exit": {
    ...exitTable.EXTERNAL_INTERRUPT!,
    see: () => vmx.read("EXIT_INTERRUPTION_INFO"),
    want: [0x80000040n, 0n],
  },
  "primary-exit: save IA32_PAT": {
    set: { GUEST_IA32_PAT: OTHER_PAT },
    before: () => vmx.core.wrmsr(0x277, 0x0007040600070406n),
    see: () => vmx.read("GUEST_IA32_PAT"),
    want: [0x0007040600070406n, OTHER_PAT],
  },
  "primary-exit: load IA32_PAT": {
    set: { HOST_IA32_PAT: OTHER_PAT },
    before: () => vmx.core.wrmsr(0x277, 0x0007040600070406n),
    see: () => vmx.read64(MSR_PAT),
    want: [OTHER_PAT, 0x0007040600070406n],
  },
  "primary-exit: save IA32_EFER": {
    set: { GUEST_IA32_EFER: 0n },
    see: () => vmx.read("GUEST_IA32_EFER") & 0x500n,
    want: [0x500n, 0n],
  },
  "primary-exit: load IA32_EFER": {
    set: { HOST_IA32_EFER: 0x500n },
    see: () => vmx.read64(EFER) & 0x800n,
    want: [0n, 0x800n],
  },
  "primary-exit: save VMX-preemption timer value": {
    set: {
      PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_ACTIVATE_VMX_PREEMPTION_TIMER),
      VMX_PREEMPTION_TIMER_VALUE: 1000n,
    },
    code: Array<number>(100).fill(0x90),
    see: () => vmx.read("VMX_PREEMPTION_TIMER_VALUE") < 1000n,
    want: [true, false],
  },
  "entry: load debug controls": {
    set: { GUEST_DR7: 0x401n },
    before: () => {
      vmx.write64(DR7, 0x400n);
      vmx.core.stateChanged();
    },
    code: [0x0f, 0x21, 0xfb], // mov rbx, dr7
    see: () => vmx.gpr(RBX),
    want: [0x401n, 0x400n],
  },
  "entry: IA-32e mode guest": {
    // 48 is REX.W or DEC EAX
    set: { ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED), GUEST_IA32_EFER: 0n, GUEST_CS_ACCESS_RIGHTS: 0xc09bn },
    before: () => {
      // 32-bit paging finds an identity map too
      for (let i = 0n; i < 8n; i++) vmx.poke64(0x4000n + 8n * i, i === 0n ? 0xa007n : 0n);
      vmx.write("GUEST_CR4", 0x2030n);
      vmx.poke64(0xa000n, 0x87n);
    },
    see: () => vmx.read("ENTRY_CONTROLS") & 0x200n,
    want: [0x200n, "failed"],
  },
  "entry: load IA32_PAT": {
    set: { GUEST_IA32_PAT: OTHER_PAT },
    before: () => vmx.core.wrmsr(0x277, 0x0007040600070406n),
    see: () => vmx.read64(MSR_PAT),
    want: [OTHER_PAT, 0x0007040600070406n],
  },
  "entry: load IA32_EFER": {
    set: { GUEST_IA32_EFER: 0x500n, PRIMARY_EXIT_CONTROLS: BASE.PRIMARY_EXIT_CONTROLS! },
    see: () => vmx.read64(EFER) & 0x801n,
    want: [0n, 0x801n],
  },
  "vm-function: EPTP switching": {
    ...exitTable.VMFUNC!,
    before: () => {
      identityEpt(vmx);
      vmx.poke64(BITMAP, EPT_ROOT | 0x1en);
    },
    want: [18, 59],
  },
};

function see(row: Row, field: string, bit: bigint, on: boolean): unknown {
  const set: Fields = { ...BASE, ...row.set };
  set[field] = on ? set[field]! | bit : set[field]! & ~bit;
  const { before, event, code = [], gprs } = row;
  vmx.fill(APIC_PAGE, 0x1000);
  // start() writes the fields; what a row prepares may change them
  const entry = vmx.tryStart(code, set, gprs, () => before?.(vmx));
  if (entry.error !== undefined) return `error ${entry.error}`;
  if (!entry.entered) return "failed";
  event?.(vmx);
  const ended = vmx.core.run(1000n, 100_000n);
  if (ended === RunCode.Halt) return "halt";
  expect(ended).toBe(RunCode.VmExit);
  return (row.see ?? reason)();
}

const bits = table("control-bits").filter((row) => advertised[row.control!]?.includes(row.name!));

it("there is a row for each control, and no other", () => {
  const names = bits.map((row) => `${row.control}: ${row.name}`);
  expect(names.filter((name) => !(name in rows))).toEqual([]);
  expect(Object.keys(rows).filter((name) => !names.includes(name))).toEqual([]);
  expect(vmx.read64(RIP)).toBe(0n);
});

describe.each(bits)("$control: $name", ({ control, name, bit }) => {
  const row = rows[`${control}: ${name}`];
  if (!row) return;
  it.each([
    ["1", true, row.want[0]],
    ["0", false, row.want[1]],
  ] as const)("%s", (_, on, want) => {
    expect(see(row, FIELD[control!]!, 1n << BigInt(bit!), on)).toEqual(want);
  });
});
