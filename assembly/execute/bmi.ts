// Bit counts and BMI1, BMI2. Flags that the manual leaves undefined follow the result. @sdm 2A-2D the instructions' own pages
import { R_IMM } from "../abi/record";
import { RDX } from "../abi/state";
import { FLAG_ZF } from "../abi/x86";
import { setArithmetic } from "../state/flags";
import { aborted } from "../state/stop";
import { mulHigh } from "./muldiv";
import { resultFlags, rmDst, rmSource, setDstSized, setVvvv, sizeOf, truncate, vvvvSized } from "./sized";

/** ZF of the source, everything else clear. */
export function popcnt(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  setArithmetic(v ? 0 : FLAG_ZF);
  setDstSized(rec, i64.popcnt(v));
}

function count(rec: usize, v: u64, n: u64): void {
  resultFlags(n, 8, v == 0);
  setDstSized(rec, n);
}

/** CF: the source is 0. */
export function tzcnt(rec: usize): void {
  const v = rmSource(rec);
  if (!aborted()) count(rec, v, v ? <u64>i64.ctz(v) : <u64>(sizeOf(rec) * 8));
}

export function lzcnt(rec: usize): void {
  const v = rmSource(rec);
  if (!aborted()) count(rec, v, <u64>i64.clz(v) + <u64>(sizeOf(rec) * 8) - 64);
}

export function andn(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  const r = ~vvvvSized(rec) & v;
  resultFlags(r, sizeOf(rec), false);
  setDstSized(rec, r);
}

function lowestBit(rec: usize, r: u64, cf: bool): void {
  resultFlags(r, sizeOf(rec), cf);
  setVvvv(rec, r);
}

export function blsr(rec: usize): void {
  const v = rmDst(rec);
  if (!aborted()) lowestBit(rec, v & (v - 1), v == 0);
}

export function blsmsk(rec: usize): void {
  const v = rmDst(rec);
  if (!aborted()) lowestBit(rec, v ^ (v - 1), v == 0);
}

export function blsi(rec: usize): void {
  const v = rmDst(rec);
  if (!aborted()) lowestBit(rec, v & (0 - v), v != 0);
}

/** Bits start and up, length of them: vvvv holds start in 7:0 and length in 15:8. */
export function bextr(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  const control = <u32>vvvvSized(rec);
  const start = control & 0xff;
  const length = (control >> 8) & 0xff;
  let r: u64 = start < 64 ? v >> <u64>start : 0;
  if (length < 64) r &= ((<u64>1) << (<u64>length)) - 1;
  resultFlags(r, sizeOf(rec), false);
  setDstSized(rec, r);
}

/** CF: the index lies past the operand. */
export function bzhi(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  const n = <u32>vvvvSized(rec) & 0xff;
  const past = n > sizeOf(rec) * 8 - 1;
  const r = past ? v : v & (((<u64>1) << (<u64>n)) - 1);
  resultFlags(r, sizeOf(rec), past);
  setDstSized(rec, r);
}

/** The bits of vvvv that the mask selects, packed. */
export function pext(rec: usize): void {
  let mask = rmSource(rec);
  if (aborted()) return;
  const from = vvvvSized(rec);
  let r: u64 = 0;
  for (let bit: u64 = 1; mask; bit <<= 1) {
    if (from & mask & (0 - mask)) r |= bit;
    mask &= mask - 1;
  }
  setDstSized(rec, r);
}

/** The low bits of vvvv, spread to where the mask is set. */
export function pdep(rec: usize): void {
  let mask = rmSource(rec);
  if (aborted()) return;
  let from = vvvvSized(rec);
  let r: u64 = 0;
  for (; mask; from >>= 1) {
    if (from & 1) r |= mask & (0 - mask);
    mask &= mask - 1;
  }
  setDstSized(rec, r);
}

/** High half to reg, low half to vvvv; the high half stays when both are one register. */
export function mulx(rec: usize): void {
  const b = rmSource(rec);
  if (aborted()) return;
  const size = sizeOf(rec);
  const a = truncate(load<u64>(RDX), size);
  const low = a * b;
  setVvvv(rec, low);
  setDstSized(rec, size == 8 ? mulHigh(a, b) : low >> 32);
}

function shiftCount(rec: usize): u64 {
  return vvvvSized(rec) & <u64>(sizeOf(rec) * 8 - 1);
}

export function shlx(rec: usize): void {
  const v = rmSource(rec);
  if (!aborted()) setDstSized(rec, v << shiftCount(rec));
}

export function shrx(rec: usize): void {
  const v = rmSource(rec);
  if (!aborted()) setDstSized(rec, v >> shiftCount(rec));
}

export function sarx(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  const signed = sizeOf(rec) == 8 ? <i64>v : <i64>(<i32>v);
  setDstSized(rec, <u64>(signed >> <i64>shiftCount(rec)));
}

export function rorx(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  const n = <u32>load<u8>(rec, R_IMM);
  setDstSized(rec, sizeOf(rec) == 8 ? rotr<u64>(v, <u64>n) : <u64>rotr<u32>(<u32>v, n));
}
