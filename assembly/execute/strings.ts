// MOVS STOS LODS CMPS SCAS, with REP. Registers are committed after each iteration, so a fault or a slice's end in the
// middle leaves a resumable state. Runs of plain memory are moved page by page.
import { R_ADDR_SHIFT, R_FLAGS, RecordFlag } from "../abi/record";
import {
  EFLAGS_REST,
  FLAG_CARRIES,
  FLAG_RESULT,
  MTF,
  RAX,
  RCX,
  RDI,
  REP_BYTES,
  RSI,
  SEG_ES,
  STOP,
  StopBit,
  WORK,
  WORK_LIMIT,
} from "../abi/state";
import { plainRead, plainWrite, probeWrite } from "../memory/access";
import { commit } from "../memory/staging";
import { FLAG_DF, FLAG_TF, getZF } from "../state/flags";
import { aborted, stop } from "../state/stop";
import { withFlags } from "./alu";
import { segmentOf } from "./operands";
import { AluOp } from "./ops";
import { loadSized, readBytes, setLow, setSlot, sizeOf, storeSized, truncate } from "./sized";

/** Bytes a REP may move page by page before it uses one unit of work; an iteration of its own counts as 64. */
const WORK_BYTES: u32 = 0x1000;
const ITERATION: u32 = 64;
/** Bytes that a loop moves faster than memory.copy or memory.fill. */
const SHORT: u32 = 64;

function truncated(rec: usize, value: u64): u64 {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  return (value << shift) >> shift;
}

function advance(rec: usize, register: usize, by: u64): void {
  setLow(register, load<u64>(register) + by, load<u8>(rec, R_ADDR_SHIFT));
}

function step(size: u32): u64 {
  return load<u32>(EFLAGS_REST) & FLAG_DF ? 0 - u64(size) : u64(size);
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
  return (load<u32>(EFLAGS_REST) & FLAG_TF) != 0 || load<u32>(MTF) != 0;
}

function repeats(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & (RecordFlag.Rep | RecordFlag.Repne)) != 0;
}

/** After `n` iterations of a REP. False: leave the loop (done, fault, or the slice is over). */
function goOn(rec: usize, n: u64, bytes: u32): bool {
  advance(rec, RCX, 0 - n);
  if (truncated(rec, load<u64>(RCX)) == 0) return false;
  let bytesDone = load<u32>(REP_BYTES) + bytes;
  store<u32>(REP_BYTES, bytesDone);
  const s = load<u32>(STOP);
  if (s & StopBit.Commit) commit();
  if (stepping()) {
    // a single-step trap or monitor-trap-flag exit after each iteration
    stop(StopBit.Repeat);
    return false;
  }
  if (load<u32>(STOP)) {
    // the stored bytes may be this very instruction, or something became pending: look before going on
    stop(StopBit.Repeat);
    return false;
  }
  if (bytesDone >= WORK_BYTES) {
    bytesDone -= WORK_BYTES;
    store<u32>(REP_BYTES, bytesDone);
    const work = load<u64>(WORK) + 1;
    store<u64>(WORK, work);
    if (work >= load<u64>(WORK_LIMIT)) {
      stop(StopBit.Repeat);
      return false;
    }
  }
  return true;
}

/** Iterations that stay in the page of an operand, at most `count`. */
function runLength(size: u32, address: u64, count: u64): u64 {
  const room = u64(4096 - (u32(address) & 0xfff)) / size;
  return min<u64>(room, count);
}

/** Element by element, as the processor does: the two may overlap. */
function copyForward(to: u32, from: u32, bytes: u32, size: u32): void {
  if (size == 4) for (let i: u32 = 0; i < bytes; i += 4) store<u32>(to + i, load<u32>(from + i));
  else if (size == 1) for (let i: u32 = 0; i < bytes; i++) store<u8>(to + i, load<u8>(from + i));
  else for (let i: u32 = 0; i < bytes; i += size) storeSized(to + i, loadSized(from + i, size), size);
}

function fillForward(to: u32, value: u64, bytes: u32, size: u32): void {
  if (size == 4) for (let i: u32 = 0; i < bytes; i += 4) store<u32>(to + i, u32(value));
  else for (let i: u32 = 0; i < bytes; i += size) storeSized(to + i, value, size);
}

export function movs(rec: usize): void {
  const size = sizeOf(rec);
  const seg = segmentOf(rec);
  const by = step(size);
  if (!repeats(rec)) {
    moveOne(rec, size, seg, by);
    return;
  }
  clearUpper(rec, 3);
  if (truncated(rec, load<u64>(RCX)) == 0) return;
  for (;;) {
    const count = truncated(rec, load<u64>(RCX));
    const from = truncated(rec, load<u64>(RSI));
    const to = truncated(rec, load<u64>(RDI));
    let n: u64 = 0;
    if (i64(by) > 0 && !stepping()) {
      n = runLength(size, from, count);
      n = runLength(size, to, n);
    }
    if (n > 1) {
      const bytes = u32(n) * size;
      const src = plainRead(seg, from, bytes);
      const dst = src ? plainWrite(SEG_ES, to, bytes) : 0;
      if (dst) {
        if (bytes > SHORT && dst - src >= bytes) memory.copy(dst, src, bytes);
        else copyForward(dst, src, bytes, size);
        advance(rec, RSI, n * by);
        advance(rec, RDI, n * by);
        if (!goOn(rec, n, bytes)) return;
        continue;
      }
    }
    if (!moveOne(rec, size, seg, by)) return;
    if (!goOn(rec, 1, ITERATION)) return;
  }
}

function moveOne(rec: usize, size: u32, seg: u32, by: u64): bool {
  const v = readBytes(seg, truncated(rec, load<u64>(RSI)), size);
  if (aborted()) return false;
  const at = probeWrite(SEG_ES, truncated(rec, load<u64>(RDI)), size);
  if (!at) return false;
  storeSized(at, v, size);
  advance(rec, RSI, by);
  advance(rec, RDI, by);
  return true;
}

export function stos(rec: usize): void {
  const size = sizeOf(rec);
  const by = step(size);
  const v = load<u64>(RAX);
  if (!repeats(rec)) {
    storeOne(rec, size, v, by);
    return;
  }
  clearUpper(rec, 2);
  if (truncated(rec, load<u64>(RCX)) == 0) return;
  for (;;) {
    const to = truncated(rec, load<u64>(RDI));
    const n = i64(by) > 0 && !stepping() ? runLength(size, to, truncated(rec, load<u64>(RCX))) : 0;
    if (n > 1) {
      const bytes = u32(n) * size;
      const dst = plainWrite(SEG_ES, to, bytes);
      if (dst) {
        if (size == 1 && bytes > SHORT) memory.fill(dst, u8(v), bytes);
        else fillForward(dst, v, bytes, size);
        advance(rec, RDI, n * by);
        if (!goOn(rec, n, bytes)) return;
        continue;
      }
    }
    if (!storeOne(rec, size, v, by)) return;
    if (!goOn(rec, 1, ITERATION)) return;
  }
}

function storeOne(rec: usize, size: u32, v: u64, by: u64): bool {
  const at = probeWrite(SEG_ES, truncated(rec, load<u64>(RDI)), size);
  if (!at) return false;
  storeSized(at, v, size);
  advance(rec, RDI, by);
  return true;
}

export function lods(rec: usize): void {
  const size = sizeOf(rec);
  const seg = segmentOf(rec);
  const by = step(size);
  const rep = repeats(rec);
  if (rep) clearUpper(rec, 0);
  if (rep && truncated(rec, load<u64>(RCX)) == 0) return;
  for (;;) {
    const v = readBytes(seg, truncated(rec, load<u64>(RSI)), size);
    if (aborted()) return;
    setSlot(0, v, size);
    advance(rec, RSI, by);
    if (!rep || !goOn(rec, 1, ITERATION)) return;
  }
}

/** REPE goes on while ZF is 1, REPNE while it is 0. */
function wanted(rec: usize): bool {
  return load<u8>(rec, R_FLAGS) & RecordFlag.Repne ? getZF() == 0 : getZF() != 0;
}

/** A fault in the middle gives back the flags from before. @sdm 2B "REP/REPE/REPZ/REPNE/REPNZ" */
function restoreFlags(result: u64, carries: u32): void {
  store<u64>(FLAG_RESULT, result);
  store<u32>(FLAG_CARRIES, carries);
}

/** Between iterations the flags are those from before, too. */
function leaveCompare(result: u64, carries: u32): void {
  if (load<u32>(STOP) & StopBit.Repeat) restoreFlags(result, carries);
}

/** Iterations that a run of compares may take at once: what one unit of work allows. */
const RUN: u64 = WORK_BYTES / ITERATION;

/** Elements of a forward REP compare that lie in plain memory of one page, at most RUN; 0: take one the careful way. */
function compareRun(size: u32, address: u64, count: u64): u64 {
  return stepping() ? 0 : min<u64>(runLength(size, address, count), RUN);
}

/** The operand at RDI is read first. */
export function cmps(rec: usize): void {
  const size = sizeOf(rec);
  const seg = segmentOf(rec);
  const by = step(size);
  const rep = repeats(rec);
  const result = load<u64>(FLAG_RESULT);
  const carries = load<u32>(FLAG_CARRIES);
  if (rep) clearUpper(rec, 0);
  if (rep && truncated(rec, load<u64>(RCX)) == 0) return;
  for (;;) {
    if (rep && i64(by) > 0) {
      const to = truncated(rec, load<u64>(RDI));
      const from = truncated(rec, load<u64>(RSI));
      const n = u32(compareRun(size, from, compareRun(size, to, truncated(rec, load<u64>(RCX)))));
      const right = n ? plainRead(SEG_ES, to, n * size) : 0;
      const left = right ? plainRead(seg, from, n * size) : 0;
      if (left) {
        const equal = !(load<u8>(rec, R_FLAGS) & RecordFlag.Repne);
        let i: u32 = 0;
        let ended = false;
        while (i < n && !ended) {
          ended = (loadSized(left + i * size, size) == loadSized(right + i * size, size)) != equal;
          i++;
        }
        const a = loadSized(left + (i - 1) * size, size);
        const b = loadSized(right + (i - 1) * size, size);
        withFlags(rec, AluOp.cmp, a, b);
        advance(rec, RSI, i * by);
        advance(rec, RDI, i * by);
        if (ended) {
          advance(rec, RCX, 0 - u64(i));
          return;
        }
        if (!goOn(rec, i, i * ITERATION)) return leaveCompare(result, carries);
        continue;
      }
    }
    const b = readBytes(SEG_ES, truncated(rec, load<u64>(RDI)), size);
    if (aborted()) return restoreFlags(result, carries);
    const a = readBytes(seg, truncated(rec, load<u64>(RSI)), size);
    if (aborted()) return restoreFlags(result, carries);
    withFlags(rec, AluOp.cmp, a, b);
    advance(rec, RSI, by);
    advance(rec, RDI, by);
    if (!rep) return;
    if (!wanted(rec)) {
      advance(rec, RCX, ~(0 as u64));
      return;
    }
    if (!goOn(rec, 1, ITERATION)) return leaveCompare(result, carries);
  }
}

export function scas(rec: usize): void {
  const size = sizeOf(rec);
  const by = step(size);
  const rep = repeats(rec);
  const a = truncate(load<u64>(RAX), size);
  const result = load<u64>(FLAG_RESULT);
  const carries = load<u32>(FLAG_CARRIES);
  if (rep) clearUpper(rec, 0);
  if (rep && truncated(rec, load<u64>(RCX)) == 0) return;
  for (;;) {
    if (rep && i64(by) > 0) {
      const at = truncated(rec, load<u64>(RDI));
      const n = u32(compareRun(size, at, truncated(rec, load<u64>(RCX))));
      const place = n ? plainRead(SEG_ES, at, n * size) : 0;
      if (place) {
        const equal = !(load<u8>(rec, R_FLAGS) & RecordFlag.Repne);
        let i: u32 = 0;
        let ended = false;
        while (i < n && !ended) {
          ended = (loadSized(place + i * size, size) == a) != equal;
          i++;
        }
        const b = loadSized(place + (i - 1) * size, size);
        withFlags(rec, AluOp.cmp, a, b);
        advance(rec, RDI, i * by);
        if (ended) {
          advance(rec, RCX, 0 - u64(i));
          return;
        }
        if (!goOn(rec, i, i * ITERATION)) return leaveCompare(result, carries);
        continue;
      }
    }
    const b = readBytes(SEG_ES, truncated(rec, load<u64>(RDI)), size);
    if (aborted()) return restoreFlags(result, carries);
    withFlags(rec, AluOp.cmp, a, b);
    advance(rec, RDI, by);
    if (!rep) return;
    if (!wanted(rec)) {
      advance(rec, RCX, ~(0 as u64));
      return;
    }
    if (!goOn(rec, 1, ITERATION)) return leaveCompare(result, carries);
  }
}
