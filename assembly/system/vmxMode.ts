// What VMX operation means to control registers.
import { SECONDARY_UNRESTRICTED_GUEST } from "../abi/controls";
import { VMX_STATE, VmxBit } from "../abi/state";
import { CR0_NE, CR0_PE, CR0_PG } from "../abi/x86";
import { secondaryControl } from "../state/vmcs";

// CR0 bits that VMX operation fixes to 1 (IA32_VMX_CR0_FIXED0) and that may be 1 (IA32_VMX_CR0_FIXED1)
export const CR0_FIXED0: u64 = (CR0_PE as u64) | CR0_NE | CR0_PG;
export const CR0_FIXED1: u64 = 0xffffffff;

export function inVmxOperation(): bool {
  return (load<u32>(VMX_STATE) & VmxBit.On) != 0;
}

export function nonRoot(): bool {
  return (load<u32>(VMX_STATE) & VmxBit.NonRoot) != 0;
}

/** CR0 bits that must be 1 now; 0 outside VMX operation. @sdm 3C "Restrictions on VMX Operation", "Changes to Instruction Behavior" */
export function requiredCr0(): u64 {
  if (!inVmxOperation()) return 0;
  return nonRoot() && secondaryControl(SECONDARY_UNRESTRICTED_GUEST) ? CR0_NE : CR0_FIXED0;
}
