// MUL IMUL DIV IDIV. SF ZF AF PF after a multiplication and all flags after a division are undefined.
import { R_IMM } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, RAX, RDX } from "../abi/state";
import { aborted, raise } from "../state/stop";
import { dstSized, rmDst, rmSource, setDstSized, setSlot, signed, sizeOf, truncate } from "./sized";

const SLOT_A: u32 = 0;
const SLOT_D: u32 = RDX - RAX;

/** High half of the unsigned 64 x 64 product. */
export function mulHigh(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff;
  const a1 = a >> 32;
  const b0 = b & 0xffffffff;
  const b1 = b >> 32;
  const mid = a1 * b0 + ((a0 * b0) >> 32);
  const mid2 = a0 * b1 + (mid & 0xffffffff);
  return a1 * b1 + (mid >> 32) + (mid2 >> 32);
}

function mulHighSigned(a: u64, b: u64): u64 {
  return mulHigh(a, b) - (a & u64(i64(b) >> 63)) - (b & u64(i64(a) >> 63));
}

function flagsOfMul(low: u64, size: u32, overflow: bool): void {
  store<i64>(FLAG_RESULT, signed(low, size));
  store<u32>(FLAG_CARRIES, overflow ? 0x80000000 : 0); // CF = OF = overflow
}

/** Writes both halves of a product or, as the low and the high half, quotient and remainder. */
function setPair(low: u64, high: u64, size: u32): void {
  if (size == 1) store<u16>(RAX, u16((low & 0xff) | (high << 8)));
  else {
    setSlot(SLOT_A, low, size);
    setSlot(SLOT_D, high, size);
  }
}

export function mul(rec: usize): void {
  const size = sizeOf(rec);
  const b = rmDst(rec);
  if (aborted()) return;
  const a = truncate(load<u64>(RAX), size);
  const low = a * b;
  const high = size == 8 ? mulHigh(a, b) : low >> u64(size << 3);
  setPair(low, high, size);
  flagsOfMul(low, size, high != 0);
}

/** Does the product of two signed operands not fit? */
function overflows(a: i64, b: i64, low: u64, size: u32): bool {
  if (size == 8) return mulHighSigned(u64(a), u64(b)) != u64(i64(low) >> 63);
  return signed(low, size) != i64(low);
}

export function imul(rec: usize): void {
  const size = sizeOf(rec);
  const b = signed(rmDst(rec), size);
  if (aborted()) return;
  const a = signed(load<u64>(RAX), size);
  const low = u64(a * b);
  const over = overflows(a, b, low, size);
  setPair(low, size == 8 ? mulHighSigned(u64(a), u64(b)) : low >> u64(size << 3), size);
  flagsOfMul(low, size, over);
}

/** Truncated product with CF = OF = the full product does not fit. */
function setProduct(rec: usize, a: u64, b: u64): void {
  const size = sizeOf(rec);
  const p = u64(signed(a, size) * signed(b, size));
  flagsOfMul(p, size, overflows(signed(a, size), signed(b, size), p, size));
  setDstSized(rec, p);
}

export function imulGE(rec: usize): void {
  const b = rmSource(rec);
  if (!aborted()) setProduct(rec, dstSized(rec), b);
}

export function imulImm(rec: usize): void {
  const b = rmSource(rec);
  if (!aborted()) setProduct(rec, b, load<u64>(rec, R_IMM));
}

let remainder: u64 = 0;

/** Quotient of high:low / d for high < d; `remainder` takes the rest. */
function divide128(high: u64, low: u64, d: u64): u64 {
  if (high == 0) {
    remainder = low % d;
    return low / d;
  }
  let r = high;
  let q: u64 = 0;
  for (let i = 63; i >= 0; i--) {
    const carry = r >> 63;
    r = (r << 1) | ((low >> u64(i)) & 1);
    q <<= 1;
    if (carry != 0 || r >= d) {
      r -= d;
      q |= 1;
    }
  }
  remainder = r;
  return q;
}

/** The dividend of 8, 16 or 32-bit operands. */
function dividend(size: u32): u64 {
  if (size == 1) return u64(load<u16>(RAX));
  return (truncate(load<u64>(RDX), size) << u64(size << 3)) | truncate(load<u64>(RAX), size);
}

/** #DE: division by zero or a quotient that does not fit. */
export function div(rec: usize): void {
  const size = sizeOf(rec);
  const d = rmDst(rec);
  if (aborted()) return;
  if (d == 0) return raise(0);
  if (size == 8) {
    const high = load<u64>(RDX);
    if (high >= d) return raise(0);
    const q = divide128(high, load<u64>(RAX), d);
    setPair(q, remainder, size);
    return;
  }
  const n = dividend(size);
  const q = n / d;
  if (q >> u64(size << 3)) return raise(0);
  setPair(q, n % d, size);
}

export function idiv(rec: usize): void {
  const size = sizeOf(rec);
  const d = signed(rmDst(rec), size);
  if (aborted()) return;
  if (d == 0) return raise(0);
  if (size == 8) {
    let high = load<u64>(RDX);
    let low = load<u64>(RAX);
    const negative = i64(high) < 0;
    if (negative) {
      low = 0 - low;
      high = ~high + u64(low == 0);
    }
    const magnitude: u64 = d < 0 ? 0 - u64(d) : u64(d);
    if (high >= magnitude) return raise(0);
    const q = divide128(high, low, magnitude);
    const negativeQuotient = negative != d < 0;
    if (q > (negativeQuotient ? 0x8000000000000000 : 0x7fffffffffffffff)) return raise(0);
    setPair(negativeQuotient ? 0 - q : q, negative ? 0 - remainder : remainder, size);
    return;
  }
  const n = signed(dividend(size), size << 1);
  if (n == i64.MIN_VALUE && d == -1) return raise(0);
  const q = n / d;
  if (signed(u64(q), size) != q) return raise(0);
  setPair(u64(q), u64(n % d), size);
}
