// What the generator knows of a record.

import { OPERATIONS } from "../abi/layout";
import { R_ADDR_SHIFT, R_FLAGS, R_OP, RECORD_SIZE, RecordFlag } from "../abi/record";
import { wide } from "./context";
import { KIND_COUNT, KIND_NONE } from "./kinds.generated";

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

/** Records from this one to the end of its block. */
export function recordsOf(rec: usize): u32 {
  let n: u32 = 1;
  while (!(load<u8>(rec, R_FLAGS) & RecordFlag.Ends)) {
    rec += RECORD_SIZE;
    n++;
  }
  return n;
}
