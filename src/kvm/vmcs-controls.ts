// Bits of the VM-execution, exit and entry controls under the names of Linux asm/vmx.h.
// @sdm 3C "VM-Execution Control Fields", "VM-Exit Control Fields", "VM-Entry Control Fields"
import * as controls from "../../assembly/abi/controls.ts";
import * as exits from "../../assembly/abi/exits.ts";

export const Pin = {
  EXT_INTR_MASK: controls.PIN_EXTERNAL_INTERRUPT_EXITING,
  NMI_EXITING: controls.PIN_NMI_EXITING,
  VIRTUAL_NMIS: controls.PIN_VIRTUAL_NMIS,
} as const;

export const Primary = {
  VIRTUAL_INTR_PENDING: controls.PRIMARY_INTERRUPT_WINDOW_EXITING,
  USE_TSC_OFFSETTING: controls.PRIMARY_USE_TSC_OFFSETTING,
  HLT_EXITING: controls.PRIMARY_HLT_EXITING,
  INVLPG_EXITING: controls.PRIMARY_INVLPG_EXITING,
  MWAIT_EXITING: controls.PRIMARY_MWAIT_EXITING,
  RDPMC_EXITING: controls.PRIMARY_RDPMC_EXITING,
  CR3_LOAD_EXITING: controls.PRIMARY_CR3_LOAD_EXITING,
  CR3_STORE_EXITING: controls.PRIMARY_CR3_STORE_EXITING,
  CR8_LOAD_EXITING: controls.PRIMARY_CR8_LOAD_EXITING,
  CR8_STORE_EXITING: controls.PRIMARY_CR8_STORE_EXITING,
  VIRTUAL_NMI_PENDING: controls.PRIMARY_NMI_WINDOW_EXITING,
  MOV_DR_EXITING: controls.PRIMARY_MOV_DR_EXITING,
  UNCOND_IO_EXITING: controls.PRIMARY_UNCONDITIONAL_I_O_EXITING,
  USE_MSR_BITMAPS: controls.PRIMARY_USE_MSR_BITMAPS,
  MONITOR_EXITING: controls.PRIMARY_MONITOR_EXITING,
  ACTIVATE_SECONDARY_CONTROLS: controls.PRIMARY_ACTIVATE_SECONDARY_CONTROLS,
} as const;

export const Secondary = {
  ENABLE_EPT: controls.SECONDARY_ENABLE_EPT,
  RDTSCP: controls.SECONDARY_ENABLE_RDTSCP,
  ENABLE_VPID: controls.SECONDARY_ENABLE_VPID,
  WBINVD_EXITING: controls.SECONDARY_WBINVD_EXITING,
  UNRESTRICTED_GUEST: controls.SECONDARY_UNRESTRICTED_GUEST,
  TSC_SCALING: controls.SECONDARY_USE_TSC_SCALING,
} as const;

export const ExitControl = {
  SAVE_DEBUG_CONTROLS: controls.EXIT_SAVE_DEBUG_CONTROLS,
  HOST_ADDR_SPACE_SIZE: controls.EXIT_HOST_ADDRESS_SPACE_SIZE,
  ACK_INTR_ON_EXIT: controls.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT,
  SAVE_IA32_PAT: controls.EXIT_SAVE_IA32_PAT,
  LOAD_IA32_PAT: controls.EXIT_LOAD_IA32_PAT,
  LOAD_IA32_EFER: controls.EXIT_LOAD_IA32_EFER,
} as const;

export const EntryControl = {
  LOAD_DEBUG_CONTROLS: controls.ENTRY_LOAD_DEBUG_CONTROLS,
  IA32E_MODE: controls.ENTRY_IA_32E_MODE_GUEST,
  LOAD_IA32_PAT: controls.ENTRY_LOAD_IA32_PAT,
  LOAD_IA32_EFER: controls.ENTRY_LOAD_IA32_EFER,
} as const;

/** Basic exit reasons that have a handler. @sdm 3D "VMX Basic Exit Reasons" */
export const ExitReason = {
  EXCEPTION_NMI: exits.REASON_EXCEPTION_OR_NMI,
  EXTERNAL_INTERRUPT: exits.REASON_EXTERNAL_INTERRUPT,
  TRIPLE_FAULT: exits.REASON_TRIPLE_FAULT,
  PENDING_INTERRUPT: exits.REASON_INTERRUPT_WINDOW,
  NMI_WINDOW: exits.REASON_NMI_WINDOW,
  TASK_SWITCH: exits.REASON_TASK_SWITCH,
  CPUID: exits.REASON_CPUID,
  HLT: exits.REASON_HLT,
  INVD: exits.REASON_INVD,
  INVLPG: exits.REASON_INVLPG,
  RDPMC: exits.REASON_RDPMC,
  VMCALL: exits.REASON_VMCALL,
  VMCLEAR: exits.REASON_VMCLEAR,
  VMLAUNCH: exits.REASON_VMLAUNCH,
  VMPTRLD: exits.REASON_VMPTRLD,
  VMPTRST: exits.REASON_VMPTRST,
  VMREAD: exits.REASON_VMREAD,
  VMRESUME: exits.REASON_VMRESUME,
  VMWRITE: exits.REASON_VMWRITE,
  VMOFF: exits.REASON_VMXOFF,
  VMON: exits.REASON_VMXON,
  CR_ACCESS: exits.REASON_CR_ACCESS,
  DR_ACCESS: exits.REASON_DR_ACCESS,
  IO_INSTRUCTION: exits.REASON_IO_INSTRUCTION,
  MSR_READ: exits.REASON_RDMSR,
  MSR_WRITE: exits.REASON_WRMSR,
  INVALID_STATE: exits.REASON_ENTRY_FAIL_GUEST_STATE,
  MWAIT_INSTRUCTION: exits.REASON_MWAIT,
  MONITOR_INSTRUCTION: exits.REASON_MONITOR,
  EPT_VIOLATION: exits.REASON_EPT_VIOLATION,
  EPT_MISCONFIG: exits.REASON_EPT_MISCONFIGURATION,
  INVEPT: exits.REASON_INVEPT,
  INVVPID: exits.REASON_INVVPID,
  WBINVD: exits.REASON_WBINVD,
  XSETBV: exits.REASON_XSETBV,
} as const;

const NAMES = new Map<number, string>(Object.entries(ExitReason).map(([name, number]) => [number, name]));

/** Kernel name of a basic exit reason. */
export function exitReasonName(reason: number): string {
  return NAMES.get(reason) ?? `REASON_${reason}`;
}

/** Exit-reason bit 31: the VM entry failed. */
export const ENTRY_FAILURE = 0x8000_0000;

/**
 * Interruption information (entry 0x4016, exit 0x4404, IDT-vectoring 0x4408)
 *   7:0 vector  10:8 type  11 error code  12 NMI unblocked by IRET  31 valid
 */
export const INTR_VECTOR = 0xff;
export const INTR_TYPE = 0x700;
export const INTR_ERROR_CODE = 0x800;
export const INTR_UNBLOCK_NMI = 0x1000;
export const INTR_VALID = 0x8000_0000;
export const IntrType = {
  EXT_INTR: 0 << 8,
  NMI: 2 << 8,
  HARD_EXCEPTION: 3 << 8,
  SOFT_INTR: 4 << 8,
  SOFT_EXCEPTION: 6 << 8,
} as const;

/** Guest interruptibility state. */
export const GUEST_INTR_STATE_STI = 1;
export const GUEST_INTR_STATE_MOV_SS = 2;
export const GUEST_INTR_STATE_NMI = 8;
