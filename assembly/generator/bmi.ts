// BMI1, BMI2, ADX and MOVBE as Wasm.
import { R_IMM, R_SIZE, R_VVVV } from "../abi/record";
import { flagsWithCarry, pushNonZero } from "./bits";
import { KNOWN_NONE, setKnown } from "./context";
import {
  get,
  I32_AND,
  I32_EQZ,
  I32_GT_U,
  I32_LT_U,
  I32_OR,
  I32_ROTR,
  I32_SHL,
  I32_SHR_S,
  I32_SHR_U,
  I32_SUB,
  I32_WRAP,
  I32_XOR,
  I64_ADD,
  I64_AND,
  I64_EXTEND_U,
  I64_MUL,
  I64_OR,
  I64_ROTR,
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
import { carryVector, flagsOfLogic, notTop, pushCF, pushOF, putCarries, setCFKeepOF, settleCarries } from "./flags";
import {
  KIND_ADCX,
  KIND_ANDN,
  KIND_BEXTR,
  KIND_BLSI,
  KIND_BLSMSK,
  KIND_BLSR,
  KIND_BZHI,
  KIND_MOVBE_LOAD,
  KIND_MULX,
  KIND_RORX,
  KIND_SARX,
  KIND_SHLX,
} from "./kinds.generated";
import { L_A, L_A64, L_B64, L_CARRIES, L_HOST, L_T0, L_T1, L_T2, L_U0, L_U1, L_U2 } from "./locals";
import { unsignedHigh } from "./multiply";
import {
  getDst,
  getSlot,
  getSrc,
  probeMemory,
  readMemory,
  readRm,
  readSource,
  setDst,
  setSlot,
  storeHost,
} from "./operand";

const RDX: u32 = 16;

function getVvvv(rec: usize, size: u32): void {
  getSlot(load<u8>(rec, R_VVVV), size);
}

/** BLSR BLSMSK BLSI: the operand with its lowest bit cleared, the bits up to it, or that bit. */
function lowestBit(rec: usize, kind: u32, size: u32): void {
  const w = size == 8;
  const a = w ? L_A64 : L_A;
  const r = w ? L_U1 : L_T1;
  readRm(rec, size);
  set(a);
  if (kind == KIND_BLSI) {
    if (w) i64c(0);
    else i32c(0);
    get(a);
  } else {
    get(a);
    if (w) i64c(1);
    else i32c(1);
  }
  op(w ? I64_SUB : I32_SUB);
  get(a);
  if (kind == KIND_BLSMSK) op(w ? I64_XOR : I32_XOR);
  else op(w ? I64_AND : I32_AND);
  set(r);
  pushNonZero(a, size);
  if (kind != KIND_BLSI) op(I32_EQZ);
  flagsWithCarry(size);
  get(r);
  setSlot(load<u8>(rec, R_VVVV), size);
}

/** Pushes, as i64, the L_T2 lowest bits set; all when it is 64 or more. */
function pushLowBits(): void {
  i64c(1);
  get(L_T2);
  op(I64_EXTEND_U);
  op(I64_SHL);
  i64c(1);
  op(I64_SUB);
  i64c(-1);
  get(L_T2);
  i32c(64);
  op(I32_LT_U);
  op(W_SELECT);
}

/** BEXTR BZHI; the source is in L_U1, zero-extended. */
function field(rec: usize, kind: u32, size: u32): void {
  const w = size == 8;
  getVvvv(rec, 4);
  tee(L_T2);
  if (kind == KIND_BEXTR) {
    i32c(0xff);
    op(I32_AND);
    set(L_T1);
    get(L_T2);
    i32c(8);
    op(I32_SHR_U);
    i32c(0xff);
    op(I32_AND);
    set(L_T2);
    get(L_U1);
    get(L_T1);
    op(I64_EXTEND_U);
    op(I64_SHR_U);
    i64c(0);
    get(L_T1);
    i32c(64);
    op(I32_LT_U);
    op(W_SELECT);
  } else {
    i32c(0xff);
    op(I32_AND);
    set(L_T2);
    get(L_U1);
  }
  pushLowBits();
  op(I64_AND);
  if (w) set(L_U1);
  else {
    op(I32_WRAP);
    set(L_T1);
  }
  if (kind == KIND_BEXTR) {
    get(w ? L_U1 : L_T1);
    flagsOfLogic(size);
  } else {
    // CF: the index lies past the operand
    get(L_T2);
    i32c((size << 3) - 1);
    op(I32_GT_U);
    flagsWithCarry(size);
  }
  get(w ? L_U1 : L_T1);
  setDst(rec, size);
}

function mulx(rec: usize, size: u32): void {
  if (size == 8) {
    set(L_B64);
    getSlot(RDX, 8);
    set(L_A64);
    unsignedHigh();
    set(L_U2);
    get(L_A64);
    get(L_B64);
    op(I64_MUL);
    setSlot(load<u8>(rec, R_VVVV), 8);
    get(L_U2);
    setDst(rec, 8);
  } else {
    op(I64_EXTEND_U);
    getSlot(RDX, 4);
    op(I64_EXTEND_U);
    op(I64_MUL);
    tee(L_U0);
    op(I32_WRAP);
    setSlot(load<u8>(rec, R_VVVV), 4);
    get(L_U0);
    i64c(32);
    op(I64_SHR_U);
    op(I32_WRAP);
    setDst(rec, 4);
  }
  // what a comparison left in the locals is gone
  setKnown(KNOWN_NONE, 0);
}

/** SHLX SHRX SARX, whose count Wasm masks alike, and RORX. */
function shiftWithoutFlags(rec: usize, kind: u32, size: u32): void {
  const w = size == 8;
  if (kind == KIND_RORX) {
    if (w) i64c(load<u8>(rec, R_IMM));
    else i32c(load<u8>(rec, R_IMM));
    op(w ? I64_ROTR : I32_ROTR);
  } else {
    getVvvv(rec, size);
    if (kind == KIND_SHLX) op(w ? I64_SHL : I32_SHL);
    else if (kind == KIND_SARX) op(w ? I64_SHR_S : I32_SHR_S);
    else op(w ? I64_SHR_U : I32_SHR_U);
  }
  setDst(rec, size);
}

/** VEX-encoded instructions of 32 and 64 bits. */
export function bmi(rec: usize, kind: u32): void {
  const size = u32(load<u8>(rec, R_SIZE));
  if (kind == KIND_BLSR || kind == KIND_BLSMSK || kind == KIND_BLSI) {
    lowestBit(rec, kind, size);
    return;
  }
  readSource(rec, size, false);
  if (kind == KIND_ANDN) {
    getVvvv(rec, size);
    notTop(size == 8);
    op(size == 8 ? I64_AND : I32_AND);
    tee(size == 8 ? L_U1 : L_T1);
    flagsOfLogic(size);
    get(size == 8 ? L_U1 : L_T1);
    setDst(rec, size);
  } else if (kind == KIND_BEXTR || kind == KIND_BZHI) {
    if (size == 4) op(I64_EXTEND_U);
    set(L_U1);
    field(rec, kind, size);
  } else if (kind == KIND_MULX) mulx(rec, size);
  else shiftWithoutFlags(rec, kind, size);
}

/** ADCX ADOX: the carry goes through CF or OF alone. */
export function addThrough(rec: usize, kind: u32): void {
  const size = u32(load<u8>(rec, R_SIZE));
  const carry = kind == KIND_ADCX;
  if (carry) pushCF();
  else pushOF();
  set(L_T2);
  readSource(rec, size, false);
  if (size == 4) op(I64_EXTEND_U);
  set(L_B64);
  getDst(rec, size);
  if (size == 4) op(I64_EXTEND_U);
  set(L_A64);
  get(L_A64);
  get(L_B64);
  op(I64_ADD);
  get(L_T2);
  op(I64_EXTEND_U);
  op(I64_ADD);
  set(L_U1);
  get(L_U1);
  if (size == 4) op(I32_WRAP);
  setDst(rec, size);
  if (size == 8) {
    carryVector(L_A64, L_B64, L_U1, 8);
    i64c(63);
  } else {
    get(L_U1);
    i64c(32);
  }
  op(I64_SHR_U);
  op(I32_WRAP);
  setKnown(KNOWN_NONE, 0);
  if (carry) setCFKeepOF();
  else {
    i32c(30);
    op(I32_SHL);
    settleCarries();
    get(L_CARRIES);
    i32c(i32.MIN_VALUE);
    op(I32_AND);
    i32c(1);
    op(I32_SHR_U);
    op(I32_XOR);
    get(L_CARRIES);
    i32c(<i32>0xbfffffff);
    op(I32_AND);
    op(I32_OR);
    putCarries();
  }
}

/** Pops a value of 2, 4 or 8 bytes, pushes it with its bytes in the other order. */
export function swapBytes(size: u32): void {
  if (size == 2) {
    set(L_T0);
    get(L_T0);
    i32c(8);
    op(I32_SHL);
    get(L_T0);
    i32c(8);
    op(I32_SHR_U);
    op(I32_OR);
    i32c(0xffff);
    op(I32_AND);
  } else if (size == 4) swap32();
  else {
    set(L_U0);
    get(L_U0);
    op(I32_WRAP);
    swap32();
    op(I64_EXTEND_U);
    i64c(32);
    op(I64_SHL);
    get(L_U0);
    i64c(32);
    op(I64_SHR_U);
    op(I32_WRAP);
    swap32();
    op(I64_EXTEND_U);
    op(I64_OR);
  }
}

function swap32(): void {
  set(L_T0);
  get(L_T0);
  i32c(0x00ff00ff);
  op(I32_AND);
  i32c(8);
  op(I32_ROTR);
  get(L_T0);
  i32c(<i32>0xff00ff00);
  op(I32_AND);
  i32c(24);
  op(I32_ROTR);
  op(I32_OR);
}

export function movbe(rec: usize, kind: u32): void {
  const size = u32(load<u8>(rec, R_SIZE));
  if (kind == KIND_MOVBE_LOAD) {
    readMemory(rec, size, false);
    swapBytes(size);
    setDst(rec, size);
  } else {
    probeMemory(rec, size);
    get(L_HOST);
    getSrc(rec, size);
    swapBytes(size);
    storeHost(size);
  }
}
