// What completed when the interpreter comes back from records it ran.
import { OP_END, R_FLAGS, R_INDEX, R_OP, RecordFlag } from "../abi/record";
import { COUNT, RIP, STOP, StopBit, WORK } from "../abi/state";
import { insnRip, nextRip } from "./operands";

/** After dispatch(): counts what completed and makes RIP exact. */
export function account(rec: usize): void {
  const s = load<u32>(STOP);
  let done = u32(load<u8>(rec, R_INDEX));
  const ends = load<u8>(rec, R_FLAGS) & RecordFlag.Ends;
  if (s & (StopBit.Event | StopBit.Exit | StopBit.Host | StopBit.Repeat | StopBit.Alone)) {
    store<u64>(RIP, insnRip(rec));
  } else {
    if (load<u16>(rec, R_OP) != OP_END) done++;
    if (!ends) store<u64>(RIP, nextRip(rec));
  }
  store<u64>(COUNT, load<u64>(COUNT) + done);
  store<u64>(WORK, load<u64>(WORK) + done);
}
