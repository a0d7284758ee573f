// Generation of code for what was asked for since the last time: each request in the mode it was made in, regions as one module.
import { BK_HOST, BK_HOT, BK_REGION } from "../abi/block";
import {
  JIT_BATCH,
  JIT_NEXT_SITE,
  JIT_NEXT_TARGET,
  JIT_QUEUED,
  JIT_REGION_COUNT,
  JIT_THRESHOLD,
  JIT_TRANSLATED,
  JR_BASE,
  JR_FIRST,
  JR_LAST,
  JR_LIST,
  JR_MODE,
  JR_PAGE,
  JR_PAGES,
  JR_PAGES_MAX,
  JR_SITES,
  JR_SITES_BYTES,
  JR_SIZE,
  JR_SLOT,
  JR_SPAN,
  JR_TARGETS,
  JR_TICKET,
  JR_TOTAL,
  JR_TRANSLATED,
  JR_USED,
  REQUEST_SIZE,
  RQ_BASE,
  RQ_BLOCK,
  RQ_END,
  RQ_MODE,
  RQ_RIP,
  UNLINKED,
} from "../abi/generator";
import {
  GENERATOR_DATA_END,
  JIT_CODE,
  JIT_PLACES,
  JIT_QUEUE,
  JIT_REGION_MAX,
  JIT_REGIONS,
  JIT_SITES,
  JIT_SITES_END,
  JIT_TARGETS,
  JIT_TARGETS_END,
  TLB_TABLE,
} from "../abi/layout";
import { CPL, LINEAR_MASK, MODE, ModeBit, TR_TABLE } from "../abi/state";
import { codeBase, codeEnd, setCode } from "./context";
import { blockOf, entryCount, nodeCount } from "./graph";
import { jitCompile } from "./host";
import { entryBlock, fillTargets, firstRip, pageCount, pageList, plan, span, total } from "./plan";
import { emitRegion, measureRegion } from "./region";
import { sitesBytes } from "./site";

/** In jitCompile's answer. */
const LATER: u32 = 0x80000000;

/** Compiling so many instructions costs no more than a run of a block in the interpreter, times the threshold. */
const INSTRUCTIONS_A_RUN: u32 = 16;

function region(i: u32): u32 {
  return JIT_REGIONS + i * JR_SIZE;
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
    for (let i: u32 = 0; i < load<u32>(JIT_REGION_COUNT) && !past; i++) {
      const r = region(i);
      if (!load<u32>(r, JR_SLOT)) continue;
      const sites = first == JIT_SITES;
      const start = sites ? load<u32>(r, JR_SITES) : load<u32>(r, JR_TARGETS);
      const end = start + (sites ? load<u32>(r, JR_SITES_BYTES) : targetBytes(load<u32>(r, JR_SPAN)));
      if (start < at + bytes && at < end) past = end;
    }
    if (!past) return at;
    at = past;
  }
  return unreachable();
}

function placeTargets(): u32 {
  return placeIn(JIT_TARGETS, JIT_TARGETS_END, load<u32>(JIT_NEXT_TARGET), targetBytes(span));
}

function placeSites(): u32 {
  return sitesBytes ? placeIn(JIT_SITES, JIT_SITES_END, load<u32>(JIT_NEXT_SITE), sitesBytes) : JIT_SITES;
}

/** Place of the first dead region from `from` on, JIT_REGION_MAX: none. */
function deadRegion(from: u32): u32 {
  let i = from;
  while (i < load<u32>(JIT_REGION_COUNT) && load<u32>(region(i), JR_SLOT)) i++;
  return i;
}

/** Drops the half of the regions that was not entered for longest, or a little more. */
function evict(): void {
  let live: u32 = 0;
  for (let i: u32 = 0; i < load<u32>(JIT_REGION_COUNT); i++) if (load<u32>(region(i), JR_SLOT)) live++;
  const keep = live >> 1;
  for (let age: u32 = 0x80000000; live > keep; age >>= 1) {
    for (let i: u32 = 0; i < load<u32>(JIT_REGION_COUNT); i++) {
      const r = region(i);
      if (!load<u32>(r, JR_SLOT) || load<u32>(JIT_BATCH) - load<u32>(r, JR_USED) < age) continue;
      store<u32>(r, 0, JR_SLOT);
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
  store<u32>(TR_TABLE, (load<u32>(TR_TABLE) & ~TLB_TABLE) | (user ? TLB_TABLE : 0));
  return true;
}

/** See GeneratorExports in src/core/exports.ts. */
export function generate(): u32 {
  if (__heap_base > <usize>GENERATOR_DATA_END) unreachable();
  const mode = load<u32>(MODE);
  const mask = load<u64>(LINEAR_MASK);
  const cpl = load<u32>(CPL);
  const table = load<u32>(TR_TABLE);
  const done = generateQueue();
  store<u32>(MODE, mode);
  store<u64>(LINEAR_MASK, mask);
  store<u32>(CPL, cpl);
  store<u32>(TR_TABLE, table);
  return u32(done);
}

/** False: nothing can be compiled here. */
function generateQueue(): bool {
  store<u32>(JIT_BATCH, load<u32>(JIT_BATCH) + 1);
  let at: u32 = JIT_CODE;
  let made: u32 = 0;
  let index: u32 = 0;
  let evicted = false;
  for (let i: u32 = 0; i < load<u32>(JIT_QUEUED); i++) {
    const q = JIT_QUEUE + i * REQUEST_SIZE;
    const rip = load<u64>(q, RQ_RIP);
    const block = load<u32>(q, RQ_BLOCK);
    // the block may have been dropped, or become part of another region
    if (load<u32>(block, BK_HOST) == 0 || load<u32>(block, BK_REGION) != 0 || load<i32>(block, BK_HOT) < 0) continue;
    setCode(load<u64>(q, RQ_BASE), load<u64>(q, RQ_END));
    if (!generateFor(load<u32>(q, RQ_MODE)) || !plan(rip)) continue;
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
    store<u32>(JIT_NEXT_TARGET, table + targetBytes(span));
    if (sitesBytes) store<u32>(JIT_NEXT_SITE, sites + sitesBytes);
    fillTargets(table);
    note(index, table, sites);
    store<u32>(JIT_PLACES + (made << 2), index);
    made++;
  }
  if (!made) return true;
  const base = jitCompile(JIT_CODE, at - JIT_CODE, made, JIT_PLACES, load<u32>(JIT_BATCH));
  if (!base || base & LATER) return base != 0;
  for (let i: u32 = 0; i < made; i++) {
    const place = load<u32>(JIT_PLACES + (i << 2));
    store<u32>(region(place), base + place, JR_SLOT);
  }
  return true;
}

/** See GeneratorExports. */
export function linkRegion(place: u32, ticket: u32, base: u32): u32 {
  const r = region(place);
  if (place >= load<u32>(JIT_REGION_COUNT) || load<u32>(r, JR_SLOT) != UNLINKED || load<u32>(r, JR_TICKET) != ticket)
    return 0;
  store<u32>(r, base + place, JR_SLOT);
  return base + place;
}

/** Records the region that was just emitted and hangs it on the blocks of its entries. */
function note(index: u32, table: u32, sites: u32): void {
  const r = region(index);
  memory.fill(r, 0, JR_SIZE);
  store<u32>(r, UNLINKED, JR_SLOT);
  store<u32>(r, load<u32>(JIT_BATCH), JR_USED);
  store<u32>(r, load<u32>(JIT_BATCH), JR_TICKET);
  if (index >= load<u32>(JIT_REGION_COUNT)) store<u32>(JIT_REGION_COUNT, index + 1);
  store<u32>(r, load<u32>(MODE), JR_MODE);
  store<u32>(r, load<u32>(JIT_TRANSLATED), JR_TRANSLATED);
  store<u32>(r, total, JR_TOTAL);
  store<u32>(r, span, JR_SPAN);
  store<u64>(r, firstRip, JR_FIRST);
  store<u32>(r, u32(codeBase), JR_BASE);
  store<u32>(r, u32(codeEnd - 1), JR_LAST);
  store<u32>(r, table, JR_TARGETS);
  store<u32>(r, sites, JR_SITES);
  store<u32>(r, sitesBytes, JR_SITES_BYTES);
  store<u32>(r, pageCount, JR_PAGES);
  memory.copy(r + JR_LIST, pageList, JR_PAGES_MAX * JR_PAGE);
  for (let i: u32 = 0; i < entryCount; i++) {
    const b = entryBlock(i);
    // the first region of a block keeps it
    if (load<u32>(b, BK_REGION) == 0) store<u32>(b, r, BK_REGION);
  }
  // a block in the midst of the region gets one of its own when the interpreter has spent as much on it as that costs
  const least = -i32(min<u32>(load<u32>(JIT_THRESHOLD), 0x100000) * (total / INSTRUCTIONS_A_RUN));
  for (let n: u32 = 1; n < nodeCount; n++) {
    if (load<u32>(blockOf(n), BK_REGION) == 0) store<i32>(blockOf(n), least, BK_HOT);
  }
}
