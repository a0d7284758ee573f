// What a region calls the interpreter for.
import { R_FLAGS, RECORD_SIZE, RecordFlag } from "../abi/record";
import { beginInstruction, blockCount, blockRip, constR, KNOWN_NONE, place, setKnown, used, written } from "./context";
import { get, I32_SUB, i32c, i64c, op, set, unsigned, W_CALL, W_RETURN } from "./emit";
import { forgetChecked } from "./groups";
import { branch, close, LABEL_EXIT, leaveBehind, openIf } from "./labels";
import { L_COUNT, L_PC } from "./locals";
import { makeSite } from "./site";
import { loadRegisters, storeRegisters } from "./spill";

/** Functions 0 and 3 of a generated module: jitStep and jitPlain. */
const CALL_STEP: u32 = 0;
const CALL_PLAIN: u32 = 3;

function patchable(first: usize, last: usize): bool {
  for (let rec = first; rec <= last; rec += RECORD_SIZE) {
    if (load<u8>(rec, R_FLAGS) & (RecordFlag.SoftImm | RecordFlag.SoftDisp)) return true;
  }
  return false;
}

/** Has the interpreter run the records [first, last] of a block; the region returns when it must not go on. */
export function callInterpreter(first: usize, last: usize): void {
  if (patchable(first, last)) {
    // a copy would not follow the patches
    beginInstruction(first);
    place();
    branch(LABEL_EXIT);
    return;
  }
  forgetChecked();
  storeRegisters(written);
  i32c(makeSite(first, last));
  i64c(i64(blockRip));
  get(L_COUNT);
  i32c(blockCount);
  op(I32_SUB);
  op(W_CALL);
  unsigned(CALL_STEP);
  openIf();
  i32c(0);
  op(W_RETURN);
  close();
  loadRegisters(used);
  setKnown(KNOWN_NONE, 0);
}

/** Has the handler of an instruction that does nothing but change registers and flags carry it out. */
export function callHandler(rec: usize): void {
  storeRegisters(written);
  i32c(makeSite(rec, rec));
  op(W_CALL);
  unsigned(CALL_PLAIN);
  loadRegisters(used);
  setKnown(KNOWN_NONE, 0);
}

/** Leaves the region for good, with the last instruction of its block to be carried out at once (jit/chain.ts). */
export function leaveAt(rec: usize): void {
  constR(blockRip);
  set(L_PC);
  leaveBehind(blockCount, makeSite(rec, rec));
}
