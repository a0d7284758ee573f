// MOVS, STOS, LODS and single CMPS and SCAS as Wasm, MOVS and STOS with REP inside one page of each operand. Whatever else comes up runs in
// the interpreter.
import { R_ADDR_SHIFT, R_FLAGS, R_SEG, RecordFlag } from "../abi/record";
import { SEG_ES, SEG_FS } from "../abi/state";
import { compare } from "./arith";
import { callInterpreter } from "./calls";
import { addR, constR, get32, getR, KNOWN_NONE, segmented, setKnown, setR, wide } from "./context";
import { advanceBy, LABEL_ELEMENTS, PAGE, pushDown, RAX, RCX, RDI, RSI } from "./elements";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_GE_S,
  I32_GE_U,
  I32_GT_U,
  I32_LT_U,
  I32_OR,
  I32_SHL,
  I32_SHR_U,
  I32_SUB,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_GT_U,
  I64_SUB,
  i32c,
  memoryCopy,
  memoryFill,
  op,
  set,
  tee,
  W_ELSE,
} from "./emit";
import { KIND_CMPS, KIND_LODS, KIND_SCAS, KIND_STOS } from "./kinds.generated";
import { branchIf, close, openIf, openLoop } from "./labels";
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
import { repeatCompare } from "./search";

/** Bytes from which memory.copy and memory.fill are faster than a loop. */
const LONG: u32 = 64;
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
