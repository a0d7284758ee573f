import { EntryControl, ExitControl, Pin, Primary, Secondary } from "./vmcs-controls.ts";

const MSR_IA32_VMX_PINBASED_CTLS = 0x481;
const MSR_IA32_VMX_PROCBASED_CTLS = 0x482;
const MSR_IA32_VMX_EXIT_CTLS = 0x483;
const MSR_IA32_VMX_ENTRY_CTLS = 0x484;
const MSR_IA32_VMX_PROCBASED_CTLS2 = 0x48b;

/** The controls that this KVM uses on this processor. */
export interface VmcsConfig {
  readonly pin: number;
  readonly primary: number;
  readonly secondary: number;
  readonly exit: number;
  readonly entry: number;
}

/** The processor lacks a control that KVM cannot do without. */
export class VmxUnsupportedError extends Error {
  override name = "VmxUnsupportedError";
}

type ReadMsr = (index: number) => bigint | undefined;

/** @kvm adjust_vmx_controls */
function adjustVmxControls(rdmsr: ReadMsr, msr: number, min: number, opt: number): number {
  const capability = rdmsr(msr);
  if (capability === undefined) throw new VmxUnsupportedError(`there is no capability MSR 0x${msr.toString(16)}`);
  const low = Number(capability & 0xffff_ffffn);
  const high = Number(capability >> 32n);
  const controls = ((min | opt) & high) | low;
  if (min & ~controls) {
    const missing = ((min & ~controls) >>> 0).toString(16);
    throw new VmxUnsupportedError(`capability MSR 0x${msr.toString(16)} does not allow control bits 0x${missing}`);
  }
  return controls;
}

/** EPT and unrestricted guest are required: vm86 real-mode emulation is not built. @kvm setup_vmcs_config */
export function setupVmcsConfig(rdmsr: ReadMsr): VmcsConfig {
  const pin = adjustVmxControls(
    rdmsr,
    MSR_IA32_VMX_PINBASED_CTLS,
    Pin.EXT_INTR_MASK | Pin.NMI_EXITING,
    Pin.VIRTUAL_NMIS,
  );
  const primary = adjustVmxControls(
    rdmsr,
    MSR_IA32_VMX_PROCBASED_CTLS,
    Primary.HLT_EXITING | Primary.UNCOND_IO_EXITING | Primary.USE_MSR_BITMAPS | Primary.ACTIVATE_SECONDARY_CONTROLS,
    Primary.CR8_LOAD_EXITING |
      Primary.CR8_STORE_EXITING |
      Primary.MOV_DR_EXITING |
      Primary.USE_TSC_OFFSETTING |
      Primary.MWAIT_EXITING |
      Primary.MONITOR_EXITING |
      Primary.RDPMC_EXITING,
  );
  const secondary = adjustVmxControls(
    rdmsr,
    MSR_IA32_VMX_PROCBASED_CTLS2,
    Secondary.ENABLE_EPT | Secondary.UNRESTRICTED_GUEST,
    Secondary.ENABLE_VPID | Secondary.WBINVD_EXITING | Secondary.TSC_SCALING,
  );
  const exit = adjustVmxControls(
    rdmsr,
    MSR_IA32_VMX_EXIT_CTLS,
    ExitControl.SAVE_DEBUG_CONTROLS | ExitControl.ACK_INTR_ON_EXIT | ExitControl.HOST_ADDR_SPACE_SIZE,
    ExitControl.SAVE_IA32_PAT | ExitControl.LOAD_IA32_PAT | ExitControl.LOAD_IA32_EFER,
  );
  const entry = adjustVmxControls(
    rdmsr,
    MSR_IA32_VMX_ENTRY_CTLS,
    EntryControl.LOAD_DEBUG_CONTROLS,
    EntryControl.LOAD_IA32_PAT | EntryControl.LOAD_IA32_EFER,
  );
  // CR3 accesses and INVLPG don't need to exit when EPT is on
  const eptClears = Primary.CR3_LOAD_EXITING | Primary.CR3_STORE_EXITING | Primary.INVLPG_EXITING;
  return { pin, primary: primary & ~eptClears, secondary, exit, entry };
}
