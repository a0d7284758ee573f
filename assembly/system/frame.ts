// A stack frame of several pushes: all are probed before the first is stored.
import { SEG_SS, SEGS, SG_ATTR, SG_EFFECTIVE, SG_LIMIT } from "../abi/state";
import { SA_CODE, SA_DB, SA_DOWN, VEC_SS } from "../abi/x86";
import { plainPlace, probeAs } from "../memory/access";
import { aborted, raiseError } from "../state/stop";
import { canonical } from "./width";

const MAX = 48; // a call gate copies at most 31 parameters
const values: usize = memory.data(MAX * 8, 8);
const places: usize = memory.data(MAX * 4, 4);
let count: u32 = 0;

export function frameStart(): void {
  count = 0;
}

/** Appends a value; the first appended has the highest address. */
export function framePush(value: u64): void {
  store<u64>(values + count * 8, value);
  count++;
}

export function frameCount(): u32 {
  return count;
}

/** Does [offset, offset + size) lie inside a stack segment? */
export function insideStack(attr: u32, limit: u32, offset: u64, size: u32): bool {
  const last = offset + <u64>size - 1;
  if ((attr & (SA_CODE | SA_DOWN)) == SA_DOWN) {
    const top: u64 = attr & SA_DB ? 0xffffffff : 0xffff;
    return offset > <u64>limit && last <= top;
  }
  // at 4 GiB addresses wrap, as on processors; the manual leaves it open
  return last <= <u64>limit || limit == 0xffffffff;
}

/**
 * Probes pushes of `size` bytes below sp in a segment with this base, attributes and limit; mask is its stack width.
 * False: #SS(error) or a fault of the translation is recorded.
 */
export function frameProbe(
  size: u32,
  base: u64,
  attr: u32,
  limit: u32,
  sp: u64,
  mask: u64,
  error: u32,
  user: bool,
): bool {
  const bytes = count * size;
  const lowest = (sp - <u64>bytes) & mask;
  const wide = mask == 0xffffffffffffffff;
  if (
    wide ||
    (lowest + <u64>bytes - 1 <= mask &&
      insideStack(attr, limit, lowest, size) &&
      insideStack(attr, limit, lowest + <u64>(bytes - size), size))
  ) {
    const at = plainPlace(wide ? base + lowest : (base + lowest) & 0xffffffff, bytes, user);
    if (at) {
      for (let i: u32 = 0; i < count; i++) store<u32>(places + i * 4, at + bytes - size * (i + 1));
      return true;
    }
  }
  for (let i: u32 = 0; i < count; i++) {
    const offset = (sp - <u64>(size * (i + 1))) & mask;
    let linear = base + offset;
    if (wide ? !canonical(linear) || !canonical(linear + size - 1) : !insideStack(attr, limit, offset, size)) {
      raiseError(VEC_SS, error);
      return false;
    }
    if (!wide) linear &= 0xffffffff;
    store<u32>(places + i * 4, probeAs(linear, size, user));
    if (aborted()) return false;
  }
  return true;
}

/** frameProbe on the current stack. */
export function frameProbeCurrent(size: u32, sp: u64, mask: u64, error: u32, user: bool): bool {
  const ss: usize = SEGS + SEG_SS;
  return frameProbe(
    size,
    load<u64>(ss, SG_EFFECTIVE),
    load<u32>(ss, SG_ATTR),
    load<u32>(ss, SG_LIMIT),
    sp,
    mask,
    error,
    user,
  );
}

export function frameStore(size: u32): void {
  for (let i: u32 = 0; i < count; i++) {
    const at: usize = load<u32>(places + i * 4);
    const value = load<u64>(values + i * 8);
    if (size == 8) store<u64>(at, value);
    else if (size == 4) store<u32>(at, <u32>value);
    else store<u16>(at, <u16>value);
  }
}
