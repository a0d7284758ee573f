// MOVS, CMPS, STOS, LODS and SCAS as Wasm, for a REP inside one page of each operand; compares with REP forward only. Whatever else comes up runs in
// the interpreter.

import { R_ADDR_SHIFT, R_FLAGS, R_SEG, RecordFlag } from "../abi/record";
import { EFLAGS_REST, SEG_ES, SEG_FS } from "../abi/state";
import { FLAG_DF } from "../abi/x86";
import { compare } from "./arith";
import { callInterpreter } from "./calls";
import { constR, get32, getR, KNOWN_NONE, place, segmented, setKnown, setR, wide } from "./context";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_EQ,
  I32_EQZ,
  I32_GE_S,
  I32_GE_U,
  I32_GT_U,
  I32_LOAD,
  I32_LT_U,
  I32_OR,
  I32_SHL,
  I32_SHR_U,
  I32_SUB,
  I64_ADD,
  I64_AND,
  I64_EQ,
  I64_EQZ,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_GT_U,
  I64_MUL,
  I64_NE,
  I64_SUB,
  I64_XOR,
  i32c,
  i64c,
  mem,
  memoryCopy,
  memoryFill,
  op,
  set,
  tee,
  W_ELSE,
  W_SELECT,
} from "./emit";
import { KIND_CMPS, KIND_LODS, KIND_SCAS, KIND_STOS } from "./kinds.generated";
import { branch, branchExit, branchIf, close, LABEL_EXIT, openIf, openLoop } from "./labels";
import { L_A, L_A64, L_B, L_B64, L_HOST, L_T0, L_T1, L_T2, L_U0 } from "./locals";
import {
  getSlot,
  loadAt,
  probeTop,
  readPlace,
  readTop,
  setSlot,
  storeAt,
  storeHost,
  toLinear,
  writePlace,
} from "./operand";

const RAX: u32 = 0;
const RCX: u32 = 8;
const RSI: u32 = 48;
const RDI: u32 = 56;
const PAGE: u32 = 4096;
/** Bytes from which memory.copy and memory.fill are faster than a loop. */
const LONG: u32 = 64;
/** Label of the loop over elements. */
const LABEL_ELEMENTS: u32 = 0xfffc;

function addR(): void {
  op(wide ? I64_ADD : I32_ADD);
}

function equalTo(size: u32): void {
  op(size == 8 ? I64_EQ : I32_EQ);
}

/** register += the i32 local `bytes`, which has a sign. */
function advanceBy(register: u32, bytes: u32): void {
  getR(register);
  get(bytes);
  if (wide) op(I64_EXTEND_S);
  addR();
  setR(register);
}

function address16(rec: usize): bool {
  return load<u8>(rec, R_ADDR_SHIFT) == 48;
}

/** Moves rSI or rDI past one element. */
function advance(rec: usize, register: u32, size: u32): void {
  getR(register);
  // DF is bit 10: minus twice the size goes back
  i32c(size);
  pushDown();
  i32c(9 - ctz(size));
  op(I32_SHR_U);
  op(I32_SUB);
  if (wide) op(I64_EXTEND_S);
  addR();
  if (address16(rec)) setSlot(register, 2);
  else setR(register);
}

/** Segment of the source: the destination's is ES. */
function sourceSegment(rec: usize): u32 {
  return u32(load<u8>(rec, R_SEG)) << 3;
}

/** Pushes the linear address of the element at rSI or rDI. */
function element(rec: usize, register: u32, size: u32, write: bool): void {
  if (address16(rec)) getSlot(register, 2);
  else getR(register);
  toLinear(register == RSI ? sourceSegment(rec) : SEG_ES, size, write);
}

function pushDown(): void {
  i32c(0);
  mem(I32_LOAD, EFLAGS_REST);
  i32c(FLAG_DF);
  op(I32_AND);
}

/** Pushes non-zero when `bytes` (local L_T0) from L_T2 below a register on reach into another page. */
function pushCrosses(register: u32): void {
  get32(register);
  get(L_T2);
  op(I32_SUB);
  i32c(PAGE - 1);
  op(I32_AND);
  get(L_T0);
  op(I32_ADD);
  i32c(PAGE);
  op(I32_GT_U);
}

/** One element. */
function single(rec: usize, kind: u32, size: u32): void {
  const value = size == 8 ? L_U0 : L_T2;
  if (kind == KIND_STOS) {
    element(rec, RDI, size, true);
    probeTop(size);
    get(L_HOST);
    getSlot(RAX, size);
    storeHost(size);
    advance(rec, RDI, size);
    return;
  }
  if (kind == KIND_CMPS) {
    element(rec, RDI, size, false);
    readTop(size, false);
    set(size == 8 ? L_B64 : L_B);
    element(rec, RSI, size, false);
    readTop(size, false);
    set(size == 8 ? L_A64 : L_A);
    advance(rec, RSI, size);
    advance(rec, RDI, size);
    compare(size);
    return;
  }
  element(rec, kind == KIND_SCAS ? RDI : RSI, size, false);
  readTop(size, false);
  set(value);
  if (kind == KIND_LODS) {
    get(value);
    setSlot(RAX, size);
    advance(rec, RSI, size);
  } else if (kind == KIND_SCAS) {
    advance(rec, RDI, size);
    getSlot(RAX, size);
    set(size == 8 ? L_A64 : L_A);
    get(value);
    set(size == 8 ? L_B64 : L_B);
    compare(size);
  } else {
    element(rec, RDI, size, true);
    probeTop(size);
    get(L_HOST);
    get(value);
    storeHost(size);
    advance(rec, RSI, size);
    advance(rec, RDI, size);
  }
}

/** L_A and L_B: places of destination and source, L_T0: bytes. */
function moveElements(stores: bool, size: u32): void {
  if (stores && size > 1) {
    eachElement(stores, size);
    return;
  }
  get(L_T0);
  i32c(LONG);
  op(I32_GT_U);
  if (!stores) {
    // elements move upwards one by one: a destination inside the source repeats it
    get(L_A);
    get(L_B);
    op(I32_SUB);
    get(L_T0);
    op(I32_GE_U);
    op(I32_AND);
  }
  openIf();
  get(L_A);
  if (stores) getSlot(RAX, 1);
  else get(L_B);
  get(L_T0);
  if (stores) memoryFill();
  else memoryCopy();
  op(W_ELSE);
  eachElement(stores, size);
  close();
}

function eachElement(stores: bool, size: u32): void {
  i32c(0);
  set(L_T1);
  openLoop(LABEL_ELEMENTS);
  oneElement(stores, size);
  get(L_T1);
  i32c(size);
  op(I32_ADD);
  tee(L_T1);
  get(L_T0);
  op(I32_LT_U);
  branchIf(LABEL_ELEMENTS);
  close();
}

/** From the element L_T2 bytes up down to the first. */
function eachElementDown(stores: bool, size: u32): void {
  get(L_T2);
  set(L_T1);
  openLoop(LABEL_ELEMENTS);
  oneElement(stores, size);
  get(L_T1);
  i32c(size);
  op(I32_SUB);
  tee(L_T1);
  i32c(0);
  op(I32_GE_S);
  branchIf(LABEL_ELEMENTS);
  close();
}

/** The element at L_T1. */
function oneElement(stores: bool, size: u32): void {
  get(L_A);
  get(L_T1);
  op(I32_ADD);
  if (stores) getSlot(RAX, size);
  else {
    get(L_B);
    get(L_T1);
    op(I32_ADD);
    loadAt(size, false);
  }
  storeAt(size);
}

/** Pushes all ones while DF is set, else 0. */
function pushDownMask(): void {
  i32c(0);
  pushDown();
  i32c(10);
  op(I32_SHR_U);
  op(I32_SUB);
}

/** Pushes the register less L_T2: where the lowest element is. */
function pushLowest(register: u32): void {
  getR(register);
  get(L_T2);
  if (wide) op(I64_EXTEND_U);
  op(wide ? I64_SUB : I32_SUB);
}

/** REP MOVS, REP STOS. */
function repeatMove(rec: usize, stores: bool, size: u32): void {
  const shift = ctz(size);
  get32(RCX);
  i32c(shift);
  op(I32_SHL);
  tee(L_T0);
  i32c(size);
  op(I32_SUB);
  pushDownMask();
  op(I32_AND);
  set(L_T2);
  getR(RCX);
  constR(PAGE >> shift);
  op(wide ? I64_GT_U : I32_GT_U);
  pushCrosses(RDI);
  op(I32_OR);
  if (!stores) {
    pushCrosses(RSI);
    op(I32_OR);
  }
  openIf();
  callInterpreter(rec, rec);
  op(W_ELSE);
  get(L_T0);
  openIf();
  pushLowest(RDI);
  writePlace(1);
  set(L_A);
  if (!stores) {
    pushLowest(RSI);
    readPlace(1);
    set(L_B);
  }
  pushDown();
  openIf();
  eachElementDown(stores, size);
  i32c(0);
  get(L_T0);
  op(I32_SUB);
  set(L_T0);
  op(W_ELSE);
  moveElements(stores, size);
  close();
  advanceBy(RDI, L_T0);
  if (!stores) advanceBy(RSI, L_T0);
  constR(0);
  setR(RCX);
  close();
  close();
}

/** Pushes the elements from a register to the end of its page. */
function pushRoom(register: u32, shift: u32): void {
  i32c(PAGE);
  get32(register);
  i32c(PAGE - 1);
  op(I32_AND);
  op(I32_SUB);
  i32c(shift);
  op(I32_SHR_U);
}

/** L_T0 = the lesser of it and a number on the stack that is in L_T2 too. */
function atMost(): void {
  get(L_T0);
  get(L_T2);
  get(L_T0);
  op(I32_LT_U);
  op(W_SELECT);
  set(L_T0);
}

/** Pushes the element L_T1 of those from a place on. */
function elementAt(place: u32, size: u32, shift: u32): void {
  get(place);
  get(L_T1);
  i32c(shift);
  op(I32_SHL);
  op(I32_ADD);
  loadAt(size, false);
}

/** Moves L_T1 over elements, 8 bytes at a time, none of which ends the repetition; one at least is left. */
function skipElements(two: bool, size: u32, shift: u32, whileEqual: bool): void {
  const all = ~(0 as u64);
  const lowest = all / (all >> u64(64 - (size << 3))); // the lowest bit of each element
  if (!two) {
    get(L_A);
    op(I64_EXTEND_U);
    i64c(lowest);
    op(I64_MUL);
    set(L_A64);
  }
  openLoop(LABEL_ELEMENTS);
  get(L_T1);
  i32c(8 >> shift);
  op(I32_ADD);
  get(L_T0);
  op(I32_LT_U);
  openIf();
  elementAt(L_HOST, 8, shift);
  if (two) elementAt(L_T2, 8, shift);
  else get(L_A64);
  if (whileEqual) op(I64_EQ);
  else {
    // an element of 0 borrows
    op(I64_XOR);
    tee(L_U0);
    i64c(lowest);
    op(I64_SUB);
    get(L_U0);
    i64c(all);
    op(I64_XOR);
    op(I64_AND);
    i64c(lowest << u64((size << 3) - 1));
    op(I64_AND);
    op(I64_EQZ);
  }
  openIf();
  get(L_T1);
  i32c(8 >> shift);
  op(I32_ADD);
  set(L_T1);
  branch(LABEL_ELEMENTS);
  close();
  close();
  close();
}

/** SCAS and CMPS with REPE or REPNE. */
function repeatCompare(rec: usize, two: bool, size: u32): void {
  const shift = ctz(size);
  const b = size == 8 ? L_B64 : L_B;
  const a = size == 8 ? L_A64 : L_A;
  const whileEqual = !(load<u8>(rec, R_FLAGS) & RecordFlag.Repne);
  pushDown();
  openIf();
  callInterpreter(rec, rec);
  op(W_ELSE);
  getR(RCX);
  constR(0);
  op(wide ? I64_NE : I32_GT_U);
  openIf();
  // elements to the end of the page, at most RCX
  pushRoom(RDI, shift);
  set(L_T0);
  if (two) {
    pushRoom(RSI, shift);
    tee(L_T2);
    atMost();
  }
  get(L_T0);
  get32(RCX);
  getR(RCX);
  get(L_T0);
  if (wide) op(I64_EXTEND_U);
  op(wide ? I64_GT_U : I32_GT_U);
  op(W_SELECT);
  tee(L_T0);
  op(I32_EQZ);
  place();
  branchExit();
  getR(RDI);
  readPlace(1);
  set(L_HOST);
  if (two) {
    getR(RSI);
    readPlace(1);
    set(L_T2);
  } else {
    getSlot(RAX, size);
    set(a);
  }
  i32c(0);
  set(L_T1);
  if (size < 8 && (whileEqual || !two)) skipElements(two, size, shift, whileEqual);
  openLoop(LABEL_ELEMENTS);
  if (two) {
    elementAt(L_T2, size, shift);
    set(a);
  }
  elementAt(L_HOST, size, shift);
  set(b);
  get(L_T1);
  i32c(1);
  op(I32_ADD);
  tee(L_T1);
  get(L_T0);
  op(I32_LT_U);
  get(a);
  get(b);
  equalTo(size);
  if (!whileEqual) op(I32_EQZ);
  op(I32_AND);
  branchIf(LABEL_ELEMENTS);
  close();
  get(L_T1);
  i32c(shift);
  op(I32_SHL);
  set(L_T2);
  advanceBy(RDI, L_T2);
  if (two) advanceBy(RSI, L_T2);
  getR(RCX);
  get(L_T1);
  if (wide) op(I64_EXTEND_U);
  op(wide ? I64_SUB : I32_SUB);
  setR(RCX);
  // not found at the end of the page: the interpreter goes on
  get(a);
  get(b);
  equalTo(size);
  if (!whileEqual) op(I32_EQZ);
  getR(RCX);
  constR(0);
  op(wide ? I64_NE : I32_GT_U);
  op(I32_AND);
  openIf();
  branch(LABEL_EXIT);
  close();
  compare(size);
  close();
  close();
}

/** True: generated. */
export function strings(rec: usize, kind: u32, size: u32): bool {
  const flags = u32(load<u8>(rec, R_FLAGS));
  const repeats = (flags & (RecordFlag.Rep | RecordFlag.Repne)) != 0;
  if (wide && load<u8>(rec, R_ADDR_SHIFT) != 0) return false;
  if (repeats) {
    if (kind == KIND_LODS || segmented || address16(rec) || sourceSegment(rec) >= <u32>SEG_FS) return false;
    if (kind == KIND_SCAS || kind == KIND_CMPS) repeatCompare(rec, kind == KIND_CMPS, size);
    else repeatMove(rec, kind == KIND_STOS, size);
  } else {
    single(rec, kind, size);
  }
  setKnown(KNOWN_NONE, 0);
  return true;
}
