// What of a VMCS has not changed since it was last checked or loaded. It is a cache and nothing else: VMWRITE, a store to
// the region (its frame is watched), too many other VMCSs or another CPU model make the work be done again.
//
// An image holds the segment and descriptor-table registers with all that follows from them, the control registers and
// RFLAGS, as a VM entry (guest image) or exit (host image) computed it.
import {
  CODE_END,
  CPL,
  CR0,
  CR3,
  CR4,
  EFER,
  EFLAGS_REST,
  LINEAR_MASK,
  MODE,
  SEGS,
  TAG_REAL,
  TR_EPTP,
  TR_MODE,
  TR_TABLE,
  TR_TAG,
  TR_TAG_IMPLICIT,
  TR_VPID,
  TransBit,
  VMCS_HOST,
} from "../abi/state";
import { FLAG_AC, FLAG_VM } from "../abi/x86";
import { contextChanges, selectContext } from "../memory/context";
import { frameRangeValid, unwatchFrame, watchedWrites, watchFrame } from "../memory/frames";
import { Watch } from "../memory/watch";
import { cpuidGeneration } from "../system/cpuid";
import { leaveMode64, segmentChanges, UnderVmx } from "../system/mode";

// groups of fields that need a check
export const CONTROLS_DIRTY: u32 = 1;
export const HOST_DIRTY: u32 = 2;
export const GUEST_DIRTY: u32 = 4;
const ALL: u32 = 7;

// A slot for each of the VMCSs used last:
//   0 u32 region in linear memory, 0: free   4 u32 dirty groups   8 u32 watchedWrites and 12 u32 cpuidGeneration that the
//   rest is about   16 u32 RFLAGS.VM of the last segment checks   20 u32 PLAIN...   64 guest image   600 host image
const SLOTS: u32 = 4;
const SLOT: u32 = 1136;
const S_DIRTY: u32 = 4;
const S_WRITES: u32 = 8;
const S_GENERATION: u32 = 12;
export const S_CHECKED_VM: u32 = 16;
/** What the controls ask of a VM entry; 0: not known. */
export const S_ENTRY: u32 = 20;
const S_GUEST: u32 = 64;
const S_HOST: u32 = 600;
const slots: usize = memory.data(4544); // SLOTS * SLOT
/** The slot of the current VMCS, as far as dirtyGroups() has been asked about it. */
export let slot: usize = slots;
let nextSlot: u32 = 0;

// image: valid (u32), the registers below, then segment and descriptor-table registers. From 64 on
// the TLB's context that was chosen for its registers: u64 CR3, EPT pointer, contextChanges (0: none), TR_TAG,
// TR_TAG_IMPLICIT, TAG_REAL, u32 VPID, segmentChanges when its segments were loaded
const SEGMENTS_AT: u32 = 120;
/** First word of a guest image whose registers the VMCS holds too. */
const SAVED: u32 = 2;
const MODE_FLAGS: u32 = FLAG_AC | FLAG_VM;

export function guestImage(): usize {
  return slot + S_GUEST;
}
export function hostImage(): usize {
  return slot + S_HOST;
}

function forgetSlot(at: usize): void {
  store<u32>(at, ALL, S_DIRTY);
  store<u32>(at, 0, S_ENTRY);
  dropImage(at + S_GUEST);
  dropImage(at + S_HOST);
}

/** Everything must be done again: another processor, another memory map. */
export function forgetVmcs(): void {
  for (let i: u32 = 0; i < SLOTS; i++) forgetSlot(slots + i * SLOT);
}

/** Groups of the current VMCS. */
export function markDirty(groups: u32): void {
  if (load<u32>(slot) != load<u32>(VMCS_HOST)) chooseSlot();
  store<u32>(slot, load<u32>(slot, S_DIRTY) | groups, S_DIRTY);
  store<u32>(slot, 0, S_ENTRY);
}

export function checked(group: u32): void {
  store<u32>(slot, load<u32>(slot, S_DIRTY) & ~group, S_DIRTY);
}

/** Makes `slot` that of the current VMCS. */
function chooseSlot(): void {
  const region = load<u32>(VMCS_HOST);
  for (let i: u32 = 0; i < SLOTS; i++) {
    slot = slots + i * SLOT;
    if (load<u32>(slot) == region) return;
  }
  slot = slots + nextSlot * SLOT;
  nextSlot = (nextSlot + 1) % SLOTS;
  release(slot);
  store<u32>(slot, region);
  if (region) watchFrame(region);
}

/** Groups that need a check at this VM entry. */
export function dirtyGroups(): u32 {
  if (load<u32>(slot) != load<u32>(VMCS_HOST)) chooseSlot();
  if (load<u32>(slot, S_WRITES) != watchedWrites || load<u32>(slot, S_GENERATION) != cpuidGeneration) {
    store<u32>(slot, watchedWrites, S_WRITES);
    store<u32>(slot, cpuidGeneration, S_GENERATION);
    forgetSlot(slot);
  }
  return load<u32>(slot, S_DIRTY);
}

/** What the controls ask of an entry to the current VMCS, S_ENTRY, while nothing is dirty; else 0. */
export function knownEntry(): u32 {
  const s = slot;
  // one branch for all
  const other =
    (load<u32>(s) ^ load<u32>(VMCS_HOST)) |
    (load<u32>(s, S_WRITES) ^ watchedWrites) |
    (load<u32>(s, S_GENERATION) ^ cpuidGeneration) |
    load<u32>(s, S_DIRTY);
  return other ? 0 : load<u32>(s, S_ENTRY);
}

function release(at: usize): void {
  const region = load<u32>(at);
  if (region && frameRangeValid(region, 4096)) unwatchFrame(region);
  store<u32>(at, 0);
  forgetSlot(at);
}

/** The frame may serve another purpose. */
export function releaseRegion(region: u32): void {
  for (let i: u32 = 0; i < SLOTS; i++) if (load<u32>(slots + i * SLOT) == region) release(slots + i * SLOT);
}

/** No frame is a VMCS any more. */
export function releaseRegions(): void {
  for (let i: u32 = 0; i < SLOTS; i++) release(slots + i * SLOT);
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
  copy(image + SEGMENTS_AT, SEGS);
  store<u32>(image, segmentChanges, 116);
  keepContext(image);
}

/** PAE paging has PDPTEs too: its context is chosen every time. */
function keepContext(image: usize): void {
  store<u32>(image, load<u32>(TR_TABLE), 60);
  store<u64>(image, load<u64>(CR3), 64);
  store<u64>(image, load<u64>(TR_EPTP), 72);
  store<u32>(image, load<u32>(TR_VPID), 112);
  const pdptes = (load<u32>(TR_MODE) & (TransBit.Pae | TransBit.Long)) == TransBit.Pae;
  store<u64>(image, pdptes ? 0 : contextChanges, 80);
  store<u64>(image, load<u64>(TR_TAG), 88);
  store<u64>(image, load<u64>(TR_TAG_IMPLICIT), 96);
  store<u64>(image, load<u64>(TAG_REAL), 104);
}

function restoreContext(image: usize): void {
  const other =
    (load<u64>(image, 80) ^ contextChanges) |
    (load<u64>(image, 64) ^ load<u64>(CR3)) |
    (load<u64>(image, 72) ^ load<u64>(TR_EPTP)) |
    <u64>(load<u32>(image, 112) ^ load<u32>(TR_VPID));
  if (!other) {
    store<u32>(TR_TABLE, load<u32>(image, 60));
    store<u64>(TR_TAG, load<u64>(image, 88));
    store<u64>(TR_TAG_IMPLICIT, load<u64>(image, 96));
    store<u64>(TAG_REAL, load<u64>(image, 104));
    return;
  }
  selectContext();
  keepContext(image);
}

/** The 416 bytes of an image: memory.copy() is a call of the engine's, a loop costs V8 a check of its stack each time round. */
function copy(to: usize, from: usize): void {
  v128.store(to, v128.load(from));
  v128.store(to, v128.load(from, 16), 16);
  v128.store(to, v128.load(from, 32), 32);
  v128.store(to, v128.load(from, 48), 48);
  v128.store(to, v128.load(from, 64), 64);
  v128.store(to, v128.load(from, 80), 80);
  v128.store(to, v128.load(from, 96), 96);
  v128.store(to, v128.load(from, 112), 112);
  v128.store(to, v128.load(from, 128), 128);
  v128.store(to, v128.load(from, 144), 144);
  v128.store(to, v128.load(from, 160), 160);
  v128.store(to, v128.load(from, 176), 176);
  v128.store(to, v128.load(from, 192), 192);
  v128.store(to, v128.load(from, 208), 208);
  v128.store(to, v128.load(from, 224), 224);
  v128.store(to, v128.load(from, 240), 240);
  v128.store(to, v128.load(from, 256), 256);
  v128.store(to, v128.load(from, 272), 272);
  v128.store(to, v128.load(from, 288), 288);
  v128.store(to, v128.load(from, 304), 304);
  v128.store(to, v128.load(from, 320), 320);
  v128.store(to, v128.load(from, 336), 336);
  v128.store(to, v128.load(from, 352), 352);
  v128.store(to, v128.load(from, 368), 368);
  v128.store(to, v128.load(from, 384), 384);
  v128.store(to, v128.load(from, 400), 400);
}

/**
 * Are the segment and descriptor-table registers still those that the last VM entry loaded, and has an exit saved them?
 * Then the VMCS holds them. saved(): a full save has been done.
 */
export function segmentsUnchanged(): bool {
  const image = slot + S_GUEST;
  const other =
    (load<u32>(image) ^ SAVED) | (load<u32>(image, 36) ^ load<u32>(CPL)) | (load<u32>(image, 116) ^ segmentChanges);
  return other == 0;
}

export function segmentsSaved(): void {
  const image = slot + S_GUEST;
  if (load<u32>(image) && !(load<u32>(slot, S_DIRTY) & GUEST_DIRTY)) store<u32>(image, SAVED);
}

/** With CR0, CR4, EFER, RFLAGS, TR_EPTP and TR_APIC_PAGE loaded: puts the rest of the image in place. False: it does not fit. */
export function restoreImage(image: usize): bool {
  if (!load<u32>(image)) return false;
  const words =
    (load<u32>(image, 4) ^ (load<u32>(EFLAGS_REST) & MODE_FLAGS)) |
    ((load<u32>(image, 56) ^ UnderVmx.translation()) & (TransBit.Ept | TransBit.Apic));
  const other =
    (load<u64>(image, 8) ^ load<u64>(CR0)) |
    (load<u64>(image, 16) ^ load<u64>(CR4)) |
    (load<u64>(image, 24) ^ load<u64>(EFER)) |
    <u64>words;
  if (other) return false;
  const mode = load<u32>(image, 32);
  if (load<u32>(MODE) != mode) leaveMode64(load<u32>(MODE), mode);
  store<u32>(MODE, mode);
  store<u32>(CPL, load<u32>(image, 36));
  store<u64>(CODE_END, load<u64>(image, 40));
  store<u64>(LINEAR_MASK, load<u64>(image, 48));
  store<u32>(TR_MODE, load<u32>(image, 56));
  copy(SEGS, image + SEGMENTS_AT);
  store<u32>(image, segmentChanges, 116);
  restoreContext(image);
  Watch.followDr7();
  return true;
}
