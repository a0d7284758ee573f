// MUL IMUL DIV IDIV. SF ZF AF PF after a multiplication and all flags after a division are undefined.
import { R_IMM } from "../abi/record";
import { FLAG_CARRIES, RAX, RDX } from "../abi/state";
import { aborted, raise } from "../state/stop";
import { setResult } from "./alu";
import { dst, readRm, readRmSource, setDst, setRegister } from "./operands";

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

function flagsOfMul<T>(low: T, overflow: bool): void {
  setResult<T>(low);
  store<u32>(FLAG_CARRIES, overflow ? 0x80000000 : 0); // CF = OF = overflow
}

function signed<T>(v: T): i64 {
  if (sizeof<T>() == 1) return i64(i8(v));
  if (sizeof<T>() == 2) return i64(i16(v));
  if (sizeof<T>() == 4) return i64(i32(v));
  return i64(v);
}

export function mul<T>(rec: usize): void {
  const b = readRm<T>(rec);
  if (aborted()) return;
  const a = load<T>(RAX);
  if (sizeof<T>() == 8) {
    const high = mulHigh(u64(a), u64(b));
    const low = u64(a) * u64(b);
    store<u64>(RAX, low);
    store<u64>(RDX, high);
    flagsOfMul<u64>(low, high != 0);
    return;
  }
  const p = u64(a) * u64(b);
  if (sizeof<T>() == 1) store<u16>(RAX, u16(p));
  else {
    setRegister<T>(SLOT_A, p as T);
    setRegister<T>(SLOT_D, (p >> (sizeof<T>() * 8)) as T);
  }
  flagsOfMul<T>(p as T, p >> (sizeof<T>() * 8) != 0);
}

export function imul<T>(rec: usize): void {
  const b = readRm<T>(rec);
  if (aborted()) return;
  const a = load<T>(RAX);
  if (sizeof<T>() == 8) {
    const high = mulHighSigned(u64(a), u64(b));
    const low = u64(a) * u64(b);
    store<u64>(RAX, low);
    store<u64>(RDX, high);
    flagsOfMul<u64>(low, high != u64(i64(low) >> 63));
    return;
  }
  const p = signed<T>(a) * signed<T>(b);
  if (sizeof<T>() == 1) store<u16>(RAX, u16(p));
  else {
    setRegister<T>(SLOT_A, p as T);
    setRegister<T>(SLOT_D, (p >> (sizeof<T>() * 8)) as T);
  }
  flagsOfMul<T>(p as T, signed<T>(p as T) != p);
}

/** Truncated product with CF = OF = the full product does not fit. */
function product<T>(a: T, b: T): T {
  if (sizeof<T>() == 8) {
    const low = u64(a) * u64(b);
    flagsOfMul<u64>(low, mulHighSigned(u64(a), u64(b)) != u64(i64(low) >> 63));
    return low as T;
  }
  const p = signed<T>(a) * signed<T>(b);
  flagsOfMul<T>(p as T, signed<T>(p as T) != p);
  return p as T;
}

export function imulGE<T>(rec: usize): void {
  const b = readRmSource<T>(rec);
  if (!aborted()) setDst<T>(rec, product<T>(dst<T>(rec), b));
}

export function imulImm<T>(rec: usize): void {
  const b = readRmSource<T>(rec);
  if (!aborted()) setDst<T>(rec, product<T>(b, load<T>(rec, R_IMM)));
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

/** #DE: division by zero or a quotient that does not fit. */
export function div<T>(rec: usize): void {
  const d = u64(readRm<T>(rec));
  if (aborted()) return;
  if (d == 0) return raise(0);
  if (sizeof<T>() == 8) {
    const high = load<u64>(RDX);
    if (high >= d) return raise(0);
    const q = divide128(high, load<u64>(RAX), d);
    store<u64>(RAX, q);
    store<u64>(RDX, remainder);
    return;
  }
  const n = sizeof<T>() == 1 ? u64(load<u16>(RAX)) : (u64(load<T>(RDX)) << (sizeof<T>() * 8)) | u64(load<T>(RAX));
  const q = n / d;
  if (q >> (sizeof<T>() * 8)) return raise(0);
  if (sizeof<T>() == 1) store<u16>(RAX, u16(q | ((n % d) << 8)));
  else {
    setRegister<T>(SLOT_A, q as T);
    setRegister<T>(SLOT_D, (n % d) as T);
  }
}

export function idiv<T>(rec: usize): void {
  const d = signed<T>(readRm<T>(rec));
  if (aborted()) return;
  if (d == 0) return raise(0);
  if (sizeof<T>() == 8) {
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
    store<u64>(RAX, negativeQuotient ? 0 - q : q);
    store<u64>(RDX, negative ? 0 - remainder : remainder);
    return;
  }
  let n: i64;
  if (sizeof<T>() == 1) n = i64(load<i16>(RAX));
  else if (sizeof<T>() == 2) n = i64(i32((u32(load<u16>(RDX)) << 16) | load<u16>(RAX)));
  else n = i64((u64(load<u32>(RDX)) << 32) | load<u32>(RAX));
  if (n == i64.MIN_VALUE && d == -1) return raise(0);
  const q = n / d;
  if (signed<T>(q as T) != q) return raise(0);
  const r = n % d;
  if (sizeof<T>() == 1) store<u16>(RAX, u16((q & 0xff) | (r << 8)));
  else {
    setRegister<T>(SLOT_A, q as T);
    setRegister<T>(SLOT_D, r as T);
  }
}
