// SCAS and CMPS with REPE or REPNE as Wasm, forward and inside one page of each operand; whatever else comes up runs in the interpreter.
import { R_FLAGS, RecordFlag } from "../abi/record";
import { compare } from "./arith";
import { callInterpreter } from "./calls";
import { constR, get32, getR, place, setR, wide } from "./context";
import { advanceBy, equalTo, LABEL_ELEMENTS, PAGE, pushDown, RAX, RCX, RDI, RSI } from "./elements";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_EQZ,
  I32_GT_U,
  I32_LT_U,
  I32_SHL,
  I32_SHR_U,
  I32_SUB,
  I64_AND,
  I64_EQ,
  I64_EQZ,
  I64_EXTEND_U,
  I64_GT_U,
  I64_MUL,
  I64_NE,
  I64_SUB,
  I64_XOR,
  i32c,
  i64c,
  op,
  set,
  tee,
  W_ELSE,
  W_SELECT,
} from "./emit";
import { branch, branchExit, branchIf, close, LABEL_EXIT, openIf, openLoop } from "./labels";
import { L_A, L_A64, L_B, L_B64, L_HOST, L_T0, L_T1, L_T2, L_U0 } from "./locals";
import { getSlot, loadAt, readPlace } from "./operand";

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

/** Pushes L_T1 moved over 8 bytes. */
function pushNext(shift: u32): void {
  get(L_T1);
  i32c(8 >> shift);
  op(I32_ADD);
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
  pushNext(shift);
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
  pushNext(shift);
  set(L_T1);
  branch(LABEL_ELEMENTS);
  close();
  close();
  close();
}

/** Pushes whether elements that compare like these do not end the repetition. */
function pushGoesOn(a: u32, b: u32, size: u32, whileEqual: bool): void {
  get(a);
  get(b);
  equalTo(size);
  if (!whileEqual) op(I32_EQZ);
}

/** SCAS and CMPS with REPE or REPNE. */
export function repeatCompare(rec: usize, two: bool, size: u32): void {
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
  pushGoesOn(a, b, size, whileEqual);
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
  pushGoesOn(a, b, size, whileEqual);
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
