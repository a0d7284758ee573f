// MOVS STOS LODS CMPS SCAS, with REP. Registers are committed after each piece, so a fault or a slice's end in the
// middle leaves a resumable state. A piece is what lies in plain memory, or else one element.
import { TE_ADDEND, TE_READ } from "../abi/layout";
import { R_ADDR_SHIFT, R_FLAGS, R_IMM, RecordFlag } from "../abi/record";
import {
  EFLAGS_REST,
  FLAG_CARRIES,
  FLAG_RESULT,
  LINEAR_MASK,
  MTF,
  RAX,
  RCX,
  RDI,
  REP_BYTES,
  RSI,
  SEG_ES,
  SEGS,
  SG_EFFECTIVE,
  SG_READ_END,
  STOP,
  StopBit,
  WORK,
  WORK_LIMIT,
} from "../abi/state";
import { probeWrite } from "../memory/access";
import { commit } from "../memory/staging";
import { FLAG_DF, FLAG_TF } from "../state/flags";
import { aborted, stop } from "../state/stop";
import { withFlags } from "./alu";
import { Fast } from "./fast";
import { segmentOf } from "./operands";
import { AluOp } from "./ops";
import { loadSized, readBytes, setLow, setSlot, sizeOf, storeSized, truncate } from "./sized";

/** Bytes a REP may move for one unit of work; an iteration of its own counts as 64. */
const WORK_BYTES: u32 = 0x1000;
const ITERATION: u32 = 64;
/** Elements of a piece at most. */
const PIECE: u64 = 0x4000;
/** Bytes that a loop moves faster than memory.copy or memory.fill. */
const SHORT: u32 = 64;

/** An element again and again: what STOS stores and SCAS looks for. */
const pattern: usize = memory.data(16, 16);

function truncated(rec: usize, value: u64): u64 {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  return (value << shift) >> shift;
}

function advance(rec: usize, register: usize, by: u64): void {
  setLow(register, load<u64>(register) + by, load<u8>(rec, R_ADDR_SHIFT));
}

function backward(): bool {
  return (load<u32>(EFLAGS_REST) & FLAG_DF) != 0;
}

/**
 * A REP with 32-bit addresses in 64-bit mode clears the upper halves of RCX and the pointers given (bit 0 RSI, bit 1
 * RDI) before anything else, even where the count is zero or the first access faults. The manual is silent; processors do.
 */
function clearUpper(rec: usize, pointers: u32): void {
  if (load<u8>(rec, R_ADDR_SHIFT) != 32) return;
  store<u64>(RCX, load<u32>(RCX));
  if (pointers & 1) store<u64>(RSI, load<u32>(RSI));
  if (pointers & 2) store<u64>(RDI, load<u32>(RDI));
}

function stepping(): bool {
  return ((load<u32>(EFLAGS_REST) & FLAG_TF) | load<u32>(MTF)) != 0;
}

function repeats(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & (RecordFlag.Rep | RecordFlag.Repne)) != 0;
}

/** After a piece of a REP. False: leave the loop (fault, or the slice is over). */
function goOn(left: u64, bytes: u32): bool {
  let over = false;
  if (left || bytes > WORK_BYTES) {
    const bytesDone = load<u32>(REP_BYTES) + bytes;
    const work = load<u64>(WORK) + u64(bytesDone / WORK_BYTES);
    store<u32>(REP_BYTES, bytesDone % WORK_BYTES);
    store<u64>(WORK, work);
    over = work >= load<u64>(WORK_LIMIT);
  }
  if (!left) return true;
  if (load<u32>(STOP) & StopBit.Commit) commit();
  // a single-step trap or monitor-trap-flag exit after each iteration; or the stored bytes may be this very instruction, or
  // something became pending: look before going on
  if (!(u32(stepping()) | load<u32>(STOP) | u32(over))) return true;
  stop(StopBit.Repeat);
  return false;
}

/** Bytes of the elements from a pointer downwards that begin in its page, at most `bytes`. */
function below(rec: usize, seg: u32, register: usize, bytes: u32, size: u32): u32 {
  const offset = u32(truncated(rec, load<u64>(register)) + load<u64>(SEGS + seg, SG_EFFECTIVE)) & 0xfff;
  return min<u32>(bytes, (offset + size) & (0 - size));
}

class Few {
  /** Where the TLB has `bytes` bytes of one page from offset `at` on, to read (way: 0) or write (8); 0: it has not. */
  @inline static place(seg: usize, at: u64, top: u64, bytes: u32, way: usize): u32 {
    if (at + bytes - 1 > top || at + bytes > load<u64>(seg + way, SEGS + SG_READ_END)) return 0;
    const linear = (at + load<u64>(seg, SEGS + SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
    const entry = Fast.entry(linear);
    if (Fast.differs(load<u64>(entry + way, TE_READ), linear, u64(bytes))) return 0;
    return u32(linear) + load<u32>(entry, TE_ADDEND);
  }

  /** A register takes the bits of a value that `top` has; 32 of them clear the others. */
  @inline static set(register: usize, value: u64, top: u64): void {
    value &= top;
    if (top <= 0xffff) value |= load<u64>(register) & ~top;
    store<u64>(register, value);
  }
}

/** Bytes that follow each other in linear memory from what run() gave on. */
let runBytes: u32 = 0;

/**
 * Where plain bytes from `back` below a pointer on are, to read (way: 0) or write (8). At most `bytes` of them follow each other, on
 * any number of pages, within the segment and the address size; 0: none do.
 */
function run(rec: usize, seg: usize, register: usize, back: u32, bytes: u32, way: usize): u32 {
  const top = truncated(rec, ~(0 as u64));
  const at = (load<u64>(register) & top) - back;
  const room = min<u64>(top - at, load<u64>(seg + way, SEGS + SG_READ_END) - at);
  let found: u32 = 0;
  let first: u32 = 0;
  do {
    const place = Few.place(seg, at + found, top, 1, way);
    if (!found) first = place;
    if (!place || place != first + found) break;
    found += 4096 - (place & 0xfff);
  } while (found < bytes);
  runBytes = u32(min<u64>(min<u32>(found, bytes), room));
  return first;
}

/** Bytes that do not overlap, or are moved downwards. */
function block(to: u32, from: u32, bytes: u32): void {
  if (bytes > SHORT) {
    memory.copy(to, from, bytes);
    return;
  }
  for (; bytes >= 16; bytes -= 16) {
    v128.store(to, v128.load(from));
    to += 16;
    from += 16;
  }
  rest(to, from, bytes);
}

/** The last bytes of such a block, at most 15. */
function rest(to: u32, from: u32, bytes: u32): void {
  if (bytes & 8) {
    store<u64>(to, load<u64>(from));
    to += 8;
    from += 8;
  }
  if (bytes & 4) {
    store<u32>(to, load<u32>(from));
    to += 4;
    from += 4;
  }
  if (bytes & 2) {
    store<u16>(to, load<u16>(from));
    to += 2;
    from += 2;
  }
  if (bytes & 1) store<u8>(to, load<u8>(from));
}

/** Element by element, as the processor does: the two may overlap. */
function copy(to: u32, from: u32, bytes: u32, size: u32, down: bool): void {
  let distance = to - from;
  if (down ? distance < bytes || from - to < bytes : distance < size) {
    for (let i: u32 = 0; i < bytes; i += size) {
      const at = down ? bytes - size - i : i;
      storeSized(to + at, loadSized(from + at, size), size);
    }
    return;
  }
  // a target inside the source repeats what is between the two
  while (distance < bytes) {
    block(to, from, distance);
    to += distance;
    bytes -= distance;
    distance += distance;
  }
  block(to, from, bytes);
}

/** Fills the pattern with the low `size` bytes of a value; 8 bytes of it. */
function setPattern(value: u64, size: u32): u64 {
  let elements = value;
  if (size == 4) elements = u64(u32(value)) * 0x100000001;
  else if (size == 1) elements = u64(u8(value)) * 0x0101010101010101;
  else if (size == 2) elements = u64(u16(value)) * 0x0001000100010001;
  v128.store(pattern, i64x2.splat(elements));
  return elements;
}

function fill(to: u32, value: u64, bytes: u32, size: u32): void {
  const elements = setPattern(value, size);
  if (bytes > SHORT && rotl<u64>(elements, 8) == elements) {
    memory.fill(to, u8(elements), bytes);
    return;
  }
  for (; bytes >= 16; bytes -= 16) {
    v128.store(to, i64x2.splat(elements));
    to += 16;
  }
  block(to, u32(pattern), bytes);
}

/** One element. False: it faulted. */
function one(rec: usize, size: u32, reads: bool, writes: bool): bool {
  let value = load<u64>(RAX);
  if (reads) {
    value = readBytes(segmentOf(rec), truncated(rec, load<u64>(RSI)), size);
    if (aborted()) return false;
  }
  if (writes) {
    const at = probeWrite(SEG_ES, truncated(rec, load<u64>(RDI)), size);
    if (!at) return false;
    storeSized(at, value, size);
  } else setSlot(0, value, size);
  move(rec, size, reads, writes);
  return true;
}

/** Moves the pointers past `bytes`. */
function move(rec: usize, bytes: u32, reads: bool, writes: bool): void {
  const by = backward() ? 0 - u64(bytes) : u64(bytes);
  if (reads) advance(rec, RSI, by);
  if (writes) advance(rec, RDI, by);
}

/** MOVS, STOS and LODS. */
function transfer(rec: usize, reads: bool, writes: bool): void {
  const size = sizeOf(rec);
  if (!repeats(rec)) {
    one(rec, size, reads, writes);
    return;
  }
  clearUpper(rec, writes ? u32(reads) | 2 : 0);
  let count = truncated(rec, load<u64>(RCX));
  while (count) {
    const down = backward();
    let bytes: u32 = stepping() ? 0 : u32(min<u64>(count, PIECE)) * size;
    let back: u32 = 0;
    if (down) {
      if (reads) bytes = below(rec, segmentOf(rec), RSI, bytes, size);
      if (writes) bytes = below(rec, SEG_ES, RDI, bytes, size);
      back = bytes - size;
    }
    let found = bytes;
    let src: u32 = 0;
    let dst: u32 = 0;
    if (reads) {
      src = run(rec, segmentOf(rec), RSI, back, found, 0);
      found = runBytes;
    }
    if (writes) {
      dst = run(rec, SEG_ES, RDI, back, found, 8);
      found = runBytes;
    }
    found &= 0 - size;
    if (found == 0 || (down && found != bytes)) {
      if (!one(rec, size, reads, writes)) return;
      bytes = ITERATION;
      count--;
    } else {
      if (!writes) setSlot(0, loadSized(down ? src : src + found - size, size), size);
      else if (reads) copy(dst, src, found, size, down);
      else fill(dst, load<u64>(RAX), found, size);
      move(rec, found, reads, writes);
      bytes = found;
      count -= found >> ctz(size);
    }
    setLow(RCX, count, load<u8>(rec, R_ADDR_SHIFT));
    if (!goOn(count, bytes)) return;
  }
}

export function movs(rec: usize): void {
  transfer(rec, true, true);
}

export function stos(rec: usize): void {
  transfer(rec, false, true);
}

export function lods(rec: usize): void {
  transfer(rec, true, false);
}

/** A fault in the middle gives back the flags from before. @sdm 2B "REP/REPE/REPZ/REPNE/REPNZ" */
function restoreFlags(result: u64, carries: u32): void {
  store<u64>(FLAG_RESULT, result);
  store<u32>(FLAG_CARRIES, carries);
}

/** Iterations that a run of compares may take at once: 16 units of work. */
const RUN: u64 = 16 * (WORK_BYTES / ITERATION);

/**
 * Bytes of the elements before the first that ends a search: one that differs from what stands on the right, or (equal: false) does
 * not. stride: 1, or 0 where the pattern is on the right.
 */
function searched(left: u32, right: u32, stride: u32, bytes: u32, size: u32, equal: bool): u32 {
  let i: u32 = 0;
  // elements of several bytes may have one in common and yet differ
  if (size == 1 || equal) {
    while (i < bytes && max<u32>((left + i) & 0xfff, (right + i * stride) & 0xfff) <= 0xff0) {
      let ends: u32 = i8x16.bitmask(i8x16.eq(v128.load(left + i), v128.load(right + i * stride)));
      if (equal) ends ^= 0xffff;
      i += ends ? ctz(ends) : 16;
      if (ends) return min<u32>(i, bytes) & (0 - size);
    }
  }
  while (i < bytes && (loadSized(left + i, size) == loadSized(right + i * stride, size)) == equal) i += size;
  return min<u32>(i, bytes);
}

/** CMPS, and SCAS where only the operand at RDI is in memory. That one is read first. */
function search(rec: usize, both: bool): void {
  const size = sizeOf(rec);
  const seg = segmentOf(rec);
  const rep = repeats(rec);
  const equal = !(load<u8>(rec, R_FLAGS) & RecordFlag.Repne);
  const result = load<u64>(FLAG_RESULT);
  const carries = load<u32>(FLAG_CARRIES);
  let a = truncate(load<u64>(RAX), size);
  let count: u64 = 1;
  if (rep) {
    clearUpper(rec, 0);
    count = truncated(rec, load<u64>(RCX));
    if (!both) setPattern(a, size);
  }
  while (count) {
    let bytes: u32 = 0;
    let left: u32 = 0;
    let right = u32(pattern);
    if (rep && !backward() && !stepping()) {
      left = run(rec, SEG_ES, RDI, 0, u32(min<u64>(count, RUN)) * size, 0);
      bytes = runBytes;
      if (both) {
        right = run(rec, seg, RSI, 0, bytes, 0);
        bytes = runBytes;
      }
      bytes &= 0 - size;
    }
    let ended = false;
    let b: u64;
    if (bytes) {
      const last = searched(left, right, u32(both), bytes, size, equal);
      ended = last < bytes;
      if (ended) bytes = last + size;
      b = loadSized(left + bytes - size, size);
      if (both) a = loadSized(right + bytes - size, size);
    } else {
      bytes = size;
      b = readBytes(SEG_ES, truncated(rec, load<u64>(RDI)), size);
      if (!aborted() && both) a = readBytes(seg, truncated(rec, load<u64>(RSI)), size);
      if (aborted()) return restoreFlags(result, carries);
      ended = (a == b) != equal;
    }
    withFlags(rec, AluOp.cmp, a, b);
    move(rec, bytes, both, true);
    if (!rep) return;
    const n = bytes >> ctz(size);
    count -= n;
    setLow(RCX, count, load<u8>(rec, R_ADDR_SHIFT));
    if (ended) return;
    // between iterations the flags are those from before, too
    if (!goOn(count, n * ITERATION)) return restoreFlags(result, carries);
  }
}

export function cmps(rec: usize): void {
  search(rec, true);
}

export function scas(rec: usize): void {
  search(rec, false);
}

// R_IMM of records with the short form: bits 3:1 of the opcode
const STOS: u32 = 5;
const LODS: u32 = 6;
const SCAS: u32 = 7;
/** Elements that a REP takes there at most. */
const FEW: u64 = 64;

/** Carries out a record of this file, when that takes few elements of plain memory on one page each. False: nothing was done. */
export function few(rec: usize): bool {
  const kind = u32(load<u8>(rec, R_IMM));
  const size = sizeOf(rec);
  const log = ctz(size);
  const top = ~(0 as u64) >> u64(load<u8>(rec, R_ADDR_SHIFT));
  const rep = repeats(rec);
  const searches = (kind & 3) == 3;
  let count: u64 = 1;
  let bytes = size;
  if (rep) {
    count = load<u64>(RCX) & top;
    const n = searches ? min<u64>(count, FEW) : count;
    if (n - 1 >= FEW || u32(backward()) | u32(stepping())) return false;
    bytes = u32(n) << log;
  }
  const reads = kind != STOS && kind != SCAS;
  let from = u32(pattern);
  let to: u32 = 0;
  if (reads) {
    from = Few.place(segmentOf(rec), load<u64>(RSI) & top, top, bytes, 0);
    if (!from) return false;
  } else setPattern(load<u64>(RAX), size);
  if (kind != LODS) {
    to = Few.place(SEG_ES, load<u64>(RDI) & top, top, bytes, searches ? 0 : 8);
    if (!to) return false;
  }
  if (searches) {
    const stride = u32(reads);
    let last: u32 = 0;
    if (rep) {
      last = searched(to, from, stride, bytes, size, !(load<u8>(rec, R_FLAGS) & RecordFlag.Repne));
      if (last < bytes) bytes = last + size;
      else if (count > FEW) return false;
      else last -= size;
    }
    const free = 64 - u64(size << 3);
    Fast.narrow(AluOp.cmp, Fast.any(rec, from + last * stride) << free, Fast.any(rec, to + last) << free, free);
  } else if (kind == LODS) {
    Few.set(RAX, Fast.any(rec, from + bytes - size), ~(0 as u64) >> (64 - u64(size << 3)));
  } else {
    if (reads && rep && to - from < bytes) return false;
    for (const end = to + (bytes & ~15); to != end; to += 16) {
      v128.store(to, v128.load(from));
      if (reads) from += 16;
    }
    rest(to, from, bytes);
  }
  const by = backward() ? 0 - u64(bytes) : u64(bytes);
  if (reads) Few.set(RSI, load<u64>(RSI) + by, top);
  if (kind != LODS) Few.set(RDI, load<u64>(RDI) + by, top);
  if (rep) Few.set(RCX, count - u64(bytes >> log), top);
  return true;
}
