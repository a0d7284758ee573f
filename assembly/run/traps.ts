// Breakpoints and hooks on code, asked before an instruction that runs alone (memory/traps.ts).
import { PageFlag, TrapKind, TrapList } from "../abi/layout";
import { Callback, RunCode } from "../abi/run";
import {
  COUNT,
  COUNT_LIMIT,
  CPL,
  LINEAR_MASK,
  RIP,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  STOP,
  StopBit,
  WORK,
} from "../abi/state";
import { dropAllBlocks, invalidate } from "../blocks/cache";
import { callWide } from "../imports";
import { dropRegions, dropWritten } from "../jit/manage";
import { fetchAt, translateQuiet } from "../memory/access";
import { pageFlags } from "../memory/frames";
import { codeTraps, dataTraps, denyFetch, kindsIn, mark, setTraps, unmarkAll, unmarked } from "../memory/traps";
import { EXECUTE } from "../memory/walk";
import { stop, stopHost } from "../state/stop";

/** COUNT and RIP of the instruction that breakpoints have stopped before already. */
let stoppedCount: u64 = ~(0 as u64);
let stoppedRip: u64 = 0;
/** COUNT and RIP at which a REP that was asked about goes on. */
let resumedCount: u64 = ~(0 as u64);
let resumedRip: u64 = 0;
/** COUNT and RIP of an instruction that the one before it runs into without a branch. */
let nextCount: u64 = ~(0 as u64);
let nextRip: u64 = 0;

/** See CoreExports.trapsChanged. */
export function trapsChanged(linearCode: u32, physicalCode: u32, linearData: u32, physicalData: u32): void {
  const watched = dataTraps != 0;
  setTraps(linearCode, physicalCode, linearData, physicalData);
  stop(StopBit.Leave); // the running block was built without them
  // generated code for unwatched memory may not look at the TLB
  if (watched != (dataTraps != 0)) dropRegions();
}

/** See CoreExports.passBreakpoint. */
export function passBreakpoint(pass: u32): void {
  stoppedCount = pass ? load<u64>(COUNT) : ~(0 as u64);
  stoppedRip = load<u64>(RIP);
  resumedCount = ~(0 as u64);
  nextCount = ~(0 as u64);
}

/** As fetchAt(); a frame that may hold traps is marked before any of its code runs. */
export function fetchCode(linear: u64): u32 {
  const host = fetchAt(linear);
  if (!codeTraps || host <= 1 || pageFlags(host) & PageFlag.Traps) return host;
  const physical = translateQuiet(linear, EXECUTE, load<u32>(CPL) == 3);
  if (!unmarked(linear, physical, host)) return host;
  if (!mark(host)) {
    // begin again with no frame marked
    unmarkAll();
    dropAllBlocks();
    dropRegions();
    mark(host);
    return host;
  }
  dropWritten(host & ~0xfff, 4096, false);
  invalidate(host & ~0xfff, 4096);
  return host;
}

/** Asks about the instruction at RIP. True: it must not run now. */
export function codeTrap(): bool {
  const rip = load<u64>(RIP);
  const count = load<u64>(COUNT);
  const linear = (load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) + rip) & load<u64>(LINEAR_MASK);
  const physical = translateQuiet(linear, EXECUTE, load<u32>(CPL) == 3);
  let kinds = kindsIn(TrapList.LinearCode, linear, linear);
  if (physical != ~(0 as u64)) kinds |= kindsIn(TrapList.PhysicalCode, physical, physical);
  if (!kinds) return false;
  if (kinds & TrapKind.DenyFetch) {
    denyFetch(linear, physical);
    return true;
  }
  if (kinds & TrapKind.Break && !(stoppedCount == count && stoppedRip == rip)) {
    stoppedCount = count;
    stoppedRip = rip;
    stopHost(RunCode.Breakpoint);
    return true;
  }
  if (nextCount == count && nextRip == rip) kinds &= ~TrapKind.BlockHook;
  if (!(kinds & (TrapKind.CodeHook | TrapKind.BlockHook))) return false;
  if (resumedCount == count && resumedRip == rip) return false;
  const answer = callWide(Callback.Code, kinds, linear, 0);
  if (load<u32>(STOP) & StopBit.Host) return true;
  if (answer) {
    stopHost(RunCode.Stopped);
    return true;
  }
  if (load<u64>(RIP) == rip) return false;
  // the callback has put another instruction in its place; machine.stop() comes before that
  store<u64>(WORK, load<u64>(WORK) + 1);
  if (load<u64>(COUNT_LIMIT) == 0) stopHost(RunCode.Stopped);
  return true;
}

/** After the instruction at `rip`, which ran alone. */
export function stepped(rip: u64, ends: bool): void {
  const s = load<u32>(STOP);
  resumedCount = ~(0 as u64);
  nextCount = ~(0 as u64);
  if (s & StopBit.Repeat) {
    resumedCount = load<u64>(COUNT);
    resumedRip = rip;
  } else if (!ends && !(s & (StopBit.Event | StopBit.Exit | StopBit.Host))) {
    nextCount = load<u64>(COUNT);
    nextRip = load<u64>(RIP);
  }
}
