// Operands of a record: registers, the effective address, memory.
import {
  R_ADDR_SHIFT,
  R_BASE,
  R_DISP,
  R_DST,
  R_FLAGS,
  R_IDX,
  R_LEN,
  R_OFF,
  R_SEG,
  R_SRC,
  RecordFlag,
} from "../abi/record";
import { BLOCK_RIP, GPR, LINEAR_MASK } from "../abi/state";
import { probeModify, probeWrite, readMem } from "../memory/access";

/** RIP of the instruction itself. */
export function insnRip(rec: usize): u64 {
  return (load<u64>(BLOCK_RIP) + load<u16>(rec, R_OFF)) & load<u64>(LINEAR_MASK);
}

/** RIP of the instruction after it. */
export function nextRip(rec: usize): u64 {
  return (load<u64>(BLOCK_RIP) + load<u16>(rec, R_OFF) + load<u8>(rec, R_LEN)) & load<u64>(LINEAR_MASK);
}

/** Segment-relative address of the memory operand. */
export function effectiveAddress(rec: usize): u64 {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  const index: usize = load<u8>(rec, R_IDX);
  const address =
    load<u64>(load<u8>(rec, R_BASE), GPR) + (load<u64>(index & 0xf8, GPR) << u64(index & 7)) + load<u64>(rec, R_DISP);
  return (address << shift) >> shift;
}

export function segmentOf(rec: usize): u32 {
  return u32(load<u8>(rec, R_SEG)) << 3;
}

/** Writes a register slot; 32-bit values clear the upper half. */
export function setRegister<T>(slot: u32, value: T): void {
  if (sizeof<T>() == 4) store<u64>(slot, u64(u32(value)), GPR);
  else store<T>(slot, value, GPR);
}

export function dst<T>(rec: usize): T {
  return load<T>(load<u8>(rec, R_DST), GPR);
}

export function setDst<T>(rec: usize, value: T): void {
  setRegister<T>(load<u8>(rec, R_DST), value);
}

export function src<T>(rec: usize): T {
  return load<T>(load<u8>(rec, R_SRC), GPR);
}

export function setSrc<T>(rec: usize, value: T): void {
  setRegister<T>(load<u8>(rec, R_SRC), value);
}

export function isMem(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & RecordFlag.Mem) != 0;
}

export function readMemory<T>(rec: usize): T {
  return readMem<T>(segmentOf(rec), effectiveAddress(rec));
}

/** Address to store the memory operand at, 0: faulted. */
export function probeMemory<T>(rec: usize): u32 {
  return probeWrite(segmentOf(rec), effectiveAddress(rec), sizeof<T>());
}

/** The same for an operand that is read first. */
export function modifyMemory<T>(rec: usize): u32 {
  return probeModify(segmentOf(rec), effectiveAddress(rec), sizeof<T>());
}

/** The rm operand in the R_DST slot or memory. Test aborted() after a memory form. */
export function readRm<T>(rec: usize): T {
  return isMem(rec) ? readMemory<T>(rec) : dst<T>(rec);
}

/** The rm operand of a G,E form: R_SRC slot or memory. */
export function readRmSource<T>(rec: usize): T {
  return isMem(rec) ? readMemory<T>(rec) : src<T>(rec);
}
