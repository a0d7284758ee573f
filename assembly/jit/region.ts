// A region: blocks reached from a hot one by direct branches, in up to PAGES pages, as one Wasm function.
import {
  JIT_BODY,
  JIT_BODY_END,
  JIT_CODE_END,
  TE_ADDEND,
  TE_EXEC,
  TLB_ENTRY,
} from "../abi/layout";
import { R_ADDR_SHIFT, R_FLAGS, R_IMM, R_SIZE, RECORD_SIZE, RecordFlag } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, GPR, JIT_WHY, LINEAR_MASK, MODE, RIP, TR_TABLE, TR_TAG } from "../abi/state";
import { BK_BYTES, BK_COUNT, BK_RECORDS, findBlock } from "../blocks/cache";
import { lineMask } from "../memory/frames";
import {
  beginBlock,
  beginInstruction,
  beginRegion,
  constR,
  flagsUsed,
  getR,
  place,
  ripNext,
  setR,
  truncate,
  used,
  wide,
  written,
} from "./context";
import {
  copyBytes,
  emitTo,
  emitted,
  get,
  I32_ADD,
  I32_AND,
  I32_EQZ,
  I32_LOAD,
  I32_LOAD16_U,
  I32_LT_S,
  I32_LT_U,
  I32_NE,
  I32_OR,
  I32_SHL,
  I32_STORE,
  I32_SUB,
  I32_WRAP,
  I64_ADD,
  I64_EQZ,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_LOAD,
  I64_LT_U,
  I64_SHR_U,
  I64_STORE,
  I64_SUB,
  i32c,
  i64c,
  mem,
  op,
  overflow,
  patchUnsigned,
  reserve,
  set,
  tee,
  TYPE_I32,
  TYPE_I64,
  unsigned,
  W_BR_TABLE,
  W_END,
  W_UNREACHABLE,
} from "./emit";
import { pushCondition } from "./flags";
import {
  addNode,
  analyse,
  blockOf,
  clearGraph,
  dominates,
  ended,
  entryCount,
  entryNode,
  entryOf,
  fallOf,
  findNode,
  idomOf,
  isLoop,
  isMerge,
  makeEntry,
  NODE_MAX,
  nodeCount,
  NONE,
  orderAt,
  orderLength,
  recordsOf,
  retreats,
  ripOf,
  setBody,
  setSuccessors,
  takenOf,
} from "./graph";
import { generate, kindOf, memberOf } from "./instruction";
import {
  KIND_CALL_E,
  KIND_CALL_REL,
  KIND_END,
  KIND_JCC,
  KIND_JCXZ,
  KIND_JMP_E,
  KIND_JMP_REL,
  KIND_LOOP,
  KIND_RET,
  KIND_RET_IMM,
} from "./kinds.generated";
import {
  branch,
  branchExit,
  branchIf,
  clearLabels,
  close,
  deep,
  depthOf,
  LABEL_CENTRE,
  LABEL_EXIT,
  openBlock,
  openIf,
  openLoop,
} from "./labels";
import {
  L_ADJUST,
  L_CARRIES,
  L_COUNT,
  L_EA,
  L_GPR,
  L_HOST,
  L_LIMIT,
  L_PC,
  L_RESULT,
  L_STATE,
  L_TAG,
  L_V,
  L_WHY,
  LOCALS_I32,
  LOCALS_I64,
  LOCALS_R,
} from "./locals";
import { addressable, isMemory, moveStack, probePush, readRm, readStackTop, storeAt } from "./operand";

/** Label of the loop that starts at a node. */
const LOOP_LABEL: u32 = 0x4000;
const INSTRUCTIONS_MAX: u32 = 1200;
/** Bytes between the first and the last block. */
const SPAN_MAX: u64 = 0x8000;
export const PAGES: u32 = 4;

// what the region covers: PAGES x {u64 linear page, u32 host page, u32 -, u64 lines}
export const pageList: usize = memory.data(96);
export let pageCount: u32 = 0;
export let total: u32 = 0; // instructions of all blocks: the longest path without a budget check
export let firstRip: u64 = 0;
export let span: u32 = 0;
let targets: u32 = 0;

/** Host address of code that is in the TLB, else 0. */
function codeAt(rip: u64): u32 {
  const linear = rip & load<u64>(LINEAR_MASK);
  const e = load<u32>(TR_TABLE) + (u32(linear >> 12) & 1023) * TLB_ENTRY;
  return load<u64>(e, TE_EXEC) == ((linear >> 12) | load<u64>(TR_TAG)) ? u32(linear) + load<u32>(e, TE_ADDEND) : 0;
}

/** Notes that the region depends on these bytes. False: too many pages. */
function cover(rip: u64, host: u32, bytes: u32): bool {
  const page = rip >> 12;
  for (let i: u32 = 0; i < pageCount; i++) {
    const p = pageList + i * 24;
    if (load<u64>(p) != page) continue;
    store<u64>(p, load<u64>(p, 16) | lineMask(host, bytes), 16);
    return true;
  }
  if (pageCount == PAGES) return false;
  const p = pageList + pageCount * 24;
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
  const host = codeAt(rip);
  if (!host) return NONE;
  const b = findBlock(host, load<u32>(MODE));
  if (!b) return NONE;
  const count = u32(load<u16>(b, BK_COUNT));
  if (total + count > INSTRUCTIONS_MAX) return NONE;
  const low = rip < firstRip ? rip : firstRip;
  const high = rip > firstRip + span ? rip : firstRip + span;
  if (high - low >= SPAN_MAX) return NONE;
  if (!startsGenerated(b, rip)) return NONE;
  if (!cover(rip, host, load<u16>(b, BK_BYTES))) return NONE;
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
    case KIND_JCXZ:
    case KIND_END:
      return true;
    default:
      return false;
  }
}

function canonical(rip: u64): bool {
  return u64((i64(rip) << 16) >> 16) == rip;
}

/** Can this block-ending record be generated? */
function terminates(rec: usize): bool {
  const kind = kindOf(rec);
  if (!isTerminator(kind)) return false;
  if (kind == KIND_END) return true;
  if (load<u8>(rec, R_SIZE) != (wide ? 8 : 4)) return false;
  if ((kind == KIND_LOOP || kind == KIND_JCXZ) && load<u8>(rec, R_ADDR_SHIFT) != (wide ? 0 : 32)) return false;
  if (kind == KIND_JMP_E || kind == KIND_CALL_E) return !isMemory(rec) || addressable(rec);
  return true;
}

function firstRecord(b: u32): usize {
  return b + BK_RECORDS;
}

/** Does generation get past the first instruction? The trial's output is thrown away. */
function startsGenerated(b: u32, rip: u64): bool {
  const rec = firstRecord(b);
  beginBlock(rip, load<u16>(b, BK_COUNT));
  beginInstruction(rec);
  return tryRecord(rec);
}

function tryRecord(rec: usize): bool {
  if (load<u8>(rec, R_FLAGS) & RecordFlag.Ends) return terminates(rec);
  emitTo(JIT_BODY, JIT_BODY_END);
  clearLabels();
  openBlock(LABEL_EXIT);
  return generate(rec) && !overflow;
}

function targetOf(rec: usize, rip: u64): u64 {
  return truncate(rip + load<u64>(rec, R_IMM));
}

/** How far a block can be generated, and where it leads. */
function explore(n: u32): void {
  const b = blockOf(n);
  const rip = ripOf(n);
  beginBlock(rip, load<u16>(b, BK_COUNT));
  let rec = firstRecord(b);
  let records: u32 = 0;
  while (!(load<u8>(rec, R_FLAGS) & RecordFlag.Ends)) {
    beginInstruction(rec);
    if (!tryRecord(rec)) {
      setBody(n, records, false);
      return;
    }
    records++;
    rec += RECORD_SIZE;
  }
  beginInstruction(rec);
  if (!terminates(rec)) {
    setBody(n, records, false);
    return;
  }
  setBody(n, records, true);
  const kind = kindOf(rec);
  const next = ripNext();
  let taken: u32 = NONE;
  let fall: u32 = NONE;
  if (kind == KIND_END) fall = reach(next);
  else if (kind == KIND_JCC || kind == KIND_LOOP || kind == KIND_JCXZ) {
    taken = reach(targetOf(rec, rip));
    fall = reach(next);
  } else if (kind == KIND_JMP_REL) taken = reach(targetOf(rec, rip));
  else if (kind == KIND_CALL_REL || kind == KIND_CALL_E) {
    if (kind == KIND_CALL_REL) {
      taken = reach(targetOf(rec, rip));
      if (taken != NONE) makeEntry(taken);
    }
    const back = reach(next);
    if (back != NONE) makeEntry(back);
  }
  setSuccessors(n, taken, fall);
}

// --- emission ---

function exitTo(rip: u64): void {
  constR(rip);
  set(L_PC);
  leave();
}

/** L_PC holds the RIP; everything begun has completed. */
function leave(): void {
  i32c(0);
  set(L_ADJUST);
  i32c(0);
  set(L_WHY);
  branch(LABEL_EXIT);
}

/** Pushes 1 while another pass fits the budget. */
function budgetLeft(): void {
  get(L_COUNT);
  get(L_LIMIT);
  op(I32_LT_S);
}

/** Goes to a node, or leaves when it is not part of the region. */
function follow(from: u32, to: u32, rip: u64): void {
  if (to == NONE) {
    exitTo(rip);
    return;
  }
  if (retreats(from, to)) {
    if (dominates(to, from)) {
      budgetLeft();
      branchIf(LOOP_LABEL | to);
    } else {
      i32c(entryOf(to));
      set(L_STATE);
      budgetLeft();
      branchIf(LABEL_CENTRE);
    }
    exitTo(rip);
  } else if (isMerge(to)) branch(to);
  else tree(to);
}

/** The target is in L_V: to the central node when it is an entry, else out. */
function followIndirect(): void {
  get(L_V);
  constR(firstRip);
  op(wide ? I64_SUB : I32_SUB);
  tee(L_EA);
  constR(u64(span) + 1);
  op(wide ? I64_LT_U : I32_LT_U);
  openIf();
  get(L_EA);
  if (wide) op(I32_WRAP);
  i32c(1);
  op(I32_SHL);
  mem(I32_LOAD16_U, targets);
  tee(L_STATE);
  i32c(0);
  op(I32_NE);
  budgetLeft();
  op(I32_AND);
  branchIf(LABEL_CENTRE);
  close();
  get(L_V);
  set(L_PC);
  leave();
}

/** A branch to a non-canonical address faults on the branch itself: the interpreter does it. */
function checkTarget(): void {
  if (!wide) return;
  get(L_V);
  i64c(0x800000000000);
  op(I64_ADD);
  i64c(48);
  op(I64_SHR_U);
  op(I64_EQZ);
  op(I32_EQZ);
  branchExit();
}

function pushReturn(rip: u64): void {
  const size: u32 = wide ? 8 : 4;
  probePush(size);
  get(L_HOST);
  constR(rip);
  storeAt(size);
  moveStack(-i32(size));
}

function terminator(n: u32, rec: usize): void {
  const kind = kindOf(rec);
  const rip = ripOf(n);
  const next = ripNext();
  const size: u32 = wide ? 8 : 4;
  if (kind == KIND_END) follow(n, fallOf(n), next);
  else if (kind == KIND_JMP_REL || kind == KIND_CALL_REL) {
    const target = targetOf(rec, rip);
    if (!canonical(target)) {
      place();
      branch(LABEL_EXIT);
      return;
    }
    if (kind == KIND_CALL_REL) pushReturn(next);
    follow(n, takenOf(n), target);
  } else if (kind == KIND_JCC || kind == KIND_LOOP || kind == KIND_JCXZ) {
    const target = targetOf(rec, rip);
    if (!canonical(target)) {
      place();
      branch(LABEL_EXIT);
      return;
    }
    if (kind == KIND_JCC) pushCondition(memberOf(rec));
    else {
      getR(8);
      if (kind == KIND_LOOP) {
        constR(1);
        op(wide ? I64_SUB : I32_SUB);
        setR(8);
        getR(8);
        op(wide ? I64_EQZ : I32_EQZ);
        op(I32_EQZ);
      } else op(wide ? I64_EQZ : I32_EQZ);
    }
    openIf();
    follow(n, takenOf(n), target);
    close();
    follow(n, fallOf(n), next);
  } else if (kind == KIND_RET || kind == KIND_RET_IMM) {
    readStackTop(size);
    set(L_V);
    checkTarget();
    moveStack(i32(size) + (kind == KIND_RET_IMM ? i32(load<u16>(rec, R_IMM)) : 0));
    followIndirect();
  } else {
    place();
    readRm(rec, size);
    set(L_V);
    checkTarget();
    if (kind == KIND_CALL_E) pushReturn(next);
    followIndirect();
  }
}

function body(n: u32): void {
  if (n == 0) {
    get(L_STATE);
    op(W_BR_TABLE);
    unsigned(entryCount + 1);
    unsigned(depthOf(LABEL_EXIT)); // state 0 never comes
    for (let i: u32 = 0; i < entryCount; i++) unsigned(depthOf(entryNode(i)));
    unsigned(depthOf(LABEL_EXIT));
    return;
  }
  const b = blockOf(n);
  const count = u32(load<u16>(b, BK_COUNT));
  beginBlock(ripOf(n), count);
  get(L_COUNT);
  i32c(count);
  op(I32_ADD);
  set(L_COUNT);
  let rec = firstRecord(b);
  const records = recordsOf(n);
  for (let i: u32 = 0; i < records; i++) {
    beginInstruction(rec);
    generate(rec);
    rec += RECORD_SIZE;
  }
  beginInstruction(rec);
  if (ended(n)) terminator(n, rec);
  else {
    place();
    branch(LABEL_EXIT);
  }
}

/** The children of n that are merge nodes, outermost the last in order; then n itself. */
function within(n: u32, from: u32): void {
  let i = from;
  while (i > 0) {
    const child = orderAt(i - 1);
    if (child != 0 && isMerge(child) && idomOf(child) == n) break;
    i--;
  }
  if (i == 0) {
    body(n);
    return;
  }
  const child = orderAt(i - 1);
  openBlock(child);
  within(n, i - 1);
  close();
  tree(child);
}

function tree(n: u32): void {
  if (deep() || overflow) return;
  const loop = n != 0 && isLoop(n);
  if (loop) openLoop(LOOP_LABEL | n);
  within(n, orderLength());
  if (loop) close();
}

function localGroup(count: u32, type: u32): void {
  unsigned(count);
  op(type);
}

function loadState(mask: u32): void {
  for (let r: u32 = 0; r < 16; r++) {
    if (!((mask >> r) & 1)) continue;
    i32c(0);
    mem(wide ? I64_LOAD : I32_LOAD, GPR + (r << 3));
    set(L_GPR + r);
  }
  if (flagsUsed) {
    i32c(0);
    mem(wide ? I64_LOAD : I32_LOAD, FLAG_RESULT);
    if (!wide) {
      // only the low byte, the sign and whether it is zero matter: the upper half gives the last two
      i32c(0);
      mem(I32_LOAD, FLAG_RESULT + 4);
      tee(L_HOST);
      i32c(i32.MIN_VALUE);
      op(I32_AND);
      op(I32_OR);
      get(L_HOST);
      i32c(0);
      op(I32_NE);
      i32c(8);
      op(I32_SHL);
      op(I32_OR);
    }
    set(L_RESULT);
    i32c(0);
    mem(I32_LOAD, FLAG_CARRIES);
    set(L_CARRIES);
  }
  i32c(0);
  mem(I64_LOAD, TR_TAG);
  set(L_TAG);
}

function storeR(address: u32, local: u32, sign: bool): void {
  i32c(0);
  get(local);
  if (!wide) op(sign ? I64_EXTEND_S : I64_EXTEND_U);
  mem(I64_STORE, address);
}

function storeState(mask: u32): void {
  for (let r: u32 = 0; r < 16; r++) if ((mask >> r) & 1) storeR(GPR + (r << 3), L_GPR + r, false);
  if (flagsUsed) {
    storeR(FLAG_RESULT, L_RESULT, true);
    i32c(0);
    get(L_CARRIES);
    mem(I32_STORE, FLAG_CARRIES);
  }
  storeR(RIP, L_PC, false);
  i32c(0);
  get(L_WHY);
  mem(I32_STORE, JIT_WHY);
}

/** Finds the blocks of the region at rip. False: nothing worth generating. */
export function plan(rip: u64): bool {
  beginRegion(load<u32>(MODE));
  clearGraph();
  pageCount = 0;
  total = 0;
  firstRip = rip;
  span = 0;
  const first = reach(rip);
  if (first == NONE) return false;
  makeEntry(first);
  for (let n: u32 = 1; n < nodeCount; n++) explore(n);
  analyse();
  return true;
}

/** Emits the planned region at `at` as a function body with its size. Returns the end, 0: it does not fit. */
export function emitRegion(at: u32, targetTable: u32): u32 {
  targets = targetTable;
  const mode = load<u32>(MODE);
  beginRegion(mode);
  emitTo(JIT_BODY, JIT_BODY_END);
  clearLabels();
  openBlock(LABEL_EXIT);
  openLoop(LABEL_CENTRE);
  tree(0);
  close();
  op(W_UNREACHABLE);
  close();
  if (overflow || deep()) return 0;
  const bodyEnd = emitted();
  emitTo(at, JIT_CODE_END);
  const size = reserve();
  unsigned(3);
  localGroup(LOCALS_R, wide ? TYPE_I64 : TYPE_I32);
  localGroup(LOCALS_I32, TYPE_I32);
  localGroup(LOCALS_I64, TYPE_I64);
  loadState(used);
  copyBytes(JIT_BODY, bodyEnd - JIT_BODY);
  storeState(written);
  get(L_COUNT);
  get(L_ADJUST);
  op(I32_SUB);
  op(W_END);
  if (overflow) return 0;
  patchUnsigned(size, emitted() - size - 5);
  return emitted();
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
