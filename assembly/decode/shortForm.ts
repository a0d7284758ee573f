// Which short form a record has, and what that form wants in the record.
import { R_ADDR_SHIFT, R_BASE, R_DISP, R_DST, R_FLAGS, R_IMM, R_SEG, R_SIZE, RecordFlag } from "../abi/record";
import { GPR, ModeBit, RBP, RSP, SEG_SS } from "../abi/state";
import {
  FAST_CALL,
  FAST_EITHER,
  FAST_EITHER_READ,
  FAST_JCC,
  FAST_OF,
  FAST_OTHERS,
  FAST_PUSH,
  FAST_READ,
  FAST_READ_OPERAND,
  FAST_STRING,
} from "./fast.generated";

/** What such a form takes from the stack or puts there is its memory operand. */
function stackOperand(rec: usize, push: bool, leave: bool, mode: u32): void {
  store<u8>(rec, SEG_SS >> 3, R_SEG);
  store<u8>(rec, u32((leave ? RBP : RSP) - GPR), R_BASE);
  if (leave) store<u8>(rec, u32(RBP - GPR), R_DST);
  if (push) store<i64>(rec, -i64(load<u8>(rec, R_SIZE)), R_DISP);
  store<u8>(rec, mode & ModeBit.Code64 ? 0 : mode & ModeBit.Stack32 ? 32 : 48, R_ADDR_SHIFT);
}

/** R_FAST of a record that is complete but for that. */
export function shortForm(rec: usize, op: u32, opcode: u32, mode: u32): u32 {
  const fast = u32(load<u8>(FAST_OF + op));
  const flags = u32(load<u8>(rec, R_FLAGS));
  if (flags & RecordFlag.Mem) {
    if (fast >= FAST_EITHER && fast < FAST_OTHERS) return fast + (FAST_EITHER_READ - FAST_EITHER);
    if (fast - FAST_JCC < 16) return 0; // CMOVcc
  }
  const push = fast - FAST_PUSH < 2;
  if (push || fast - FAST_READ < FAST_READ_OPERAND - FAST_READ) stackOperand(rec, push, opcode == 0xc9, mode);
  if (fast == FAST_STRING) store<u8>(rec, (opcode >> 1) & 7, R_IMM);
  // where the target of a relative branch is truncated
  const narrow = load<u8>(rec, R_SIZE) == 2 && mode & ModeBit.Code32 && flags & RecordFlag.Ends;
  return narrow && fast <= FAST_CALL ? 0 : fast;
}
