// MUL IMUL DIV IDIV as Wasm.
import { R_IMM } from "../abi/record";
import { forgetOperands, getR, KNOWN_RESULT, place, set32, setKnown, setR } from "./context";
import {
  get,
  I32_ADD,
  I32_DIV_S,
  I32_DIV_U,
  I32_EQZ,
  I32_EXTEND8_S,
  I32_EXTEND16_S,
  I32_GT_U,
  I32_LE_U,
  I32_MUL,
  I32_NE,
  I32_OR,
  I32_SHL,
  I32_SHR_U,
  I32_SUB,
  I32_WRAP,
  I64_ADD,
  I64_AND,
  I64_DIV_S,
  I64_DIV_U,
  I64_EQZ,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_GT_U,
  I64_LE_U,
  I64_MUL,
  I64_NE,
  I64_OR,
  I64_SHL,
  I64_SHR_S,
  I64_SHR_U,
  I64_SUB,
  i32c,
  i64c,
  op,
  set,
  tee,
} from "./emit";
import { putCarries, setResult } from "./flags";
import { branchExit } from "./labels";
import { L_A, L_A64, L_B, L_B64, L_T1, L_U0, L_U1, L_U2 } from "./locals";
import { getDst, getSlot, readRm, readSource, setDst, setSlot } from "./operand";

/** CF = OF = the condition on the stack (i32 0 or 1); the result is in `low`. */
function flagsOfMul(low: u32, size: u32): void {
  i32c(31);
  op(I32_SHL);
  putCarries();
  get(low);
  setResult(size);
  setKnown(KNOWN_RESULT, size);
}

/** Sign- or zero-extends an i32 operand of `size` bytes to i64. */
function widen(size: u32, sign: bool): void {
  if (sign && size == 1) op(I32_EXTEND8_S);
  if (sign && size == 2) op(I32_EXTEND16_S);
  op(sign ? I64_EXTEND_S : I64_EXTEND_U);
}

/** IMUL with two or three operands; 16 and 32 bits, and 64 bits by halves. */
export function imulTruncated(rec: usize, size: u32, immediate: bool): bool {
  if (size == 8) {
    readSource(rec, 8, false);
    set(L_A64);
    if (immediate) i64c(load<i64>(rec, R_IMM));
    else getDst(rec, 8);
    set(L_B64);
    get(L_A64);
    get(L_B64);
    op(I64_MUL);
    set(L_U1);
    signedHigh();
    get(L_U1);
    i64c(63);
    op(I64_SHR_S);
    op(I64_NE);
    flagsOfMul(L_U1, 8);
    get(L_U1);
    setDst(rec, 8);
    return true;
  }
  readSource(rec, size, false);
  widen(size, true);
  if (immediate) i64c(load<i64>(rec, R_IMM));
  else {
    getDst(rec, size);
    widen(size, true);
  }
  op(I64_MUL);
  tee(L_U0);
  op(I32_WRAP);
  set(L_T1);
  get(L_T1);
  widen(size, true);
  get(L_U0);
  op(I64_NE);
  flagsOfMul(L_T1, size);
  get(L_T1);
  setDst(rec, size);
  return true;
}

/** Pushes the high half of the unsigned product of L_A64 and L_B64. Uses L_U0, L_U2. */
export function unsignedHigh(): void {
  // mid = a1 * b0 + (a0 * b0 >> 32)
  get(L_A64);
  i64c(32);
  op(I64_SHR_U);
  low32(L_B64);
  op(I64_MUL);
  low32(L_A64);
  low32(L_B64);
  op(I64_MUL);
  i64c(32);
  op(I64_SHR_U);
  op(I64_ADD);
  set(L_U0);
  // mid2 = a0 * b1 + (mid & ffffffff)
  low32(L_A64);
  get(L_B64);
  i64c(32);
  op(I64_SHR_U);
  op(I64_MUL);
  low32(L_U0);
  op(I64_ADD);
  set(L_U2);
  get(L_A64);
  i64c(32);
  op(I64_SHR_U);
  get(L_B64);
  i64c(32);
  op(I64_SHR_U);
  op(I64_MUL);
  get(L_U0);
  i64c(32);
  op(I64_SHR_U);
  op(I64_ADD);
  get(L_U2);
  i64c(32);
  op(I64_SHR_U);
  op(I64_ADD);
}

function low32(local: u32): void {
  get(local);
  i64c(0xffffffff);
  op(I64_AND);
}

function signedHigh(): void {
  unsignedHigh();
  get(L_A64);
  get(L_B64);
  i64c(63);
  op(I64_SHR_S);
  op(I64_AND);
  op(I64_SUB);
  get(L_B64);
  get(L_A64);
  i64c(63);
  op(I64_SHR_S);
  op(I64_AND);
  op(I64_SUB);
}

function signExtend(size: u32): void {
  op(size == 1 ? I32_EXTEND8_S : I32_EXTEND16_S);
}

/** MUL and IMUL of AL or AX by the operand on the stack. */
function multiplySmall(size: u32, sign: bool): void {
  if (sign) signExtend(size);
  getSlot(0, size);
  if (sign) signExtend(size);
  op(I32_MUL);
  tee(L_T1);
  setSlot(0, 2);
  if (size == 2) {
    get(L_T1);
    i32c(16);
    op(I32_SHR_U);
    setSlot(16, 2);
  }
  get(L_T1);
  if (sign) {
    get(L_T1);
    signExtend(size);
    op(I32_NE);
  } else {
    i32c(size == 1 ? 0xff : 0xffff);
    op(I32_GT_U);
  }
  flagsOfMul(L_T1, size);
}

/** Leaves for a divisor of 0, and for -1, whose quotient may overflow. */
function leaveForDivisor(local: u32, w: bool, sign: bool): void {
  get(local);
  if (sign) {
    if (w) i64c(1);
    else i32c(1);
    op(w ? I64_ADD : I32_ADD);
    if (w) i64c(1);
    else i32c(1);
    op(w ? I64_LE_U : I32_LE_U);
  } else op(w ? I64_EQZ : I32_EQZ);
  branchExit();
}

/** DIV and IDIV of AX or DX:AX by the operand on the stack; see divide(). */
function divideSmall(size: u32, sign: bool): void {
  if (sign) signExtend(size);
  set(L_B);
  leaveForDivisor(L_B, false, sign);
  getSlot(0, 2);
  if (size == 2) {
    getSlot(16, 2);
    i32c(16);
    op(I32_SHL);
    op(I32_OR);
  } else if (sign) op(I32_EXTEND16_S);
  tee(L_A);
  get(L_B);
  op(sign ? I32_DIV_S : I32_DIV_U);
  tee(L_T1);
  if (sign) {
    get(L_T1);
    signExtend(size);
    op(I32_NE);
  } else {
    i32c(size == 1 ? 0xff : 0xffff);
    op(I32_GT_U);
  }
  branchExit();
  // engines would divide once more for the remainder
  get(L_A);
  get(L_T1);
  get(L_B);
  op(I32_MUL);
  op(I32_SUB);
  setSlot(size == 1 ? 1 : 16, size);
  get(L_T1);
  setSlot(0, size);
  forgetOperands();
}

/** MUL and IMUL of rAX. */
export function multiply(rec: usize, size: u32, sign: bool): bool {
  readRm(rec, size);
  if (size < 4) {
    multiplySmall(size, sign);
    return true;
  }
  if (size == 8) {
    set(L_B64);
    getR(0);
    set(L_A64);
    if (sign) signedHigh();
    else unsignedHigh();
    get(L_A64);
    get(L_B64);
    op(I64_MUL);
    set(L_U1);
    setR(16);
    get(L_U1);
    setR(0);
    getR(16);
    if (sign) {
      get(L_U1);
      i64c(63);
      op(I64_SHR_S);
    } else i64c(0);
    op(I64_NE);
    flagsOfMul(L_U1, 8);
    return true;
  }
  widen(4, sign);
  getSlot(0, 4);
  widen(4, sign);
  op(I64_MUL);
  tee(L_U0);
  op(I32_WRAP);
  tee(L_T1);
  set32(0);
  get(L_U0);
  i64c(32);
  op(I64_SHR_U);
  op(I32_WRAP);
  set32(16);
  get(L_U0);
  if (sign) {
    get(L_T1);
    op(I64_EXTEND_S);
    op(I64_NE);
  } else {
    i64c(0xffffffff);
    op(I64_GT_U);
  }
  flagsOfMul(L_T1, 4);
  return true;
}

/** DIV and IDIV; whatever might raise #DE leaves for the interpreter. */
export function divide(rec: usize, size: u32, sign: bool): bool {
  readRm(rec, size);
  place();
  if (size < 4) {
    divideSmall(size, sign);
    return true;
  }
  if (size == 8) set(L_B64);
  else {
    widen(4, sign);
    set(L_B64);
  }
  leaveForDivisor(L_B64, true, sign);
  if (size == 8) {
    // only dividends that fit 64 bits
    getR(0);
    set(L_A64);
    getR(16);
    if (sign) {
      get(L_A64);
      i64c(63);
      op(I64_SHR_S);
    } else i64c(0);
    op(I64_NE);
    branchExit();
  } else {
    getSlot(16, 4);
    op(I64_EXTEND_U);
    i64c(32);
    op(I64_SHL);
    getSlot(0, 4);
    op(I64_EXTEND_U);
    op(I64_OR);
    set(L_A64);
  }
  get(L_A64);
  get(L_B64);
  op(sign ? I64_DIV_S : I64_DIV_U);
  set(L_U0);
  if (size == 4) {
    get(L_U0);
    if (sign) {
      get(L_U0);
      op(I32_WRAP);
      op(I64_EXTEND_S);
      op(I64_NE);
    } else {
      i64c(0xffffffff);
      op(I64_GT_U);
    }
    branchExit();
  }
  get(L_A64);
  get(L_U0);
  get(L_B64);
  op(I64_MUL);
  op(I64_SUB);
  if (size == 8) setR(16);
  else {
    op(I32_WRAP);
    set32(16);
  }
  get(L_U0);
  if (size == 8) setR(0);
  else {
    op(I32_WRAP);
    set32(0);
  }
  // the flags stay, but not the locals that a comparison left
  forgetOperands();
  return true;
}
