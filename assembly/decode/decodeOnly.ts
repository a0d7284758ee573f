// Decoding alone, for tests and tools.

import { OP_TOO_LONG, OP_UNDEFINED, R_OP } from "../abi/record";
import { decode } from "./decode";

const scratch: usize = memory.data(32);

/** Decodes `bytes` bytes at `from` and does nothing else: 7:0 length, 8 raises #UD, 9 over 15 bytes; 0 when bytes are missing. */
export function decodeOnly(from: usize, bytes: u32, mode: u32): u32 {
  const length = decode(from, bytes, scratch, mode, 0, 0);
  const op = u32(load<u16>(scratch, R_OP));
  return length | (u32(length != 0 && op == OP_UNDEFINED) << 8) | (u32(length != 0 && op == OP_TOO_LONG) << 9);
}
