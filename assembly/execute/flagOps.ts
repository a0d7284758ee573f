// CLC STC CMC CLD STD LAHF SAHF WAIT.
import { CR0, EFLAGS_REST, RAX } from "../abi/state";
import { arithmeticFlags, FLAG_DF, FLAG_OF, getCF, getOF, setArithmetic, setCF } from "../state/flags";
import { raise } from "../state/stop";

export function clc(_rec: usize): void {
  setCF(0);
}
export function stc(_rec: usize): void {
  setCF(1);
}
export function cmc(_rec: usize): void {
  setCF(getCF() ^ 1);
}
export function cld(_rec: usize): void {
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~FLAG_DF);
}
export function std(_rec: usize): void {
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) | FLAG_DF);
}
export function lahf(_rec: usize): void {
  store<u8>(RAX + 1, (arithmeticFlags() & 0xd5) | 2);
}
export function sahf(_rec: usize): void {
  setArithmetic((u32(load<u8>(RAX + 1)) & 0xd5) | (getOF() ? FLAG_OF : 0));
}

/** #NM when CR0.MP and CR0.TS are set; nothing else to wait for without an x87 unit. */
export function wait(_rec: usize): void {
  if ((load<u64>(CR0) & 0xa) == 0xa) raise(7);
}
