// Counts of executed operations, in a coverage build only (asc --use COVERAGE=1).
import { OP_COUNT } from "../decode/table.generated";

/** u32 an operation of the dispatch switch. */
export const HITS: usize = COVERAGE ? memory.data(4096 * 4) : 0;

export function hit(op: u32): void {
  const at = HITS + ((<usize>op) << 2);
  store<u32>(at, load<u32>(at) + 1);
}

/** Address of the counters; 0 where there are none. */
export function coverage(): usize {
  return COVERAGE && OP_COUNT <= 4096 ? HITS : 0;
}
