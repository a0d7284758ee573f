// From region to region: a cache of entries by RIP, and the loop that goes from one to the next while nothing needs the run
// loop between them.
import { ENTRY_START, LEFT_BY_BRANCH, LEFT_INSTRUCTION } from "../abi/generator";
import { JIT_JUMPS, JIT_JUMPS_END } from "../abi/layout";
import {
  BLOCK_RIP,
  CODE_END,
  COUNT,
  COUNT_LIMIT,
  EFLAGS_REST,
  EXTRA,
  JIT_WHY,
  MODE,
  RIP,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  STOP,
  TR_TAG,
  WORK,
} from "../abi/state";
import { FLAG_RF, FLAG_TF } from "../abi/x86";
import { account } from "../execute/account";
import { execute } from "../execute/execute.generated";
import { executed } from "../imports";
import { flushCount } from "../memory/context";
import { noteLeave } from "./seen";

// {u64 rip, u64 place(), u32 region, u32 table slot, u16 entry number, u16 longest path, u32 regionChanges}
const JM_PLACE: u32 = 8;
const JM_REGION: u32 = 16;
const JM_SLOT: u32 = 20;
const JM_ENTRY: u32 = 24;
const JM_LONGEST: u32 = 26;
const JM_CHANGES: u32 = 28;
const JUMP: u32 = 32;

/** Rises whenever a region is dropped, and with each batch: no entry of the cache holds any more. */
export let regionChanges: u32 = 1;

export function regionsChanged(): void {
  regionChanges++;
}

// what code was seen lately: {u32 base of CS, u32 CODE_END - 1, u32 number, u32 -}
const CODES: u32 = 64;
const codes: usize = memory.data(1024, 4);
let code: usize = codes;
let numbers: u32 = 0;

/** Numbers stand for base and limit of CS. */
function findCode(base: u32, last: u32): void {
  code = codes + ((base >>> 4) & (CODES - 1)) * 16;
  if (load<u32>(code) == base && load<u32>(code, 4) == last) return;
  if (++numbers == 1 << 12) {
    memory.fill(codes, 0, CODES * 16);
    numbers = 1;
    regionChanges++;
  }
  store<u32>(code, base);
  store<u32>(code, last, 4);
  store<u32>(code, numbers, 8);
}

class Here {
  /** Context number, code number, mode and flushCount: where a region that was entered may be entered again. */
  @inline static place(): u64 {
    const base = load<u32>(SEGS + SEG_CS + SG_EFFECTIVE);
    const last = u32(load<u64>(CODE_END) - 1);
    if ((load<u32>(code) ^ base) | (load<u32>(code, 4) ^ last)) findCode(base, last);
    return load<u64>(TR_TAG) | (u64((load<u32>(code, 8) << 8) | load<u32>(MODE)) << 32) | flushCount;
  }

  @inline static jump(rip: u64): u32 {
    const context = u32(load<u64>(TR_TAG) >> 52) * 0x9d;
    return JIT_JUMPS + ((u32(rip) ^ (u32(rip) >>> 13) ^ context) & ((JIT_JUMPS_END - JIT_JUMPS) / JUMP - 1)) * JUMP;
  }
}

function place(): u64 {
  return Here.place();
}

/** The region may be entered here, as long as the processor's state stays of this kind. */
export function noteJump(rip: u64, region: u32, slot: u32, entry: u32, longest: u32): void {
  const j = Here.jump(rip);
  store<u64>(j, rip);
  store<u64>(j, place(), JM_PLACE);
  store<u32>(j, region, JM_REGION);
  store<u32>(j, slot, JM_SLOT);
  store<u16>(j, entry, JM_ENTRY);
  store<u16>(j, longest, JM_LONGEST);
  store<u32>(j, regionChanges, JM_CHANGES);
}

/** The instruction at RIP must run in the interpreter. */
export let stepNext: bool = false;
/** The region that ran last. */
export let lastRegion: u32 = 0;

/** The region that a branch left again and again to the same place, 0: none. */
export let growing: u32 = 0;

export function grown(): void {
  growing = 0;
}

// what held when the first region was entered; generated code that calls the interpreter comes back only while it still does
let entryPlace: u64 = 0;
let entryCountLimit: u64 = 0;
let entryWork: u64 = 0;
let left: bool = false;

/** Not 0: the processor's state is not of the kind that the region was entered in. */
export function otherPlace(): u64 {
  return (place() ^ entryPlace) | (load<u64>(COUNT_LIMIT) ^ entryCountLimit);
}

/** Makes COUNT and WORK those of a place `begun` instructions into this entry. */
export function startOf(begun: u32): void {
  store<u64>(COUNT, load<u64>(ENTRY_START) + begun);
  store<u64>(WORK, entryWork + begun);
}

/** The interpreter came back after `begun` instructions; a REP may have used more work than they are. */
export function takeWork(begun: u32): void {
  entryWork = load<u64>(WORK) - begun;
}

/** The region returns without a count: RIP, COUNT and WORK are exact already. */
export function leaveEarly(): void {
  left = true;
}

/** Runs the last instruction, at this site, of the block at RIP, whose instructions are not counted yet. */
function carryOut(site: u32): void {
  store<u64>(COUNT, load<u64>(ENTRY_START));
  store<u64>(WORK, entryWork);
  store<u64>(BLOCK_RIP, load<u64>(RIP));
  if (COVERAGE) executed(site);
  execute(site);
  account(site);
  left = true;
}

export class Waits {
  /** Not 0: something must come before the next instruction, or single-stepping is on. */
  @inline static word(): u32 {
    return load<u32>(STOP) | load<u32>(EXTRA) | (load<u32>(EFLAGS_REST) & (FLAG_TF | FLAG_RF));
  }
}

/** After leaveEarly(): may a region be entered at once? */
function goesOn(): bool {
  return (<u64>Waits.word() | (load<u64>(COUNT_LIMIT) ^ entryCountLimit)) == 0;
}

/** Runs the regions last entered at this RIP and where they lead, at most `allowed` instructions. False: none was entered. */
export function follow(rip: u64, allowed: u64): bool {
  const end = load<u64>(COUNT) + allowed;
  let room = u32(min<u64>(allowed, 0x40000000));
  let here = Here.place();
  let ran = false;
  for (;;) {
    const j = Here.jump(rip);
    const other =
      (load<u64>(j) ^ rip) | (load<u64>(j, JM_PLACE) ^ here) | <u64>(load<u32>(j, JM_CHANGES) ^ regionChanges);
    if (other) break;
    const longest = u32(load<u16>(j, JM_LONGEST));
    if (room < longest) break;
    if (!ran) {
      ran = true;
      left = false;
      entryPlace = here;
      entryCountLimit = load<u64>(COUNT_LIMIT);
      store<u64>(ENTRY_START, load<u64>(COUNT));
      entryWork = load<u64>(WORK);
      stepNext = false;
    }
    lastRegion = load<u32>(j, JM_REGION);
    const completed = call_indirect<u32>(load<u32>(j, JM_SLOT), room - longest, load<u16>(j, JM_ENTRY));
    if (!left) {
      store<u64>(ENTRY_START, load<u64>(ENTRY_START) + completed);
      entryWork += completed;
      const why = load<u32>(JIT_WHY);
      stepNext = why == LEFT_INSTRUCTION;
      if (why & LEFT_BY_BRANCH) {
        if (noteLeave(why, load<u64>(RIP))) growing = lastRegion;
      } else if (why > <u32>LEFT_INSTRUCTION) carryOut(why);
    }
    if (left) {
      if (!goesOn() || load<u64>(COUNT) >= end) return true;
      left = false;
      here = place();
      entryPlace = here;
      store<u64>(ENTRY_START, load<u64>(COUNT));
      entryWork = load<u64>(WORK);
      room = u32(min<u64>(end - load<u64>(COUNT), 0x40000000));
      rip = load<u64>(RIP);
      continue;
    }
    if (stepNext || load<u32>(STOP) | load<u32>(EXTRA)) break;
    room -= completed;
    rip = load<u64>(RIP);
  }
  if (!ran) return false;
  store<u64>(COUNT, load<u64>(ENTRY_START));
  store<u64>(WORK, entryWork);
  return true;
}
