// VM exits that no instruction asks for: events. @sdm 3C "Other Causes of VM Exits"
//
// For run/boundary.ts. Every function that returns true has written the exit record and set StopBit.Exit; takeExit()
// (exit.ts) is to follow.
//   interceptEvent()     an event is in EV_*, not delivered yet. Call it for every event, the #DF made of two faults
//                        included, before delivery; DELIVERING still describes the event whose delivery it interrupted.
//                        False for an event that VM entry injected: deliver it.
//   boundaryCheck()      at an instruction boundary of a guest, after pending debug exceptions: windows, NMI, external
//                        interrupt, in the order of priority. Or it has raised a virtual interrupt (StopBit.Event). An NMI or interrupt that the guest takes itself is left alone.
//   wantsBoundary()      boundaryCheck() must be called at the next boundary though nothing else is pending.
//   tripleFaultExits()   an exception during the delivery of #DF. False: the processor shuts down.
//   initSignal()         INIT: 0 = reset the processor, 1 = blocked in root operation, 2 = exit recorded.
//   iretUnblocksNmi()    IRET ends blocking by NMI (bit 3 of the interruptibility state, virtual or not).
import {
  EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT,
  PIN_EXTERNAL_INTERRUPT_EXITING,
  PIN_NMI_EXITING,
  PIN_VIRTUAL_NMIS,
  PRIMARY_INTERRUPT_WINDOW_EXITING,
  PRIMARY_MONITOR_TRAP_FLAG,
  PRIMARY_NMI_WINDOW_EXITING,
} from "../abi/controls";
import {
  REASON_EXCEPTION_OR_NMI,
  REASON_EXTERNAL_INTERRUPT,
  REASON_INIT_SIGNAL,
  REASON_INTERRUPT_WINDOW,
  REASON_NMI_WINDOW,
  REASON_TRIPLE_FAULT,
} from "../abi/exits";
import {
  ACTIVITY,
  COUNT,
  CR0,
  DEADLINE,
  DELIVERING,
  EFLAGS_REST,
  EV_ERROR,
  EV_HAS_ERROR,
  EV_ILEN,
  EV_INJECTED,
  EV_PAYLOAD,
  EV_TYPE,
  EV_VECTOR,
  EventType,
  INTERRUPTIBILITY,
  PENDING_INTR,
  PENDING_NMI,
  VIRTUAL_INTERRUPT,
  VMX_STATE,
  VmxBit,
  XR_INTR_ERROR,
  XR_INTR_INFO,
} from "../abi/state";
import { V_EXCEPTION_BITMAP, V_PAGE_FAULT_ERROR_CODE_MASK, V_PAGE_FAULT_ERROR_CODE_MATCH } from "../abi/vmcsLayout";
import {
  Activity,
  BLOCK_MOV_SS,
  BLOCK_NMI,
  CR0_PE,
  FLAG_IF,
  UNBLOCKED_BY_IRET,
  VEC_DB,
  VEC_DF,
  VEC_NMI,
  VEC_PF,
} from "../abi/x86";
import { takeInterrupt } from "../apic/local";
import { recordExit } from "../state/exitRecord";
import { interruptShadow } from "../system/shadow";
import { exitControl, nonRoot, pin, primary } from "./controls";
import { INFO_NMI_UNBLOCKED, interruptionInfo } from "./interruptionInfo";
import { timerExits } from "./timer";
import { processPosted, takeVirtualInterrupt } from "./virtualApic";
import { vmcs32 } from "./vmcs";

/** B3-B0, BD and BS: what the qualification of a #DB exit holds (table 27-1). */
const DEBUG_QUALIFICATION: u64 = 0x600f;

function exceptionExits(vector: u32): bool {
  const bit = ((vmcs32(V_EXCEPTION_BITMAP) >> vector) & 1) != 0;
  if (vector != VEC_PF) return bit;
  const matches = (load<u32>(EV_ERROR) & vmcs32(V_PAGE_FAULT_ERROR_CODE_MASK)) == vmcs32(V_PAGE_FAULT_ERROR_CODE_MATCH);
  return matches == bit;
}

function eventExits(type: u32, vector: u32): bool {
  switch (type) {
    case EventType.External:
      return pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    case EventType.Nmi:
      return pin(PIN_NMI_EXITING);
    case EventType.SoftInt:
      return false;
    default:
      return vector < 32 && exceptionExits(vector);
  }
}

/** The exit is due to a fault of an IRET that has ended blocking by NMI (bit 12 of the exit's information). */
export function unblockedByIret(): bool {
  return (load<u32>(INTERRUPTIBILITY) & UNBLOCKED_BY_IRET) != 0 && !(load<u32>(DELIVERING) >>> 31);
}

/** Does the event in EV_* cause a VM exit? */
export function interceptEvent(): bool {
  if (!nonRoot()) return false;
  if (load<u32>(EV_INJECTED)) return false;
  const type = load<u32>(EV_TYPE);
  const vector = load<u32>(EV_VECTOR);
  if (!eventExits(type, vector)) return false;
  if (type == EventType.External) {
    externalInterrupt(vector);
    return true;
  }
  const hardware = type == EventType.Exception || type == EventType.Trap;
  let qualification: u64 = 0;
  if (hardware && vector == VEC_PF) qualification = load<u64>(EV_PAYLOAD);
  if (hardware && vector == VEC_DB) qualification = load<u64>(EV_PAYLOAD) & DEBUG_QUALIFICATION;
  const software = type == EventType.SoftException || type == EventType.PrivSoft;
  recordExit(REASON_EXCEPTION_OR_NMI, qualification, software ? load<u32>(EV_ILEN) : 0);
  const hasError = load<u32>(EV_HAS_ERROR) != 0 && (load<u64>(CR0) & CR0_PE) != 0;
  let info = interruptionInfo(type, vector, hasError);
  if (hardware && vector != VEC_DF && unblockedByIret()) info |= INFO_NMI_UNBLOCKED;
  store<u32>(XR_INTR_INFO, info);
  store<u32>(XR_INTR_ERROR, hasError ? load<u32>(EV_ERROR) : 0);
  // a double fault that exits itself did not interrupt the delivery of an event
  if (hardware && vector == VEC_DF) store<u32>(DELIVERING, 0);
  return true;
}

/** With "acknowledge interrupt on exit" the vector is taken and reported; else the interrupt stays pending. */
function externalInterrupt(vector: u32): void {
  recordExit(REASON_EXTERNAL_INTERRUPT, 0, 0);
  if (!exitControl(EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT)) return;
  store<u32>(XR_INTR_INFO, interruptionInfo(EventType.External, vector, false));
}

function nmi(): void {
  store<u32>(PENDING_NMI, 0);
  recordExit(REASON_EXCEPTION_OR_NMI, 0, 0);
  store<u32>(XR_INTR_INFO, interruptionInfo(EventType.Nmi, VEC_NMI, false));
}

/** Events at an instruction boundary that make a guest exit. Order: @sdm 3C "Other Causes of VM Exits" */
export function boundaryCheck(): bool {
  if (!nonRoot()) return false;
  const activity = load<u32>(ACTIVITY);
  if (activity == Activity.WaitForSipi) return false;
  if (
    !(load<u32>(PENDING_NMI) | load<u32>(PENDING_INTR)) &&
    load<u64>(COUNT) < load<u64>(DEADLINE) &&
    !wantsBoundary()
  ) {
    return false;
  }
  const shadow = interruptShadow();
  const nmiBlocked = (load<u32>(INTERRUPTIBILITY) & BLOCK_NMI) != 0;
  // higher: INIT, monitor trap flag, debug traps
  if (timerExits()) return true;
  if (primary(PRIMARY_NMI_WINDOW_EXITING) && !nmiBlocked && !(shadow & BLOCK_MOV_SS)) {
    recordExit(REASON_NMI_WINDOW, 0, 0);
    return true;
  }
  if (load<u32>(PENDING_NMI) && pin(PIN_NMI_EXITING) && !(shadow & BLOCK_MOV_SS)) {
    // bit 3 is the guest's own with virtual NMIs: it does not hold back the physical NMI
    if (pin(PIN_VIRTUAL_NMIS) || !nmiBlocked) {
      nmi();
      return true;
    }
  }
  if (activity == Activity.Shutdown || shadow) return false;
  if (load<u32>(PENDING_NMI) && !nmiBlocked) return false; // the guest takes it first
  if (primary(PRIMARY_INTERRUPT_WINDOW_EXITING) && load<u32>(EFLAGS_REST) & FLAG_IF) {
    recordExit(REASON_INTERRUPT_WINDOW, 0, 0);
    return true;
  }
  if (takeVirtualInterrupt()) return true;
  const pending = load<u32>(PENDING_INTR);
  if (!pending || !pin(PIN_EXTERNAL_INTERRUPT_EXITING)) return false;
  const vector = exitControl(EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT) ? takeInterrupt() : 0;
  if (processPosted(vector)) return takeVirtualInterrupt();
  externalInterrupt(vector);
  return true;
}

/** A guest with a control that acts at every boundary. */
export function boundaryControls(): bool {
  return (
    nonRoot() && primary(PRIMARY_INTERRUPT_WINDOW_EXITING | PRIMARY_NMI_WINDOW_EXITING | PRIMARY_MONITOR_TRAP_FLAG)
  );
}

export function wantsBoundary(): bool {
  return (
    nonRoot() &&
    (primary(PRIMARY_INTERRUPT_WINDOW_EXITING | PRIMARY_NMI_WINDOW_EXITING) || load<u32>(VIRTUAL_INTERRUPT) != 0)
  );
}

export function tripleFaultExits(): bool {
  if (!nonRoot()) return false;
  recordExit(REASON_TRIPLE_FAULT, 0, 0);
  store<u32>(DELIVERING, 0);
  return true;
}

export function initSignal(): u32 {
  const state = load<u32>(VMX_STATE);
  if (!(state & VmxBit.On)) return 0;
  if (!(state & VmxBit.NonRoot)) return 1;
  recordExit(REASON_INIT_SIGNAL, 0, 0);
  return 2;
}

export function iretUnblocksNmi(): bool {
  return !nonRoot() || !pin(PIN_NMI_EXITING) || pin(PIN_VIRTUAL_NMIS);
}
