// Software interrupts. @sdm 2A "INT n/INTO/INT3/INT1-Call to Interrupt Procedure"
// Delivery, and with it the gate's privilege check, is in events/.
import { R_IMM, R_LEN } from "../abi/record";
import { EventType } from "../abi/state";
import { VEC_BP, VEC_DB, VEC_GP, VEC_OF, VEC_UD } from "../abi/x86";
import { getOF } from "../state/flags";
import { raise, raiseError, raiseSoft } from "../state/stop";
import { vm86 } from "../system/mode";
import { iopl } from "../system/tss";

export function intN(rec: usize): void {
  if (vm86() && iopl() < 3) raiseError(VEC_GP, 0);
  else raiseSoft(EventType.SoftInt, load<u8>(rec, R_IMM), load<u8>(rec, R_LEN));
}

/** INT3 is not IOPL-sensitive. */
export function int3(rec: usize): void {
  raiseSoft(EventType.SoftException, VEC_BP, load<u8>(rec, R_LEN));
}

export function int1(rec: usize): void {
  raiseSoft(EventType.PrivSoft, VEC_DB, load<u8>(rec, R_LEN));
}

export function into(rec: usize): void {
  if (getOF()) raiseSoft(EventType.SoftException, VEC_OF, load<u8>(rec, R_LEN));
}

export function ud2(_rec: usize): void {
  raise(VEC_UD);
}
