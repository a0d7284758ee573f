// A planned region as one Wasm function: structured loops from the dominator tree around the central node.

import { BK_COUNT, BK_HOST } from "../abi/block";
import { FILL_BESIDE, FILL_CERTAIN, FILL_STORE } from "../abi/generator";
import { JIT_BODY, JIT_BODY_END, JIT_CODE_END } from "../abi/layout";
import { R_ADDR_SHIFT, R_FLAGS, R_IMM, R_OFF, R_SIZE, RECORD_SIZE, RecordFlag } from "../abi/record";
import { MODE, ModeBit, RIP } from "../abi/state";
import { besideCode, findBeside } from "./besideCode";
import { callInterpreter, leaveAt } from "./calls";
import { leaveIfChanged, storeBeside } from "./codeStore";
import {
  beginBlock,
  beginInstruction,
  beginRegion,
  besideBytes,
  constR,
  forgetKnown,
  place,
  ripNext,
  setBeside,
  setFills,
  setFlagsSeen,
  used,
  wide,
  written,
} from "./context";
import { alwaysStaged, oftenMissed, oftenStaged } from "./core";
import {
  backUp,
  copyBytes,
  emitTo,
  emitted,
  get,
  I32_ADD,
  I32_AND,
  I32_EQZ,
  I32_LOAD,
  I32_SUB,
  I64_EQZ,
  I64_LOAD,
  I64_NE,
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
  unsigned,
  W_BR_TABLE,
  W_END,
  W_UNREACHABLE,
} from "./emit";
import { budgetLeft, central, checkTarget, exitTo, followIndirect, pushReturn, setTargets } from "./exits";
import { pushCondition } from "./flags";
import {
  blockOf,
  dominates,
  entryCount,
  entryNode,
  entryOf,
  fallOf,
  hasLoops,
  idomOf,
  isLoop,
  isMerge,
  NONE,
  orderAt,
  orderLength,
  retreats,
  ripOf,
  takenOf,
} from "./graph";
import { beginRecord, findGroups, forgetChecked } from "./groups";
import { generate } from "./instruction";

import { kindOf, memberOf, recordsOf } from "./kinds";
import {
  KIND_CALL_E,
  KIND_CALL_REL,
  KIND_CMPS,
  KIND_END,
  KIND_INT_N,
  KIND_JCC,
  KIND_JCXZ,
  KIND_JMP_REL,
  KIND_LOOP,
  KIND_LOOPE,
  KIND_MOVS,
  KIND_NONE,
  KIND_RET,
  KIND_RET_IMM,
  KIND_SYSCALL,
  KIND_SYSENTER,
  KIND_SYSEXIT,
  KIND_SYSRET,
} from "./kinds.generated";
import {
  branch,
  branchIf,
  clearLabels,
  close,
  closeTo,
  deep,
  depthOf,
  LABEL_CENTRE,
  LABEL_EXIT,
  labelsOpen,
  openBlock,
  openIf,
  openLoop,
} from "./labels";
import { FLAGS_CARRY, FLAGS_DEAD, findDead, liveFlags } from "./liveness";
import { clearLocals, isLong, isR, L_ADJUST, L_COUNT, L_PC, L_STATE, L_V, localCount } from "./locals";
import { getSlot, readRm, setSlot } from "./operand";
import { branchAt, countsDown, firstRecord, reachable, returns, targetOf, terminates, unknown } from "./plan";
import { beginSites, sitesBytes } from "./site";
import { loadState, storeState } from "./spill";
import { moveStack, readStackTop } from "./stack";
import { answer } from "./system";

/** Label of the loop that starts at a node. */
const LOOP_LABEL: u32 = 0x4000;

/** Goes to a node, or leaves when it is not part of the region. */
function follow(from: u32, to: u32, rip: u64): void {
  if (to == NONE) {
    exitTo(rip, unknown(rip) ? branchAt(ripOf(from)) : 0);
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
    exitTo(rip, 0);
  } else if (isMerge(to)) branch(to);
  else tree(to);
}

function terminator(n: u32, rec: usize): void {
  const kind = kindOf(rec);
  const rip = ripOf(n);
  const next = ripNext();
  const size = u32(load<u8>(rec, R_SIZE));
  if (kind == KIND_END) follow(n, fallOf(n), next);
  else if (kind == KIND_JMP_REL || kind == KIND_CALL_REL) {
    const target = targetOf(rec, rip);
    if (!reachable(target)) {
      place();
      branch(LABEL_EXIT);
      return;
    }
    if (kind == KIND_CALL_REL) {
      pushReturn(next, size);
      if (besideBytes) {
        constR(target);
        set(L_PC);
        leaveIfChanged(0);
      }
    }
    follow(n, takenOf(n), target);
  } else if (kind == KIND_JCC || countsDown(kind)) {
    const target = targetOf(rec, rip);
    if (!reachable(target)) {
      place();
      branch(LABEL_EXIT);
      return;
    }
    if (kind == KIND_JCC) pushCondition(memberOf(rec));
    else {
      const counter: u32 = wide ? 8 : load<u8>(rec, R_ADDR_SHIFT) == 48 ? 2 : 4;
      getSlot(8, counter);
      if (kind != KIND_JCXZ) {
        constR(1);
        op(wide ? I64_SUB : I32_SUB);
        setSlot(8, counter);
        getSlot(8, counter);
        op(wide ? I64_EQZ : I32_EQZ);
        op(I32_EQZ);
        if (kind != KIND_LOOP) {
          pushCondition(kind == KIND_LOOPE ? 4 : 5); // ZF = 1, ZF = 0
          op(I32_AND);
        }
      } else op(wide ? I64_EQZ : I32_EQZ);
    }
    openIf();
    follow(n, takenOf(n), target);
    close();
    follow(n, fallOf(n), next);
  } else if (kind == KIND_RET || kind == KIND_RET_IMM) {
    readStackTop(size);
    set(L_V);
    checkTarget(size);
    moveStack(i32(size) + (kind == KIND_RET_IMM ? i32(load<u16>(rec, R_IMM)) : 0));
    followIndirect(returns != 0, 0);
  } else {
    place();
    readRm(rec, size);
    set(L_V);
    checkTarget(size);
    if (kind == KIND_CALL_E) {
      pushReturn(next, size);
      if (besideBytes) {
        get(L_V);
        set(L_PC);
        leaveIfChanged(0);
      }
    }
    followIndirect(true, branchAt(rip));
  }
}

/** Instructions that all but always lead to code of another level. */
function crossesRings(kind: u32): bool {
  if (kind == KIND_INT_N) return (load<u32>(MODE) & ModeBit.User) != 0;
  return kind == KIND_SYSCALL || kind == KIND_SYSRET || kind == KIND_SYSENTER || kind == KIND_SYSEXIT;
}

/** After the interpreter ran the last instruction of a block: to the next one, or wherever it branched. */
function afterCall(n: u32): void {
  const next = ripNext();
  i32c(0);
  mem(I64_LOAD, RIP);
  i64c(i64(next));
  op(I64_NE);
  openIf();
  i32c(0);
  mem(wide ? I64_LOAD : I32_LOAD, RIP);
  set(L_V);
  followIndirect(true, 0);
  close();
  follow(n, fallOf(n), next);
}

/** Emits a record that has a generated form; staged: its store is taken to be beside code. False: nothing was emitted. */
function emitRecord(rec: usize, staged: bool): bool {
  const mark = emitted();
  const labels = labelsOpen();
  if (staged ? storeBeside(rec) : generate(rec)) return true;
  backUp(mark);
  closeTo(labels);
  forgetChecked();
  forgetKnown();
  return false;
}

function body(n: u32): void {
  if (n == 0) {
    if (!central()) return; // falls into the entry
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
  const records = recordsOf(rec);
  findDead(rec, records);
  findGroups(rec, records, load<u32>(b, BK_HOST));
  let index: u32 = 0;
  let pending: usize = 0; // first of the records that wait for a call
  for (;;) {
    const ends = (load<u8>(rec, R_FLAGS) & RecordFlag.Ends) != 0;
    const host = load<u32>(b, BK_HOST) + load<u16>(rec, R_OFF);
    const kind = kindOf(rec);
    // accesses of string instructions come in an order of their own
    const string = kind >= KIND_MOVS && kind <= KIND_CMPS;
    const table = oftenStaged(~host);
    const staged = besideCode(rec, host);
    const repeats = string && load<u8>(rec, R_FLAGS) & (RecordFlag.Rep | RecordFlag.Repne);
    const crosses = ends && crossesRings(kind);
    const generated = ends
      ? crosses || terminates(rec)
      : kind != KIND_NONE && !(staged && alwaysStaged(host)) && !(string && (table || (staged && repeats)));
    if (generated && pending) {
      callInterpreter(pending, rec - RECORD_SIZE);
      pending = 0;
    }
    beginInstruction(rec);
    const certain = ends || string ? 0 : table ? FILL_CERTAIN | FILL_STORE : FILL_CERTAIN;
    setFills(staged || table || oftenMissed(host), staged ? certain | FILL_BESIDE : certain);
    if (staged) setBeside();
    beginRecord(index);
    const seen = liveFlags(index++);
    // the region may be left after a store beside code
    setFlagsSeen(!staged && seen == FLAGS_DEAD, !staged && seen == FLAGS_CARRY);
    if (ends) {
      if (crosses) leaveAt(rec);
      else if (generated) terminator(n, rec);
      else {
        const first = pending ? pending : rec;
        if (first == rec && answer(rec, kind)) follow(n, fallOf(n), ripNext());
        else {
          callInterpreter(first, rec);
          afterCall(n);
        }
      }
      return;
    }
    if ((!generated || !emitRecord(rec, staged)) && !pending) pending = rec;
    rec += RECORD_SIZE;
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

/** The locals of the function, in runs of a type. */
function declareLocals(): void {
  const count = localCount();
  unsigned(count - 2);
  for (let n: u32 = 2; n < count; n++) {
    unsigned(1);
    op((isR(n) ? wide : isLong(n)) ? TYPE_I64 : TYPE_I32);
  }
}

/** Emits all but the start of the function, to JIT_BODY. */
function emitBody(sites: u32): void {
  beginSites(sites);
  clearLocals();
  emitTo(JIT_BODY, JIT_BODY_END);
  clearLabels();
  openBlock(LABEL_EXIT);
  // loops inside of another are compiled better, even when it never turns
  const around = central() || hasLoops();
  if (around) openLoop(LABEL_CENTRE);
  tree(0);
  if (around) close();
  op(W_UNREACHABLE);
  close();
  forgetKnown();
  storeState(written);
  get(L_COUNT);
  get(L_ADJUST);
  op(I32_SUB);
  op(W_END);
}

/** Emits the body of the planned region, and learns its registers and the bytes of its sites. False: it is too large. */
export function measureRegion(targetTable: u32): bool {
  setTargets(targetTable);
  beginRegion(load<u32>(MODE));
  findBeside();
  emitBody(0);
  return !overflow && !deep();
}

/** After measureRegion(): the region at `at` as a function body with its size. Returns the end, 0: it does not fit. */
export function emitRegion(at: u32, sites: u32): u32 {
  // a call of the interpreter names its site and the registers of the whole region: once more, now that they are known
  if (sitesBytes) emitBody(sites);
  if (overflow || deep()) return 0;
  const bodyEnd = emitted();
  loadState(used);
  if (overflow) return 0;
  const startEnd = emitted();
  emitTo(at, JIT_CODE_END);
  const size = reserve();
  declareLocals();
  copyBytes(bodyEnd, startEnd - bodyEnd);
  copyBytes(JIT_BODY, bodyEnd - JIT_BODY);
  if (overflow) return 0;
  patchUnsigned(size, emitted() - size - 5);
  return emitted();
}
