// The event in EV_*, taken out of its record before delivery so that a fault during delivery can use the record.
import {
  CR2,
  EV_ERROR,
  EV_HAS_ERROR,
  EV_ILEN,
  EV_INJECTED,
  EV_PAYLOAD,
  EV_TYPE,
  EV_VECTOR,
  EventType,
  INTERRUPTIBILITY,
  RIP,
  STOP,
  StopBit,
} from "../abi/state";
import { BLOCK_NMI, DR6_BD, ERR_EXT, FLAG_RF, UNBLOCKED_BY_IRET, VEC_DB, VEC_PF } from "../abi/x86";
import { getRflags } from "../state/flags";
import { raiseError } from "../state/stop";
import { recordDebugException } from "../system/debug";

export let vector: u32 = 0;
export let hasError: bool = false;
export let errorCode: u32 = 0;
/** EXT bit of error codes: the event is not a software interrupt, INT3 or INTO. */
export let ext: u32 = 0;
/** INT n, INT3 and INTO need a gate with DPL >= CPL. */
export let checksDpl: bool = false;
/** RIP and RFLAGS that the frame holds. */
export let returnRip: u64 = 0;
export let flagsImage: u64 = 0;
let type: u32 = 0;

/** Takes the record; CR2, DR6 and DR7.GD change here, before the IDT is read. */
export function takeEvent(): void {
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Event);
  store<u32>(INTERRUPTIBILITY, load<u32>(INTERRUPTIBILITY) & ~UNBLOCKED_BY_IRET);
  type = load<u32>(EV_TYPE);
  vector = load<u32>(EV_VECTOR) & 0xff;
  hasError = load<u32>(EV_HAS_ERROR) != 0;
  errorCode = load<u32>(EV_ERROR);
  const injected = load<u32>(EV_INJECTED) != 0;
  const payload = load<u64>(EV_PAYLOAD);
  checksDpl = type == EventType.SoftInt || type == EventType.SoftException;
  ext = checksDpl ? 0 : ERR_EXT;
  const software = checksDpl || type == EventType.PrivSoft;
  returnRip = load<u64>(RIP) + (software ? <u64>load<u32>(EV_ILEN) : 0);
  flagsImage = imageOfFlags(software, injected, payload);
  if (injected) return;
  if (type == EventType.Exception && vector == VEC_PF) store<u64>(CR2, payload);
  if ((type == EventType.Exception || type == EventType.Trap) && vector == VEC_DB) recordDebugException(payload);
}

/** RF is 1 for faults but instruction breakpoints; a trap has what the instruction left: 1 inside a REP. @sdm 3B "Instruction-Breakpoint Exception Condition" */
function imageOfFlags(software: bool, injected: bool, payload: u64): u64 {
  const flags = getRflags();
  if (injected) return flags;
  if (type == EventType.Trap) return flags;
  if (software) return flags & ~(<u64>FLAG_RF);
  if (type != EventType.Exception || (vector == VEC_DB && !(payload & DR6_BD))) return flags;
  return flags | FLAG_RF;
}

/** Delivery of an NMI blocks further ones until IRET. */
export function noteDelivered(): void {
  if (type == EventType.Nmi) store<u32>(INTERRUPTIBILITY, load<u32>(INTERRUPTIBILITY) | BLOCK_NMI);
}

/** Records a fault of the delivery itself. */
export function fail(faultVector: u32, error: u32): bool {
  raiseError(faultVector, error);
  return false;
}
