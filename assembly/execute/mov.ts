// MOV, MOVZX, MOVSX, MOVSXD, LEA, XCHG, CMOVcc, SETcc, BSWAP, CBW and CWD families, XLAT.
import { FORM_MEM, FORM_MR, FORM_RM } from "../abi/forms.generated";
import { R_ADDR_SHIFT, R_DST, R_FLAGS, R_IMM, RecordFlag } from "../abi/record";
import { GPR, RAX, RBX, RDX } from "../abi/state";
import { probeWrite, readMem } from "../memory/access";
import { aborted } from "../state/stop";
import { exitPause, nonRoot } from "../vmx/intercept";
import { effectiveAddress, isMem, probeMemory, readRmSource, segmentOf } from "./operands";
import {
  dstSized,
  loadSized,
  modifySized,
  probeSized,
  readBytes,
  readSized,
  rmSource,
  setDstSized,
  setSlot,
  setSrcSized,
  signed,
  sizeOf,
  srcSized,
  storeSized,
} from "./sized";

const SLOT_A: u32 = 0;
const SLOT_D: u32 = RDX - RAX;

/** Forms with memory; those of registers alone are short. */
export function mov(rec: usize, form: u32): void {
  if (form == FORM_RM) {
    const v = readSized(rec);
    if (!aborted()) setDstSized(rec, v);
    return;
  }
  const at = probeSized(rec);
  if (at) storeSized(at, form == FORM_MR ? srcSized(rec) : load<u64>(rec, R_IMM), sizeOf(rec));
}

export function movLoadOffset(rec: usize): void {
  const v = readBytes(segmentOf(rec), load<u64>(rec, R_IMM), sizeOf(rec));
  if (!aborted()) setSlot(SLOT_A, v, sizeOf(rec));
}

export function movStoreOffset(rec: usize): void {
  const at = probeWrite(segmentOf(rec), load<u64>(rec, R_IMM), sizeOf(rec));
  if (at) storeSized(at, load<u64>(RAX), sizeOf(rec));
}

export function movzx8(rec: usize): void {
  const v = readRmSource<u8>(rec);
  if (!aborted()) setDstSized(rec, v);
}

export function movzx16(rec: usize): void {
  const v = readRmSource<u16>(rec);
  if (!aborted()) setDstSized(rec, v);
}

export function movsx8(rec: usize): void {
  const v = readRmSource<i8>(rec);
  if (!aborted()) setDstSized(rec, u64(i64(v)));
}

export function movsx16(rec: usize): void {
  const v = readRmSource<i16>(rec);
  if (!aborted()) setDstSized(rec, u64(i64(v)));
}

/** 63: MOVSXD in 64-bit mode; the 16-bit form moves 16 bits, the 32-bit form 32. */
export function movsxd(rec: usize): void {
  if (sizeOf(rec) == 2) return movzx16(rec);
  const v = readRmSource<i32>(rec);
  if (!aborted()) setDstSized(rec, u64(i64(v)));
}

export function lea(rec: usize): void {
  setDstSized(rec, effectiveAddress(rec));
}

export function xchg(rec: usize): void {
  if (!isMem(rec)) {
    const a = dstSized(rec);
    setDstSized(rec, srcSized(rec));
    setSrcSized(rec, a);
    return;
  }
  const at = modifySized(rec);
  if (!at) return;
  const a = loadSized(at, sizeOf(rec));
  storeSized(at, srcSized(rec), sizeOf(rec));
  setSrcSized(rec, a);
}

export function xchgAccumulator(rec: usize): void {
  const a = load<u64>(RAX);
  setSlot(SLOT_A, dstSized(rec), sizeOf(rec));
  setDstSized(rec, a);
}

/** 90: NOP, PAUSE with F3 whatever REX.B says (as processors do), XCHG R8,rAX with REX.B. */
export function nop90(rec: usize): void {
  if (load<u8>(rec, R_FLAGS) & RecordFlag.Rep) {
    if (nonRoot()) exitPause(rec);
  } else if (load<u8>(rec, R_DST)) xchgAccumulator(rec);
}

export function nop(_rec: usize): void {}

export function fence(_rec: usize): void {}

export function cmov(rec: usize, taken: bool): void {
  // the source is read, and a 32-bit destination cleared above, whether or not the condition holds
  const v = rmSource(rec);
  if (!aborted()) setDstSized(rec, taken ? v : dstSized(rec));
}

/** SETcc. */
export function set(rec: usize, value: bool, form: u32): void {
  const at = form == FORM_MEM ? probeMemory<u8>(rec) : GPR + load<u8>(rec, R_DST);
  if (at) store<u8>(at, u8(value));
}

export function bswap(rec: usize): void {
  const v = dstSized(rec);
  // the 16-bit form is undefined; processors clear the register
  const low = sizeOf(rec) == 2 ? 0 : u64(bswap32(u32(v)));
  setDstSized(rec, sizeOf(rec) == 8 ? (low << 32) | bswap32(u32(v >> 32)) : low);
}

function bswap32(v: u32): u32 {
  return rotl<u32>(v & 0x00ff00ff, 24) | rotl<u32>(v & 0xff00ff00, 8);
}

/** CBW, CWDE, CDQE. */
export function cbw(rec: usize): void {
  const size = sizeOf(rec);
  setSlot(SLOT_A, u64(signed(load<u64>(RAX), size >> 1)), size);
}

/** CWD, CDQ, CQO. */
export function cwd(rec: usize): void {
  const size = sizeOf(rec);
  setSlot(SLOT_D, u64(signed(load<u64>(RAX), size) >> 63), size);
}

export function xlat(rec: usize): void {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  const ea = ((load<u64>(RBX) + load<u8>(RAX)) << shift) >> shift;
  const v = readMem<u8>(segmentOf(rec), ea);
  if (!aborted()) store<u8>(RAX, v);
}
