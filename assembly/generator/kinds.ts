// What the generator knows of a record.

import { OPERATIONS } from "../abi/layout";
import { R_ADDR_SHIFT, R_FLAGS, R_OP, RECORD_SIZE, RecordFlag } from "../abi/record";
import { wide } from "./context";
import {
  FORM_MI,
  FORM_MR,
  KIND_ALU,
  KIND_COUNT,
  KIND_MOV,
  KIND_NONE,
  KIND_SET,
  KIND_SHIFT,
  KIND_UNARY,
} from "./kinds.generated";

/** R_BASE and R_IDX of an operand that has none. */
export const NO_REGISTER: u32 = 128;

export function kindOf(rec: usize): u32 {
  const kind: u32 = load<u8>(OPERATIONS + (u32(load<u16>(rec, R_OP)) << 2));
  return kind < KIND_COUNT ? kind : KIND_NONE;
}
export function memberOf(rec: usize): u32 {
  return load<u8>(OPERATIONS + (u32(load<u16>(rec, R_OP)) << 2), 1);
}
export function sizeOf(rec: usize): u32 {
  return load<u8>(OPERATIONS + (u32(load<u16>(rec, R_OP)) << 2), 2);
}
export function formOf(rec: usize): u32 {
  return load<u8>(OPERATIONS + (u32(load<u16>(rec, R_OP)) << 2), 3);
}

export function isMemory(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & RecordFlag.Mem) != 0;
}

/** Can generated code address this operand? */
export function addressable(rec: usize): bool {
  return !wide || load<u8>(rec, R_ADDR_SHIFT) != 48;
}

/** Of the instructions with an operand of one size: is it stored to? */
export function writes(rec: usize): bool {
  const kind = kindOf(rec);
  if (kind == KIND_UNARY || kind == KIND_SHIFT || kind == KIND_SET) return true;
  const form = formOf(rec);
  if (form != FORM_MR && form != FORM_MI) return false;
  return kind == KIND_MOV || (kind == KIND_ALU && memberOf(rec) < 7); // CMP and TEST read
}

/** Records from this one to the end of its block. */
export function recordsOf(rec: usize): u32 {
  let n: u32 = 1;
  while (!(load<u8>(rec, R_FLAGS) & RecordFlag.Ends)) {
    rec += RECORD_SIZE;
    n++;
  }
  return n;
}
