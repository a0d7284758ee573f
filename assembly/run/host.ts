// What the host does to the processor between two runs.
import { COUNT, WORK } from "../abi/state";
import { noteWrites } from "../memory/frames";
import { drainCodeWrites } from "./boundary";

/** Must follow a host write into guest frames. */
export function drainHostWrites(host: u32, bytes: u32): void {
  noteWrites(host, bytes);
  drainCodeWrites();
}

/** Counts instructions the host completed for the guest. */
export function retire(instructions: u32): void {
  store<u64>(COUNT, load<u64>(COUNT) + instructions);
  store<u64>(WORK, load<u64>(WORK) + instructions);
}
