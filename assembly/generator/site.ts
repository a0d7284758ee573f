// Sites: records that have no generated form, for the interpreter (jit/site.ts).
import { RECORD_SIZE } from "../abi/record";
import { copySite } from "./core";

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
  sitesBytes += u32(last - first) + 2 * RECORD_SIZE;
  if (base) copySite(site, u32(first), u32(last));
  return site;
}
