// Sites: records that have no generated form. A region keeps copies of them, followed by an END record, and calls the
// interpreter for them (run/step.ts); its registers and flags are in the state block meanwhile.
import { R_FAST, R_INDEX, R_LEN, R_OFF, RECORD_SIZE } from "../abi/record";
import { loud } from "../blocks/quiet";
import { closeBlock } from "../decode/decode";
import { FAST_CPUID } from "../decode/fast.generated";

/** Copies the records [first, last] to `site`. */
export function copySite(site: u32, first: u32, last: u32): void {
  const end = site + (last - first) + RECORD_SIZE;
  memory.copy(site, first, end - site);
  for (let rec = site; rec < end; rec += RECORD_SIZE) {
    loud(rec);
    // the region has looked for an answer itself
    if (load<u8>(rec, R_FAST) == FAST_CPUID) store<u8>(rec, 0, R_FAST);
  }
  closeBlock(end, u32(load<u16>(last, R_OFF)) + load<u8>(last, R_LEN), u32(load<u8>(last, R_INDEX)) + 1);
}
