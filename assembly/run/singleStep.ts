// Does an instruction that began with TF set end in a single-step trap?
import { ENTRIES, EV_DELIVERED, EXITS, MSR_DEBUGCTL, RIP } from "../abi/state";
import { DEBUGCTL_BTF } from "../abi/x86";
import { nextRip } from "../execute/operands";
import { stepChecked } from "../system/debug";

/** VM entries, VM exits and deliveries so far: what ends a step without a trap. */
export function departures(): u64 {
  return load<u64>(ENTRIES) + load<u64>(EXITS) + load<u64>(EV_DELIVERED);
}

/**
 * rec: the instruction, complete; before: departures() when it began. VMLAUNCH and VMRESUME that enter a guest trap in
 * neither world, INT n in neither its own code nor its handler, SYSCALL and SYSRET by the TF they leave; with
 * IA32_DEBUGCTL.BTF only branches that are taken trap (one to the next instruction is not seen).
 * @sdm 3C "VM Entries", 3B "Single-Step Exception Condition", "Single-Stepping on Branches"
 */
export function stepTraps(rec: usize, before: u64): bool {
  if (departures() != before || stepChecked()) return false;
  return !(load<u64>(MSR_DEBUGCTL) & DEBUGCTL_BTF) || load<u64>(RIP) != nextRip(rec);
}
