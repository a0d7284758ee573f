// Bit tests, double shifts, bit scans and counts, CMPXCHG and XADD as Wasm.
import { R_ADDR_SHIFT, R_IMM, R_SIZE } from "../abi/record";
import { compare, sum } from "./arith";
import { flagsDead, KNOWN_NONE, KNOWN_RESULT, setKnown, useFlags, wide } from "./context";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_CLZ,
  I32_CTZ,
  I32_EQ,
  I32_EQZ,
  I32_EXTEND16_S,
  I32_NE,
  I32_OR,
  I32_POPCNT,
  I32_SHL,
  I32_SHR_S,
  I32_SHR_U,
  I32_SUB,
  I32_WRAP,
  I32_XOR,
  I64_ADD,
  I64_AND,
  I64_CLZ,
  I64_CTZ,
  I64_EQ,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_NE,
  I64_OR,
  I64_POPCNT,
  I64_SHL,
  I64_SHR_S,
  I64_SHR_U,
  I64_SUB,
  I64_XOR,
  i32c,
  i64c,
  op,
  set,
  tee,
  W_SELECT,
} from "./emit";
import { notTop, putCarries, setCFKeepOF, setResult, settleCarries } from "./flags";
import { isMemory } from "./kinds";
import { FORM_CL, KIND_BSF, KIND_BSR, KIND_POPCNT, KIND_TZCNT } from "./kinds.generated";
import { close, openIf } from "./labels";
import { L_A, L_A64, L_B, L_B64, L_HOST, L_RESULT, L_T0, L_T1, L_T2, L_U1 } from "./locals";
import {
  changed,
  getDst,
  getSlot,
  getSrc,
  inSegment,
  loadHost,
  offset,
  probeMemory,
  probeTop,
  readMemory,
  readSource,
  readTop,
  setDst,
  setSlot,
  setSrc,
  storeHost,
  toChange,
  truncateOffset,
} from "./operand";

const BT: u32 = 0;
const BTS: u32 = 1;
const BTR: u32 = 2;

function operandA(size: u32): u32 {
  return size == 8 ? L_A64 : L_A;
}
function operandB(size: u32): u32 {
  return size == 8 ? L_B64 : L_B;
}
function result(size: u32): u32 {
  return size == 8 ? L_U1 : L_T1;
}

/** Pushes whether the local is not 0, as i32. */
export function pushNonZero(local: u32, size: u32): void {
  get(local);
  if (size == 8) {
    i64c(0);
    op(I64_NE);
  } else {
    i32c(0);
    op(I32_NE);
  }
}

/** Pushes the linear address of the element of the bit string that the signed index names. */
function bitAddress(rec: usize, size: u32, write: bool): void {
  const log: u32 = size == 8 ? 6 : size == 4 ? 5 : 4;
  offset(rec);
  getSrc(rec, size);
  if (size == 2) op(I32_EXTEND16_S);
  if (size == 8) {
    i64c(log);
    op(I64_SHR_S);
    i64c(log - 3);
    op(I64_SHL);
  } else {
    i32c(log);
    op(I32_SHR_S);
    i32c(log - 3);
    op(I32_SHL);
    if (wide) op(I64_EXTEND_S);
  }
  op(wide ? I64_ADD : I32_ADD);
  truncateOffset(load<u8>(rec, R_ADDR_SHIFT));
  inSegment(rec, size, write);
}

/** BT BTS BTR BTC; `immediate`: of a constant bit. */
export function bitTest(rec: usize, k: u32, size: u32, immediate: bool): void {
  const w = size == 8;
  const a = operandA(size);
  const memory = isMemory(rec);
  const mask = (size << 3) - 1;
  if (memory) {
    if (immediate) {
      if (k == BT) readMemory(rec, size, false);
      else {
        probeMemory(rec, size);
        loadHost(size);
      }
    } else {
      bitAddress(rec, size, k != BT);
      if (k == BT) readTop(size, false);
      else {
        probeTop(size);
        loadHost(size);
      }
    }
  } else getDst(rec, size);
  set(a);
  if (immediate) i32c(u32(load<u8>(rec, R_IMM)) & mask);
  else {
    getSrc(rec, size);
    if (w) op(I32_WRAP);
    i32c(mask);
    op(I32_AND);
  }
  set(L_T2);
  get(a);
  get(L_T2);
  if (w) op(I64_EXTEND_U);
  op(w ? I64_SHR_U : I32_SHR_U);
  if (w) op(I32_WRAP);
  i32c(1);
  op(I32_AND);
  set(L_B);
  if (k != BT) {
    if (memory) get(L_HOST);
    get(a);
    if (w) i64c(1);
    else i32c(1);
    get(L_T2);
    if (w) op(I64_EXTEND_U);
    op(w ? I64_SHL : I32_SHL);
    if (k == BTR) notTop(w);
    if (k == BTS) op(w ? I64_OR : I32_OR);
    else if (k == BTR) op(w ? I64_AND : I32_AND);
    else op(w ? I64_XOR : I32_XOR);
    if (memory) storeHost(size);
    else setDst(rec, size);
  }
  get(L_B);
  setCFKeepOF();
}

/** Pushes bits - L_T2, as wide as the operand. */
function pushRest(size: u32): void {
  i32c(size << 3);
  get(L_T2);
  op(I32_SUB);
  if (size == 8) op(I64_EXTEND_U);
}

function pushCount(w: bool): void {
  get(L_T2);
  if (w) op(I64_EXTEND_U);
}

/** SHLD SHRD of 32 and 64 bits. */
export function doubleShift(rec: usize, left: bool, size: u32, form: u32): bool {
  if (size == 2) return false;
  const w = size == 8;
  const byCl = (form & FORM_CL) != 0;
  const n = u32(load<u8>(rec, R_IMM)) & (w ? 63 : 31);
  const memory = isMemory(rec);
  const a = operandA(size);
  const b = operandB(size);
  const r = result(size);
  toChange(rec, size);
  set(a);
  if (!byCl && n == 0) {
    if (!memory) {
      get(a);
      setDst(rec, size);
    }
    setKnown(KNOWN_NONE, 0);
    return true;
  }
  getSrc(rec, size);
  set(b);
  if (byCl) {
    getSlot(8, 1);
    i32c(w ? 63 : 31);
    op(I32_AND);
    tee(L_T2);
    openIf();
  } else {
    i32c(n);
    set(L_T2);
  }
  get(a);
  pushCount(w);
  if (left) op(w ? I64_SHL : I32_SHL);
  else op(w ? I64_SHR_U : I32_SHR_U);
  get(b);
  pushRest(size);
  if (left) op(w ? I64_SHR_U : I32_SHR_U);
  else op(w ? I64_SHL : I32_SHL);
  op(w ? I64_OR : I32_OR);
  set(r);
  if (!flagsDead) {
    get(r);
    setResult(size);
    // CF: the bit shifted out last; OF: the sign has changed
    get(a);
    if (left) pushRest(size);
    else {
      get(L_T2);
      i32c(1);
      op(I32_SUB);
      if (w) op(I64_EXTEND_U);
    }
    op(w ? I64_SHR_U : I32_SHR_U);
    if (w) op(I32_WRAP);
    i32c(1);
    op(I32_AND);
    tee(L_T0);
    i32c(31);
    op(I32_SHL);
    get(L_T0);
    get(r);
    get(a);
    op(w ? I64_XOR : I32_XOR);
    if (w) {
      i64c(63);
      op(I64_SHR_U);
      op(I32_WRAP);
    } else {
      i32c(31);
      op(I32_SHR_U);
    }
    op(I32_XOR);
    i32c(30);
    op(I32_SHL);
    op(I32_OR);
    putCarries();
  }
  changed(rec, size, r);
  if (byCl) {
    close();
    if (!memory && size == 4) {
      // the upper half is cleared whatever the count
      getDst(rec, 4);
      setDst(rec, 4);
    }
  }
  setKnown(byCl || flagsDead ? KNOWN_NONE : KNOWN_RESULT, size);
  return true;
}

/** Flags of the result in L_T1 or L_U1: CF is the i32 0 or 1 on the stack, OF 0. */
export function flagsWithCarry(size: u32): void {
  useFlags();
  tee(L_T0);
  i32c(31);
  op(I32_SHL);
  get(L_T0);
  i32c(30);
  op(I32_SHL);
  op(I32_OR);
  putCarries();
  get(result(size));
  setResult(size);
  setKnown(KNOWN_RESULT, size);
}

/** Sets ZF by the source, nothing else of the words. */
function resultOfSource(size: u32): void {
  useFlags();
  settleCarries();
  pushNonZero(operandA(size), size);
  if (wide) op(I64_EXTEND_U);
  set(L_RESULT);
  setKnown(KNOWN_NONE, 0);
}

/** BSF BSR POPCNT TZCNT LZCNT. */
export function scan(rec: usize, kind: u32): void {
  const size = u32(load<u8>(rec, R_SIZE));
  const w = size == 8;
  const a = operandA(size);
  const r = result(size);
  readSource(rec, size, false);
  set(a);
  if (kind == KIND_BSF || kind == KIND_BSR) {
    resultOfSource(size);
    pushNonZero(a, size);
    openIf();
    if (kind == KIND_BSR) {
      if (w) i64c(63);
      else i32c(31);
    }
    get(a);
    if (kind == KIND_BSF) op(w ? I64_CTZ : I32_CTZ);
    else {
      op(w ? I64_CLZ : I32_CLZ);
      op(w ? I64_SUB : I32_SUB);
    }
    setDst(rec, size);
    close();
    return;
  }
  if (kind == KIND_POPCNT) {
    resultOfSource(size);
    // a result of 0 has even parity, POPCNT clears PF
    i32c(0);
    i32c(0x100);
    pushNonZero(a, size);
    op(W_SELECT);
    putCarries();
    get(a);
    op(w ? I64_POPCNT : I32_POPCNT);
    setDst(rec, size);
    return;
  }
  get(a);
  if (kind == KIND_TZCNT) {
    if (size == 2) {
      i32c(0x10000);
      op(I32_OR);
    }
    op(w ? I64_CTZ : I32_CTZ);
  } else {
    op(w ? I64_CLZ : I32_CLZ);
    if (size == 2) {
      i32c(16);
      op(I32_SUB);
    }
  }
  set(r);
  pushNonZero(a, size);
  op(I32_EQZ);
  flagsWithCarry(size);
  get(r);
  setDst(rec, size);
}

export function compareExchange(rec: usize, size: u32): void {
  const w = size == 8;
  const a = operandA(size);
  const b = operandB(size);
  const memory = isMemory(rec);
  toChange(rec, size);
  set(b);
  getSlot(0, size);
  set(a);
  compare(size);
  if (memory) {
    // it is written in both cases
    get(L_HOST);
    getSrc(rec, size);
    get(b);
    get(a);
    get(b);
    op(w ? I64_EQ : I32_EQ);
    op(W_SELECT);
    storeHost(size);
  } else {
    get(a);
    get(b);
    op(w ? I64_EQ : I32_EQ);
    openIf();
    getSrc(rec, size);
    setDst(rec, size);
    close();
  }
  get(a);
  get(b);
  op(w ? I64_NE : I32_NE);
  openIf();
  get(b);
  setSlot(0, size);
  close();
}

export function exchangeAdd(rec: usize, size: u32): void {
  const a = operandA(size);
  const memory = isMemory(rec);
  toChange(rec, size);
  set(a);
  getSrc(rec, size);
  set(operandB(size));
  sum(size);
  if (memory) {
    get(L_HOST);
    get(result(size));
    storeHost(size);
  }
  get(a);
  setSrc(rec, size);
  if (!memory) {
    get(result(size));
    setDst(rec, size);
  }
}
