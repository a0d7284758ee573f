// Flags in generated code: L_RESULT and L_CARRIES hold what FLAG_RESULT and FLAG_CARRIES would. Conditions right after
// a comparison in the same block use its operands instead.
import {
  constR,
  forgetOperands,
  KNOWN_LOGIC,
  KNOWN_NONE,
  KNOWN_ONE,
  KNOWN_RESULT,
  KNOWN_SUB,
  known,
  knownSize,
  setKnown,
  useFlags,
  wide,
} from "./context";
import {
  get,
  I32_AND,
  I32_EQ,
  I32_EQZ,
  I32_EXTEND8_S,
  I32_EXTEND16_S,
  I32_LE_S,
  I32_LE_U,
  I32_LT_S,
  I32_LT_U,
  I32_OR,
  I32_POPCNT,
  I32_SHL,
  I32_SHR_S,
  I32_SHR_U,
  I32_WRAP,
  I32_XOR,
  I64_AND,
  I64_EQ,
  I64_EQZ,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_LE_S,
  I64_LE_U,
  I64_LT_S,
  I64_LT_U,
  I64_OR,
  I64_SHR_S,
  I64_SHR_U,
  I64_XOR,
  i32c,
  i64c,
  op,
  set,
} from "./emit";
import { close, openIf } from "./labels";
import { L_A, L_A64, L_B, L_B64, L_CARRIES, L_ONE, L_RESULT, L_T0, L_U0 } from "./locals";

/** Pops a result of 1, 2, 4 bytes (i32) or 8 bytes (i64), sign-extends it into L_RESULT. */
export function setResult(size: u32): void {
  useFlags();
  if (size == 1) op(I32_EXTEND8_S);
  else if (size == 2) op(I32_EXTEND16_S);
  if (wide && size != 8) op(I64_EXTEND_S);
  set(L_RESULT);
}

/** Pops L_CARRIES. */
export function putCarries(): void {
  set(L_CARRIES);
  constR(0);
  set(L_ONE);
}

/** Pushes OF after INC or DEC that L_ONE stands for. */
function pushOverflowOfOne(): void {
  get(L_RESULT);
  get(L_ONE);
  op(wide ? I64_EQ : I32_EQ);
}

/** L_CARRIES after INC or DEC that L_ONE stands for. */
function carriesOfOne(): void {
  get(L_CARRIES);
  i32c(i32.MIN_VALUE);
  op(I32_AND);
  pushOverflowOfOne();
  i32c(31);
  op(I32_SHL);
  get(L_CARRIES);
  op(I32_XOR);
  i32c(i32.MIN_VALUE);
  op(I32_AND);
  i32c(1);
  op(I32_SHR_U);
  op(I32_OR);
  // AF: the low digit has become 0, or F
  get(L_RESULT);
  get(L_ONE);
  constR(wide ? 63 : 31);
  op(wide ? I64_SHR_S : I32_SHR_S);
  notTop(wide);
  op(wide ? I64_XOR : I32_XOR);
  if (wide) op(I32_WRAP);
  i32c(15);
  op(I32_AND);
  op(I32_EQZ);
  i32c(3);
  op(I32_SHL);
  op(I32_OR);
  putCarries();
}

/** Makes all of L_CARRIES hold. */
export function settleCarries(): void {
  if (known == KNOWN_ONE) {
    carriesOfOne();
    setKnown(KNOWN_RESULT, knownSize);
  } else if (known == KNOWN_NONE) {
    get(L_ONE);
    if (wide) {
      op(I64_EQZ);
      op(I32_EQZ);
    }
    openIf();
    carriesOfOne();
    close();
  }
}

/** Flags of INC or DEC: the result is on the stack, CF stays. */
export function flagsOfOne(size: u32, down: bool): void {
  setResult(size);
  const least: i64 = i64.MIN_VALUE >> i64(64 - (size << 3));
  constR(u64(down ? ~least : least));
  set(L_ONE);
  setKnown(KNOWN_ONE, size);
}

/** Pops a carry-out vector of an operation of `size` bytes (i32, or i64 for 8), normalises it into L_CARRIES. */
export function setCarries(size: u32): void {
  if (size == 4) {
    i32c(<i32>0xc0000008);
    op(I32_AND);
  } else if (size == 8) {
    set(L_U0);
    get(L_U0);
    i64c(32);
    op(I64_SHR_U);
    op(I32_WRAP);
    i32c(<i32>0xc0000000);
    op(I32_AND);
    get(L_U0);
    op(I32_WRAP);
    i32c(8);
    op(I32_AND);
    op(I32_OR);
  } else {
    set(L_T0);
    get(L_T0);
    i32c(size == 1 ? 0xc0 : 0xc000);
    op(I32_AND);
    i32c(size == 1 ? 24 : 16);
    op(I32_SHL);
    get(L_T0);
    i32c(8);
    op(I32_AND);
    op(I32_OR);
  }
  putCarries();
}

/** Pushes the borrow vector of result = a - b: (~a & b) | (~(a ^ b) & r). a, b, r are local numbers. */
export function borrowVector(a: u32, b: u32, r: u32, size: u32): void {
  const w = size == 8;
  get(a);
  notTop(w);
  get(b);
  op(w ? I64_AND : I32_AND);
  get(a);
  get(b);
  op(w ? I64_XOR : I32_XOR);
  notTop(w);
  get(r);
  op(w ? I64_AND : I32_AND);
  op(w ? I64_OR : I32_OR);
}

/** Pushes the carry vector of result = a + b: (a & b) | ((a | b) & ~r). */
export function carryVector(a: u32, b: u32, r: u32, size: u32): void {
  const w = size == 8;
  get(a);
  get(b);
  op(w ? I64_AND : I32_AND);
  get(a);
  get(b);
  op(w ? I64_OR : I32_OR);
  get(r);
  notTop(w);
  op(w ? I64_AND : I32_AND);
  op(w ? I64_OR : I32_OR);
}

export function notTop(w: bool): void {
  if (w) {
    i64c(-1);
    op(I64_XOR);
  } else {
    i32c(-1);
    op(I32_XOR);
  }
}

/** CF as 0 or 1. */
export function pushCF(): void {
  useFlags();
  if (known == KNOWN_SUB) {
    operands();
    op(knownSize == 8 ? I64_LT_U : I32_LT_U);
    return;
  }
  if (known == KNOWN_LOGIC) {
    i32c(0);
    return;
  }
  get(L_CARRIES);
  i32c(31);
  op(I32_SHR_U);
}

/** The operands of the last subtraction, zero-extended. */
function operands(): void {
  get(knownSize == 8 ? L_A64 : L_A);
  get(knownSize == 8 ? L_B64 : L_B);
}

function signedOperand(local: u32): void {
  get(local);
  if (knownSize == 1) op(I32_EXTEND8_S);
  else if (knownSize == 2) op(I32_EXTEND16_S);
}

function pushZF(): void {
  get(L_RESULT);
  op(wide ? I64_EQZ : I32_EQZ);
}

function resultNegative(): void {
  get(L_RESULT);
  if (wide) {
    i64c(0);
    op(I64_LT_S);
  } else {
    i32c(0);
    op(I32_LT_S);
  }
}

function pushSF(): void {
  resultNegative();
  if (known != KNOWN_NONE) return;
  settleCarries();
  get(L_CARRIES);
  i32c(1);
  op(I32_AND);
  op(I32_XOR);
}

export function pushOF(): void {
  useFlags();
  if (known == KNOWN_LOGIC) {
    i32c(0);
    return;
  }
  if (known == KNOWN_ONE) {
    pushOverflowOfOne();
    return;
  }
  settleCarries();
  get(L_CARRIES);
  i32c(1);
  op(I32_SHL);
  get(L_CARRIES);
  op(I32_XOR);
  i32c(31);
  op(I32_SHR_U);
}

function pushPF(): void {
  get(L_RESULT);
  if (wide) op(I32_WRAP);
  if (known == KNOWN_NONE) {
    settleCarries();
    get(L_CARRIES);
    i32c(8);
    op(I32_SHR_U);
    op(I32_XOR);
  }
  i32c(0xff);
  op(I32_AND);
  op(I32_POPCNT);
  i32c(1);
  op(I32_AND);
  i32c(1);
  op(I32_XOR);
}

/** Pushes the condition k (low nibble of Jcc, SETcc, CMOVcc) as 0 or 1. */
export function pushCondition(k: u32): void {
  useFlags();
  const base = k >> 1;
  if (base == 0) pushOF();
  else if (base == 1) pushCF();
  else if (base == 2) pushZF();
  else if (base == 3) {
    if (known == KNOWN_SUB) {
      operands();
      op(knownSize == 8 ? I64_LE_U : I32_LE_U);
    } else if (known == KNOWN_LOGIC) pushZF();
    else {
      pushCF();
      pushZF();
      op(I32_OR);
    }
  } else if (base == 4) pushSF();
  else if (base == 5) pushPF();
  else less(base == 7);
  if (k & 1) op(I32_EQZ);
}

/** L (SF != OF), or LE with ZF. */
function less(orEqual: bool): void {
  if (known == KNOWN_SUB) {
    if (knownSize == 8) {
      operands();
      op(orEqual ? I64_LE_S : I64_LT_S);
    } else {
      signedOperand(L_A);
      signedOperand(L_B);
      op(orEqual ? I32_LE_S : I32_LT_S);
    }
    return;
  }
  if (known == KNOWN_LOGIC) {
    get(L_RESULT);
    if (wide) {
      i64c(0);
      op(orEqual ? I64_LE_S : I64_LT_S);
    } else {
      i32c(0);
      op(orEqual ? I32_LE_S : I32_LT_S);
    }
    return;
  }
  pushSF();
  pushOF();
  op(I32_XOR);
  if (!orEqual) return;
  pushZF();
  op(I32_OR);
}

/** Flags of a logical operation; the result is on the stack. */
export function flagsOfLogic(size: u32): void {
  setResult(size);
  i32c(0);
  putCarries();
  setKnown(KNOWN_LOGIC, size);
}

/** Pops CF (i32 0 or 1) and puts it into L_CARRIES, OF kept. */
export function setCFKeepOF(): void {
  useFlags();
  i32c(31);
  op(I32_SHL);
  set(L_T0);
  settleCarries();
  // bit 30 holds OF ^ CF: it flips when CF does
  get(L_CARRIES);
  get(L_T0);
  op(I32_XOR);
  i32c(<i32>0x80000000);
  op(I32_AND);
  i32c(1);
  op(I32_SHR_U);
  get(L_CARRIES);
  i32c(0x7fffffff);
  op(I32_AND);
  op(I32_XOR);
  get(L_T0);
  op(I32_OR);
  set(L_CARRIES);
  forgetOperands(); // of a comparison: they no longer tell CF
}

/** Pushes the arithmetic flags as bits of RFLAGS. */
export function pushImage(): void {
  settleCarries();
  pushCF();
  pushPF();
  shifted(2);
  get(L_CARRIES);
  i32c(8); // AF
  op(I32_AND);
  shifted(1);
  pushZF();
  shifted(6);
  pushSF();
  shifted(7);
  pushOF();
  shifted(11);
}

/** Adds what was pushed last, moved up, to what was pushed before it. */
function shifted(by: u32): void {
  i32c(by);
  op(I32_SHL);
  op(I32_OR);
}

/** Sets the arithmetic flags from an image of RFLAGS in an i32 local. */
export function setImage(local: u32): void {
  useFlags();
  // a result of 0 or 1 gives ZF, the corrections make the other flags of it
  get(local);
  i32c(6);
  op(I32_SHR_U);
  set(L_T0);
  get(L_T0);
  i32c(-1);
  op(I32_XOR);
  i32c(1);
  op(I32_AND);
  if (wide) op(I64_EXTEND_U);
  set(L_RESULT);
  get(local); // CF
  i32c(31);
  op(I32_SHL);
  get(local); // CF ^ OF
  get(local);
  i32c(11);
  op(I32_SHR_U);
  op(I32_XOR);
  bitUp(30);
  get(local); // AF
  i32c(1);
  op(I32_SHR_U);
  i32c(8);
  op(I32_AND);
  op(I32_OR);
  get(L_T0); // SF
  i32c(1);
  op(I32_SHR_U);
  i32c(1);
  op(I32_AND);
  op(I32_OR);
  get(local); // PF ^ ZF
  i32c(2);
  op(I32_SHR_U);
  get(L_T0);
  op(I32_XOR);
  bitUp(8);
  putCarries();
  setKnown(KNOWN_NONE, 0);
}

function bitUp(to: u32): void {
  i32c(1);
  op(I32_AND);
  shifted(to);
}
