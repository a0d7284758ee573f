// The plan of a region: blocks reached from a hot one by direct branches, in up to PAGES pages, and their graph.

import { BK_BYTES, BK_COUNT, BK_RECORDS } from "../abi/block";
import { JR_PAGE, JR_PAGES_MAX, LEFT_BY_BRANCH } from "../abi/generator";
import {
  OP_TOO_LONG,
  R_ADDR_SHIFT,
  R_BASE,
  R_DISP,
  R_FAR_OFFSET,
  R_FAR_SELECTOR,
  R_FLAGS,
  R_IDX,
  R_IMM,
  R_OP,
  R_SIZE,
  RECORD_SIZE,
  RecordFlag,
} from "../abi/record";
import { GPR, LINEAR_MASK, MODE, SEG_CS, SEGS, SG_SELECTOR, ZERO_SLOT } from "../abi/state";
import {
  beginBlock,
  beginInstruction,
  beginRegion,
  codeBase,
  codeEnd,
  ripNext,
  segmented,
  truncate,
  wide,
} from "./context";
import {
  fetchSettled,
  findBlock,
  handlerHere,
  lineMask,
  oftenRewritten,
  physToHost,
  seenTarget,
  translate,
} from "./core";
import {
  addNode,
  analyse,
  blockOf,
  clearGraph,
  entryCount,
  entryNode,
  entryOf,
  findNode,
  makeEntry,
  NODE_MAX,
  NONE,
  nodeCount,
  ripOf,
  setSuccessors,
} from "./graph";
import { addressable, isMemory, kindOf } from "./kinds";

import {
  KIND_CALL_E,
  KIND_CALL_FAR_PTR,
  KIND_CALL_REL,
  KIND_END,
  KIND_INT_N,
  KIND_IRET,
  KIND_JCC,
  KIND_JCXZ,
  KIND_JMP_E,
  KIND_JMP_FAR_PTR,
  KIND_JMP_REL,
  KIND_LOOP,
  KIND_LOOPE,
  KIND_LOOPNE,
  KIND_RET,
  KIND_RET_IMM,
  KIND_SYSCALL,
  KIND_SYSENTER,
  KIND_SYSEXIT,
  KIND_SYSRET,
} from "./kinds.generated";

const INSTRUCTIONS_MAX: u32 = 1200;
/** Bytes between the first and the last block. */
const SPAN_MAX: u64 = 0x8000;

/** What the region covers, as at JR_LIST. */
export const pageList: usize = memory.data(JR_PAGES_MAX * JR_PAGE, 8);
export let pageCount: u32 = 0;
export let total: u32 = 0; // instructions of all blocks: the longest path without a budget check
export let firstRip: u64 = 0;
export let span: u32 = 0;
/** Calls of the region that return into it. */
export let returns: u32 = 0;

/** Notes that the region depends on these bytes. False: too many pages. */
function cover(linear: u64, host: u32, bytes: u32): bool {
  const page = linear >> 12;
  for (let i: u32 = 0; i < pageCount; i++) {
    const p = pageList + i * JR_PAGE;
    if (load<u64>(p) != page) continue;
    store<u64>(p, load<u64>(p, 16) | lineMask(host, bytes), 16);
    return true;
  }
  if (pageCount == JR_PAGES_MAX) return false;
  const p = pageList + pageCount * JR_PAGE;
  store<u64>(p, page);
  store<u32>(p, host & ~0xfff, 8);
  store<u64>(p, lineMask(host, bytes), 16);
  pageCount++;
  return true;
}

/** The node at rip, made when its block is decoded already and there is room; else NONE. */
function reach(rip: u64): u32 {
  const have = findNode(rip);
  if (have != NONE) return have;
  if (nodeCount == NODE_MAX) return NONE;
  const linear = (codeBase + rip) & load<u64>(LINEAR_MASK);
  const host = fetchSettled(linear);
  if (!host) return NONE;
  const b = findBlock(host, load<u32>(MODE));
  if (!b) return NONE;
  const count = u32(load<u16>(b, BK_COUNT));
  if (total + count > INSTRUCTIONS_MAX || rip + load<u16>(b, BK_BYTES) > codeEnd) return NONE;
  const low = rip < firstRip ? rip : firstRip;
  const high = rip > firstRip + span ? rip : firstRip + span;
  if (high - low >= SPAN_MAX) return NONE;
  if (oftenRewritten(host, load<u16>(b, BK_BYTES)) || load<u16>(firstRecord(b), R_OP) <= <u32>OP_TOO_LONG) return NONE;
  if (!cover(linear, host, load<u16>(b, BK_BYTES))) return NONE;
  total += count;
  firstRip = low;
  span = u32(high - low);
  return addNode(rip, b);
}

function isTerminator(kind: u32): bool {
  switch (kind) {
    case KIND_JCC:
    case KIND_JMP_REL:
    case KIND_CALL_REL:
    case KIND_RET:
    case KIND_RET_IMM:
    case KIND_JMP_E:
    case KIND_CALL_E:
    case KIND_LOOP:
    case KIND_LOOPE:
    case KIND_LOOPNE:
    case KIND_JCXZ:
    case KIND_END:
      return true;
    default:
      return false;
  }
}

/** Can a near branch go there? Else it raises #GP(0). */
export function reachable(rip: u64): bool {
  return rip < codeEnd && u64((i64(rip) << 16) >> 16) == rip;
}

/** Can this block-ending record be generated? */
export function terminates(rec: usize): bool {
  const kind = kindOf(rec);
  if (!isTerminator(kind)) return false;
  if (kind == KIND_END) return true;
  const size = load<u8>(rec, R_SIZE);
  if (wide ? size != 8 : !(size == 4 || (segmented && size == 2))) return false;
  if (countsDown(kind) && wide && load<u8>(rec, R_ADDR_SHIFT) != 0) return false;
  if (kind == KIND_JMP_E || kind == KIND_CALL_E) return !isMemory(rec) || addressable(rec);
  return true;
}

/** LOOP and its kin, and JCXZ: branches that look at rCX. */
export function countsDown(kind: u32): bool {
  return kind == KIND_LOOP || kind == KIND_LOOPE || kind == KIND_LOOPNE || kind == KIND_JCXZ;
}

export function firstRecord(b: u32): usize {
  return b + BK_RECORDS;
}

export function targetOf(rec: usize, rip: u64): u64 {
  const target = truncate(rip + load<u64>(rec, R_IMM));
  return load<u8>(rec, R_SIZE) == 2 ? target & 0xffff : target;
}

/** Entries of a table that are looked at. */
const CASES_MAX: u32 = 256;

/**
 * A jump or call through a table at a constant address leads to what the table names, as far as that has run. This only
 * decides what is in the region: the branch reads its target each time.
 */
function reachCases(rec: usize): void {
  const size: u32 = wide ? 8 : 4;
  if (segmented || !isMemory(rec) || !addressable(rec) || load<u8>(rec, R_FLAGS) & RecordFlag.SoftDisp) return;
  if (load<u8>(rec, R_BASE) != ZERO_SLOT - GPR || (load<u8>(rec, R_IDX) & 7) != (wide ? 3 : 2)) return;
  let at = load<u64>(rec, R_DISP) & load<u64>(LINEAR_MASK);
  for (let i: u32 = 0; i < CASES_MAX; i++) {
    const physical = translate(at, 0);
    const host = physical == ~(0 as u64) ? 0 : physToHost(physical);
    if (!host || (u32(at) & 0xfff) > 4096 - size) return;
    const target = wide ? load<u64>(host) : u64(load<u32>(host));
    if (target - firstRip + SPAN_MAX >= 2 * SPAN_MAX) return;
    const n = reach(target);
    if (n != NONE) makeEntry(n);
    at = (at + size) & load<u64>(LINEAR_MASK);
  }
}

/** JIT_WHY of a leave by the branch at the end of this block: none of the other reasons. */
export function branchAt(rip: u64): u32 {
  return u32(rip) | LEFT_BY_BRANCH;
}

/** The branch of the block at rip leads where it was seen to go. */
function reachSeen(rip: u64): void {
  const branch = branchAt(rip);
  for (let i: u32 = 0; ; i++) {
    const target = seenTarget(branch, i);
    if (target == ~(0 as u64)) return;
    if (!target || !reachable(target)) continue;
    const n = reach(target);
    if (n != NONE) makeEntry(n);
  }
}

/** Has no code run at rip yet? */
export function unknown(rip: u64): bool {
  const host = fetchSettled((codeBase + rip) & load<u64>(LINEAR_MASK));
  return !host || !findBlock(host, load<u32>(MODE));
}

/** Finds where a block leads. */
function explore(n: u32): void {
  const b = blockOf(n);
  const rip = ripOf(n);
  beginBlock(rip, load<u16>(b, BK_COUNT));
  let rec = firstRecord(b);
  while (!(load<u8>(rec, R_FLAGS) & RecordFlag.Ends)) rec += RECORD_SIZE;
  beginInstruction(rec);
  const kind = kindOf(rec);
  const next = ripNext();
  let taken: u32 = NONE;
  let fall: u32 = NONE;
  if (kind == KIND_INT_N) {
    const handler = segmented ? ~(0 as u64) : handlerHere(load<u8>(rec, R_IMM));
    if (handler != ~(0 as u64)) taken = reach(handler);
    if (taken != NONE) makeEntry(taken);
    fall = reach(next);
    if (fall != NONE) makeEntry(fall);
  } else if (kind == KIND_CALL_FAR_PTR || kind == KIND_JMP_FAR_PTR) {
    // to another segment it leaves the region
    if (load<u16>(rec, R_FAR_SELECTOR) == load<u32>(SEGS + SEG_CS + SG_SELECTOR)) {
      taken = reach(<u64>load<u32>(rec, R_FAR_OFFSET));
      if (taken != NONE) makeEntry(taken);
    }
    if (kind == KIND_CALL_FAR_PTR || <u64>load<u32>(rec, R_FAR_OFFSET) == next) fall = reach(next);
    if (fall != NONE) makeEntry(fall);
  } else if (kind == KIND_SYSCALL || kind == KIND_SYSENTER) {
    // what the system call comes back to is entered from outside
    const back = reach(next);
    if (back != NONE) makeEntry(back);
  } else if (kind == KIND_IRET || kind == KIND_SYSRET || kind == KIND_SYSEXIT) fall = NONE;
  else if (!terminates(rec) || kind == KIND_END) fall = reach(next);
  else if (kind == KIND_JCC || countsDown(kind)) {
    taken = reach(targetOf(rec, rip));
    fall = reach(next);
  } else if (kind == KIND_JMP_REL) taken = reach(targetOf(rec, rip));
  else if (kind == KIND_CALL_REL || kind == KIND_CALL_E) {
    if (kind == KIND_CALL_REL) {
      taken = reach(targetOf(rec, rip));
      if (taken != NONE) makeEntry(taken);
    }
    const back = reach(next);
    if (back != NONE) {
      makeEntry(back);
      returns++;
    }
  }
  if (kind == KIND_JMP_E || kind == KIND_CALL_E) {
    reachCases(rec);
    reachSeen(rip);
  }
  setSuccessors(n, taken, fall);
}

/** Finds the blocks of the region at rip. False: nothing worth generating. */
export function plan(rip: u64): bool {
  beginRegion(load<u32>(MODE));
  clearGraph();
  pageCount = 0;
  total = 0;
  firstRip = rip;
  span = 0;
  returns = 0;
  const first = reach(rip);
  if (first == NONE) return false;
  makeEntry(first);
  for (let n: u32 = 1; n < nodeCount; n++) explore(n);
  analyse();
  return true;
}

/** Fills the table of branch targets: entry number of each offset from firstRip, 0 elsewhere. */
export function fillTargets(table: u32): void {
  memory.fill(table, 0, (span + 1) << 1);
  for (let i: u32 = 0; i < entryCount; i++) {
    const n = entryNode(i);
    store<u16>(table + (u32(ripOf(n) - firstRip) << 1), entryOf(n));
  }
}

/** Host address of the block of an entry. */
export function entryBlock(i: u32): u32 {
  return blockOf(entryNode(i));
}
