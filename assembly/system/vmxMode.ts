// What VMX operation means to control registers.
import { PRIMARY_ACTIVATE_SECONDARY_CONTROLS, SECONDARY_UNRESTRICTED_GUEST } from "../abi/controls";
import { VMCS_HOST, VMX_STATE, VmxBit } from "../abi/state";
import { V_PRIMARY_PROC_BASED_CONTROLS, V_SECONDARY_PROC_BASED_CONTROLS } from "../abi/vmcsLayout";
import { CR0_NE, CR0_PE, CR0_PG } from "../abi/x86";

// CR0 bits that VMX operation fixes to 1 (IA32_VMX_CR0_FIXED0) and that may be 1 (IA32_VMX_CR0_FIXED1)
export const CR0_FIXED0: u64 = (CR0_PE as u64) | CR0_NE | CR0_PG;
export const CR0_FIXED1: u64 = 0xffffffff;

export function inVmxOperation(): bool {
  return (load<u32>(VMX_STATE) & VmxBit.On) != 0;
}

export function nonRoot(): bool {
  return (load<u32>(VMX_STATE) & VmxBit.NonRoot) != 0;
}

/** "Unrestricted guest" is 1 in the current VMCS. */
function unrestricted(): bool {
  const vmcs = load<u32>(VMCS_HOST);
  return (
    (load<u32>(vmcs, V_PRIMARY_PROC_BASED_CONTROLS) & PRIMARY_ACTIVATE_SECONDARY_CONTROLS) != 0 &&
    (load<u32>(vmcs, V_SECONDARY_PROC_BASED_CONTROLS) & SECONDARY_UNRESTRICTED_GUEST) != 0
  );
}

/** CR0 bits that must be 1 now; 0 outside VMX operation. @sdm 3C "Restrictions on VMX Operation", "Changes to Instruction Behavior" */
export function requiredCr0(): u64 {
  if (!inVmxOperation()) return 0;
  return nonRoot() && unrestricted() ? CR0_NE : CR0_FIXED0;
}
