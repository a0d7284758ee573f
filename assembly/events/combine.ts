// A fault while an event was being delivered. @sdm 3A "Interrupt 8-Double Fault Exception (#DF)", table 6-5
import { CR2, DELIVERING, EV_PAYLOAD, EV_TYPE, EV_VECTOR, EventType } from "../abi/state";
import { VEC_CP, VEC_DE, VEC_DF, VEC_GP, VEC_NP, VEC_PF, VEC_SS, VEC_TS, VEC_VE } from "../abi/x86";
import { raiseError } from "../state/stop";

/** Results of combine(). */
export const COMBINE_AS_IS: u32 = 0;
export const COMBINE_DOUBLE_FAULT: u32 = 1;
export const COMBINE_TRIPLE_FAULT: u32 = 2;

const BENIGN: u32 = 0;
const CONTRIBUTORY: u32 = 1;
const PAGE_FAULT: u32 = 2;
const DOUBLE_FAULT: u32 = 3;

function classOf(vector: u32): u32 {
  switch (vector) {
    case VEC_DE:
    case VEC_TS:
    case VEC_NP:
    case VEC_SS:
    case VEC_GP:
    case VEC_CP:
      return CONTRIBUTORY;
    case VEC_PF:
    case VEC_VE:
      return PAGE_FAULT;
    case VEC_DF:
      return DOUBLE_FAULT;
    default:
      return BENIGN;
  }
}

/**
 * EV_* against the event in DELIVERING (interruption-information format). AS_IS: deliver EV_*; DOUBLE_FAULT: EV_* has
 * become #DF(0); TRIPLE_FAULT: shutdown. Called after the new exception was not intercepted.
 */
export function combine(): u32 {
  const delivering = load<u32>(DELIVERING);
  if (!(delivering >>> 31) || ((delivering >>> 8) & 7) != EventType.Exception) return COMBINE_AS_IS;
  if (load<u32>(EV_TYPE) != EventType.Exception) return COMBINE_AS_IS;
  const first = classOf(delivering & 0xff);
  const second = classOf(load<u32>(EV_VECTOR));
  if (first == BENIGN || second == BENIGN) return COMBINE_AS_IS;
  if (first == DOUBLE_FAULT) return COMBINE_TRIPLE_FAULT;
  if (first == CONTRIBUTORY && second == PAGE_FAULT) return COMBINE_AS_IS;
  // the second page fault has loaded CR2
  if (load<u32>(EV_VECTOR) == VEC_PF) store<u64>(CR2, load<u64>(EV_PAYLOAD));
  raiseError(VEC_DF, 0);
  return COMBINE_DOUBLE_FAULT;
}
