// VM entry. @sdm 3C "VM Entries"
//
// enterGuest() is VMLAUNCH and VMRESUME after their #UD, non-root and CPL checks. On VmxResult.Succeed the processor has
// left the instruction: it is in non-root operation (STOP has Leave, pendingInjection() raises what is injected), or the
// entry failed late, which is a VM exit that has already been taken.
import {
  ERROR_VM_ENTRY_EVENTS_BLOCKED_BY_MOV_SS,
  ERROR_VM_ENTRY_INVALID_CONTROL_FIELD,
  ERROR_VM_ENTRY_INVALID_HOST_STATE_FIELD,
  ERROR_VMLAUNCH_CURRENT_VMCS_NOT_CLEAR,
  ERROR_VMRESUME_CURRENT_VMCS_NOT_LAUNCHED,
  REASON_ENTRY_FAIL_GUEST_STATE,
  REASON_ENTRY_FAIL_MSR_LOADING,
} from "../abi/exits";
import { VmxResult } from "../abi/run";
import {
  ACTIVITY,
  COUNT,
  CR2,
  DELIVERING,
  ENTRIES,
  EV_ERROR,
  EV_HAS_ERROR,
  EV_ILEN,
  EV_INJECTED,
  EV_PAYLOAD,
  EV_TYPE,
  EV_VECTOR,
  EventType,
  EXTRA,
  INTERRUPTIBILITY,
  PAUSE_LAST,
  PENDING_DEBUG,
  SHADOW_COUNT,
  StopBit,
  VMX_STATE,
  VmxBit,
} from "../abi/state";
import {
  V_ENTRY_EXCEPTION_ERROR_CODE,
  V_ENTRY_INSTRUCTION_LENGTH,
  V_ENTRY_INTERRUPTION_INFO,
  V_ENTRY_MSR_LOAD_ADDRESS,
  V_ENTRY_MSR_LOAD_COUNT,
  V_GUEST_ACTIVITY_STATE,
  V_GUEST_INTERRUPTIBILITY_STATE,
  V_GUEST_PENDING_DEBUG_EXCEPTIONS,
} from "../abi/vmcsLayout";
import { Activity, BLOCK_MOV_SS, BLOCK_NMI, BLOCK_STI, VEC_PF } from "../abi/x86";
import { stop } from "../state/stop";
import { CpuidAnswers } from "../system/cpuidCache";
import { interruptShadow } from "../system/shadow";
import {
  CONTROLS_DIRTY,
  checked,
  dirtyGroups,
  dropImage,
  GUEST_DIRTY,
  HOST_DIRTY,
  hostImage,
  markDirty,
} from "./cache";
import { noteEntry } from "./entryAgain";
import { controlsValid, injectionValid } from "./entryControls";
import { checkGuestState, injecting, STATE_VALID, vectoring } from "./entryGuest";
import { addressSpaceFits, hostStateValid } from "./entryHost";
import { loadGuestState } from "./entryLoad";
import { failEntry } from "./exit";
import { NO_PAUSE } from "./intercept";
import { INFO_ERROR, INFO_VECTOR, infoType } from "./interruptionInfo";
import { loadMsrList } from "./msrLists";
import { vmFailInvalid, vmFailValid } from "./result";
import { startTimer, startTrap } from "./timer";
import { startVirtualApic, thresholdInvalid } from "./virtualApic";
import { hasVmcs, isShadowVmcs, launched, setLaunched, vmcs32, vmcs64 } from "./vmcs";

/** Blocking, activity and pending debug exceptions. @sdm 3C "Updating Non-Register State" */
function loadNonRegister(completed: u32): void {
  const blocking = vmcs32(V_GUEST_INTERRUPTIBILITY_STATE) & (BLOCK_STI | BLOCK_MOV_SS | BLOCK_NMI);
  const pending = vmcs64(V_GUEST_PENDING_DEBUG_EXCEPTIONS);
  if (!vectoring()) {
    store<u32>(INTERRUPTIBILITY, blocking);
    store<u32>(ACTIVITY, vmcs32(V_GUEST_ACTIVITY_STATE));
    store<u64>(PENDING_DEBUG, pending);
  } else {
    const type = infoType(vmcs32(V_ENTRY_INTERRUPTION_INFO));
    // software interrupts keep the exceptions that MOV SS held back
    const keeps = (blocking & BLOCK_MOV_SS) != 0 && (type == EventType.SoftInt || type == EventType.PrivSoft);
    store<u32>(INTERRUPTIBILITY, (blocking & BLOCK_NMI) | (type == EventType.Nmi ? BLOCK_NMI : 0));
    store<u32>(ACTIVITY, Activity.Active);
    store<u64>(PENDING_DEBUG, keeps ? pending : 0);
  }
  store<u64>(SHADOW_COUNT, load<u64>(COUNT) + <u64>completed);
  store<u32>(EXTRA, 1);
}

/** Hands the injected event to run/boundary.ts. @sdm 3C "Event Injection" */
function inject(): void {
  const info = vmcs32(V_ENTRY_INTERRUPTION_INFO);
  const type = infoType(info);
  const vector = info & INFO_VECTOR;
  const hasError = (info & INFO_ERROR) != 0;
  store<u32>(EV_TYPE, type);
  store<u32>(EV_VECTOR, vector);
  store<u32>(EV_HAS_ERROR, hasError);
  store<u32>(EV_ERROR, hasError ? vmcs32(V_ENTRY_EXCEPTION_ERROR_CODE) : 0);
  store<u32>(EV_ILEN, type >= <u32>EventType.SoftInt ? vmcs32(V_ENTRY_INSTRUCTION_LENGTH) : 0);
  store<u64>(EV_PAYLOAD, type == EventType.Exception && vector == VEC_PF ? load<u64>(CR2) : 0);
  store<u32>(EV_INJECTED, 1);
}

/**
 * Raises the event that VM entry injected, if it has not been delivered yet. run/boundary.ts asks before anything else
 * at a boundary: VMLAUNCH in guest code has to complete first.
 */
export function pendingInjection(): bool {
  if (!load<u32>(EV_INJECTED)) return false;
  stop(StopBit.Event);
  return true;
}

/** Controls and host state: 0, or the error number. Groups that were not written since their last check are good. */
function checkControlsAndHost(): u32 {
  const dirty = dirtyGroups();
  if (dirty & CONTROLS_DIRTY) {
    if (!controlsValid()) return ERROR_VM_ENTRY_INVALID_CONTROL_FIELD;
    // the other checks depend on the controls
    markDirty(HOST_DIRTY | GUEST_DIRTY);
    checked(CONTROLS_DIRTY);
  }
  if (!injectionValid() || thresholdInvalid()) return ERROR_VM_ENTRY_INVALID_CONTROL_FIELD;
  if (dirtyGroups() & HOST_DIRTY) {
    if (!hostStateValid()) return ERROR_VM_ENTRY_INVALID_HOST_STATE_FIELD;
    dropImage(hostImage());
    checked(HOST_DIRTY);
  }
  return addressSpaceFits() ? 0 : ERROR_VM_ENTRY_INVALID_HOST_STATE_FIELD;
}

/**
 * VMLAUNCH (launch), or VMRESUME that enterAgain() has left. completed: instructions of the block up to and with this one
 * (R_INDEX + 1), 0 when the host calls, to which the exit then returns.
 */
export function enterGuest(launch: bool, completed: u32): u32 {
  if (!hasVmcs() || isShadowVmcs()) return vmFailInvalid();
  // a shadow holds at the start of a block only
  if (completed <= 1 && load<u32>(INTERRUPTIBILITY) && interruptShadow() & BLOCK_MOV_SS)
    return vmFailValid(ERROR_VM_ENTRY_EVENTS_BLOCKED_BY_MOV_SS);
  if (launch == launched()) {
    return vmFailValid(launch ? ERROR_VMLAUNCH_CURRENT_VMCS_NOT_CLEAR : ERROR_VMRESUME_CURRENT_VMCS_NOT_LAUNCHED);
  }
  const error = checkControlsAndHost();
  if (error) return vmFailValid(error);
  store<u32>(VMX_STATE, VmxBit.On | (completed == 0 ? VmxBit.HostEntered : 0));
  const invalid = checkGuestState();
  if (invalid != STATE_VALID) {
    failEntry(REASON_ENTRY_FAIL_GUEST_STATE, invalid);
    return VmxResult.Succeed;
  }
  store<u32>(VMX_STATE, load<u32>(VMX_STATE) | VmxBit.NonRoot);
  CpuidAnswers.forget();
  loadGuestState();
  const bad = loadMsrList(vmcs64(V_ENTRY_MSR_LOAD_ADDRESS), vmcs32(V_ENTRY_MSR_LOAD_COUNT));
  if (bad) {
    failEntry(REASON_ENTRY_FAIL_MSR_LOADING, bad);
    return VmxResult.Succeed;
  }
  if (launch) setLaunched(true);
  loadNonRegister(completed);
  store<u32>(DELIVERING, 0);
  store<u32>(EV_INJECTED, 0);
  store<u64>(PAUSE_LAST, NO_PAUSE);
  store<u64>(ENTRIES, load<u64>(ENTRIES) + 1);
  stop(StopBit.Leave);
  startTimer(load<u64>(COUNT) + <u64>completed);
  const vectored = vectoring();
  startTrap(injecting() && !vectored, vectored);
  startVirtualApic();
  noteEntry();
  if (vectored) inject();
  return VmxResult.Succeed;
}
