// Does an instruction that began with TF set end in a single-step trap?
import { ENTRIES, EXITS, MSR_DEBUGCTL, RIP } from "../abi/state";
import { DEBUGCTL_BTF } from "../abi/x86";
import { nextRip } from "../execute/operands";

/** VM entries and exits so far. */
export function vmTransitions(): u64 {
  return load<u64>(ENTRIES) + load<u64>(EXITS);
}

/**
 * rec: the instruction, complete; before: vmTransitions() when it began. VMLAUNCH and VMRESUME that enter a guest trap in
 * neither world; with IA32_DEBUGCTL.BTF only branches that are taken trap (one to the next instruction is not seen).
 * @sdm 3C "VM Entries", 3B "Single-Stepping on Branches"
 */
export function stepTraps(rec: usize, before: u64): bool {
  if (vmTransitions() != before) return false;
  return !(load<u64>(MSR_DEBUGCTL) & DEBUGCTL_BTF) || load<u64>(RIP) != nextRip(rec);
}
