// Breakpoints of DR0-DR3 as DR7 enables them. With none enabled nothing here runs: pages with a data breakpoint get no
// read or write TLB entry, so only the slow path of an access asks; code breakpoints make run/ step.
// @sdm 3B "Debug Registers", "Debug Exceptions"
//
//   DR7  7:0 two enable bits a register   17:16 R/W0  19:18 LEN0 ... 31:30 LEN3
//   R/W  0 instruction  1 write  2 I/O (CR4.DE = 1)  3 read or write      LEN  0 1 byte  1 2  3 4  2 8
import { CR4, DEBUG_DR7, DEBUG_HITS, DEBUG_WATCH, DR0, DR7, EXTRA, StopBit, WatchBit } from "../abi/state";
import { CR4_DE, DR7_ENABLED } from "../abi/x86";
import { stop } from "../state/stop";
import { flushTlb } from "./context";

const CODE: u32 = 0;
const WRITE_ONLY: u32 = 1;
const IO: u32 = 2;

function enabled(n: u32): bool {
  return ((load<u64>(DR7) >> (2 * n)) & 3) != 0;
}

function kind(n: u32): u32 {
  return <u32>(load<u64>(DR7) >> (16 + 4 * n)) & 3;
}

function length(n: u32): u64 {
  const len = <u32>(load<u64>(DR7) >> (18 + 4 * n)) & 3;
  return len == 2 ? 8 : <u64>len + 1;
}

/** First byte that a breakpoint watches: address bits below its length are ignored. */
function first(n: u32): u64 {
  return load<u64>(DR0 + n * 8) & ~(length(n) - 1);
}

/**
 * Must follow every change of DR7 or CR4.DE; changed: DR0-DR3 may have changed too. Translations of pages that are
 * watched from now on are dropped.
 */
export function updateWatch(changed: bool): void {
  const dr7 = load<u64>(DR7);
  let bits: u32 = 0;
  for (let n: u32 = 0; n < 4; n++) {
    if (!enabled(n)) continue;
    const k = kind(n);
    if (k == CODE) bits |= WatchBit.Code;
    else if (k != IO) bits |= WatchBit.Data;
    else if (load<u64>(CR4) & CR4_DE) bits |= WatchBit.Io;
  }
  const news = changed || load<u32>(DEBUG_DR7) != <u32>dr7;
  store<u32>(DEBUG_DR7, bits ? <u32>dr7 : 0);
  store<u32>(DEBUG_WATCH, bits);
  if (bits & WatchBit.Data && news) flushTlb();
  if (bits & WatchBit.Code) store<u32>(EXTRA, 1);
}

export class Watch {
  /** The part of updateWatch() that is free when no breakpoint is enabled. */
  @inline static followDr7(): void {
    if (load<u64>(DR7) & DR7_ENABLED || load<u32>(DEBUG_WATCH)) updateWatch(false);
  }
}

/** Does a data breakpoint lie in the page? Asked while WatchBit.Data is set. */
export function pageWatched(linear: u64): bool {
  for (let n: u32 = 0; n < 4; n++) {
    const k = kind(n);
    if (enabled(n) && k != CODE && k != IO && first(n) >> 12 == linear >> 12) return true;
  }
  return false;
}

function hit(bits: u32): void {
  if (!bits) return;
  store<u32>(DEBUG_HITS, load<u32>(DEBUG_HITS) | bits);
  stop(StopBit.Leave);
}

/** A data access that will be done unless the instruction faults. */
export function noteAccess(linear: u64, size: u32, write: bool): void {
  let bits: u32 = 0;
  for (let n: u32 = 0; n < 4; n++) {
    const k = kind(n);
    if (!enabled(n) || k == CODE || k == IO || (k == WRITE_ONLY && !write)) continue;
    if (linear < first(n) + length(n) && first(n) < linear + size) bits |= 1 << n;
  }
  hit(bits);
}

/** An access to ports, done. Asked while WatchBit.Io is set. */
export function notePort(port: u32, size: u32): void {
  let bits: u32 = 0;
  for (let n: u32 = 0; n < 4; n++) {
    if (!enabled(n) || kind(n) != IO) continue;
    if (<u64>port < first(n) + length(n) && first(n) < <u64>(port + size)) bits |= 1 << n;
  }
  hit(bits);
}

/** Instruction breakpoints at a linear address, as bits of DR6. */
export function codeBreakpoints(linear: u64): u32 {
  let bits: u32 = 0;
  for (let n: u32 = 0; n < 4; n++) {
    if (enabled(n) && kind(n) == CODE && load<u64>(DR0 + n * 8) == linear) bits |= 1 << n;
  }
  return bits;
}
