// BT BTS BTR BTC, BSF BSR, CMPXCHG XADD.
import { R_ADDR_SHIFT, R_IMM } from "../abi/record";
import { FLAG_RESULT, RAX } from "../abi/state";
import { probeModify, readMem } from "../memory/access";
import { setCF } from "../state/flags";
import { aborted } from "../state/stop";
import { flagsOfAdd, flagsOfSub } from "./alu";
import {
  dst,
  effectiveAddress,
  isMem,
  modifyMemory,
  readRmSource,
  segmentOf,
  setDst,
  setRegister,
  setSrc,
  src,
} from "./operands";

export enum BitOp {
  bt,
  bts,
  btr,
  btc,
}

/** The operand with its bit changed; CF takes the old bit. */
function change<T>(k: BitOp, a: T, n: u32): T {
  const mask = ((1 as u64) << n) as T;
  setCF(u32(u64(a) >> n) & 1);
  if (k == BitOp.bts) return (a | mask) as T;
  if (k == BitOp.btr) return (a & ~mask) as T;
  if (k == BitOp.btc) return (a ^ mask) as T;
  return a;
}

export class Bit {
  @inline static reg<T>(rec: usize, k: BitOp): void {
    const r = change<T>(k, dst<T>(rec), u32(src<T>(rec)) & (sizeof<T>() * 8 - 1));
    if (k != BitOp.bt) setDst<T>(rec, r);
  }
  @inline static regImm<T>(rec: usize, k: BitOp): void {
    const r = change<T>(k, dst<T>(rec), u32(load<u8>(rec, R_IMM)) & (sizeof<T>() * 8 - 1));
    if (k != BitOp.bt) setDst<T>(rec, r);
  }
  @inline static memImm<T>(rec: usize, k: BitOp): void {
    bitMemory<T>(rec, k, 0, u32(load<u8>(rec, R_IMM)) & (sizeof<T>() * 8 - 1));
  }
  /** The register's signed value selects a bit of a string that starts at the operand. */
  @inline static mem<T>(rec: usize, k: BitOp): void {
    let n: i64;
    if (sizeof<T>() == 2) n = i64(i16(src<T>(rec)));
    else if (sizeof<T>() == 4) n = i64(i32(src<T>(rec)));
    else n = i64(src<T>(rec));
    const bits: i64 = sizeof<T>() * 8;
    bitMemory<T>(rec, k, u64((n & ~(bits - 1)) >> 3), u32(n & (bits - 1)));
  }
}

function bitMemory<T>(rec: usize, k: BitOp, displacement: u64, n: u32): void {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  const ea = ((effectiveAddress(rec) + displacement) << shift) >> shift;
  if (k == BitOp.bt) {
    const a = readMem<T>(segmentOf(rec), ea);
    if (!aborted()) change<T>(k, a, n);
    return;
  }
  const at = probeModify(segmentOf(rec), ea, sizeof<T>());
  if (at) store<T>(at, change<T>(k, load<T>(at), n));
}

/** ZF from the source, the other arithmetic flags undefined. A zero source leaves the destination
 * alone, all 64 bits of it, as processors do. */
export function bsf<T>(rec: usize): void {
  const v = readRmSource<T>(rec);
  if (aborted()) return;
  store<u64>(FLAG_RESULT, u64(v != 0));
  if (v) setDst<T>(rec, ctz<u64>(u64(v)) as T);
}

export function bsr<T>(rec: usize): void {
  const v = readRmSource<T>(rec);
  if (aborted()) return;
  store<u64>(FLAG_RESULT, u64(v != 0));
  if (v) setDst<T>(rec, (63 - clz<u64>(u64(v))) as T);
}

export function cmpxchg<T>(rec: usize): void {
  const acc = load<T>(RAX);
  if (isMem(rec)) {
    const at = modifyMemory<T>(rec);
    if (!at) return;
    const a = load<T>(at);
    flagsOfSub<T>(acc, a, (acc - a) as T);
    // the destination is written in both cases
    store<T>(at, acc == a ? src<T>(rec) : a);
    if (acc != a) setRegister<T>(0, a);
    return;
  }
  const a = dst<T>(rec);
  flagsOfSub<T>(acc, a, (acc - a) as T);
  if (acc == a) setDst<T>(rec, src<T>(rec));
  else setRegister<T>(0, a);
}

export function xadd<T>(rec: usize): void {
  const b = src<T>(rec);
  if (isMem(rec)) {
    const at = modifyMemory<T>(rec);
    if (!at) return;
    const a = load<T>(at);
    const r = (a + b) as T;
    flagsOfAdd<T>(a, b, r);
    store<T>(at, r);
    setSrc<T>(rec, a);
    return;
  }
  const a = dst<T>(rec);
  const r = (a + b) as T;
  flagsOfAdd<T>(a, b, r);
  setSrc<T>(rec, a);
  setDst<T>(rec, r);
}
