// A planned region as one Wasm function: structured loops from the dominator tree around the central node.
import { JIT_BODY, JIT_BODY_END, JIT_CODE_END } from "../abi/layout";
import { R_IMM, RECORD_SIZE } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, GPR, JIT_WHY, MODE, RIP, TR_TAG } from "../abi/state";
import { BK_COUNT } from "../blocks/cache";
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
  TYPE_I32,
  TYPE_I64,
  tee,
  unsigned,
  W_BR_TABLE,
  W_END,
  W_UNREACHABLE,
} from "./emit";
import { pushCondition } from "./flags";
import {
  blockOf,
  dominates,
  ended,
  entryCount,
  entryNode,
  entryOf,
  fallOf,
  idomOf,
  isLoop,
  isMerge,
  NONE,
  orderAt,
  orderLength,
  recordsOf,
  retreats,
  ripOf,
  takenOf,
} from "./graph";
import { generate, kindOf, memberOf } from "./instruction";
import {
  KIND_CALL_E,
  KIND_CALL_REL,
  KIND_END,
  KIND_JCC,
  KIND_JCXZ,
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
import { moveStack, probePush, readRm, readStackTop, storeAt } from "./operand";

import { canonical, firstRecord, firstRip, span, targetOf } from "./plan";

/** Label of the loop that starts at a node. */
const LOOP_LABEL: u32 = 0x4000;
let targets: u32 = 0;

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
