// Regions in use: which blocks they start at, what they depend on, when they are made and dropped.
//
// A region is entered from run/ when its block comes up. It assumes that its pages are mapped as they were, and the mode
// word; both are checked at entry, the pages only when the context or the state of the TLB changed since.
import { BK_BYTES, BK_HOST, BK_HOT, BK_REGION } from "../abi/block";
import {
  JIT_BATCH,
  JIT_NEXT_SITE,
  JIT_NEXT_TARGET,
  JIT_QUEUED,
  JIT_REGION_COUNT,
  JIT_THRESHOLD,
  JIT_TLB_MASK,
  JIT_TRANSLATED,
  JR_BASE,
  JR_FIRST,
  JR_FLUSH,
  JR_LAST,
  JR_LIST,
  JR_MODE,
  JR_PAGE,
  JR_PAGES,
  JR_SIZE,
  JR_SLOT,
  JR_SPAN,
  JR_TAG,
  JR_TARGETS,
  JR_TOTAL,
  JR_TRANSLATED,
  JR_USED,
  REQUEST_MAX,
  REQUEST_SIZE,
  RQ_BASE,
  RQ_BLOCK,
  RQ_END,
  RQ_MODE,
  RQ_RIP,
  UNLINKED,
} from "../abi/generator";
import { JIT_QUEUE, JIT_REGIONS, JIT_SITES, JIT_TARGETS } from "../abi/layout";
import {
  CODE_END,
  CPL,
  DEBUG_WATCH,
  LINEAR_MASK,
  MODE,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  TAG_REAL,
  TR_MODE,
  TR_TAG,
  TransBit,
  WatchBit,
} from "../abi/state";
import { blockGeneration, findBlock } from "../blocks/cache";
import { jitGenerate } from "../imports";
import { fetchSettled, translateQuiet } from "../memory/access";
import { flushCount, noteCodePage, tlbMask } from "../memory/context";
import { lineMask } from "../memory/frames";
import { stagesTable } from "../memory/staging";
import { codeTraps, dataTraps, unmarked } from "../memory/traps";
import { EXECUTE } from "../memory/walk";
import { follow, growing, grown, lastRegion, noteJump, regionsChanged } from "./chain";
import { DEFAULT_THRESHOLD, noteMissed, noteRewritten, noteStaged, oftenRewritten, setMissLimit } from "./rewritten";
import { setLeaveLimit } from "./seen";

let generation: u32 = 0;

function region(i: u32): u32 {
  return JIT_REGIONS + i * JR_SIZE;
}

/** Blocks are hot after this many runs; 0 turns generation off. */
export let hotThreshold: u32 = DEFAULT_THRESHOLD;

export function setJit(threshold: u32): void {
  hotThreshold = threshold;
  setMissLimit(threshold);
  setLeaveLimit(threshold);
  if (threshold == 0) dropRegions();
}

/** Forgets every region; blocks that name one notice by its slot. */
export function dropRegions(): void {
  memory.fill(JIT_REGIONS, 0, load<u32>(JIT_REGION_COUNT) * JR_SIZE);
  store<u32>(JIT_REGION_COUNT, 0);
  store<u32>(JIT_NEXT_TARGET, JIT_TARGETS);
  store<u32>(JIT_NEXT_SITE, JIT_SITES);
  store<u32>(JIT_QUEUED, 0);
  generation = blockGeneration;
  regionsChanged();
}

/** A block became hot. False: the queue is full. */
export function request(block: u32, rip: u64): bool {
  if (load<u32>(JIT_QUEUED) == REQUEST_MAX) return false;
  if (generation != blockGeneration) dropRegions(); // requests of forgotten blocks go with them
  if (oftenRewritten(load<u32>(block, BK_HOST), load<u16>(block, BK_BYTES))) return true;
  const q = JIT_QUEUE + load<u32>(JIT_QUEUED) * REQUEST_SIZE;
  store<u64>(q, rip, RQ_RIP);
  store<u32>(q, block, RQ_BLOCK);
  store<u32>(q, load<u32>(MODE), RQ_MODE);
  store<u64>(q, load<u64>(SEGS + SEG_CS + SG_EFFECTIVE), RQ_BASE);
  store<u64>(q, load<u64>(CODE_END), RQ_END);
  store<u32>(JIT_QUEUED, load<u32>(JIT_QUEUED) + 1);
  return true;
}

export function requests(): u32 {
  return load<u32>(JIT_QUEUED);
}

/** Has the generator answer the requests. */
export function compileQueue(): void {
  if (generation != blockGeneration) dropRegions();
  regionsChanged(); // the next entry of a region notes that it is in use
  store<u32>(JIT_THRESHOLD, hotThreshold);
  store<u32>(JIT_TRANSLATED, translated());
  store<u32>(JIT_TLB_MASK, tlbMask);
  const possible = jitGenerate();
  store<u32>(JIT_QUEUED, 0);
  if (!possible) setJit(0); // stay in the interpreter
}

function drop(r: u32): void {
  store<u32>(r, 0, JR_SLOT);
  regionsChanged();
}

/** JR_TRANSLATED of the present state: accesses to watched pages must go through the TLB and miss. */
function translated(): u32 {
  const watched = dataTraps != 0 || (load<u32>(DEBUG_WATCH) & WatchBit.Data) != 0;
  return (load<u32>(TR_MODE) & (TransBit.Paging | TransBit.Ept)) | (u32(watched) << 31);
}

/** Are the pages still where they were, so that fetching from them changes nothing? */
function mapped(r: u32): bool {
  if (load<u64>(r, JR_TAG) == load<u64>(TAG_REAL) && load<u32>(r, JR_FLUSH) == flushCount) return true;
  for (let i: u32 = 0; i < load<u32>(r, JR_PAGES); i++) {
    const p = r + JR_LIST + i * JR_PAGE;
    const linear = load<u64>(p) << 12;
    if (fetchSettled(linear) != load<u32>(p, 8)) return false;
    noteCodePage(load<u64>(p));
    if (codeTraps && unmarked(linear, translateQuiet(linear, EXECUTE, load<u32>(CPL) == 3), load<u32>(p, 8))) {
      drop(r); // it was made without the traps
      return false;
    }
  }
  store<u64>(r, load<u64>(TAG_REAL), JR_TAG);
  store<u32>(r, flushCount, JR_FLUSH);
  return true;
}

/** Has the region made anew that a branch left again and again to the same place. Must be called where requests() is looked at. */
export function grow(): void {
  const r = growing;
  if (!r || load<u32>(r, JR_MODE) != load<u32>(MODE)) return; // until it can be looked at
  grown();
  if (!load<u32>(r, JR_SLOT) || otherCode(r) || !mapped(r)) return;
  // the block it was asked for is its first entry
  let offset: u32 = 0;
  while (load<u16>(load<u32>(r, JR_TARGETS) + (offset << 1)) != 1) if (++offset > load<u32>(r, JR_SPAN)) return;
  const rip = load<u64>(r, JR_FIRST) + offset;
  const block = findBlock(fetchSettled((load<u32>(r, JR_BASE) + rip) & load<u64>(LINEAR_MASK)), load<u32>(MODE));
  if (!block) return;
  drop(r);
  store<u32>(block, 0, BK_REGION);
  store<u32>(block, 0, BK_HOT);
  request(block, rip);
}

/** Not 0: CS is not where the region was generated for it. */
function otherCode(r: u32): u32 {
  return (
    (load<u32>(r, JR_BASE) ^ load<u32>(SEGS + SEG_CS + SG_EFFECTIVE)) |
    (load<u32>(r, JR_LAST) ^ u32(load<u64>(CODE_END) - 1))
  );
}

/** Runs the region last entered at this RIP and where it leads, at most `allowed` instructions. False: not entered. */
export function jump(rip: u64, allowed: u64): bool {
  return generation == blockGeneration && follow(rip, allowed);
}

/** Runs the region of a block if that is possible now, at most `allowed` instructions. False: not entered. */
export function enter(block: u32, rip: u64, allowed: u64): bool {
  if (generation != blockGeneration) dropRegions();
  const r = load<u32>(block, BK_REGION);
  if (!r || !load<u32>(r, JR_SLOT)) {
    // dropped since
    store<u32>(block, 0, BK_REGION);
    return false;
  }
  if (load<u32>(r, JR_SLOT) == UNLINKED) return false;
  if (load<u32>(r, JR_MODE) != load<u32>(MODE)) {
    // the same code with other segments: it may get a region for them too
    store<u32>(block, 0, BK_REGION);
    return false;
  }
  if (load<u32>(r, JR_TRANSLATED) != translated() || otherCode(r)) return false;
  if (load<u64>(TR_TAG) != load<u64>(TAG_REAL)) return false; // alignment is checked: every access needs the interpreter
  const longest = load<u32>(r, JR_TOTAL);
  if (allowed < u64(longest)) return false;
  const offset = rip - load<u64>(r, JR_FIRST);
  if (offset > u64(load<u32>(r, JR_SPAN))) return false;
  const entry = u32(load<u16>(load<u32>(r, JR_TARGETS) + (u32(offset) << 1)));
  if (!entry) {
    store<u32>(block, 0, BK_REGION); // the region's place was used again
    return false;
  }
  if (!mapped(r)) return false;
  store<u32>(r, load<u32>(JIT_BATCH), JR_USED);
  noteJump(rip, r, load<u32>(r, JR_SLOT), entry, longest);
  return follow(rip, allowed);
}

/** Drops the regions that were made from bytes in [host, host + bytes) of a page; rewritten: because these changed. */
export function dropWritten(host: u32, bytes: u32, rewritten: bool): void {
  const regionCount = load<u32>(JIT_REGION_COUNT);
  if (regionCount == 0) return;
  const page = host & ~0xfff;
  const lines = lineMask(host, bytes);
  for (let i: u32 = 0; i < regionCount; i++) {
    const r = region(i);
    if (!load<u32>(r, JR_SLOT)) continue;
    const pages = load<u32>(r, JR_PAGES);
    for (let p: u32 = 0; p < pages; p++) {
      const e = r + JR_LIST + p * JR_PAGE;
      if (load<u32>(e, 8) != page || !(load<u64>(e, 16) & lines)) continue;
      drop(r);
      if (rewritten) noteRewritten(host, bytes);
    }
  }
}

/** The region left its last instruction, at this address, to the interpreter; staged: which had to stage a store. */
export function leftAt(host: u32, staged: bool): void {
  const learned = staged
    ? noteStaged(translated() != 0 && stagesTable() ? ~host : host)
    : translated() != 0 && noteMissed(host);
  if (learned) drop(lastRegion);
}
