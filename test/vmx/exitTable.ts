// One guest for each exit reason that this processor has: code, VMCS changes, registers. Keys are the names of
// exit-reasons.csv.
import * as c from "../../assembly/abi/controls.ts";
import type { Fields } from "./guests.ts";
import { RAX, RBX, RCX, RDX, type Running, u32 } from "./running.ts";

export interface ExitCase {
  readonly code: readonly number[];
  readonly set?: Fields;
  readonly gprs?: Readonly<Record<number, bigint>>;
  readonly qualification?: bigint;
  /** Memory before the VM entry. */
  readonly before?: (vmx: Running) => void;
  /** Pending events, after the VM entry was made ready. */
  readonly event?: (vmx: Running) => void;
}

export const BITMAP = 0x19000n;
export const EPT_ROOT = 0x16000n;
export const VAPIC = 0x11000n;
export const APIC_PAGE = 0x12000n;
const SECOND = u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS);

export const primary = (...bits: number[]): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, ...bits),
});
export const secondary = (...bits: number[]): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: u32(...bits),
});
export const pin = (...bits: number[]): Fields => ({ PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, ...bits) });
export const ept = (...bits: number[]): Fields => ({
  ...secondary(c.SECONDARY_ENABLE_EPT, ...bits),
  EPT_POINTER: EPT_ROOT | 0x1en,
});
export const tprShadow = (...bits: number[]): Fields => ({
  ...secondary(...bits),
  PRIMARY_PROC_BASED_CONTROLS: SECOND | u32(c.PRIMARY_USE_TPR_SHADOW),
  VIRTUAL_APIC_ADDRESS: VAPIC,
  APIC_ACCESS_ADDRESS: APIC_PAGE,
  TPR_THRESHOLD: 0n,
});
export const delivery = (...bits: number[]): Fields => ({
  ...tprShadow(c.SECONDARY_VIRTUAL_INTERRUPT_DELIVERY, ...bits),
  ...pin(c.PIN_EXTERNAL_INTERRUPT_EXITING),
  GUEST_INTERRUPT_STATUS: 0n,
  EOI_EXIT_BITMAP_0: 0n,
  EOI_EXIT_BITMAP_1: 0n,
  EOI_EXIT_BITMAP_2: 0n,
  EOI_EXIT_BITMAP_3: 0n,
});
/** The first GiB at itself in one page; the second is absent. */
export const identityEpt = (vmx: Running): void => {
  vmx.poke64(EPT_ROOT, (EPT_ROOT + 0x1000n) | 7n);
  vmx.poke64(EPT_ROOT + 0x1000n, 0xb7n);
};

/** [rbx] beyond what EPT maps, through a page of its own. */
const BEYOND = 0x4000_0000n;
const mapBeyond = (vmx: Running): void => {
  identityEpt(vmx);
  vmx.poke64(0xa008n, BEYOND | 0x87n);
};

/** HDC state in IA32_XSS, in EDX:EAX and in the bitmap. */
const extendedState: Omit<ExitCase, "code"> = {
  set: {
    ...secondary(c.SECONDARY_ENABLE_XSAVES_XRSTORS),
    XSS_EXITING_BITMAP: 0x2000n,
    GUEST_CR4: 0x42020n,
  },
  gprs: { [RAX]: 0x2001n, [RBX]: 0x9000n },
  before: (vmx) => void vmx.core.wrmsr(0xda0, 0x2000n),
};

export const exitTable: Readonly<Record<string, ExitCase>> = {
  EXCEPTION_OR_NMI: { code: [0x0f, 0x0b], set: { EXCEPTION_BITMAP: 0x40n } },
  EXTERNAL_INTERRUPT: {
    code: [0x90],
    set: pin(c.PIN_EXTERNAL_INTERRUPT_EXITING),
    event: (vmx) => vmx.core.raiseInterrupt(0x40),
  },
  TRIPLE_FAULT: { code: [0x0f, 0x0b], set: { GUEST_IDTR_LIMIT: 0n } },
  INIT_SIGNAL: { code: [0x90], event: (vmx) => vmx.core.reset(1) },
  INTERRUPT_WINDOW: { code: [0x90], set: { ...primary(c.PRIMARY_INTERRUPT_WINDOW_EXITING), GUEST_RFLAGS: 0x202n } },
  NMI_WINDOW: {
    code: [0x90],
    set: { ...primary(c.PRIMARY_NMI_WINDOW_EXITING), ...pin(c.PIN_NMI_EXITING, c.PIN_VIRTUAL_NMIS) },
  },
  TASK_SWITCH: {
    // a task gate for vector 6, to a TSS at GDT selector 20H
    code: [0x0f, 0x0b],
    set: {
      ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED),
      GUEST_CR3: 0x18000n,
      GUEST_CR4: 0x2010n,
      GUEST_IA32_EFER: 0n,
      GUEST_CS_ACCESS_RIGHTS: 0xc09bn,
      GUEST_GDTR_LIMIT: 0x2fn,
    },
    before: (vmx) => {
      vmx.poke64(0x18000n, 0x87n);
      vmx.poke64(0x8c20n, 0x0000_8900_9000_0067n);
      vmx.poke64(0x8000n + 8n * 6n, 0x0000_8500_0020_0000n);
    },
    qualification: 0xc000_0020n,
  },
  CPUID: { code: [0x0f, 0xa2] },
  HLT: { code: [0xf4], set: primary(c.PRIMARY_HLT_EXITING) },
  INVD: { code: [0x0f, 0x08] },
  INVLPG: {
    code: [0x0f, 0x01, 0x3b],
    set: primary(c.PRIMARY_INVLPG_EXITING),
    gprs: { [RBX]: 0x1234n },
    qualification: 0x1234n,
  },
  RDPMC: { code: [0x0f, 0x33], set: primary(c.PRIMARY_RDPMC_EXITING) },
  RDTSC: { code: [0x0f, 0x31], set: primary(c.PRIMARY_RDTSC_EXITING) },
  VMCALL: { code: [] },
  VMCLEAR: { code: [0x66, 0x0f, 0xc7, 0x73, 0x08], qualification: 8n },
  VMLAUNCH: { code: [0x0f, 0x01, 0xc2] },
  VMPTRLD: { code: [0x0f, 0xc7, 0x73, 0x08], qualification: 8n },
  VMPTRST: { code: [0x0f, 0xc7, 0x7b, 0x08], qualification: 8n },
  VMREAD: { code: [0x0f, 0x78, 0x4b, 0x08], qualification: 8n },
  VMRESUME: { code: [0x0f, 0x01, 0xc3] },
  VMWRITE: { code: [0x0f, 0x79, 0x4b, 0x08], qualification: 8n },
  VMXOFF: { code: [0x0f, 0x01, 0xc4] },
  VMXON: { code: [0xf3, 0x0f, 0xc7, 0x73, 0x08], qualification: 8n },
  CR_ACCESS: { code: [0x0f, 0x20, 0xdb], set: primary(c.PRIMARY_CR3_STORE_EXITING), qualification: 0x313n },
  DR_ACCESS: { code: [0x0f, 0x21, 0xfb], set: primary(c.PRIMARY_MOV_DR_EXITING), qualification: 0x317n },
  IO_INSTRUCTION: {
    code: [0xe6, 0x80],
    set: primary(c.PRIMARY_UNCONDITIONAL_I_O_EXITING),
    qualification: 0x80_0040n,
  },
  RDMSR: { code: [0x0f, 0x32], gprs: { [RCX]: 0x10n } },
  WRMSR: { code: [0x0f, 0x30], gprs: { [RCX]: 0x10n } },
  MWAIT: { code: [0x0f, 0x01, 0xc9], set: primary(c.PRIMARY_MWAIT_EXITING) },
  MONITOR_TRAP_FLAG: { code: [0x90], set: primary(c.PRIMARY_MONITOR_TRAP_FLAG) },
  MONITOR: { code: [0x0f, 0x01, 0xc8], set: primary(c.PRIMARY_MONITOR_EXITING) },
  PAUSE: { code: [0xf3, 0x90], set: primary(c.PRIMARY_PAUSE_EXITING) },
  TPR_BELOW_THRESHOLD: {
    code: [0x44, 0x0f, 0x22, 0xc0],
    set: { ...tprShadow(), TPR_THRESHOLD: 4n },
    before: (vmx) => vmx.poke64(VAPIC + 0x80n, 0x40n),
  },
  APIC_ACCESS: {
    code: [0x8b, 0x43, 0x20],
    set: tprShadow(c.SECONDARY_VIRTUALIZE_APIC_ACCESSES),
    gprs: { [RBX]: APIC_PAGE },
    qualification: 0x20n,
  },
  VIRTUALIZED_EOI: {
    code: [0x89, 0x83, 0xb0, 0, 0, 0],
    set: {
      ...delivery(c.SECONDARY_VIRTUALIZE_APIC_ACCESSES),
      GUEST_INTERRUPT_STATUS: 0x3100n,
      EOI_EXIT_BITMAP_0: 1n << 0x31n,
    },
    gprs: { [RBX]: APIC_PAGE },
    qualification: 0x31n,
  },
  GDTR_IDTR_ACCESS: {
    code: [0x0f, 0x01, 0x43, 0x08],
    set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING),
    qualification: 8n,
  },
  LDTR_TR_ACCESS: { code: [0x0f, 0x00, 0xc8], set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING) },
  EPT_VIOLATION: {
    code: [0x8b, 0x03],
    set: ept(),
    gprs: { [RBX]: BEYOND + 0x18n },
    before: mapBeyond,
    qualification: 0x181n,
  },
  EPT_MISCONFIGURATION: {
    code: [0x8b, 0x03],
    set: ept(),
    gprs: { [RBX]: BEYOND + 0x18n },
    before: (vmx) => {
      mapBeyond(vmx);
      vmx.poke64(EPT_ROOT + 0x1008n, 2n);
    },
  },
  INVEPT: { code: [0x66, 0x0f, 0x38, 0x80, 0x43, 0x08], qualification: 8n },
  RDTSCP: {
    code: [0x0f, 0x01, 0xf9],
    set: {
      ...secondary(c.SECONDARY_ENABLE_RDTSCP),
      PRIMARY_PROC_BASED_CONTROLS: SECOND | u32(c.PRIMARY_RDTSC_EXITING),
    },
  },
  PREEMPTION_TIMER: {
    code: [0x90],
    set: { ...pin(c.PIN_ACTIVATE_VMX_PREEMPTION_TIMER), VMX_PREEMPTION_TIMER_VALUE: 0n },
  },
  INVVPID: { code: [0x66, 0x0f, 0x38, 0x81, 0x43, 0x08], qualification: 8n },
  WBINVD: { code: [0x0f, 0x09], set: secondary(c.SECONDARY_WBINVD_EXITING) },
  XSETBV: { code: [0x0f, 0x01, 0xd1], set: { GUEST_CR4: 0x42020n } },
  APIC_WRITE: {
    code: [0x89, 0x83, 0x20, 0, 0, 0],
    set: tprShadow(c.SECONDARY_VIRTUALIZE_APIC_ACCESSES, c.SECONDARY_APIC_REGISTER_VIRTUALIZATION),
    gprs: { [RBX]: APIC_PAGE },
    qualification: 0x20n,
  },
  RDRAND: { code: [0x0f, 0xc7, 0xf3], set: secondary(c.SECONDARY_RDRAND_EXITING) },
  INVPCID: {
    code: [0x66, 0x0f, 0x38, 0x82, 0x43, 0x08],
    set: {
      ...secondary(c.SECONDARY_ENABLE_INVPCID),
      PRIMARY_PROC_BASED_CONTROLS: SECOND | u32(c.PRIMARY_INVLPG_EXITING),
    },
    qualification: 8n,
  },
  VMFUNC: {
    code: [0x0f, 0x01, 0xd4],
    set: { ...ept(c.SECONDARY_ENABLE_VM_FUNCTIONS), VM_FUNCTION_CONTROLS: 0n, EPTP_LIST_ADDRESS: BITMAP },
    before: identityEpt,
  },
  RDSEED: { code: [0x0f, 0xc7, 0xfb], set: secondary(c.SECONDARY_RDSEED_EXITING) },
  XSAVES: { code: [0x0f, 0xc7, 0x6b, 0x40], ...extendedState, qualification: 0x40n },
  XRSTORS: { code: [0x0f, 0xc7, 0x5b, 0x40], ...extendedState, qualification: 0x40n },
  PML_FULL: {
    code: [0x90],
    set: { ...ept(c.SECONDARY_ENABLE_PML), EPT_POINTER: EPT_ROOT | 0x5en, PML_ADDRESS: BITMAP, PML_INDEX: 512n },
    before: identityEpt,
  },
};

/** Exit reasons without a guest, and why. */
export const unreachable: Readonly<Record<string, string>> = {
  SIPI: "the wait-for-SIPI activity state is not advertised",
  IO_SMI: "there is no SMI",
  OTHER_SMI: "there is no SMI",
  GETSEC: "CR4.SMXE does not exist, so GETSEC is #UD",
  RSM: "there is no SMM",
  ENTRY_FAIL_GUEST_STATE: "a VM entry that fails: entry.test.ts",
  ENTRY_FAIL_MSR_LOADING: "a VM entry that fails: entry.test.ts",
  ENTRY_FAIL_MACHINE_CHECK: "there is no source of machine checks",
  ENCLS: "no model has SGX",
  PCONFIG: "no model has it",
  SPP_EVENT: "sub-page permissions are not advertised",
  UMWAIT: "no model has WAITPKG",
  TPAUSE: "no model has WAITPKG",
  LOADIWKEY: "no model has key locker",
  ENCLV: "no model has SGX",
  ENQCMD_PASID: "no model has it",
  ENQCMDS_PASID: "no model has it",
  BUS_LOCK: "bus-lock detection is not advertised",
  INSTRUCTION_TIMEOUT: "the control is not advertised",
  SEAMCALL: "no model has TDX",
  TDCALL: "no model has TDX",
  RDMSRLIST: "no model has it",
  WRMSRLIST: "no model has it",
  URDMSR: "no model has it",
  UWRMSR: "no model has it",
  RDMSR_IMM: "no model has it",
  WRMSRNS_IMM: "no model has it",
};

/** Registers that a case without `gprs` starts with. */
export const NO_REGISTERS: Readonly<Record<number, bigint>> = { [RAX]: 0n, [RBX]: 0x9000n, [RCX]: 0n, [RDX]: 0n };
