// Delivery of the event in EV_* through the IVT or IDT. Only run/boundary.ts calls it, after the event was not intercepted.
import { ACTIVITY, CPL } from "../abi/state";
import { longMode, protectionEnabled } from "../system/mode";
import { clearShadow } from "../system/shadow";
import { checksDpl, errorCode, flagsImage, hasError, noteDelivered, returnRip, takeEvent, vector } from "./event";
import { deliverLong } from "./long";
import { deliverProtected } from "./protected";
import { deliverReal } from "./real";
import { deliverShort } from "./short";

function deliverAnyway(): bool {
  if (!protectionEnabled()) return deliverReal();
  return longMode() ? deliverLong() : deliverProtected();
}

/**
 * Delivers the event. RIP must be that of the instruction for faults and software events (INT n adds its EV_ILEN), of the
 * next one otherwise. True: the handler is the next instruction; staged writes wait for commit. False: nothing but
 * CR2, DR6 and DR7 changed and the stop word holds the new event, exit or host stop.
 * Counts and DELIVERING are the caller's.
 */
export function deliverEvent(): bool {
  takeEvent();
  const level = checksDpl ? load<u32>(CPL) : 0;
  const done = deliverShort(vector, level, returnRip, flagsImage, hasError, errorCode) || deliverAnyway();
  if (!done) return false;
  noteDelivered();
  clearShadow();
  store<u32>(ACTIVITY, 0);
  return true;
}
