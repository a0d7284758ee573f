// The door from generated code to the interpreter: instructions that have no generated form run here, and the region goes
// on when nothing happened that it does not know of.
import { OP_END, R_FAST, R_FLAGS, R_OP, RECORD_SIZE, RecordFlag } from "../abi/record";
import { BLOCK_RIP, COUNT, EXTRA, STOP, StopBit } from "../abi/state";
import { patchedBefore, setImmediate } from "../blocks/cache";
import { account } from "../execute/account";
import { dispatch } from "../execute/dispatch";
import { execute } from "../execute/execute.generated";
import { executed } from "../imports";
import { leaveEarly, otherPlace, regionChanges, startOf, takeWork, Waits } from "../jit/chain";
import { noteWrites } from "../memory/frames";
import { drainCodeWrites, GO_ON, settle } from "./boundary";

/** Nothing that a region depends on has changed since it was entered, and nothing waits. */
function undisturbed(changes: u32): bool {
  // one branch for all
  return (<u64>(Waits.word() | (regionChanges ^ changes)) | otherPlace()) == 0;
}

/** What the run loop must return with, GO_ON: nothing. */
let held: i32 = GO_ON;

export function takeHeld(): i32 {
  const code = held;
  held = GO_ON;
  return code;
}

/** The last record that ran; most sites are one instruction that has no short form. */
function runSite(site: u32): usize {
  if (load<u8>(site, R_FAST) || load<u16>(site + RECORD_SIZE, R_OP) != OP_END) return dispatch(site, 0, 0);
  if (COVERAGE) executed(site);
  execute(site);
  return load<u32>(STOP) || load<u8>(site, R_FLAGS) & RecordFlag.Ends ? site : site + RECORD_SIZE;
}

/**
 * Runs the records at `site`, which an END record follows, of the block at `rip`; `begun` instructions of this entry come
 * before that block. 0: all completed. 1: the region must return at once; RIP and the counts are exact already.
 */
export function jitStep(site: u32, rip: u64, begun: u32): u32 {
  const changes = regionChanges;
  startOf(begun);
  store<u64>(BLOCK_RIP, rip);
  const rec = runSite(site);
  const s = load<u32>(STOP);
  if (!s && undisturbed(changes)) {
    takeWork(begun);
    return 0;
  }
  const before = load<u64>(COUNT);
  account(rec);
  const last = load<u16>(rec, R_OP) == OP_END || load<u16>(rec + RECORD_SIZE, R_OP) == OP_END;
  if (s && last && !(s & ~(StopBit.Commit | StopBit.Leave))) {
    const code = settle();
    if (code != GO_ON) {
      held = code;
      store<u32>(EXTRA, 1);
    } else if (undisturbed(changes)) {
      takeWork(begun + u32(load<u64>(COUNT) - before));
      return 0;
    }
  }
  leaveEarly();
  return 1;
}

/**
 * Generated code has stored to bytes of decoded code. 1: the region must return before the next instruction, because what it
 * was made from may have changed.
 */
export function jitStored(host: u32, bytes: u32): u32 {
  const memo = patchedBefore(host, bytes);
  if (memo) {
    setImmediate(memo, load<i32>(host));
    return 0;
  }
  const changes = regionChanges;
  noteWrites(host, bytes);
  drainCodeWrites();
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Leave);
  return u32(load<u32>(STOP) != 0 || regionChanges != changes);
}

/** Carries out the record at `site`, which can neither fail nor touch anything but registers and flags. */
export function jitPlain(site: u32): void {
  if (COVERAGE) executed(site);
  execute(site);
}
