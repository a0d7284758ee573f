// MOV, MOVZX, MOVSX, MOVSXD, LEA, XCHG, CMOVcc, SETcc, BSWAP, CBW and CWD families, XLAT.
import { R_ADDR_SHIFT, R_DST, R_FLAGS, R_IMM, RecordFlag } from "../abi/record";
import { RAX, RBX, RDX } from "../abi/state";
import { probeWrite, readMem } from "../memory/access";
import { aborted } from "../state/stop";
import { exitPause, nonRoot } from "../vmx/intercept";
import {
  dst,
  effectiveAddress,
  isMem,
  modifyMemory,
  probeMemory,
  readMemory,
  readRmSource,
  segmentOf,
  setDst,
  setRegister,
  setSrc,
  src,
} from "./operands";

export class Mov {
  @inline static rr<T>(rec: usize): void {
    setDst<T>(rec, src<T>(rec));
  }
  @inline static ri<T>(rec: usize): void {
    setDst<T>(rec, load<T>(rec, R_IMM));
  }
  @inline static rm<T>(rec: usize): void {
    const v = readMemory<T>(rec);
    if (!aborted()) setDst<T>(rec, v);
  }
  @inline static mr<T>(rec: usize): void {
    const at = probeMemory<T>(rec);
    if (at) store<T>(at, src<T>(rec));
  }
  @inline static mi<T>(rec: usize): void {
    const at = probeMemory<T>(rec);
    if (at) store<T>(at, load<T>(rec, R_IMM));
  }
}

export function movLoadOffset<T>(rec: usize): void {
  const v = readMem<T>(segmentOf(rec), load<u64>(rec, R_IMM));
  if (!aborted()) setRegister<T>(0, v);
}

export function movStoreOffset<T>(rec: usize): void {
  const at = probeWrite(segmentOf(rec), load<u64>(rec, R_IMM), sizeof<T>());
  if (at) store<T>(at, load<T>(RAX));
}

export function movzx8<T>(rec: usize): void {
  const v = readRmSource<u8>(rec);
  if (!aborted()) setDst<T>(rec, v as T);
}

export function movzx16<T>(rec: usize): void {
  const v = readRmSource<u16>(rec);
  if (!aborted()) setDst<T>(rec, v as T);
}

export function movsx8<T>(rec: usize): void {
  const v = readRmSource<i8>(rec);
  if (!aborted()) setDst<T>(rec, i64(v) as T);
}

export function movsx16<T>(rec: usize): void {
  const v = readRmSource<i16>(rec);
  if (!aborted()) setDst<T>(rec, i64(v) as T);
}

/** 63: MOVSXD in 64-bit mode; the 16-bit form moves 16 bits, the 32-bit form 32. */
export function movsxd<T>(rec: usize): void {
  if (sizeof<T>() == 2) {
    const w = readRmSource<u16>(rec);
    if (!aborted()) setDst<T>(rec, w as T);
    return;
  }
  const v = readRmSource<i32>(rec);
  if (!aborted()) setDst<T>(rec, i64(v) as T);
}

export function lea<T>(rec: usize): void {
  setDst<T>(rec, effectiveAddress(rec) as T);
}

export function xchg<T>(rec: usize): void {
  if (!isMem(rec)) {
    const a = dst<T>(rec);
    setDst<T>(rec, src<T>(rec));
    setSrc<T>(rec, a);
    return;
  }
  const at = modifyMemory<T>(rec);
  if (!at) return;
  const a = load<T>(at);
  store<T>(at, src<T>(rec));
  setSrc<T>(rec, a);
}

export function xchgAccumulator<T>(rec: usize): void {
  const a = load<T>(RAX);
  setRegister<T>(0, dst<T>(rec));
  setDst<T>(rec, a);
}

/** 90: NOP, PAUSE with F3 whatever REX.B says (as processors do), XCHG R8,rAX with REX.B. */
export function nop90<T>(rec: usize): void {
  if (load<u8>(rec, R_FLAGS) & RecordFlag.Rep) {
    if (nonRoot()) exitPause(rec);
  } else if (load<u8>(rec, R_DST)) xchgAccumulator<T>(rec);
}

export function nop(_rec: usize): void {}

export function fence(_rec: usize): void {}

export function cmov<T>(rec: usize, taken: bool): void {
  // the source is read, and a 32-bit destination cleared above, whether or not the condition holds
  const v = readRmSource<T>(rec);
  if (!aborted()) setDst<T>(rec, taken ? v : dst<T>(rec));
}

export function setByte(rec: usize, value: bool): void {
  setDst<u8>(rec, u8(value));
}

export function setByteMem(rec: usize, value: bool): void {
  const at = probeMemory<u8>(rec);
  if (at) store<u8>(at, u8(value));
}

export function bswap<T>(rec: usize): void {
  // the 16-bit form is undefined; processors clear the register
  if (sizeof<T>() == 2) setDst<u16>(rec, 0);
  else if (sizeof<T>() == 4) setDst<u32>(rec, bswap32(dst<u32>(rec)));
  else setDst<u64>(rec, (u64(bswap32(dst<u32>(rec))) << 32) | bswap32(u32(dst<u64>(rec) >> 32)));
}

function bswap32(v: u32): u32 {
  return rotl<u32>(v & 0x00ff00ff, 24) | rotl<u32>(v & 0xff00ff00, 8);
}

/** CBW, CWDE, CDQE. */
export function cbw<T>(_rec: usize): void {
  if (sizeof<T>() == 2) setRegister<u16>(0, i16(load<i8>(RAX)) as u16);
  else if (sizeof<T>() == 4) setRegister<u32>(0, i32(load<i16>(RAX)) as u32);
  else setRegister<u64>(0, i64(load<i32>(RAX)) as u64);
}

/** CWD, CDQ, CQO. */
export function cwd<T>(_rec: usize): void {
  const slot: u32 = RDX - RAX;
  if (sizeof<T>() == 2) setRegister<u16>(slot, (load<i16>(RAX) >> 15) as u16);
  else if (sizeof<T>() == 4) setRegister<u32>(slot, (load<i32>(RAX) >> 31) as u32);
  else setRegister<u64>(slot, (load<i64>(RAX) >> 63) as u64);
}

export function xlat(rec: usize): void {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  const ea = ((load<u64>(RBX) + load<u8>(RAX)) << shift) >> shift;
  const v = readMem<u8>(segmentOf(rec), ea);
  if (!aborted()) store<u8>(RAX, v);
}
