// Operands of instructions that are rare enough to read their size from the record instead of having a copy a size.
import { R_ADDR_SHIFT, R_DST, R_SIZE, R_SRC, R_VVVV } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, GPR } from "../abi/state";
import { FLAG_ZF } from "../abi/x86";
import { probeModify, probeWrite, readMem } from "../memory/access";
import { arithmeticFlags, setArithmetic } from "../state/flags";
import { effectiveAddress, isMem, segmentOf } from "./operands";

export function sizeOf(rec: usize): u32 {
  return load<u8>(rec, R_SIZE);
}

/** The low `size` bytes. */
export function truncate(value: u64, size: u32): u64 {
  const shift = <u64>(64 - size * 8);
  return (value << shift) >> shift;
}

function slotValue(slot: u32, size: u32): u64 {
  return truncate(load<u64>(slot, GPR), size);
}

/**
 * A register without its upper bits, `shift` of them (0, 32, 48, 56); 32-bit values clear the upper half, others leave the
 * rest. All 64 bits are written: an access of another width than the one before it is slow on the machine below.
 */
export function setLow(at: usize, value: u64, shift: u64): void {
  const mask = ~(0 as u64) >> shift;
  const rest = shift == 32 ? 0 : load<u64>(at) & ~mask;
  store<u64>(at, rest | (value & mask));
}

/** A register slot. */
export function setSlot(slot: u32, value: u64, size: u32): void {
  setLow(GPR + slot, value, 64 - (size << 3));
}

export function dstSized(rec: usize): u64 {
  return slotValue(load<u8>(rec, R_DST), sizeOf(rec));
}

export function setDstSized(rec: usize, value: u64): void {
  setSlot(load<u8>(rec, R_DST), value, sizeOf(rec));
}

export function srcSized(rec: usize): u64 {
  return slotValue(load<u8>(rec, R_SRC), sizeOf(rec));
}

export function setSrcSized(rec: usize, value: u64): void {
  setSlot(load<u8>(rec, R_SRC), value, sizeOf(rec));
}

/** The low `size` bytes as a signed number. */
export function signed(value: u64, size: u32): i64 {
  const shift = <i64>(64 - size * 8);
  return ((<i64>value) << shift) >> shift;
}

/** The register of VEX.vvvv. */
export function vvvvSized(rec: usize): u64 {
  return slotValue(load<u8>(rec, R_VVVV), sizeOf(rec));
}

export function setVvvv(rec: usize, value: u64): void {
  setSlot(load<u8>(rec, R_VVVV), value, sizeOf(rec));
}

/** `size` bytes of memory. Test aborted() after it. */
export function readBytes(seg: u32, ea: u64, size: u32): u64 {
  if (size == 8) return readMem<u64>(seg, ea);
  if (size == 4) return <u64>readMem<u32>(seg, ea);
  return size == 2 ? <u64>readMem<u16>(seg, ea) : <u64>readMem<u8>(seg, ea);
}

/** The memory operand. Test aborted() after it. */
export function readSized(rec: usize): u64 {
  return readBytes(segmentOf(rec), effectiveAddress(rec), sizeOf(rec));
}

/** Address to store the memory operand at, 0: faulted. */
export function probeSized(rec: usize): u32 {
  return probeWrite(segmentOf(rec), effectiveAddress(rec), sizeOf(rec));
}

/** The same for an operand that is read first. */
export function modifySized(rec: usize): u32 {
  return probeModify(segmentOf(rec), effectiveAddress(rec), sizeOf(rec));
}

/** What stands at an address that a probe has given. */
export function loadSized(at: usize, size: u32): u64 {
  return size == 8
    ? load<u64>(at)
    : size == 4
      ? <u64>load<u32>(at)
      : size == 2
        ? <u64>load<u16>(at)
        : <u64>load<u8>(at);
}

export function storeSized(at: usize, value: u64, size: u32): void {
  if (size == 8) store<u64>(at, value);
  else if (size == 4) store<u32>(at, <u32>value);
  else if (size == 2) store<u16>(at, <u16>value);
  else store<u8>(at, <u8>value);
}

/** The rm operand of a form that keeps its register in R_SRC (G,E). */
export function rmSource(rec: usize): u64 {
  return rmSized(rec, load<u8>(rec, R_SRC));
}

/** The rm operand of a form that keeps its register in R_DST (E alone). */
export function rmDst(rec: usize): u64 {
  return rmSized(rec, load<u8>(rec, R_DST));
}

function rmSized(rec: usize, slot: u32): u64 {
  const size = sizeOf(rec);
  return isMem(rec) ? readBytes(segmentOf(rec), effectiveAddress(rec), size) : slotValue(slot, size);
}

/** The memory operand's address plus n, wrapped as the address size says. */
export function addressPlus(rec: usize, n: u32): u64 {
  const shift = <u64>load<u8>(rec, R_ADDR_SHIFT);
  return ((effectiveAddress(rec) + n) << shift) >> shift;
}

/** ZF SF PF from a result, CF as given, OF and AF clear. */
export function resultFlags(value: u64, size: u32, cf: bool): void {
  const shift = <u64>(64 - size * 8);
  store<u64>(FLAG_RESULT, <u64>(<i64>(value << shift) >> shift));
  store<u32>(FLAG_CARRIES, cf ? 0xc0000000 : 0); // OF = bit 31 ^ bit 30
}

/** ZF alone. */
export function setZeroFlag(zero: bool): void {
  setArithmetic((arithmeticFlags() & ~FLAG_ZF) | (zero ? FLAG_ZF : 0));
}
