// The only place where events are delivered: between instructions, intercepted first when in VMX non-root operation.

import { Callback, RunCode } from "../abi/run";
import {
  ACTIVITY,
  APIC_WRITE,
  COUNT,
  CR2,
  DEADLINE,
  DEBUG_HITS,
  DEBUG_WATCH,
  DELIVERING,
  DELIVERING_ERROR,
  DELIVERING_ILEN,
  DELIVERING_INJECTED,
  EFLAGS_REST,
  EV_DEFERRED,
  EV_DELIVERED,
  EV_ERROR,
  EV_FAULTS,
  EV_HAS_ERROR,
  EV_ILEN,
  EV_INJECTED,
  EV_PAYLOAD,
  EV_TYPE,
  EV_VECTOR,
  EventType,
  EXTRA,
  HOOKS,
  HookBit,
  INTERRUPTIBILITY,
  LINEAR_MASK,
  MTF,
  PENDING_DEBUG,
  PENDING_INTR,
  PENDING_NMI,
  RIP,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  STOP,
  STOP_CODE,
  StopBit,
  TRAP_EXIT,
  VIRTUAL_INTERRUPT,
  WatchBit,
  WORK,
  XR_REASON,
} from "../abi/state";
import { BLOCK_MOV_SS, VEC_DB, VEC_PF } from "../abi/x86";
import { takeInterrupt } from "../apic/local";
import { dropAllBlocks, invalidate, PATCH_ALL, PATCH_NONE, patch } from "../blocks/cache";
import { COMBINE_AS_IS, COMBINE_DOUBLE_FAULT, COMBINE_TRIPLE_FAULT, combine } from "../events/combine";
import { deliverEvent } from "../events/deliver";
import { deliverShort } from "../events/short";
import { call } from "../imports";
import { dropRegions, dropWritten } from "../jit/manage";
import {
  clearCodeWrites,
  codeWriteBytes,
  codeWriteHost,
  codeWritesOverflow,
  codeWritesPending,
} from "../memory/frames";
import { commit, discard, Staged } from "../memory/staging";
import { WatchHits } from "../memory/traps";
import { codeBreakpoints } from "../memory/watch";
import { FLAG_IF, FLAG_RF, getRflags } from "../state/flags";
import { raise, raiseDebugTrap, raiseSoft, stop } from "../state/stop";
import { clearShadow, interruptShadow } from "../system/shadow";
import { Usual } from "../system/usual";
import { nonRoot } from "../system/vmxMode";
import { boundaryCheck, boundaryControls, interceptEvent, tripleFaultExits, wantsBoundary } from "../vmx/boundary";
import { pendingInjection } from "../vmx/entry";
import { takeExit } from "../vmx/exit";
import { disarmTrap, Idle, idle, trapExits } from "../vmx/timer";
import { emulateApicWrite, trapLikeExit } from "../vmx/virtualApic";

/** No RunCode: go on. */
export const GO_ON: i32 = -1;

/** EXTRA: look again after the next block; STI, POPF and whatever else can unblock an event end their block. */
const LOOK_AFTER_BLOCK: u32 = 1;
/** EXTRA: look again after the next instruction, when the interrupt shadow ends. */
export const LOOK_AFTER_ONE: u32 = 2;

/** Pending debug exceptions, VMCS layout: an enabled breakpoint is among them. */
const PENDING_ENABLED: u64 = 0x1000;

const VALID: u32 = 0x80000000;
const HAS_ERROR: u32 = 0x800;

/** Drops the decoded code that stores of the last instruction hit. */
export function drainCodeWrites(): void {
  const n = codeWritesPending();
  if (n) dropWrittenCode(n);
}

function dropWrittenCode(n: u32): void {
  if (codeWritesOverflow()) {
    dropAllBlocks();
    dropRegions();
  } else {
    for (let i: u32 = 0; i < n; i++) {
      const host = codeWriteHost(i);
      const bytes = codeWriteBytes(i);
      const patched = patch(host, bytes);
      if (patched == PATCH_ALL) continue;
      dropWritten(host, bytes, patched == PATCH_NONE);
      if (patched == PATCH_NONE) invalidate(host, bytes);
    }
  }
  clearCodeWrites();
}

/** Data and I/O breakpoints that the completed instruction met become pending; in the middle of a REP their frame has RF. */
function takeHits(): void {
  const hits = load<u32>(DEBUG_HITS);
  if (!hits) return;
  store<u32>(DEBUG_HITS, 0);
  store<u64>(PENDING_DEBUG, load<u64>(PENDING_DEBUG) | <u64>hits | PENDING_ENABLED);
  if (load<u32>(STOP) & StopBit.Repeat) store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) | FLAG_RF);
  store<u32>(EXTRA, 1);
}

/** The instruction did not complete: the breakpoints and watchpoints it met do not count. */
function forgetHits(): void {
  store<u32>(DEBUG_HITS, 0);
  WatchHits.clear();
}

/** Writes stop bits of staged stores and left blocks off. */
function finishStores(): void {
  if (load<u32>(STOP) & StopBit.Commit) commit();
  if (load<u32>(APIC_WRITE)) emulateApicWrite();
  drainCodeWrites();
}

function noteDelivering(): void {
  let info = load<u32>(EV_VECTOR) & 0xff;
  const type = load<u32>(EV_TYPE);
  info |= (type == EventType.Trap ? u32(EventType.Exception) : type) << 8;
  if (load<u32>(EV_HAS_ERROR)) info |= HAS_ERROR;
  if (load<u32>(EV_INJECTED)) info |= DELIVERING_INJECTED;
  store<u32>(DELIVERING, info | VALID);
  store<u32>(DELIVERING_ERROR, load<u32>(EV_ERROR));
  store<u32>(DELIVERING_ILEN, load<u32>(EV_ILEN));
}

/** The host deals with the event of EV_*: an instruction that raised it on purpose has then completed. */
function hostTakesEvent(): bool {
  if (!(load<u32>(HOOKS) & HookBit.Event) || load<u32>(DELIVERING) & VALID || load<u32>(EV_INJECTED)) return false;
  const type = load<u32>(EV_TYPE);
  const rip = load<u64>(RIP);
  const taken = call(Callback.Event, type, load<u32>(EV_VECTOR), 0);
  if (load<u32>(STOP) & StopBit.Host) {
    // what no instruction raises again is kept for the next run
    if (type < <u32>EventType.Exception || type == <u32>EventType.Trap) store<u32>(EV_DEFERRED, 1);
    return true;
  }
  if (!taken) return false;
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Event);
  store<u64>(WORK, load<u64>(WORK) + 1);
  if (type >= <u32>EventType.SoftInt && type <= <u32>EventType.SoftException) {
    if (load<u64>(RIP) == rip) store<u64>(RIP, rip + load<u32>(EV_ILEN));
    store<u64>(COUNT, load<u64>(COUNT) + 1);
  }
  store<u32>(EXTRA, 1);
  return true;
}

/** One event from EV_* to its handler, a VM exit, or shutdown. */
function deliverOrExit(): i32 {
  if (hostTakesEvent()) return load<u32>(STOP) & StopBit.Host ? hostStop() : GO_ON;
  for (;;) {
    if (interceptEvent()) return leaveGuest();
    const combined = load<u32>(DELIVERING) & VALID ? combine() : COMBINE_AS_IS;
    if (combined == COMBINE_DOUBLE_FAULT && interceptEvent()) return leaveGuest();
    if (combined == COMBINE_TRIPLE_FAULT) {
      store<u32>(STOP, load<u32>(STOP) & ~StopBit.Event);
      store<u32>(DELIVERING, 0);
      if (tripleFaultExits()) return leaveGuest();
      store<u32>(ACTIVITY, 2);
      return RunCode.Shutdown;
    }
    noteDelivering();
    const fault = load<u32>(EV_TYPE) == EventType.Exception;
    if (deliverEvent()) {
      store<u32>(DELIVERING, 0);
      store<u32>(EV_INJECTED, 0);
      noteDelivered(fault);
      takeHits();
      finishStores();
      store<u32>(STOP, load<u32>(STOP) & ~(StopBit.Leave | StopBit.Repeat));
      store<u32>(EXTRA, u32(!nothingWaits()));
      return WatchHits.count() ? RunCode.Watchpoint : GO_ON;
    }
    discard();
    forgetHits();
    store<u32>(EV_INJECTED, 0);
    store<u64>(WORK, load<u64>(WORK) + 1);
    const stop = load<u32>(STOP);
    if (stop & StopBit.Host) return hostStop();
    if (stop & StopBit.Exit) return leaveGuest();
  }
  return unreachable();
}

/** The short way of settle() for an exception that nobody else takes. False: there was none, or it must go the whole way. */
export function deliverFault(): bool {
  const vector = load<u32>(EV_VECTOR);
  if (
    (load<u32>(STOP) & ~StopBit.Repeat) != StopBit.Event ||
    load<u32>(EV_TYPE) != EventType.Exception ||
    vector == VEC_DB ||
    !Usual.quiet() ||
    load<u32>(HOOKS) & HookBit.Event ||
    WatchHits.count() ||
    (nonRoot() && interceptEvent()) || // then settle() carries the exit out
    !deliverShort(vector, 0, load<u64>(RIP), getRflags() | FLAG_RF, load<u32>(EV_HAS_ERROR) != 0, load<u32>(EV_ERROR))
  ) {
    return false;
  }
  store<u32>(STOP, 0);
  if (vector == VEC_PF) store<u64>(CR2, load<u64>(EV_PAYLOAD));
  noteDelivered(true);
  clearShadow();
  return true;
}

function noteDelivered(fault: bool): void {
  store<u64>(COUNT, load<u64>(COUNT) + 1);
  store<u64>(WORK, load<u64>(WORK) + 1);
  store<u64>(EV_DELIVERED, load<u64>(EV_DELIVERED) + 1);
  store<u64>(EV_FAULTS, load<u64>(EV_FAULTS) + <u64>fault);
}

/** Carries out the recorded VM exit. */
function leaveGuest(): i32 {
  if (load<u32>(HOOKS) & HookBit.VmExit) {
    const taken = call(Callback.VmExit, load<u32>(XR_REASON), 0, 0);
    if (load<u32>(STOP) & StopBit.Host) return hostStop();
    if (taken) {
      discard();
      forgetHits();
      store<u32>(STOP, load<u32>(STOP) & ~(StopBit.Event | StopBit.Exit | StopBit.Leave | StopBit.Repeat));
      store<u64>(WORK, load<u64>(WORK) + 1);
      store<u32>(EXTRA, 1);
      return GO_ON;
    }
  }
  Staged.drop();
  forgetHits();
  store<u32>(STOP, load<u32>(STOP) & ~(StopBit.Event | StopBit.Commit | StopBit.Leave | StopBit.Exit | StopBit.Repeat));
  takeExit();
  store<u32>(DELIVERING, 0);
  store<u32>(EV_INJECTED, 0);
  if (codeWritesPending()) drainCodeWrites();
  store<u32>(EXTRA, 1);
  if (!(load<u32>(STOP) & StopBit.Host)) return GO_ON;
  disarmTrap();
  store<u32>(STOP, 0);
  return load<u32>(STOP_CODE);
}

function hostStop(): i32 {
  discard();
  forgetHits();
  disarmTrap();
  store<u32>(STOP, 0);
  return load<u32>(STOP_CODE);
}

/** The next instruction is to run by itself. */
let runAlone: bool = false;

export function takeAlone(): bool {
  const alone = runAlone;
  runAlone = false;
  return alone;
}

/** Deals with whatever the stop word asks for. Registers are exact. Returns a RunCode or GO_ON. */
export function settle(): i32 {
  const stop = load<u32>(STOP);
  if (stop & StopBit.Host) return hostStop();
  if (stop & StopBit.Alone) {
    discard();
    store<u32>(DEBUG_HITS, 0);
    store<u32>(STOP, 0);
    runAlone = true;
    return GO_ON;
  }
  if (stop & StopBit.Exit) return leaveGuest();
  if (stop & StopBit.Event) {
    // a fault drops the staged stores; INT n and traps have none or keep them
    if (load<u32>(EV_TYPE) == EventType.Trap) finishStores();
    else {
      discard();
      forgetHits();
    }
    return deliverOrExit();
  }
  takeHits();
  finishStores();
  store<u32>(STOP, load<u32>(STOP) & ~(StopBit.Leave | StopBit.Repeat));
  if (load<u32>(STOP)) return settle();
  return WatchHits.count() ? RunCode.Watchpoint : GO_ON;
}

/** The fault of an instruction breakpoint, lowest of what comes before an instruction; RF holds it back. */
function instructionBreakpoint(): bool {
  if (load<u32>(EFLAGS_REST) & FLAG_RF) return false;
  const linear = (load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) + load<u64>(RIP)) & load<u64>(LINEAR_MASK);
  const hits = codeBreakpoints(linear);
  if (!hits) return false;
  raise(VEC_DB);
  store<u64>(EV_PAYLOAD, <u64>hits);
  return true;
}

/** The host's timers are due. It is a unit of work, so that a processor that idles for ever ends its slice. */
export function hostDeadline(): i32 {
  store<u64>(WORK, load<u64>(WORK) + 1);
  return RunCode.Deadline;
}

/** Is there nothing at this boundary that could be delivered, exit or hold an event back? */
export function nothingWaits(): bool {
  const waits =
    load<u32>(EV_INJECTED) |
    load<u32>(EV_DEFERRED) |
    load<u32>(TRAP_EXIT) |
    load<u32>(INTERRUPTIBILITY) |
    load<u32>(ACTIVITY) |
    load<u32>(PENDING_INTR) |
    load<u32>(PENDING_NMI) |
    load<u32>(DEBUG_WATCH) |
    load<u32>(MTF) |
    load<u32>(VIRTUAL_INTERRUPT) |
    u32(load<u64>(PENDING_DEBUG) != 0) |
    u32(load<u64>(COUNT) >= load<u64>(DEADLINE));
  return !waits && !boundaryControls();
}

/**
 * Between two instructions, when something waits: pending debug traps, NMI, external interrupts, window exits, in SDM priority order.
 * GO_ON means that the next instruction may run, or that one event has been delivered (WORK has risen).
 */
export function boundary(): i32 {
  if (pendingInjection()) return settle();
  if (load<u32>(EV_DEFERRED)) {
    store<u32>(EV_DEFERRED, 0);
    stop(StopBit.Event);
    return settle();
  }
  if (trapLikeExit() || trapExits()) return leaveGuest();
  const shadow = interruptShadow();
  let again: u32 = shadow || load<u32>(MTF) ? LOOK_AFTER_ONE : 0;
  if (load<u64>(PENDING_DEBUG) && !(shadow & 2)) {
    const bits = load<u64>(PENDING_DEBUG);
    store<u64>(PENDING_DEBUG, 0);
    raiseDebugTrap(bits & 0xe00f);
    return settle();
  }
  if (boundaryCheck()) return settle();
  if (wantsBoundary()) again |= LOOK_AFTER_BLOCK;
  if (load<u32>(PENDING_NMI)) {
    again |= LOOK_AFTER_BLOCK;
    if (!shadow && !(load<u32>(INTERRUPTIBILITY) & 8)) {
      store<u32>(PENDING_NMI, 0);
      store<u32>(ACTIVITY, 0);
      raiseSoft(EventType.Nmi, 2, 0);
      return settle();
    }
  }
  const intr = load<u32>(PENDING_INTR);
  if (intr) {
    again |= LOOK_AFTER_BLOCK;
    if (!shadow && load<u32>(EFLAGS_REST) & FLAG_IF) {
      const vector = takeInterrupt();
      if (load<u32>(STOP) & StopBit.Host) return hostStop();
      store<u32>(ACTIVITY, 0);
      raiseSoft(EventType.External, vector, 0);
      return settle();
    }
  }
  const activity = load<u32>(ACTIVITY);
  if (activity != 0) {
    const until = idle();
    if (until == Idle.Exit) return leaveGuest();
    if (until == Idle.Host) return hostDeadline();
  }
  if (activity == 1) return RunCode.Halt;
  if (activity != 0) return RunCode.Shutdown;
  if (load<u32>(DEBUG_WATCH) & WatchBit.Code) {
    again |= LOOK_AFTER_ONE;
    if (!(shadow & BLOCK_MOV_SS) && instructionBreakpoint()) return settle();
  }
  store<u32>(EXTRA, again);
  return GO_ON;
}
