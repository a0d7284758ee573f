// The controls of the current VMCS as they act.
import {
  SECONDARY_ENABLE_EPT,
  SECONDARY_ENABLE_VPID,
  SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
  SECONDARY_UNRESTRICTED_GUEST,
} from "../abi/controls";
import { V_ENTRY_CONTROLS, V_PIN_BASED_CONTROLS, V_PRIMARY_EXIT_CONTROLS } from "../abi/vmcsLayout";
import { EPT_SPLIT_EXECUTE } from "../memory/ept";
import { primaryControl, secondaryControl } from "../state/vmcs";
import { nonRoot } from "../system/vmxMode";
import { vmcs32 } from "./vmcs";

export { nonRoot, primaryControl as primary, secondaryControl as secondary };

export function pin(bit: u32): bool {
  return (vmcs32(V_PIN_BASED_CONTROLS) & bit) != 0;
}

export function exitControl(bit: u32): bool {
  return (vmcs32(V_PRIMARY_EXIT_CONTROLS) & bit) != 0;
}

export function entryControl(bit: u32): bool {
  return (vmcs32(V_ENTRY_CONTROLS) & bit) != 0;
}

export function eptOn(): bool {
  return secondaryControl(SECONDARY_ENABLE_EPT);
}

export function vpidOn(): bool {
  return secondaryControl(SECONDARY_ENABLE_VPID);
}

export function unrestrictedGuest(): bool {
  return secondaryControl(SECONDARY_UNRESTRICTED_GUEST);
}

/** What besides the EPT pointer decides what its tables mean: bits of TR_EPTP. */
export function eptFlags(secondary: u32): u64 {
  return secondary & SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT ? EPT_SPLIT_EXECUTE : 0;
}
