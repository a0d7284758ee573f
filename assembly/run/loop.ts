// The run loop: blocks until a budget ends or something needs the host.

import { BK_BYTES, BK_COUNT, BK_HOT, BK_RECORDS, BK_REGION } from "../abi/block";
import { TE_ADDEND, TE_EXEC, TLB_ENTRY } from "../abi/layout";
import { R_FLAGS, R_INDEX, RECORD_SIZE, RecordFlag } from "../abi/record";
import { RunCode } from "../abi/run";
import {
  BLOCK_RIP,
  CODE_END,
  COUNT,
  COUNT_LIMIT,
  DEADLINE,
  DEBUG_WATCH,
  EFLAGS_REST,
  EXTRA,
  HOST_DEADLINE,
  LINEAR_MASK,
  MODE,
  PENDING_DEBUG,
  RIP,
  RUN_LIMIT,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  STOP,
  StopBit,
  TR_TABLE,
  TR_TAG,
  WORK,
  WORK_LIMIT,
} from "../abi/state";
import { buildBlock, findBlock } from "../blocks/cache";
import { closeBlock, decode } from "../decode/decode";
import { account } from "../execute/account";
import { dispatch, STEP_FLAGS } from "../execute/dispatch";
import { execute } from "../execute/execute.generated";
import { Follow } from "../execute/follow";
import { executed } from "../imports";
import { stepNext } from "../jit/chain";
import { compileQueue, enter, grow, hotThreshold, jump, leftAt, request, requests } from "../jit/manage";
import { setBesideCode } from "../memory/access";
import { tlbMask } from "../memory/context";
import { setAlone } from "../memory/staging";
import { codeTraps, WatchHits } from "../memory/traps";
import { FLAG_RF, FLAG_TF } from "../state/flags";
import { raiseError } from "../state/stop";
import { beginStep } from "../system/debug";
import {
  boundary,
  deliverFault,
  GO_ON,
  hostDeadline,
  LOOK_AFTER_ONE,
  nothingWaits,
  settle,
  takeAlone,
} from "./boundary";
import { departures, stepTraps } from "./singleStep";
import { takeHeld } from "./step";
import { codeTrap, fetchCode, stepped } from "./traps";

/** Blocks are run in stretches of at most this many instructions, so that a tier change of the engine can take effect. */
const STRETCH_FIRST: u64 = 20000;
const STRETCH_MAX: u64 = 1 << 20;

// one record and its END, for instructions that run alone
const single: usize = memory.data(64);
const bytes: usize = memory.data(16);

/** Runs exactly one instruction, wherever its bytes lie. */
function stepOne(): void {
  if (codeTraps && codeTrap()) return;
  const rip = load<u64>(RIP);
  const base = load<u64>(SEGS + SEG_CS + SG_EFFECTIVE);
  const mode = load<u32>(MODE);
  let have: u32 = 0;
  let length: u32 = 0;
  // bytes are fetched one page at a time and only as far as the instruction reaches
  while (length == 0) {
    const at = rip + have;
    const wide = load<u64>(LINEAR_MASK) != 0xffffffff;
    if (!wide && at >= load<u64>(CODE_END)) {
      raiseError(13, 0);
      return;
    }
    const linear = (base + at) & load<u64>(LINEAR_MASK);
    if (u64((i64(linear) << 16) >> 16) != linear && wide) {
      raiseError(13, 0);
      return;
    }
    const from = fetchCode(linear);
    if (from == 0) return;
    let n = min<u32>(15 - have, 4096 - (u32(linear) & 0xfff));
    const room = load<u64>(CODE_END) - at;
    if (!wide && u64(n) > room) n = u32(room);
    if (from == 1) memory.fill(bytes + have, 0xff, n);
    else memory.copy(bytes + have, from, n);
    have += n;
    length = decode(bytes, have, single, mode, 0, 0);
  }
  closeBlock(single + 32, length, 1);
  store<u64>(BLOCK_RIP, rip);
  const tf = load<u32>(EFLAGS_REST) & FLAG_TF;
  // an instruction that completes leaves RF clear; only IRET sets it. @sdm 3B "Instruction-Breakpoint Exception Condition"
  const rf = load<u32>(EFLAGS_REST) & FLAG_RF;
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~FLAG_RF);
  const departed = departures();
  beginStep();
  const before = setAlone(true);
  account(dispatch(single, 0, 0));
  setAlone(before);
  if (codeTraps) stepped(rip, (load<u8>(single, R_FLAGS) & RecordFlag.Ends) != 0);
  if (rf && load<u32>(STOP) & (StopBit.Event | StopBit.Exit | StopBit.Host | StopBit.Repeat)) {
    store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) | rf);
  }
  if (tf && !(load<u32>(STOP) & (StopBit.Event | StopBit.Exit | StopBit.Host)) && stepTraps(single, departed)) {
    // in the middle of a REP the trap's frame has RF
    if (load<u32>(STOP) & StopBit.Repeat) store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) | FLAG_RF);
    store<u64>(PENDING_DEBUG, load<u64>(PENDING_DEBUG) | 0x4000);
    store<u32>(EXTRA, 1);
  }
}

/** RFLAGS bits for which instructions run one at a time; RF matters to breakpoints and traps alone. */
function stepFlags(): u32 {
  const watched = (load<u32>(DEBUG_WATCH) | codeTraps) != 0;
  return load<u32>(EFLAGS_REST) & (watched ? STEP_FLAGS : FLAG_TF);
}

/** Where the stretch ends. */
let stretchEnd: u64 = 0;

/**
 * Goes on from RIP, through regions or through a block and those that follow it. skip: a region left this instruction to
 * the interpreter. Returns whether one left the next.
 */
function advance(skip: bool): bool {
  const rip = load<u64>(RIP);
  const limit = stretchEnd;
  if (hotThreshold && !skip && jump(rip, limit - load<u64>(COUNT))) return stepNext;
  const linear = (load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) + rip) & load<u64>(LINEAR_MASK);
  const e = load<u32>(TR_TABLE) + (u32(linear >> 12) & tlbMask) * TLB_ENTRY;
  let host: u32;
  if (load<u64>(e, TE_EXEC) == ((linear >> 12) | load<u64>(TR_TAG))) host = u32(linear) + load<u32>(e, TE_ADDEND);
  else {
    // the last byte of the 64-bit address space has no address after it
    const wide = load<u64>(LINEAR_MASK) != 0xffffffff;
    if (wide ? u64((i64(linear) << 16) >> 16) != linear : rip >= load<u64>(CODE_END)) {
      raiseError(13, 0);
      return false;
    }
    host = fetchCode(linear);
    if (host == 0) return false;
    if (host == 1) {
      stepOne();
      return false;
    }
  }
  const mode = load<u32>(MODE);
  let b = findBlock(host, mode);
  if (!b) b = buildBlock(host, mode);
  if (
    b == 0 ||
    rip + load<u16>(b, BK_BYTES) > load<u64>(CODE_END) ||
    load<u64>(COUNT) + load<u16>(b, BK_COUNT) > load<u64>(COUNT_LIMIT)
  ) {
    stepOne();
    return false;
  }
  Follow.begin(host);
  if (hotThreshold) {
    if (skip) {
      store<u64>(BLOCK_RIP, rip);
      setBesideCode(false);
      // what left a region would hardly take the short form
      const first: usize = b + BK_RECORDS;
      if (COVERAGE) executed(first);
      execute(first);
      const ended = load<u32>(STOP) | (load<u8>(first, R_FLAGS) & RecordFlag.Ends);
      let last = first;
      if (!ended) last = dispatch(first + RECORD_SIZE, 0, 0);
      setBesideCode(true);
      if (!(load<u32>(STOP) & StopBit.Event))
        leftAt(host, load<u32>(STOP) & StopBit.Commit && load<u8>(last, R_INDEX) == 0);
      account(last);
      return false;
    }
    if (load<u32>(b, BK_REGION)) {
      if (enter(b, rip, limit - load<u64>(COUNT))) return stepNext;
    } else {
      const runs = load<i32>(b, BK_HOT) + 1;
      if (runs < i32(hotThreshold)) store<i32>(b, runs, BK_HOT);
      else if (request(b, rip)) {
        // one that comes to nothing is made again after as many runs
        store<u32>(b, 0, BK_HOT);
      } else stretchEnd = 0; // the queue is full: generate first
    }
  }
  store<u64>(BLOCK_RIP, rip);
  account(dispatch(b + BK_RECORDS, stretchEnd, hotThreshold));
  return false;
}

/** Runs until COUNT reaches `limit` or the stop word is set. */
function stretch(limit: u64): void {
  stretchEnd = limit;
  let skip = false; // a region left this instruction to the interpreter
  do {
    const count = load<u64>(COUNT);
    // the instruction that RF was set for clears it when it completes
    const resumed = load<u32>(EFLAGS_REST) & FLAG_RF;
    if (resumed) store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~FLAG_RF);
    skip = advance(skip);
    if (resumed && load<u64>(COUNT) == count) store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) | FLAG_RF);
    if (load<u32>(STOP)) deliverFault();
    // what a region left comes next even with something pending: else the region might be entered and left for ever
  } while (
    load<u64>(COUNT) < min<u64>(stretchEnd, load<u64>(COUNT_LIMIT)) &&
    (skip || !(load<u32>(STOP) | load<u32>(EXTRA) | stepFlags()))
  );
}

function saturatingAdd(a: u64, b: u64): u64 {
  const s = a + b;
  return s < a ? ~(0 as u64) : s;
}

/** COUNT_LIMIT: what the caller asked for, or the nearest deadline. A callback's stop has set RUN_LIMIT to 0. */
function boundCount(): void {
  const deadline = min<u64>(load<u64>(DEADLINE), load<u64>(HOST_DEADLINE));
  store<u64>(COUNT_LIMIT, min<u64>(deadline, load<u64>(RUN_LIMIT)));
}

/** See CoreExports.run. */
export function run(maxInstructions: u64, work: u64): u32 {
  store<u64>(RUN_LIMIT, saturatingAdd(load<u64>(COUNT), maxInstructions));
  boundCount();
  store<u64>(WORK_LIMIT, saturatingAdd(load<u64>(WORK), work));
  store<u32>(EXTRA, 1);
  WatchHits.clear();
  stretchLength = STRETCH_FIRST;
  let code: i32;
  do {
    code = turn();
  } while (code == GO_ON);
  return code;
}

let stretchLength: u64 = 0;

/** What is due, and then the next stretch; a function of its own, because engines do not change the tier of a loop that runs. */
function turn(): i32 {
  if (load<u32>(STOP)) return settle();
  if (load<u64>(COUNT) >= load<u64>(COUNT_LIMIT)) {
    if (load<u64>(COUNT) >= load<u64>(RUN_LIMIT)) return RunCode.Instructions;
    if (load<u64>(COUNT) >= load<u64>(HOST_DEADLINE)) return hostDeadline();
    store<u32>(EXTRA, 1);
  }
  if (load<u64>(WORK) >= load<u64>(WORK_LIMIT)) return RunCode.Slice;
  if (load<u32>(EXTRA)) {
    let again = false;
    if (nothingWaits()) store<u32>(EXTRA, 0);
    else {
      const work = load<u64>(WORK);
      const code = boundary();
      if (code != GO_ON) return code;
      // there is a boundary before the first instruction of a handler too
      again = load<u64>(WORK) != work || load<u32>(STOP) != 0;
    }
    boundCount();
    if (again || load<u64>(COUNT) >= load<u64>(COUNT_LIMIT)) return GO_ON;
  }
  if (u32(takeAlone()) | stepFlags() | (load<u32>(EXTRA) & LOOK_AFTER_ONE)) {
    stepOne();
    return GO_ON;
  }
  // with something pending the stretch ends after one block
  const budget = load<u32>(EXTRA) ? 1 : min<u64>(load<u64>(WORK_LIMIT) - load<u64>(WORK), stretchLength);
  setAlone(false);
  stretch(min<u64>(saturatingAdd(load<u64>(COUNT), budget), load<u64>(COUNT_LIMIT)));
  setAlone(true);
  const code = takeHeld();
  if (code != GO_ON) return code;
  grow();
  if (requests()) compileQueue();
  stretchLength = min<u64>(stretchLength * 2, STRETCH_MAX);
  return load<u32>(STOP) ? settle() : GO_ON;
}
