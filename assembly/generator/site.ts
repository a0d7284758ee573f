// Sites: records that have no generated form. A region keeps copies of them, followed by an END record, and calls the
// interpreter for them (run/step.ts); its registers and flags are in the state block meanwhile.
import { R_FAST, R_INDEX, R_LEN, R_OFF, RECORD_SIZE } from "../abi/record";
import { loud } from "../blocks/quiet";
import { closeBlock } from "../decode/decode";
import { FAST_CPUID } from "../decode/fast.generated";

/** Bytes of the sites of the region at hand. */
export let sitesBytes: u32 = 0;
let base: u32 = 0;

/** Begins the sites of a region at `place`; 0: they are only counted. */
export function beginSites(place: u32): void {
  base = place;
  sitesBytes = 0;
}

/** Copies the records [first, last]. The address of the site. */
export function makeSite(first: usize, last: usize): u32 {
  const site = base + sitesBytes;
  const bytes = u32(last - first) + RECORD_SIZE;
  sitesBytes += bytes + RECORD_SIZE;
  if (!base) return site;
  memory.copy(site, first, bytes);
  for (let rec: usize = site; rec < site + bytes; rec += RECORD_SIZE) {
    loud(rec);
    // the region has looked for an answer itself
    if (load<u8>(rec, R_FAST) == FAST_CPUID) store<u8>(rec, 0, R_FAST);
  }
  closeBlock(site + bytes, u32(load<u16>(last, R_OFF)) + load<u8>(last, R_LEN), u32(load<u8>(last, R_INDEX)) + 1);
  return site;
}
