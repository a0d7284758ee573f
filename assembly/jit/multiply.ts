// MUL IMUL DIV IDIV as Wasm.
import { R_IMM } from "../abi/record";
import { getR, KNOWN_RESULT, known, place, set32, setKnown, setR } from "./context";
import {
  get,
  I32_EXTEND8_S,
  I32_EXTEND16_S,
  I32_SHL,
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
  I64_REM_S,
  I64_REM_U,
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
import { setResult } from "./flags";
import { branchExit } from "./labels";
import { L_A64, L_B64, L_CARRIES, L_T1, L_U0, L_U1, L_U2 } from "./locals";
import { getDst, getSlot, readRm, readSource, setDst } from "./operand";

/** CF = OF = the condition on the stack (i32 0 or 1); the result is in `low`. */
function flagsOfMul(low: u32, size: u32): void {
  i32c(31);
  op(I32_SHL);
  set(L_CARRIES);
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
function unsignedHigh(): void {
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

/** MUL and IMUL of rAX by 32 or 64 bits. */
export function multiply(rec: usize, size: u32, sign: bool): bool {
  if (size < 4) return false;
  readRm(rec, size);
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

/** DIV and IDIV by 32 or 64 bits; whatever might raise #DE leaves for the interpreter. */
export function divide(rec: usize, size: u32, sign: bool): bool {
  if (size < 4) return false;
  readRm(rec, size);
  place();
  if (size == 8) set(L_B64);
  else {
    widen(4, sign);
    set(L_B64);
  }
  // divisor 0, and -1 whose quotient may overflow
  get(L_B64);
  if (sign) {
    i64c(1);
    op(I64_ADD);
    i64c(1);
    op(I64_LE_U);
  } else op(I64_EQZ);
  branchExit();
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
  get(L_B64);
  op(sign ? I64_REM_S : I64_REM_U);
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
  if (known) setKnown(KNOWN_RESULT, size);
  return true;
}
