// The controls of the current VMCS that layers below vmx/ ask for; meaningful in VMX non-root operation.
import { PRIMARY_ACTIVATE_SECONDARY_CONTROLS } from "../abi/controls";
import { VMCS_HOST } from "../abi/state";
import { V_PRIMARY_PROC_BASED_CONTROLS, V_SECONDARY_PROC_BASED_CONTROLS } from "../abi/vmcsLayout";

export function primaryControl(bit: u32): bool {
  return (load<u32>(load<u32>(VMCS_HOST), V_PRIMARY_PROC_BASED_CONTROLS) & bit) != 0;
}

/** A secondary control; all act as 0 unless the primary controls activate them. */
export function secondaryControl(bit: u32): bool {
  return (secondaryControls() & bit) != 0;
}

export function secondaryControls(): u32 {
  const v = load<u32>(VMCS_HOST);
  return load<u32>(v, V_PRIMARY_PROC_BASED_CONTROLS) & PRIMARY_ACTIVATE_SECONDARY_CONTROLS
    ? load<u32>(v, V_SECONDARY_PROC_BASED_CONTROLS)
    : 0;
}
