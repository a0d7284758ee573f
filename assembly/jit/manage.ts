// Regions in use: which blocks they start at, what they depend on, when they are made and dropped.
//
// A region is entered from run/ when its block comes up. It assumes that its pages are mapped as they were, and the mode
// word; both are checked at entry, the pages only when the context or the state of the TLB changed since.
import {
  JIT_CODE,
  JIT_REGION_MAX,
  JIT_REGIONS,
  JIT_SITES,
  JIT_SITES_END,
  JIT_TARGETS,
  JIT_TARGETS_END,
} from "../abi/layout";
import {
  CODE_END,
  CPL,
  LINEAR_MASK,
  MODE,
  ModeBit,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  TAG_REAL,
  TR_MODE,
  TR_TABLE,
  TR_TAG,
  TransBit,
} from "../abi/state";
import { BK_BYTES, BK_HOST, BK_HOT, BK_REGION, blockGeneration, findBlock } from "../blocks/cache";
import { codeBase, codeEnd, dataWatched, setCode } from "../generator/context";
import { blockOf, entryCount, nodeCount } from "../generator/graph";
import { entryBlock, fillTargets, firstRip, PAGES, pageCount, pageList, plan, span, total } from "../generator/plan";
import { emitRegion, measureRegion } from "../generator/region";
import {
  DEFAULT_THRESHOLD,
  noteMissed,
  noteRewritten,
  noteStaged,
  oftenRewritten,
  setMissLimit,
} from "../generator/rewritten";
import { setLeaveLimit } from "../generator/seen";
import { sitesBytes } from "../generator/site";
import { jitCompile } from "../imports";
import { fetchSettled, translateQuiet } from "../memory/access";
import { flushCount, tlbTable } from "../memory/context";
import { lineMask } from "../memory/frames";
import { codeTraps, unmarked } from "../memory/traps";
import { EXECUTE } from "../memory/walk";
import { follow, growing, grown, lastRegion, noteJump, regionsChanged } from "./chain";

// region: 168 bytes
const RG_SLOT: u32 = 0; // u32 table slot, 0: dead
const RG_MODE: u32 = 4; // u32
const RG_TOTAL: u32 = 8; // u32 longest path
const RG_SPAN: u32 = 12; // u32
const RG_FIRST: u32 = 16; // u64
const RG_TARGETS: u32 = 24; // u32
const RG_PAGES: u32 = 28; // u32
const RG_TAG: u32 = 32; // u64 context the mapping was checked in
const RG_FLUSH: u32 = 40; // u32 flushCount at that time
const RG_TICKET: u32 = 44; // u32 batch it was made in
const RG_TRANSLATED: u32 = 144; // u32 TransBit.Paging and Ept it was built for; bit 31: dataWatched()
const RG_USED: u32 = 148; // u32 batch at its last entry
const RG_SITES: u32 = 152; // u32 its sites
const RG_SITES_BYTES: u32 = 156; // u32
const RG_BASE: u32 = 160; // u32 base of CS
const RG_LAST: u32 = 164; // u32 CODE_END - 1
const RG_LIST: u32 = 48; // PAGES x 24
const REGION: u32 = 168;
/** RG_SLOT of a region whose function is not in the table yet. */
const UNLINKED: u32 = 0xffffffff;
/** In jitCompile's answer. */
const LATER: u32 = 0x80000000;

/** Compiling so many instructions costs no more than a run of a block in the interpreter, times the threshold. */
const INSTRUCTIONS_A_RUN: u32 = 16;

const QUEUE_MAX: u32 = 128;
const queue: usize = memory.data(4096); // {u64 rip, u32 block, u32 mode, u64 base of CS, u64 CODE_END}
const REQUEST: u32 = 32;
let queued: u32 = 0;
const indices: usize = memory.data(512); // u32 places of the regions of a batch
let regionCount: u32 = 0; // places in use, dead ones among them
let nextTarget: u32 = JIT_TARGETS;
let nextSite: u32 = JIT_SITES;
/** Counts compilations: the clock of the cache. */
let batch: u32 = 0;
let generation: u32 = 0;

function region(i: u32): u32 {
  return JIT_REGIONS + i * REGION;
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
  memory.fill(JIT_REGIONS, 0, regionCount * REGION);
  regionCount = 0;
  nextTarget = JIT_TARGETS;
  nextSite = JIT_SITES;
  queued = 0;
  generation = blockGeneration;
  regionsChanged();
}

/** A block became hot. False: the queue is full. */
export function request(block: u32, rip: u64): bool {
  if (queued == QUEUE_MAX) return false;
  if (generation != blockGeneration) dropRegions(); // requests of forgotten blocks go with them
  if (oftenRewritten(load<u32>(block, BK_HOST), load<u16>(block, BK_BYTES))) return true;
  const q = queue + queued * REQUEST;
  store<u64>(q, rip);
  store<u32>(q, block, 8);
  store<u32>(q, load<u32>(MODE), 12);
  store<u64>(q, load<u64>(SEGS + SEG_CS + SG_EFFECTIVE), 16);
  store<u64>(q, load<u64>(CODE_END), 24);
  queued++;
  return true;
}

export function requests(): u32 {
  return queued;
}

/** Bytes of a region's table of branch targets. */
function targetBytes(last: u32): u32 {
  return (((last + 1) << 1) + 15) & ~7;
}

/** A place for `bytes` bytes in [first, last), from `at` on and round, that no live region uses; 0: none is large enough. */
function placeIn(first: u32, last: u32, at: u32, bytes: u32): u32 {
  let wrapped = false;
  for (;;) {
    if (at + bytes > last) {
      if (wrapped) return 0;
      wrapped = true;
      at = first;
    }
    let past: u32 = 0;
    for (let i: u32 = 0; i < regionCount && !past; i++) {
      const r = region(i);
      if (!load<u32>(r, RG_SLOT)) continue;
      const sites = first == JIT_SITES;
      const start = sites ? load<u32>(r, RG_SITES) : load<u32>(r, RG_TARGETS);
      const end = start + (sites ? load<u32>(r, RG_SITES_BYTES) : targetBytes(load<u32>(r, RG_SPAN)));
      if (start < at + bytes && at < end) past = end;
    }
    if (!past) return at;
    at = past;
  }
  return unreachable();
}

function placeTargets(): u32 {
  return placeIn(JIT_TARGETS, JIT_TARGETS_END, nextTarget, targetBytes(span));
}

function placeSites(): u32 {
  return sitesBytes ? placeIn(JIT_SITES, JIT_SITES_END, nextSite, sitesBytes) : JIT_SITES;
}

/** Place of the first dead region from `from` on, JIT_REGION_MAX: none. */
function deadRegion(from: u32): u32 {
  let i = from;
  while (i < regionCount && load<u32>(region(i), RG_SLOT)) i++;
  return i;
}

function drop(r: u32): void {
  store<u32>(r, 0, RG_SLOT);
  regionsChanged();
}

/** Drops the half of the regions that was not entered for longest, or a little more. */
function evict(): void {
  let live: u32 = 0;
  for (let i: u32 = 0; i < regionCount; i++) if (load<u32>(region(i), RG_SLOT)) live++;
  const keep = live >> 1;
  for (let age: u32 = 0x80000000; live > keep; age >>= 1) {
    for (let i: u32 = 0; i < regionCount; i++) {
      const r = region(i);
      if (!load<u32>(r, RG_SLOT) || batch - load<u32>(r, RG_USED) < age) continue;
      drop(r);
      live--;
    }
  }
}

/** Makes this the mode that code is generated for, as far as generation looks at it. False: it takes more than a change of CPL. */
function generateFor(mode: u32): bool {
  const other = load<u32>(MODE) ^ mode;
  if (other & (ModeBit.Protected | ModeBit.LongMode | ModeBit.Vm86)) return false;
  const user = (mode & ModeBit.User) != 0;
  store<u32>(MODE, mode);
  store<u64>(LINEAR_MASK, mode & ModeBit.Code64 ? ~(0 as u64) : 0xffffffff);
  if (other & ModeBit.User) store<u32>(CPL, user ? 3 : 0);
  store<u32>(TR_TABLE, tlbTable(user));
  return true;
}

/** Generates and links what was asked for, each request in the mode it was made in. */
export function compileQueue(): void {
  const mode = load<u32>(MODE);
  const cpl = load<u32>(CPL);
  generateQueue();
  generateFor(mode);
  store<u32>(CPL, cpl);
}

function generateQueue(): void {
  if (generation != blockGeneration) dropRegions();
  batch++;
  regionsChanged(); // the next entry of a region notes that it is in use
  let at: u32 = JIT_CODE;
  let made: u32 = 0;
  let index: u32 = 0;
  let evicted = false;
  for (let i: u32 = 0; i < queued; i++) {
    const q = queue + i * REQUEST;
    const rip = load<u64>(q);
    const block = load<u32>(q, 8);
    // the block may have been dropped, or become part of another region
    if (load<u32>(block, BK_HOST) == 0 || load<u32>(block, BK_REGION) != 0 || load<i32>(block, BK_HOT) < 0) continue;
    setCode(load<u64>(q, 16), load<u64>(q, 24));
    if (!generateFor(load<u32>(q, 12)) || !plan(rip)) continue;
    index = deadRegion(index);
    let table: u32 = index < <u32>JIT_REGION_MAX ? placeTargets() : 0;
    const measured = table != 0;
    if (measured && !measureRegion(table)) continue;
    let sites: u32 = measured ? placeSites() : 0;
    if (!sites) {
      if (made || evicted) break;
      evict();
      evicted = true;
      index = deadRegion(0);
      table = placeTargets();
      if (!table) break;
      if (!measureRegion(table)) continue;
      sites = placeSites();
      if (!sites) break;
    }
    const end = emitRegion(at, sites);
    if (!end) continue;
    at = end;
    nextTarget = table + targetBytes(span);
    if (sitesBytes) nextSite = sites + sitesBytes;
    fillTargets(table);
    note(index, table, sites);
    store<u32>(indices + (made << 2), index);
    made++;
  }
  queued = 0;
  if (!made) return;
  const base = jitCompile(JIT_CODE, at - JIT_CODE, made, u32(indices), batch);
  if (!base) setJit(0); // nothing can be compiled here: stay in the interpreter
  if (!base || base & LATER) return;
  for (let i: u32 = 0; i < made; i++) {
    const place = load<u32>(indices + (i << 2));
    store<u32>(region(place), base + place, RG_SLOT);
  }
}

/** See CoreExports.linkRegion. */
export function linkRegion(place: u32, ticket: u32, base: u32): u32 {
  const r = region(place);
  if (place >= regionCount || load<u32>(r, RG_SLOT) != UNLINKED || load<u32>(r, RG_TICKET) != ticket) return 0;
  store<u32>(r, base + place, RG_SLOT);
  return base + place;
}

/** Records the region that was just emitted and hangs it on the blocks of its entries. */
function note(index: u32, table: u32, sites: u32): void {
  const r = region(index);
  memory.fill(r, 0, REGION);
  store<u32>(r, UNLINKED, RG_SLOT);
  store<u32>(r, batch, RG_USED);
  store<u32>(r, batch, RG_TICKET);
  if (index >= regionCount) regionCount = index + 1;
  store<u32>(r, load<u32>(MODE), RG_MODE);
  store<u32>(r, translated(), RG_TRANSLATED);
  store<u32>(r, total, RG_TOTAL);
  store<u32>(r, span, RG_SPAN);
  store<u64>(r, firstRip, RG_FIRST);
  store<u32>(r, u32(codeBase), RG_BASE);
  store<u32>(r, u32(codeEnd - 1), RG_LAST);
  store<u32>(r, table, RG_TARGETS);
  store<u32>(r, sites, RG_SITES);
  store<u32>(r, sitesBytes, RG_SITES_BYTES);
  store<u32>(r, pageCount, RG_PAGES);
  memory.copy(r + RG_LIST, pageList, PAGES * 24);
  for (let i: u32 = 0; i < entryCount; i++) {
    const b = entryBlock(i);
    // the first region of a block keeps it
    if (load<u32>(b, BK_REGION) == 0) store<u32>(b, r, BK_REGION);
  }
  // a block in the midst of the region gets one of its own when the interpreter has spent as much on it as that costs
  const least = -i32(min<u32>(hotThreshold, 0x100000) * (total / INSTRUCTIONS_A_RUN));
  for (let n: u32 = 1; n < nodeCount; n++) {
    if (load<u32>(blockOf(n), BK_REGION) == 0) store<i32>(blockOf(n), least, BK_HOT);
  }
}

function translated(): u32 {
  return (load<u32>(TR_MODE) & (TransBit.Paging | TransBit.Ept)) | (u32(dataWatched()) << 31);
}

/** Are the pages still where they were, so that fetching from them changes nothing? */
function mapped(r: u32): bool {
  if (load<u64>(r, RG_TAG) == load<u64>(TAG_REAL) && load<u32>(r, RG_FLUSH) == flushCount) return true;
  for (let i: u32 = 0; i < load<u32>(r, RG_PAGES); i++) {
    const p = r + RG_LIST + i * 24;
    const linear = load<u64>(p) << 12;
    if (fetchSettled(linear) != load<u32>(p, 8)) return false;
    if (codeTraps && unmarked(linear, translateQuiet(linear, EXECUTE, load<u32>(CPL) == 3), load<u32>(p, 8))) {
      drop(r); // it was made without the traps
      return false;
    }
  }
  store<u64>(r, load<u64>(TAG_REAL), RG_TAG);
  store<u32>(r, flushCount, RG_FLUSH);
  return true;
}

/** Has the region made anew that a branch left again and again to the same place. Must be called where requests() is looked at. */
export function grow(): void {
  const r = growing;
  if (!r || load<u32>(r, RG_MODE) != load<u32>(MODE)) return; // until it can be looked at
  grown();
  if (!load<u32>(r, RG_SLOT) || otherCode(r) || !mapped(r)) return;
  // the block it was asked for is its first entry
  let offset: u32 = 0;
  while (load<u16>(load<u32>(r, RG_TARGETS) + (offset << 1)) != 1) if (++offset > load<u32>(r, RG_SPAN)) return;
  const rip = load<u64>(r, RG_FIRST) + offset;
  const block = findBlock(fetchSettled((load<u32>(r, RG_BASE) + rip) & load<u64>(LINEAR_MASK)), load<u32>(MODE));
  if (!block) return;
  drop(r);
  store<u32>(block, 0, BK_REGION);
  store<u32>(block, 0, BK_HOT);
  request(block, rip);
}

/** Not 0: CS is not where the region was generated for it. */
function otherCode(r: u32): u32 {
  return (
    (load<u32>(r, RG_BASE) ^ load<u32>(SEGS + SEG_CS + SG_EFFECTIVE)) |
    (load<u32>(r, RG_LAST) ^ u32(load<u64>(CODE_END) - 1))
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
  if (!r || !load<u32>(r, RG_SLOT)) {
    // dropped since
    store<u32>(block, 0, BK_REGION);
    return false;
  }
  if (load<u32>(r, RG_SLOT) == UNLINKED) return false;
  if (load<u32>(r, RG_MODE) != load<u32>(MODE)) {
    // the same code with other segments: it may get a region for them too
    store<u32>(block, 0, BK_REGION);
    return false;
  }
  if (load<u32>(r, RG_TRANSLATED) != translated() || otherCode(r)) return false;
  if (load<u64>(TR_TAG) != load<u64>(TAG_REAL)) return false; // alignment is checked: every access needs the interpreter
  const longest = load<u32>(r, RG_TOTAL);
  if (allowed < u64(longest)) return false;
  const offset = rip - load<u64>(r, RG_FIRST);
  if (offset > u64(load<u32>(r, RG_SPAN))) return false;
  const entry = u32(load<u16>(load<u32>(r, RG_TARGETS) + (u32(offset) << 1)));
  if (!entry) {
    store<u32>(block, 0, BK_REGION); // the region's place was used again
    return false;
  }
  if (!mapped(r)) return false;
  store<u32>(r, batch, RG_USED);
  noteJump(rip, r, load<u32>(r, RG_SLOT), entry, longest);
  return follow(rip, allowed);
}

/** Drops the regions that were made from bytes in [host, host + bytes) of a page; rewritten: because these changed. */
export function dropWritten(host: u32, bytes: u32, rewritten: bool): void {
  if (regionCount == 0) return;
  const page = host & ~0xfff;
  const lines = lineMask(host, bytes);
  for (let i: u32 = 0; i < regionCount; i++) {
    const r = region(i);
    if (!load<u32>(r, RG_SLOT)) continue;
    const pages = load<u32>(r, RG_PAGES);
    for (let p: u32 = 0; p < pages; p++) {
      const e = r + RG_LIST + p * 24;
      if (load<u32>(e, 8) != page || !(load<u64>(e, 16) & lines)) continue;
      drop(r);
      if (rewritten) noteRewritten(host, bytes);
    }
  }
}

/** The region left its last instruction, at this address, to the interpreter; staged: which had to stage a store. */
export function leftAt(host: u32, staged: bool): void {
  if (staged ? noteStaged(host) : translated() != 0 && noteMissed(host)) drop(lastRegion);
}
