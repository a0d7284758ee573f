// Flags that nothing can see: all of them are set again in the block before anything reads them, and before an instruction
// that could stop. What sets such flags takes the form without them.
import { R_FAST, RECORD_SIZE } from "../abi/record";
import {
  FAST_EITHER_SETS,
  FAST_KEEPERS,
  FAST_LOUD,
  FAST_PARTIAL,
  FAST_QUIET,
  FAST_SETTERS,
} from "../decode/fast.generated";

/** Looks at the records [first, end) of a block. */
export function quiet(first: usize, end: usize): void {
  let dead = false;
  for (let rec = end - RECORD_SIZE; rec >= first; rec -= RECORD_SIZE) {
    const f = u32(load<u8>(rec, R_FAST));
    if (f >= FAST_LOUD && f < FAST_QUIET) {
      if (dead) store<u8>(rec, f + (FAST_QUIET - FAST_LOUD), R_FAST);
      else if (f < FAST_PARTIAL) dead = true; // the others change some, or none by a count of 0
    } else if (f >= FAST_SETTERS && f < FAST_KEEPERS) dead = true;
    else if (f < FAST_KEEPERS || f >= FAST_EITHER_SETS) dead = false;
  }
}

/** A copy of a record that stands for itself sets its flags. */
export function loud(rec: usize): void {
  const f = u32(load<u8>(rec, R_FAST));
  if (f >= FAST_QUIET && f < FAST_SETTERS) store<u8>(rec, f - (FAST_QUIET - FAST_LOUD), R_FAST);
}
