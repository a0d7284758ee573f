// Every export of the Wasm module.
import { initTlb } from "./memory/context";
import { allocFrames, initFrames, noteWrites } from "./memory/frames";
import { initRegions, mapRegion, physToHost, unmapRegion } from "./memory/physical";
import { readLinear, readMem, probeModify, probeAs, translateQuiet } from "./memory/access";

export { allocFrames, mapRegion, unmapRegion, physToHost };

export function init(maxFrames: u32): u32 {
  initRegions();
  initTlb();
  if (!initFrames(maxFrames)) return 1;
  return 0;
}
export function t1(a: u64): u32 { return readMem<u32>(48, a) + u32(probeModify(0, a, 4)) + readLinear<u16>(a) + probeAs(a, 8, true); }
export { translateQuiet as translate };
