// Physical address space: regions of guest-physical addresses -> frames in linear memory.
import {
  PageFlag,
  REGION_MAX,
  REGION_SIZE,
  REGIONS,
  RegionFlag,
  RG_BASE,
  RG_BYTES,
  RG_FLAGS,
  RG_HOST,
} from "../abi/layout";
import { flushTlb } from "./context";
import { clearPageFlag, frameRangeValid, noteWrite, orPageFlag } from "./frames";

let regionCount: u32 = 0;
// the region of the last hit
let hitBase: u64 = 1;
let hitBytes: u64 = 0;
let hitHost: u32 = 0;

function region(i: u32): u32 {
  return REGIONS + i * REGION_SIZE;
}

function setReadOnly(r: u32, on: bool): void {
  const pages = u32(load<u64>(r, RG_BYTES) >> 12);
  for (let p: u32 = 0; p < pages; p++) {
    const host = load<u32>(r, RG_HOST) + (p << 12);
    if (on) orPageFlag(host, PageFlag.ReadOnly);
    else clearPageFlag(host, PageFlag.ReadOnly);
  }
}

/** 0 ok, 1 overlap, 2 too many regions, 3 bad argument. */
export function mapRegion(base: u64, pages: u32, host: u32, flags: u32): u32 {
  const bytes = u64(pages) << 12;
  if (pages == 0 || base & 0xfff || host & 0xfff || base + bytes > (1 as u64) << 52 || base + bytes < base) return 3;
  if (!(flags & RegionFlag.Mmio) && !frameRangeValid(host, bytes)) return 3;
  if (regionCount == REGION_MAX) return 2;
  let at: u32 = 0;
  while (at < regionCount && load<u64>(region(at), RG_BASE) < base) at++;
  if (at < regionCount && load<u64>(region(at), RG_BASE) - base < bytes) return 1;
  if (at > 0 && base - load<u64>(region(at - 1), RG_BASE) < load<u64>(region(at - 1), RG_BYTES)) return 1;
  const r = region(at);
  memory.copy(r + REGION_SIZE, r, (regionCount - at) * REGION_SIZE);
  store<u64>(r, base, RG_BASE);
  store<u64>(r, bytes, RG_BYTES);
  store<u32>(r, flags & RegionFlag.Mmio ? 0 : host, RG_HOST);
  store<u32>(r, flags, RG_FLAGS);
  regionCount++;
  if (flags & RegionFlag.ReadOnly) setReadOnly(r, true);
  hitBytes = 0;
  flushTlb();
  return 0;
}

/** 0 ok, 1 no region starts there. */
export function unmapRegion(base: u64): u32 {
  for (let i: u32 = 0; i < regionCount; i++) {
    const r = region(i);
    if (load<u64>(r, RG_BASE) != base) continue;
    if (load<u32>(r, RG_FLAGS) & RegionFlag.ReadOnly) setReadOnly(r, false);
    memory.copy(r, r + REGION_SIZE, (regionCount - i - 1) * REGION_SIZE);
    regionCount--;
    hitBytes = 0;
    flushTlb();
    return 0;
  }
  return 1;
}

function findRegion(pa: u64): u32 {
  let lo: u32 = 0;
  let hi = regionCount;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    const r = region(mid);
    const start = load<u64>(r, RG_BASE);
    if (pa < start) hi = mid;
    else if (pa - start >= load<u64>(r, RG_BYTES)) lo = mid + 1;
    else return r;
  }
  return 0;
}

export class Physical {
  /** physToHost(), without a call where it lies in the region of the last hit. */
  @inline static host(pa: u64): u32 {
    return pa - hitBase < hitBytes ? hitHost + u32(pa - hitBase) : physToHost(pa);
  }
}

/** Address in linear memory of a guest-physical byte; 0 for a hole or an MMIO window. */
export function physToHost(pa: u64): u32 {
  const hit = pa - hitBase;
  if (hit < hitBytes) return hitHost + u32(hit);
  const r = findRegion(pa);
  if (r == 0 || load<u32>(r, RG_FLAGS) & RegionFlag.Mmio) return 0;
  hitBase = load<u64>(r, RG_BASE);
  hitBytes = load<u64>(r, RG_BYTES);
  hitHost = load<u32>(r, RG_HOST);
  return hitHost + u32(pa - hitBase);
}

/** True when a guest-physical address lies in an MMIO window with callbacks. */
export function isMmio(pa: u64): bool {
  const r = findRegion(pa);
  return r != 0 && (load<u32>(r, RG_FLAGS) & RegionFlag.Mmio) != 0;
}

// Aligned physical accesses of the processor's own structures; a hole reads all ones and swallows writes.
export function physRead64(pa: u64): u64 {
  const h = physToHost(pa);
  return h ? load<u64>(h) : ~(0 as u64);
}

export function physRead32(pa: u64): u32 {
  const h = physToHost(pa);
  return h ? load<u32>(h) : 0xffffffff;
}

export function physWrite64(pa: u64, value: u64): void {
  const h = physToHost(pa);
  if (!h) return;
  store<u64>(h, value);
  noteWrite(h, 8);
}

export function physWrite32(pa: u64, value: u32): void {
  const h = physToHost(pa);
  if (!h) return;
  store<u32>(h, value);
  noteWrite(h, 4);
}
