// What a region calls the interpreter for.
import { R_FLAGS, RECORD_SIZE, RecordFlag } from "../abi/record";
import { HOOKS, HookBit, MSR_MISC_FEATURES_ENABLES } from "../abi/state";
import { MISC_CPUID_FAULTING } from "../abi/x86";
import { CPUID_CACHE_ENTRY, CPUID_CACHE_MASK, cpuidCache } from "../system/cpuidCache";
import {
  beginInstruction,
  blockCount,
  blockRip,
  get32,
  KNOWN_NONE,
  place,
  set32,
  setKnown,
  used,
  written,
} from "./context";
import {
  get,
  I32_AND,
  I32_EQ,
  I32_EQZ,
  I32_LOAD,
  I32_MUL,
  I32_OR,
  I32_SUB,
  i32c,
  i64c,
  mem,
  op,
  tee,
  unsigned,
  W_CALL,
  W_ELSE,
  W_RETURN,
} from "./emit";
import { forgetChecked } from "./groups";
import { branch, close, LABEL_EXIT, openIf } from "./labels";
import { L_COUNT, L_HOST } from "./locals";
import { makeSite } from "./site";
import { loadState, storeRegisters } from "./spill";

/** Function 0 of a generated module: jitStep. */
const CALL_STEP: u32 = 0;

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
  loadState(used);
  setKnown(KNOWN_NONE, 0);
}

/** CPUID from the answers the core keeps, else by the interpreter. */
export function cpuid(rec: usize): void {
  i32c(0);
  mem(I32_LOAD, HOOKS);
  i32c(HookBit.Cpuid);
  op(I32_AND);
  i32c(0);
  mem(I32_LOAD, MSR_MISC_FEATURES_ENABLES);
  i32c(MISC_CPUID_FAULTING);
  op(I32_AND);
  op(I32_OR);
  op(I32_EQZ);
  get32(0);
  i32c(CPUID_CACHE_MASK);
  op(I32_AND);
  i32c(CPUID_CACHE_ENTRY);
  op(I32_MUL);
  tee(L_HOST);
  mem(I32_LOAD, u32(cpuidCache));
  get32(0);
  op(I32_EQ);
  op(I32_AND);
  get(L_HOST);
  mem(I32_LOAD, u32(cpuidCache) + 4);
  get32(8);
  op(I32_EQ);
  op(I32_AND);
  openIf();
  for (let r: u32 = 0; r < 4; r++) {
    get(L_HOST);
    mem(I32_LOAD, u32(cpuidCache) + 8 + (r << 2));
    // RAX 0, RBX 24, RCX 8, RDX 16
    set32(r == 0 ? 0 : r == 1 ? 24 : r == 2 ? 8 : 16);
  }
  op(W_ELSE);
  callInterpreter(rec, rec);
  close();
}
