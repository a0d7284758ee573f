// Shifts, rotates, SHLD and SHRD. CF is defined for every count that shifts; OF for a count of 1, and is given for
// other counts by the same formula.
import { FORM_CL, FORM_MEM } from "../abi/forms.generated";
import { R_IMM } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, RCX } from "../abi/state";
import { getCF } from "../state/flags";
import { isMem } from "./operands";
import { ShiftOp } from "./ops";
import { dstSized, loadSized, modifySized, setDstSized, signed, sizeOf, srcSized, storeSized } from "./sized";

/** CF and OF alone, for rotates. */
function rotateFlags(cf: u32, of_: u32): void {
  store<u32>(FLAG_CARRIES, (load<u32>(FLAG_CARRIES) & 0x3fffffff) | (cf << 31) | ((cf ^ of_) << 30));
}

function shiftFlags(r: u64, size: u32, cf: u32, of_: u32): void {
  store<i64>(FLAG_RESULT, signed(r, size));
  store<u32>(FLAG_CARRIES, (cf << 31) | ((cf ^ of_) << 30));
}

function bit(v: u64, n: u32): u32 {
  return u32(v >> n) & 1;
}

/** `a` has `size` bytes, and so has what counts of the result; the count is not 0. */
function apply(k: ShiftOp, a: u64, n: u32, size: u32): u64 {
  const bits = size << 3;
  if (k == ShiftOp.shl) {
    const r = a << n;
    const cf = n <= bits ? bit(a, bits - n) : 0;
    shiftFlags(r, size, cf, bit(r, bits - 1) ^ cf);
    return r;
  }
  if (k == ShiftOp.shr) {
    const r = a >> n;
    shiftFlags(r, size, bit(a, n - 1), bit(a, bits - 1));
    return r;
  }
  if (k == ShiftOp.sar) {
    const v = signed(a, size);
    const r = u64(v >> n);
    shiftFlags(r, size, u32(v >> (n - 1)) & 1, 0);
    return r;
  }
  if (k == ShiftOp.rol || k == ShiftOp.ror) {
    let m = n & (bits - 1);
    if (k == ShiftOp.ror) m = (bits - m) & (bits - 1);
    const r = m ? (a << m) | (a >> (bits - m)) : a;
    const top = bit(r, bits - 1);
    if (k == ShiftOp.rol) rotateFlags(u32(r) & 1, top ^ (u32(r) & 1));
    else rotateFlags(top, top ^ bit(r, bits - 2));
    return r;
  }
  return throughCarry(k, a, size < 4 ? n % (bits + 1) : n, bits);
}

/** RCL, RCR. */
function throughCarry(k: ShiftOp, a: u64, n: u32, bits: u32): u64 {
  const carry = u64(getCF());
  let r = a;
  let cf = u32(carry);
  if (n != 0 && k == ShiftOp.rcl) {
    // carry enters at bit n-1; the bits above it come round
    const low = n > 1 ? a >> (bits + 1 - n) : 0;
    r = (a << n) | (carry << (n - 1)) | low;
    cf = bit(a, bits - n);
  } else if (n != 0) {
    const high = n > 1 ? a << (bits + 1 - n) : 0;
    r = (a >> n) | (carry << (bits - n)) | high;
    cf = bit(a, n - 1);
  }
  rotateFlags(cf, bit(r, bits - 1) ^ (k == ShiftOp.rcl ? cf : bit(r, bits - 2)));
  return r;
}

function countOf(rec: usize, form: u32, size: u32): u32 {
  const count: u32 = form & FORM_CL ? load<u8>(RCX) : load<u8>(rec, R_IMM);
  return count & (size == 8 ? 63 : 31);
}

export function shift(rec: usize, k: ShiftOp, form: u32): void {
  const size = sizeOf(rec);
  const n = countOf(rec, form, size);
  if ((form & ~FORM_CL) == FORM_MEM) {
    const at = modifySized(rec);
    if (at && n) storeSized(at, apply(k, loadSized(at, size), n, size), size);
    return;
  }
  const a = dstSized(rec);
  setDstSized(rec, n ? apply(k, a, n, size) : a);
}

/** SHLD and SHRD of a by bits of b; left: SHLD. */
function double(left: bool, a: u64, b: u64, n: u32, size: u32): u64 {
  const bits = size << 3;
  let r: u64;
  let cf: u32;
  if (size == 2) {
    // counts above 16 rotate the destination in again, as processors do; the result is undefined
    const wide = (a << 32) | (b << 16) | a;
    r = left ? (wide << n) >> 32 : wide >> n;
    cf = bit(wide, left ? 48 - n : n - 1);
  } else {
    r = left ? (a << n) | (b >> (bits - n)) : (a >> n) | (b << (bits - n));
    cf = bit(a, left ? bits - n : n - 1);
  }
  shiftFlags(r, size, cf, bit(r ^ a, bits - 1));
  return r;
}

/** SHLD is member 0, SHRD 1. */
export function doubleShift(rec: usize, member: u32, form: u32): void {
  const left = !member;
  const size = sizeOf(rec);
  const n = countOf(rec, form, size);
  const b = srcSized(rec);
  if (isMem(rec)) {
    const at = modifySized(rec);
    if (at && n) storeSized(at, double(left, loadSized(at, size), b, n, size), size);
    return;
  }
  const a = dstSized(rec);
  setDstSized(rec, n ? double(left, a, b, n, size) : a);
}
