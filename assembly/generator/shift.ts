// Shifts and rotates as Wasm.
import { R_IMM } from "../abi/record";
import { constant } from "./arith";
import { callHandler } from "./calls";
import { flagsDead, KNOWN_NONE, KNOWN_RESULT, setKnown, useFlags } from "./context";
import {
  get,
  I32_AND,
  I32_EXTEND8_S,
  I32_EXTEND16_S,
  I32_MUL,
  I32_OR,
  I32_REM_U,
  I32_ROTL,
  I32_ROTR,
  I32_SHL,
  I32_SHR_S,
  I32_SHR_U,
  I32_SUB,
  I32_WRAP,
  I32_XOR,
  I64_EXTEND_U,
  I64_OR,
  I64_ROTL,
  I64_ROTR,
  I64_SHL,
  I64_SHR_S,
  I64_SHR_U,
  i32c,
  i64c,
  op,
  set,
  tee,
} from "./emit";
import { pushCF, putCarries, setResult, settleCarries } from "./flags";
import { isMemory } from "./kinds";
import { FORM_CL } from "./kinds.generated";
import { close, openIf } from "./labels";
import { L_A, L_A64, L_B, L_B64, L_CARRIES, L_HOST, L_T1, L_T2, L_U1 } from "./locals";
import { changed, getDst, getSlot, loadHost, probeMemory, setDst, storeHost, toChange } from "./operand";

const ROL: u32 = 0;
const ROR: u32 = 1;
const RCL: u32 = 2;
const RCR: u32 = 3;
const SHL: u32 = 4;
const SHR: u32 = 5;
const SAR: u32 = 6;

/** Pushes bit (width - 1) of an i32 or i64 local as 0 or 1 << `to`. */
function bitTo(local: u32, size: u32, bit: u32, to: u32): void {
  get(local);
  if (size == 8) {
    i64c(i64(bit));
    op(I64_SHR_U);
    op(I32_WRAP);
  } else {
    i32c(bit);
    op(I32_SHR_U);
  }
  i32c(1);
  op(I32_AND);
  i32c(to);
  op(I32_SHL);
}

function turn(k: u32, w: bool): void {
  if (k == SHL) op(w ? I64_SHL : I32_SHL);
  else if (k == SHR) op(w ? I64_SHR_U : I32_SHR_U);
  else if (k == SAR) op(w ? I64_SHR_S : I32_SHR_S);
  else if (k == ROL) op(w ? I64_ROTL : I32_ROTL);
  else op(w ? I64_ROTR : I32_ROTR);
}

/** Shifts by a count in L_T2 (1 to width-1); operand in L_A or L_A64, result left in L_T1 or L_U1. */
function shiftBy(k: u32, size: u32): void {
  const w = size == 8;
  const bits = size << 3;
  const a = w ? L_A64 : L_A;
  const r = w ? L_U1 : L_T1;
  const b = w ? L_B64 : L_B; // the bit shifted out last, in bit 0
  if (size < 4) {
    if (k == SAR) {
      get(a);
      op(size == 1 ? I32_EXTEND8_S : I32_EXTEND16_S);
      set(a);
    } else if (k == ROL || k == ROR) {
      // the operand fills the word: it turns as the word does
      get(a);
      i32c(size == 1 ? 0x01010101 : 0x00010001);
      op(I32_MUL);
      set(a);
    }
  }
  // result
  get(a);
  get(L_T2);
  if (w) op(I64_EXTEND_U);
  turn(k, w);
  set(r);
  if (flagsDead) return;
  if (k == ROL || k == ROR) {
    useFlags();
    settleCarries();
    get(L_CARRIES);
    i32c(0x3fffffff);
    op(I32_AND);
    if (k == ROL) {
      bitTo(r, size, 0, 31);
      op(I32_OR);
      bitTo(r, size, bits - 1, 30);
    } else {
      bitTo(r, size, bits - 1, 31);
      op(I32_OR);
      bitTo(r, size, bits - 2, 30);
    }
    op(I32_OR);
    putCarries();
    return;
  }
  // CF
  if (k == SHL && size < 4) {
    get(r);
    i32c(bits);
  } else {
    get(a);
    if (k == SHL) i32c(bits);
    get(L_T2);
    if (k == SHL) op(I32_SUB);
    else {
      i32c(1);
      op(I32_SUB);
    }
  }
  if (w) op(I64_EXTEND_U);
  if (k == SAR) op(w ? I64_SHR_S : I32_SHR_S);
  else op(w ? I64_SHR_U : I32_SHR_U);
  set(b);
  get(r);
  setResult(size);
  bitTo(b, size, 0, 31);
  if (k == SHL) bitTo(r, size, bits - 1, 30);
  else {
    bitTo(b, size, 0, 30);
    if (k == SHR) {
      bitTo(a, size, bits - 1, 30);
      op(I32_XOR);
    }
  }
  op(I32_OR);
  putCarries();
}

/** RCL and RCR by 1. */
function rotateThroughCarry(rec: usize, left: bool, size: u32): void {
  const w = size == 8;
  const top = (size << 3) - 1;
  const a = w ? L_A64 : L_A;
  const r = w ? L_U1 : L_T1;
  pushCF();
  set(L_T2);
  settleCarries();
  toChange(rec, size);
  tee(a);
  constant(1, size);
  if (left) op(w ? I64_SHL : I32_SHL);
  else op(w ? I64_SHR_U : I32_SHR_U);
  get(L_T2);
  if (w) op(I64_EXTEND_U);
  if (!left) {
    constant(top, size);
    op(w ? I64_SHL : I32_SHL);
  }
  op(w ? I64_OR : I32_OR);
  set(r);
  get(L_CARRIES);
  i32c(0x3fffffff);
  op(I32_AND);
  bitTo(a, size, left ? top : 0, 31);
  op(I32_OR);
  // bit 30 is CF ^ OF
  bitTo(r, size, top, 30);
  if (!left) {
    bitTo(r, size, top - 1, 30);
    op(I32_XOR);
    bitTo(a, size, 0, 30);
    op(I32_XOR);
  }
  op(I32_OR);
  putCarries();
  setKnown(KNOWN_NONE, 0);
  changed(rec, size, r);
}

/** Closes what a count in CL other than 0 does. */
function closeByCl(rec: usize, size: u32): void {
  close();
  if (isMemory(rec) || size != 4) return;
  // the upper half is cleared whatever the count
  getDst(rec, 4);
  setDst(rec, 4);
}

/** RCL and RCR of at most 32 bits by a count, 0: by CL. The operand and CF turn together. */
function throughCarry(rec: usize, left: bool, size: u32, count: u32): void {
  const bits = size << 3;
  pushCF();
  set(L_T2);
  settleCarries();
  toChange(rec, size);
  set(L_A);
  if (count) i32c(count % (bits + 1));
  else {
    getSlot(8, 1); // CL
    i32c(31);
    op(I32_AND);
    tee(L_T1);
    openIf();
    get(L_T1);
    if (size < 4) {
      i32c(bits + 1);
      op(I32_REM_U);
    }
  }
  set(L_T1);
  get(L_A);
  op(I64_EXTEND_U);
  get(L_T2);
  op(I64_EXTEND_U);
  i64c(bits);
  op(I64_SHL);
  op(I64_OR);
  tee(L_A64);
  get(L_T1);
  op(I64_EXTEND_U);
  op(left ? I64_SHL : I64_SHR_U);
  get(L_A64);
  i32c(bits + 1);
  get(L_T1);
  op(I32_SUB);
  op(I64_EXTEND_U);
  op(left ? I64_SHR_U : I64_SHL);
  op(I64_OR);
  set(L_U1);
  get(L_CARRIES);
  i32c(0x3fffffff);
  op(I32_AND);
  bitTo(L_U1, 8, bits, 31);
  op(I32_OR);
  // bit 30 is CF ^ OF
  bitTo(L_U1, 8, bits - 1, 30);
  if (!left) {
    bitTo(L_U1, 8, bits - 2, 30);
    op(I32_XOR);
    bitTo(L_U1, 8, bits, 30);
    op(I32_XOR);
  }
  op(I32_OR);
  putCarries();
  get(L_U1);
  op(I32_WRAP);
  set(L_T1);
  changed(rec, size, L_T1);
  if (!count) closeByCl(rec, size);
  setKnown(KNOWN_NONE, 0);
}

/** Shifts and rotates. */
export function shift(rec: usize, k: u32, size: u32, form: u32): bool {
  const byCl = (form & FORM_CL) != 0;
  const w = size == 8;
  const count = u32(load<u8>(rec, R_IMM)) & (w ? 63 : 31);
  const memory = isMemory(rec);
  if (!byCl && count == 0) {
    // nothing changes, but the operand is written: a 32-bit register loses its upper half
    if (memory) probeMemory(rec, size);
    else {
      getDst(rec, size);
      setDst(rec, size);
    }
    return true;
  }
  if (k == RCL || k == RCR) {
    if (!byCl && count == 1) rotateThroughCarry(rec, k == RCL, size);
    else if (!w) throughCarry(rec, k == RCL, size, byCl ? 0 : count);
    else if (memory) return false;
    else callHandler(rec);
    return true;
  }
  if (flagsDead && !byCl && size >= 4) {
    if (memory) {
      probeMemory(rec, size);
      get(L_HOST);
      loadHost(size);
    } else getDst(rec, size);
    constant(count, size);
    turn(k, w);
    if (memory) storeHost(size);
    else setDst(rec, size);
    return true;
  }
  toChange(rec, size);
  set(w ? L_A64 : L_A);
  if (byCl) {
    getSlot(8, 1); // CL
    i32c(w ? 63 : 31);
    op(I32_AND);
    tee(L_T2);
    openIf();
  } else {
    i32c(count);
    set(L_T2);
  }
  shiftBy(k, size);
  if (byCl) {
    changed(rec, size, w ? L_U1 : L_T1);
    closeByCl(rec, size);
    if (!flagsDead) setKnown(0, 0);
    return true;
  }
  if (!flagsDead) setKnown(k == ROL || k == ROR ? 0 : KNOWN_RESULT, size);
  changed(rec, size, w ? L_U1 : L_T1);
  return true;
}
