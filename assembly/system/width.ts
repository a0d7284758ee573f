// Address and stack widths of the current mode.
import { MODE, ModeBit, RSP } from "../abi/state";

/** Canonical in 48 bits. @sdm 1 "Canonical Addressing" */
export function canonical(address: u64): bool {
  return <u64>(((<i64>address) << 16) >> 16) == address;
}

/** Bits of RSP that stack accesses use. */
export function stackMask(): u64 {
  const mode = load<u32>(MODE);
  if (mode & ModeBit.Code64) return 0xffffffffffffffff;
  return mode & ModeBit.Stack32 ? 0xffffffff : 0xffff;
}

/** RSP with the bits of the stack width replaced; a 16-bit stack keeps the rest. */
export function mergeSp(value: u64): u64 {
  const mask = stackMask();
  if (mask == 0xffff) return (load<u64>(RSP) & ~mask) | (value & mask);
  return value & mask;
}

export function sizeMask(size: u32): u64 {
  if (size == 8) return 0xffffffffffffffff;
  return size == 4 ? 0xffffffff : 0xffff;
}
