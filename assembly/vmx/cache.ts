// What of the current VMCS has not changed since it was last checked or loaded. It is a cache and nothing else: VMWRITE, a
// store to the region (its frame is watched), another VMCS or another CPU model make the work be done again.
//
// An image holds the segment and descriptor-table registers with all that follows from them, the control registers and
// RFLAGS, as a VM entry (guest image) or exit (host image) computed it.
import {
  CODE_END,
  CPL,
  CR0,
  CR4,
  EFER,
  EFLAGS_REST,
  GDTR_BASE,
  LINEAR_MASK,
  MODE,
  SEGS,
  TR_MODE,
  TR_TABLE,
  TransBit,
  VMCS_HOST,
} from "../abi/state";
import { FLAG_AC, FLAG_VM } from "../abi/x86";
import { selectContext } from "../memory/context";
import { frameRangeValid, unwatchFrame, watchedWrites, watchFrame } from "../memory/frames";
import { followDr7 } from "../memory/watch";
import { cpuidGeneration } from "../system/cpuid";
import { leaveMode64, translationUnderVmx } from "../system/mode";

// groups of fields that need a check
export const CONTROLS_DIRTY: u32 = 1;
export const HOST_DIRTY: u32 = 2;
export const GUEST_DIRTY: u32 = 4;
const ALL: u32 = 7;

let dirty: u32 = ALL;
let region: u32 = 0; // the VMCS that `dirty` is about
let writes: u32 = 0;
let generation: u32 = 0;

// image: valid (u32), padding, then the registers below
const SEGMENTS_AT: u32 = 64;
const SEGMENTS: u32 = GDTR_BASE + 32 - SEGS;
export const GUEST_IMAGE: usize = memory.data(480); // SEGMENTS_AT + SEGMENTS
export const HOST_IMAGE: usize = memory.data(480);
/** First word of a guest image whose registers the VMCS holds too. */
const SAVED: u32 = 2;
const MODE_FLAGS: u32 = FLAG_AC | FLAG_VM;

/** Everything must be done again: another VMCS, another processor, another memory map. */
export function forgetVmcs(): void {
  dirty = ALL;
  dropImage(GUEST_IMAGE);
  dropImage(HOST_IMAGE);
}

export function markDirty(groups: u32): void {
  dirty |= groups;
}

export function checked(group: u32): void {
  dirty &= ~group;
}

/** Groups that need a check at this VM entry. */
export function dirtyGroups(): u32 {
  const at = load<u32>(VMCS_HOST);
  if (at != region) {
    releaseRegion();
    region = at;
    watchFrame(at);
  }
  if (writes != watchedWrites || generation != cpuidGeneration) {
    writes = watchedWrites;
    generation = cpuidGeneration;
    forgetVmcs();
  }
  return dirty;
}

/** The frame that was the region may serve another purpose. */
export function releaseRegion(): void {
  if (region && frameRangeValid(region, 4096)) unwatchFrame(region);
  region = 0;
  forgetVmcs();
}

export function dropImage(image: usize): void {
  store<u32>(image, 0);
}

/** Keeps what the registers are now; recomputeMode() has just run. */
export function keepImage(image: usize): void {
  store<u32>(image, 1);
  store<u32>(image, load<u32>(EFLAGS_REST) & MODE_FLAGS, 4);
  store<u64>(image, load<u64>(CR0), 8);
  store<u64>(image, load<u64>(CR4), 16);
  store<u64>(image, load<u64>(EFER), 24);
  store<u32>(image, load<u32>(MODE), 32);
  store<u32>(image, load<u32>(CPL), 36);
  store<u64>(image, load<u64>(CODE_END), 40);
  store<u64>(image, load<u64>(LINEAR_MASK), 48);
  store<u32>(image, load<u32>(TR_MODE), 56);
  store<u32>(image, load<u32>(TR_TABLE), 60);
  copy(image + SEGMENTS_AT, SEGS);
}

/**
 * Are the segment and descriptor-table registers still those that the last VM entry loaded, and has an exit saved them?
 * Then the VMCS holds them. saved(): a full save has been done.
 */
export function segmentsUnchanged(): bool {
  if (load<u32>(GUEST_IMAGE) != SAVED || load<u32>(GUEST_IMAGE, 36) != load<u32>(CPL)) return false;
  for (let i: u32 = 0; i < SEGMENTS; i += 32) {
    const a = SEGS + i;
    const b = GUEST_IMAGE + SEGMENTS_AT + i;
    if (
      (load<u64>(a) ^ load<u64>(b)) |
      (load<u64>(a, 8) ^ load<u64>(b, 8)) |
      (load<u64>(a, 16) ^ load<u64>(b, 16)) |
      (load<u64>(a, 24) ^ load<u64>(b, 24))
    ) {
      return false;
    }
  }
  return true;
}

export function segmentsSaved(): void {
  if (load<u32>(GUEST_IMAGE) && !(dirty & GUEST_DIRTY)) store<u32>(GUEST_IMAGE, SAVED);
}

/** With CR0, CR4, EFER, RFLAGS, TR_EPTP and TR_APIC_PAGE loaded: puts the rest of the image in place. False: it does not fit. */
export function restoreImage(image: usize): bool {
  if (
    !load<u32>(image) ||
    load<u32>(image, 4) != (load<u32>(EFLAGS_REST) & MODE_FLAGS) ||
    load<u64>(image, 8) != load<u64>(CR0) ||
    load<u64>(image, 16) != load<u64>(CR4) ||
    load<u64>(image, 24) != load<u64>(EFER) ||
    (load<u32>(image, 56) & (TransBit.Ept | TransBit.Apic)) != translationUnderVmx()
  ) {
    return false;
  }
  const mode = load<u32>(image, 32);
  leaveMode64(load<u32>(MODE), mode);
  store<u32>(MODE, mode);
  store<u32>(CPL, load<u32>(image, 36));
  store<u64>(CODE_END, load<u64>(image, 40));
  store<u64>(LINEAR_MASK, load<u64>(image, 48));
  store<u32>(TR_MODE, load<u32>(image, 56));
  store<u32>(TR_TABLE, load<u32>(image, 60));
  copy(SEGS, image + SEGMENTS_AT);
  selectContext();
  followDr7();
  return true;
}

function copy(to: usize, from: usize): void {
  for (let i: u32 = 0; i < SEGMENTS; i += 32) {
    store<u64>(to + i, load<u64>(from + i));
    store<u64>(to + i, load<u64>(from + i, 8), 8);
    store<u64>(to + i, load<u64>(from + i, 16), 16);
    store<u64>(to + i, load<u64>(from + i, 24), 24);
  }
}
