// ALU, unary and shift instructions as Wasm.

import { R_FLAGS, R_IMM, RecordFlag } from "../abi/record";
import { carryOnly, flagsDead, KNOWN_ADD, KNOWN_NONE, KNOWN_RESULT, KNOWN_SUB, setKnown, useFlags } from "./context";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_LOAD,
  I32_LOAD8_U,
  I32_LOAD16_U,
  I32_LT_U,
  I32_OR,
  I32_SHL,
  I32_SUB,
  I32_WRAP,
  I32_XOR,
  I64_ADD,
  I64_AND,
  I64_EXTEND_U,
  I64_LOAD,
  I64_LT_U,
  I64_OR,
  I64_SHR_U,
  I64_SUB,
  I64_XOR,
  i32c,
  i64c,
  mem,
  op,
  set,
  tee,
} from "./emit";
import {
  borrowVector,
  carryVector,
  flagsOfLogic,
  flagsOfOne,
  notTop,
  pushCF,
  putCarries,
  setCarries,
  setResult,
} from "./flags";
import { FORM_MI, FORM_MR, FORM_RI, FORM_RM } from "./kinds.generated";
import { L_A, L_A64, L_B, L_B64, L_HOST, L_T1, L_T2, L_U1 } from "./locals";
import { changed, getDst, getSrc, loadHost, probeMemory, readMemory, setDst, storeHost, toChange } from "./operand";

const ADD: u32 = 0;
const OR: u32 = 1;
const ADC: u32 = 2;
const SBB: u32 = 3;
const AND: u32 = 4;
const SUB: u32 = 5;
const _XOR: u32 = 6;
const CMP: u32 = 7;
const TEST: u32 = 8;

export function constant(value: i64, size: u32): void {
  if (size == 8) i64c(value);
  else if (size == 4) i32c(i32(value));
  else i32c(i32(value) & (size == 1 ? 0xff : 0xffff));
}

/** Pushes the immediate of a record; one that was patched is loaded from the record, where it is kept up to date. */
export function immediate(rec: usize, size: u32): void {
  if (!(load<u8>(rec, R_FLAGS) & RecordFlag.SoftImm)) {
    constant(load<i64>(rec, R_IMM), size);
    return;
  }
  i32c(0);
  mem(size == 8 ? I64_LOAD : size == 4 ? I32_LOAD : size == 2 ? I32_LOAD16_U : I32_LOAD8_U, u32(rec) + R_IMM);
}

function simple(k: u32, w: bool): void {
  if (k == ADD || k == ADC) op(w ? I64_ADD : I32_ADD);
  else if (k == SUB || k == CMP || k == SBB) op(w ? I64_SUB : I32_SUB);
  else if (k == AND || k == TEST) op(w ? I64_AND : I32_AND);
  else if (k == OR) op(w ? I64_OR : I32_OR);
  else op(w ? I64_XOR : I32_XOR);
}

/** An ALU instruction whose flags nothing sees. */
function aluOnly(rec: usize, k: u32, size: u32, form: u32): void {
  const toMemory = form == FORM_MR || form == FORM_MI;
  if (k == CMP || k == TEST) {
    if (form != FORM_RM && !toMemory) return;
    readMemory(rec, size, false);
    set(size == 8 ? L_U1 : L_T1);
    return;
  }
  if (toMemory) {
    probeMemory(rec, size);
    get(L_HOST);
    loadHost(size);
  } else getDst(rec, size);
  if (form == FORM_RM) readMemory(rec, size, false);
  else if (form == FORM_RI || form == FORM_MI) immediate(rec, size);
  else getSrc(rec, size);
  simple(k, size == 8);
  if (toMemory) storeHost(size);
  else setDst(rec, size);
}

/** CF of result r = a op b, zero-extended operands; the other flags are never seen. */
function setCarryOnly(k: u32, a: u32, b: u32, r: u32, size: u32): void {
  const w = size == 8;
  useFlags();
  if (k == ADC || k == SBB) {
    if (k == ADC) carryVector(a, b, r, size);
    else borrowVector(a, b, r, size);
    if (w) {
      i64c(32);
      op(I64_SHR_U);
      op(I32_WRAP);
    } else if (size < 4) {
      i32c(32 - (size << 3));
      op(I32_SHL);
    }
  } else if (k == ADD && size < 4) {
    // bit 8 or 16 of the sum
    get(r);
    i32c(31 - (size << 3));
    op(I32_SHL);
    i32c(i32.MIN_VALUE);
    op(I32_AND);
  } else if (k == ADD || k == SUB || k == CMP) {
    get(k == ADD ? r : a);
    get(k == ADD ? a : b);
    op(w ? I64_LT_U : I32_LT_U);
    i32c(31);
    op(I32_SHL);
  } else i32c(0);
  putCarries();
  setKnown(KNOWN_NONE, 0);
}

/** L_A and L_B (or the 64-bit pair) hold the operands, L_T2 the carry in; leaves the result in L_T1 (or L_U1), flags set. */
function compute(k: u32, size: u32): void {
  const w = size == 8;
  const a = w ? L_A64 : L_A;
  const b = w ? L_B64 : L_B;
  const r = w ? L_U1 : L_T1;
  get(a);
  get(b);
  simple(k, w);
  if (k == ADC || k == SBB) {
    get(L_T2);
    if (w) op(I64_EXTEND_U);
    if (k == ADC) op(w ? I64_ADD : I32_ADD);
    else op(w ? I64_SUB : I32_SUB);
  }
  if (carryOnly) {
    set(r);
    setCarryOnly(k, a, b, r, size);
    return;
  }
  tee(r);
  if (k == ADD || k == ADC) {
    setResult(size);
    carryVector(a, b, r, size);
    setCarries(size);
    setKnown(k == ADD ? KNOWN_ADD : KNOWN_RESULT, size);
  } else if (k == SUB || k == CMP || k == SBB) {
    setResult(size);
    borrowVector(a, b, r, size);
    setCarries(size);
    setKnown(k == SBB ? KNOWN_RESULT : KNOWN_SUB, size);
  } else flagsOfLogic(size);
}

/** Sets the flags of CMP; L_A and L_B (or the 64-bit pair) hold the operands. */
export function compare(size: u32): void {
  compute(CMP, size);
}

/** Adds the same operands: the sum in L_T1 or L_U1, and its flags. */
export function sum(size: u32): void {
  compute(ADD, size);
}

/** True: generated. */
export function alu(rec: usize, k: u32, size: u32, form: u32): bool {
  if (flagsDead) {
    aluOnly(rec, k, size, form);
    return true;
  }
  const w = size == 8;
  const a = w ? L_A64 : L_A;
  const b = w ? L_B64 : L_B;
  const writes = k != CMP && k != TEST;
  const toMemory = form == FORM_MR || form == FORM_MI;
  if (k == ADC || k == SBB) {
    // CF may follow from the locals that the operands are about to take
    pushCF();
    set(L_T2);
  }
  if (form == FORM_RM) {
    readMemory(rec, size, false);
    set(b);
    getDst(rec, size);
    set(a);
  } else {
    if (toMemory && writes) {
      probeMemory(rec, size);
      loadHost(size);
    } else if (toMemory) readMemory(rec, size, false);
    else getDst(rec, size);
    set(a);
    if (form == FORM_RI || form == FORM_MI) immediate(rec, size);
    else getSrc(rec, size);
    set(b);
  }
  compute(k, size);
  if (!writes) return true;
  if (toMemory) get(L_HOST);
  get(w ? L_U1 : L_T1);
  if (toMemory) storeHost(size);
  else setDst(rec, size);
  return true;
}

/** INC DEC NOT NEG. */
export function unary(rec: usize, k: u32, size: u32): bool {
  const w = size == 8;
  const a = w ? L_A64 : L_A;
  const b = w ? L_B64 : L_B;
  const r = w ? L_U1 : L_T1;
  toChange(rec, size);
  if (k == 2) {
    notTop(w);
    set(r);
  } else if (flagsDead) {
    if (k == 3) {
      set(a);
      constant(0, size);
      get(a);
    } else constant(1, size);
    op(k == 0 ? (w ? I64_ADD : I32_ADD) : w ? I64_SUB : I32_SUB);
    set(r);
  } else if (k == 3) {
    set(b);
    constant(0, size);
    set(a);
    compute(SUB, size);
  } else {
    constant(1, size);
    op(k == 0 ? (w ? I64_ADD : I32_ADD) : w ? I64_SUB : I32_SUB);
    tee(r);
    flagsOfOne(size, k == 1);
  }
  changed(rec, size, r);
  return true;
}
