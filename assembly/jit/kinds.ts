// What the generator knows of a record.
import { R_ADDR_SHIFT, R_FLAGS, R_OP, R_SEG, RecordFlag } from "../abi/record";
import { SEG_FS } from "../abi/state";
import { wide } from "./context";
import { KINDS } from "./kinds.generated";

export function kindOf(rec: usize): u32 {
  return load<u8>(KINDS + (u32(load<u16>(rec, R_OP)) << 2));
}
export function memberOf(rec: usize): u32 {
  return load<u8>(KINDS + (u32(load<u16>(rec, R_OP)) << 2), 1);
}
export function sizeOf(rec: usize): u32 {
  return load<u8>(KINDS + (u32(load<u16>(rec, R_OP)) << 2), 2);
}
export function formOf(rec: usize): u32 {
  return load<u8>(KINDS + (u32(load<u16>(rec, R_OP)) << 2), 3);
}

export function isMemory(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & RecordFlag.Mem) != 0;
}

/** Can generated code address this operand? In 32-bit regions FS and GS may have a base or limit: those stay in the interpreter. */
export function addressable(rec: usize): bool {
  const seg = u32(load<u8>(rec, R_SEG)) << 3;
  if (!wide && seg >= <u32>SEG_FS) return false;
  const shift = load<u8>(rec, R_ADDR_SHIFT);
  return wide ? shift != 48 : shift == 32;
}
