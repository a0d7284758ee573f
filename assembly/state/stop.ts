// The stop word: how an instruction asks run/ for anything but "go on".
import {
  EV_ERROR,
  EV_HAS_ERROR,
  EV_ILEN,
  EV_INJECTED,
  EV_PAYLOAD,
  EV_TYPE,
  EV_VECTOR,
  EventType,
  STOP,
  STOP_CODE,
  StopBit,
} from "../abi/state";

/** True when anything stopped the current instruction or asks to leave its block. */
export function stopped(): bool {
  return load<u32>(STOP) != 0;
}

/** True when the current instruction must not complete: a fault, a VM exit or the host stopped it. */
export function aborted(): bool {
  return (load<u32>(STOP) & (StopBit.Event | StopBit.Exit | StopBit.Host | StopBit.Alone)) != 0;
}

export function stop(bits: u32): void {
  store<u32>(STOP, load<u32>(STOP) | bits);
}

function event(type: u32, vector: u32, hasError: u32, error: u32, payload: u64): void {
  store<u32>(EV_TYPE, type);
  store<u32>(EV_VECTOR, vector);
  store<u32>(EV_HAS_ERROR, hasError);
  store<u32>(EV_ERROR, error);
  store<u32>(EV_ILEN, 0);
  store<u32>(EV_INJECTED, 0);
  store<u64>(EV_PAYLOAD, payload);
  stop(StopBit.Event);
}

/** Hardware exception without an error code, of the fault kind: the instruction has no effect. */
export function raise(vector: u32): void {
  event(EventType.Exception, vector, 0, 0, 0);
}

/** Hardware exception with an error code, of the fault kind. */
export function raiseError(vector: u32, error: u32): void {
  event(EventType.Exception, vector, 1, error, 0);
}

/** #PF; CR2 is written at delivery, not here. */
export function raisePageFault(linear: u64, error: u32): void {
  event(EventType.Exception, 14, 1, error, linear);
}

/** INT n, INT1, INT3, INTO: the instruction completes; ilen is its length for the VMX fields. */
export function raiseSoft(type: u32, vector: u32, ilen: u32): void {
  event(type, vector, 0, 0, 0);
  store<u32>(EV_ILEN, ilen);
}

/** #DB of the trap kind (after the instruction) with its DR6 bits. */
export function raiseDebugTrap(dr6: u64): void {
  event(EventType.Trap, 1, 0, 0, dr6);
}

/** Stops with a RunCode before the current instruction has any effect. */
export function stopHost(code: u32): void {
  store<u32>(STOP_CODE, code);
  stop(StopBit.Host);
}
