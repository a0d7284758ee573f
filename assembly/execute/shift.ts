// Shifts, rotates, SHLD and SHRD. CF is defined for every count that shifts; OF for a count of 1, and is given for
// other counts by the same formula.
import { FLAG_CARRIES } from "../abi/state";
import { getCF } from "../state/flags";
import { setResult } from "./alu";
import { dst, isMem, modifyMemory, setDst, src } from "./operands";

export enum ShiftOp {
  rol,
  ror,
  rcl,
  rcr,
  shl,
  shr,
  sar,
}

/** CF and OF alone, for rotates. */
function rotateFlags(cf: u32, of_: u32): void {
  store<u32>(FLAG_CARRIES, (load<u32>(FLAG_CARRIES) & 0x3fffffff) | (cf << 31) | ((cf ^ of_) << 30));
}

function shiftFlags<T>(r: T, cf: u32, of_: u32): void {
  setResult<T>(r);
  store<u32>(FLAG_CARRIES, (cf << 31) | ((cf ^ of_) << 30));
}

function msb<T>(v: T): u32 {
  return u32(u64(v) >> (sizeof<T>() * 8 - 1)) & 1;
}

export class Shift {
  @inline static apply<T>(k: ShiftOp, a: T, n: u32): T {
    if (k == ShiftOp.rol) return rol<T>(a, n);
    if (k == ShiftOp.ror) return ror<T>(a, n);
    if (k == ShiftOp.rcl) return rcl<T>(a, n);
    if (k == ShiftOp.rcr) return rcr<T>(a, n);
    if (k == ShiftOp.shl) return shl<T>(a, n);
    if (k == ShiftOp.shr) return shr<T>(a, n);
    return sar<T>(a, n);
  }
  @inline static reg<T>(rec: usize, k: ShiftOp, count: u32): void {
    const n = count & (sizeof<T>() == 8 ? 63 : 31);
    setDst<T>(rec, n ? Shift.apply<T>(k, dst<T>(rec), n) : dst<T>(rec));
  }
  @inline static mem<T>(rec: usize, k: ShiftOp, count: u32): void {
    const n = count & (sizeof<T>() == 8 ? 63 : 31);
    const at = modifyMemory<T>(rec);
    if (at && n) store<T>(at, Shift.apply<T>(k, load<T>(at), n));
  }
}

function rol<T>(a: T, n: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  const m = n & (bits - 1);
  let r = a;
  if (m) r = ((u64(a) << m) | (u64(a) >> (bits - m))) as T;
  const cf = u32(r) & 1;
  rotateFlags(cf, msb<T>(r) ^ cf);
  return r;
}

function ror<T>(a: T, n: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  const m = n & (bits - 1);
  let r = a;
  if (m) r = ((u64(a) >> m) | (u64(a) << (bits - m))) as T;
  const cf = msb<T>(r);
  rotateFlags(cf, cf ^ (u32(u64(r) >> (bits - 2)) & 1));
  return r;
}

function rcl<T>(a: T, count: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  const n = sizeof<T>() < 4 ? count % (bits + 1) : count;
  const carry = u64(getCF());
  if (n == 0) {
    rotateFlags(u32(carry), msb<T>(a) ^ u32(carry));
    return a;
  }
  const v = u64(a);
  // carry enters at bit n-1; the bits above it come round
  const low = n > 1 ? v >> (bits + 1 - n) : 0;
  const r = ((n == 64 ? 0 : v << n) | (carry << (n - 1)) | low) as T;
  const cf = u32(v >> (bits - n)) & 1;
  rotateFlags(cf, msb<T>(r) ^ cf);
  return r;
}

function rcr<T>(a: T, count: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  const n = sizeof<T>() < 4 ? count % (bits + 1) : count;
  const carry = u64(getCF());
  if (n == 0) {
    rotateFlags(u32(carry), msb<T>(a) ^ (u32(u64(a) >> (bits - 2)) & 1));
    return a;
  }
  const v = u64(a);
  const high = n > 1 ? v << (bits + 1 - n) : 0;
  const r = ((v >> n) | (carry << (bits - n)) | high) as T;
  const cf = u32(v >> (n - 1)) & 1;
  rotateFlags(cf, msb<T>(r) ^ (u32(u64(r) >> (bits - 2)) & 1));
  return r;
}

function shl<T>(a: T, n: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  const r = (u64(a) << n) as T;
  const cf = n <= bits ? u32(u64(a) >> (bits - n)) & 1 : 0;
  shiftFlags<T>(r, cf, msb<T>(r) ^ cf);
  return r;
}

function shr<T>(a: T, n: u32): T {
  const r = (u64(a) >> n) as T;
  shiftFlags<T>(r, u32(u64(a) >> (n - 1)) & 1, msb<T>(a));
  return r;
}

function sar<T>(a: T, n: u32): T {
  let v: i64;
  if (sizeof<T>() == 1) v = i64(i8(a));
  else if (sizeof<T>() == 2) v = i64(i16(a));
  else if (sizeof<T>() == 4) v = i64(i32(a));
  else v = i64(a);
  const r = (v >> n) as T;
  shiftFlags<T>(r, u32(v >> (n - 1)) & 1, 0);
  return r;
}

function shldValue<T>(a: T, b: T, n: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  let r: T;
  let cf: u32;
  if (sizeof<T>() == 2) {
    // counts above 16 rotate the destination in again, as processors do; the result is undefined
    const wide = (u64(a) << 32) | (u64(b) << 16) | u64(a);
    r = ((wide << n) >> 32) as T;
    cf = u32(wide >> (48 - n)) & 1;
  } else {
    r = ((u64(a) << n) | (u64(b) >> (bits - n))) as T;
    cf = u32(u64(a) >> (bits - n)) & 1;
  }
  shiftFlags<T>(r, cf, msb<T>(r) ^ msb<T>(a));
  return r;
}

function shrdValue<T>(a: T, b: T, n: u32): T {
  const bits: u32 = sizeof<T>() * 8;
  let r: T;
  let cf: u32;
  if (sizeof<T>() == 2) {
    const wide = (u64(a) << 32) | (u64(b) << 16) | u64(a);
    r = (wide >> n) as T;
    cf = u32(wide >> (n - 1)) & 1;
  } else {
    r = ((u64(a) >> n) | (u64(b) << (bits - n))) as T;
    cf = u32(u64(a) >> (n - 1)) & 1;
  }
  shiftFlags<T>(r, cf, msb<T>(r) ^ msb<T>(a));
  return r;
}

export function shld<T>(rec: usize, count: u32): void {
  const n = count & (sizeof<T>() == 8 ? 63 : 31);
  if (isMem(rec)) {
    const at = modifyMemory<T>(rec);
    if (at && n) store<T>(at, shldValue<T>(load<T>(at), src<T>(rec), n));
  } else setDst<T>(rec, n ? shldValue<T>(dst<T>(rec), src<T>(rec), n) : dst<T>(rec));
}

export function shrd<T>(rec: usize, count: u32): void {
  const n = count & (sizeof<T>() == 8 ? 63 : 31);
  if (isMem(rec)) {
    const at = modifyMemory<T>(rec);
    if (at && n) store<T>(at, shrdValue<T>(load<T>(at), src<T>(rec), n));
  } else setDst<T>(rec, n ? shrdValue<T>(dst<T>(rec), src<T>(rec), n) : dst<T>(rec));
}
