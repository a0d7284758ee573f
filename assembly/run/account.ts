// What completed when the interpreter comes back from records it ran.
import { R_FLAGS, R_INDEX, R_LEN, R_OP, RecordFlag } from "../abi/record";
import { COMM_BYTES, COMM_BYTES_LEN, COMM_RIP, RunCode } from "../abi/run";
import { COUNT, LINEAR_MASK, RIP, SEG_CS, SEGS, SG_EFFECTIVE, STOP, STOP_CODE, StopBit, WORK } from "../abi/state";
import { OP_END } from "../decode/table.generated";
import { insnRip, nextRip } from "../execute/operands";
import { fetchCode } from "./traps";

/** After dispatch(): counts what completed and makes RIP exact. */
export function account(rec: usize): void {
  const s = load<u32>(STOP);
  let done = u32(load<u8>(rec, R_INDEX));
  const ends = load<u8>(rec, R_FLAGS) & RecordFlag.Ends;
  if (s & (StopBit.Event | StopBit.Exit | StopBit.Host | StopBit.Repeat | StopBit.Alone)) {
    store<u64>(RIP, insnRip(rec));
    if (s & StopBit.Host && load<u32>(STOP_CODE) == RunCode.Unimplemented) noteUnimplemented(rec);
  } else {
    if (load<u16>(rec, R_OP) != OP_END) done++;
    if (!ends) store<u64>(RIP, nextRip(rec));
  }
  store<u64>(COUNT, load<u64>(COUNT) + done);
  store<u64>(WORK, load<u64>(WORK) + done);
}

/** COMM takes the place and bytes of an opcode that is not built. */
function noteUnimplemented(rec: usize): void {
  const length = u32(load<u8>(rec, R_LEN));
  store<u64>(COMM_RIP, load<u64>(RIP));
  let n: u32 = 0;
  const base = load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) + load<u64>(RIP);
  while (n < length) {
    const at = fetchCode((base + n) & load<u64>(LINEAR_MASK));
    if (at <= 1) break;
    store<u8>(COMM_BYTES + n, load<u8>(at));
    n++;
  }
  store<u32>(COMM_BYTES_LEN, n);
}
