// BT BTS BTR BTC, BSF BSR, CMPXCHG XADD.
import { FORM_MEM } from "../abi/forms.generated";
import { R_ADDR_SHIFT, R_IMM } from "../abi/record";
import { FLAG_RESULT, RAX } from "../abi/state";
import { probeModify } from "../memory/access";
import { setCF } from "../state/flags";
import { aborted } from "../state/stop";
import { withFlags } from "./alu";
import { effectiveAddress, isMem, segmentOf } from "./operands";
import { AluOp, BitOp } from "./ops";
import {
  dstSized,
  loadSized,
  modifySized,
  readBytes,
  rmSource,
  setDstSized,
  setSlot,
  setSrcSized,
  signed,
  sizeOf,
  srcSized,
  storeSized,
  truncate,
} from "./sized";

/** The operand with its bit changed; CF takes the old bit. */
function change(k: BitOp, a: u64, n: u32): u64 {
  const mask = (1 as u64) << n;
  setCF(u32(a >> n) & 1);
  if (k == BitOp.bts) return a | mask;
  if (k == BitOp.btr) return a & ~mask;
  if (k == BitOp.btc) return a ^ mask;
  return a;
}

function register(rec: usize, k: BitOp, bit: u32): void {
  const r = change(k, dstSized(rec), bit & (sizeOf(rec) * 8 - 1));
  if (k != BitOp.bt) setDstSized(rec, r);
}

export function bitImm(rec: usize, k: BitOp, form: u32): void {
  const n: u32 = load<u8>(rec, R_IMM);
  if (form == FORM_MEM) memory(rec, k, 0, n);
  else register(rec, k, n);
}

/** In memory the register's signed value selects a bit of a string that starts at the operand. */
export function bit(rec: usize, k: BitOp, form: u32): void {
  const n = signed(srcSized(rec), sizeOf(rec));
  const bits = i64(sizeOf(rec)) * 8;
  if (form == FORM_MEM) memory(rec, k, u64((n & ~(bits - 1)) >> 3), u32(n));
  else register(rec, k, u32(n));
}

function memory(rec: usize, k: BitOp, displacement: u64, bit: u32): void {
  const size = sizeOf(rec);
  const n = bit & (size * 8 - 1);
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  const ea = ((effectiveAddress(rec) + displacement) << shift) >> shift;
  if (k == BitOp.bt) {
    const a = readBytes(segmentOf(rec), ea, size);
    if (!aborted()) change(k, a, n);
    return;
  }
  const at = probeModify(segmentOf(rec), ea, size);
  if (at) storeSized(at, change(k, loadSized(at, size), n), size);
}

/** ZF from the source, the other arithmetic flags undefined. A zero source leaves the destination
 * alone, all 64 bits of it, as processors do. */
export function bsf(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  store<u64>(FLAG_RESULT, u64(v != 0));
  if (v) setDstSized(rec, ctz<u64>(v));
}

export function bsr(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  store<u64>(FLAG_RESULT, u64(v != 0));
  if (v) setDstSized(rec, 63 - clz<u64>(v));
}

export function cmpxchg(rec: usize): void {
  const size = sizeOf(rec);
  const accumulator = truncate(load<u64>(RAX), size);
  const at = isMem(rec) ? modifySized(rec) : 0;
  if (isMem(rec) && !at) return;
  const a = at ? loadSized(at, size) : dstSized(rec);
  withFlags(rec, AluOp.cmp, accumulator, a);
  const equal = accumulator == a;
  // memory is written in both cases
  if (at) storeSized(at, equal ? srcSized(rec) : a, size);
  else if (equal) setDstSized(rec, srcSized(rec));
  if (!equal) setSlot(0, a, size);
}

export function xadd(rec: usize): void {
  const size = sizeOf(rec);
  const at = isMem(rec) ? modifySized(rec) : 0;
  if (isMem(rec) && !at) return;
  const a = at ? loadSized(at, size) : dstSized(rec);
  const r = withFlags(rec, AluOp.add, a, srcSized(rec));
  if (at) storeSized(at, r, size);
  setSrcSized(rec, a);
  if (!at) setDstSized(rec, r);
}
