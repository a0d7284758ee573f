// The controls of the current VMCS as they act.
import {
  PRIMARY_ACTIVATE_SECONDARY_CONTROLS,
  SECONDARY_ENABLE_EPT,
  SECONDARY_ENABLE_VPID,
  SECONDARY_UNRESTRICTED_GUEST,
} from "../abi/controls";
import {
  V_ENTRY_CONTROLS,
  V_PIN_BASED_CONTROLS,
  V_PRIMARY_EXIT_CONTROLS,
  V_PRIMARY_PROC_BASED_CONTROLS,
  V_SECONDARY_PROC_BASED_CONTROLS,
} from "../abi/vmcsLayout";
import { nonRoot } from "../system/vmxMode";
import { vmcs32 } from "./vmcs";

export { nonRoot };

export function pin(bit: u32): bool {
  return (vmcs32(V_PIN_BASED_CONTROLS) & bit) != 0;
}

export function primary(bit: u32): bool {
  return (vmcs32(V_PRIMARY_PROC_BASED_CONTROLS) & bit) != 0;
}

/** A secondary control; all act as 0 unless the primary controls activate them. */
export function secondary(bit: u32): bool {
  return primary(PRIMARY_ACTIVATE_SECONDARY_CONTROLS) && (vmcs32(V_SECONDARY_PROC_BASED_CONTROLS) & bit) != 0;
}

export function exitControl(bit: u32): bool {
  return (vmcs32(V_PRIMARY_EXIT_CONTROLS) & bit) != 0;
}

export function entryControl(bit: u32): bool {
  return (vmcs32(V_ENTRY_CONTROLS) & bit) != 0;
}

export function eptOn(): bool {
  return secondary(SECONDARY_ENABLE_EPT);
}

export function vpidOn(): bool {
  return secondary(SECONDARY_ENABLE_VPID);
}

export function unrestrictedGuest(): bool {
  return secondary(SECONDARY_UNRESTRICTED_GUEST);
}
