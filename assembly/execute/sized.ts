// Operands of instructions that are rare enough to read their size from the record instead of having a copy a size.
import { R_ADDR_SHIFT, R_DST, R_SIZE, R_SRC, R_VVVV } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, GPR } from "../abi/state";
import { FLAG_ZF } from "../abi/x86";
import { readMem } from "../memory/access";
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
  return truncate(load<u64>(GPR + slot), size);
}

/** A register slot; 32-bit values clear the upper half, 16-bit values leave it. */
export function setSlot(slot: u32, value: u64, size: u32): void {
  if (size == 8) store<u64>(GPR + slot, value);
  else if (size == 4) store<u64>(GPR + slot, <u64>(<u32>value));
  else store<u16>(GPR + slot, <u16>value);
}

export function dstSized(rec: usize): u64 {
  return slotValue(load<u8>(rec, R_DST), sizeOf(rec));
}

export function setDstSized(rec: usize, value: u64): void {
  setSlot(load<u8>(rec, R_DST), value, sizeOf(rec));
}

/** The register of VEX.vvvv. */
export function vvvvSized(rec: usize): u64 {
  return slotValue(load<u8>(rec, R_VVVV), sizeOf(rec));
}

export function setVvvv(rec: usize, value: u64): void {
  setSlot(load<u8>(rec, R_VVVV), value, sizeOf(rec));
}

/** `size` bytes (2, 4, 8) of memory. Test aborted() after it. */
export function readBytes(seg: u32, ea: u64, size: u32): u64 {
  if (size == 8) return readMem<u64>(seg, ea);
  return size == 4 ? <u64>readMem<u32>(seg, ea) : <u64>readMem<u16>(seg, ea);
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
