// RDTSCP RDPID, RDRAND RDSEED, FS and GS bases, MONITOR MWAIT, CLAC STAC, CLFLUSH, INVPCID, x87 escapes.
// The order of checks is #UD, privilege fault, VM exit, other faults.
import { REASON_RDTSCP } from "../abi/exits";
import { R_ADDR_SHIFT, R_DST, R_INDEX, R_SIZE } from "../abi/record";
import {
  CPL,
  CR0,
  CR4,
  EFLAGS_REST,
  GPR,
  MONITOR_ARMED,
  MSR_MISC_FEATURES_ENABLES,
  MSR_TSC_AUX,
  RANDOM,
  RAX,
  RCX,
  RDX,
  SEG_FS,
  SEG_GS,
  SEGS,
  SG_BASE,
} from "../abi/state";
import {
  CR0_EM,
  CR0_TS,
  CR4_FSGSBASE,
  CR4_PCIDE,
  CR4_TSD,
  FLAG_AC,
  MISC_MONITOR_USER,
  VEC_NM,
  VEC_UD,
} from "../abi/x86";
import { readMem } from "../memory/access";
import { FLAG_CF, setArithmetic } from "../state/flags";
import { aborted, raise } from "../state/stop";
import { deriveSegment, recomputeMode } from "../system/mode";
import { readTsc } from "../system/time";
import { canonical } from "../system/width";
import {
  exitInvpcid,
  exitMonitor,
  exitMwait,
  exitRandom,
  exitRdtsc,
  guestTsc,
  invpcidUndefined,
  nonRoot,
  rdtscpUndefined,
} from "../vmx/intercept";
import { effectiveAddress, segmentOf } from "./operands";
import { gp0, gpr, regField, requireCpl0, setPair } from "./privilege";
import { addressPlus, setDstSized, truncate } from "./sized";
import { hookedTsc } from "./system";

/** @sdm 2B "RDTSCP-Read Time-Stamp Counter and Processor ID" */
export function rdtscp(rec: usize): void {
  if (nonRoot() && rdtscpUndefined()) {
    raise(VEC_UD);
    return;
  }
  if (load<u64>(CR4) & CR4_TSD && load<u32>(CPL) != 0) {
    gp0();
    return;
  }
  let value = readTsc(load<u8>(rec, R_INDEX));
  if (nonRoot()) {
    if (exitRdtsc(REASON_RDTSCP, rec)) return;
    value = guestTsc(value);
  }
  value = hookedTsc(rec, value);
  if (aborted()) return;
  setPair(RDX, RAX, value);
  store<u64>(RCX, <u64>load<u32>(MSR_TSC_AUX));
}

/** @sdm 2B "RDPID-Read Processor ID": belongs to RDTSCP under VMX. */
export function rdpid(rec: usize): void {
  if (nonRoot() && rdtscpUndefined()) raise(VEC_UD);
  else setDstSized(rec, load<u64>(MSR_TSC_AUX));
}

/** A fixed sequence (SplitMix64, Steele, Lea and Flood 2014), so that every run gives the same numbers. */
function nextRandom(): u64 {
  const state = load<u64>(RANDOM) + 0x9e3779b97f4a7c15;
  store<u64>(RANDOM, state);
  let z = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/** Always ready: CF set, the other flags clear. @sdm 2B "RDRAND-Read Random Number" */
export function rdrand(rec: usize): void {
  random(rec, false);
}

/** @sdm 2B "RDSEED-Read Random SEED" */
export function rdseed(rec: usize): void {
  random(rec, true);
}

function random(rec: usize, seed: bool): void {
  if (nonRoot() && exitRandom(seed, rec)) return;
  setDstSized(rec, nextRandom());
  setArithmetic(FLAG_CF);
}

function basesDisabled(): bool {
  if (load<u64>(CR4) & CR4_FSGSBASE) return false;
  raise(VEC_UD);
  return true;
}

function readBase(rec: usize, seg: u32): void {
  if (!basesDisabled()) setDstSized(rec, load<u64>(SEGS + seg + SG_BASE));
}

function writeBase(rec: usize, seg: u32): void {
  if (basesDisabled()) return;
  const value = truncate(load<u64>(GPR + load<u8>(rec, R_DST)), load<u8>(rec, R_SIZE));
  if (!canonical(value)) {
    gp0();
    return;
  }
  store<u64>(SEGS + seg + SG_BASE, value);
  deriveSegment(seg);
}

/** @sdm 2B "RDFSBASE/RDGSBASE-Read FS/GS Segment Base" */
export function rdfsbase(rec: usize): void {
  readBase(rec, SEG_FS);
}

export function rdgsbase(rec: usize): void {
  readBase(rec, SEG_GS);
}

/** @sdm 2C "WRFSBASE/WRGSBASE-Write FS/GS Segment Base" */
export function wrfsbase(rec: usize): void {
  writeBase(rec, SEG_FS);
}

export function wrgsbase(rec: usize): void {
  writeBase(rec, SEG_GS);
}

/** Bit 1 of 0x140 lets CPL > 0 use MONITOR and MWAIT. */
function monitorUndefined(): bool {
  if (load<u32>(CPL) == 0 || load<u64>(MSR_MISC_FEATURES_ENABLES) & MISC_MONITOR_USER) return false;
  raise(VEC_UD);
  return true;
}

/** No hint or extension is defined: ECX must be 0. @sdm 2B "MONITOR-Set Up Monitor Address" */
export function monitor(rec: usize): void {
  if (monitorUndefined() || (nonRoot() && exitMonitor(rec))) return;
  if (load<u32>(RCX)) {
    gp0();
    return;
  }
  const shift = <u64>load<u8>(rec, R_ADDR_SHIFT);
  readMem<u8>(segmentOf(rec), (load<u64>(RAX) << shift) >> shift);
  if (!aborted()) store<u32>(MONITOR_ARMED, 1);
}

/** Wakes at once, as the manual allows. @sdm 2B "MWAIT-Monitor Wait" */
export function mwait(rec: usize): void {
  if (monitorUndefined() || (nonRoot() && exitMwait(load<u32>(MONITOR_ARMED), rec))) return;
  if (load<u32>(RCX)) gp0();
  else store<u32>(MONITOR_ARMED, 0);
}

function setAc(on: bool): void {
  if (load<u32>(CPL) != 0) {
    raise(VEC_UD);
    return;
  }
  const flags = load<u32>(EFLAGS_REST) & ~FLAG_AC;
  store<u32>(EFLAGS_REST, on ? flags | FLAG_AC : flags);
  recomputeMode();
}

/** @sdm 2A "CLAC-Clear AC Flag in EFLAGS Register" */
export function clac(_rec: usize): void {
  setAc(false);
}

/** @sdm 2B "STAC-Set AC Flag in EFLAGS Register" */
export function stac(_rec: usize): void {
  setAc(true);
}

/** There are no caches; the operand is checked as a byte that is read. @sdm 2A "CLFLUSH-Flush Cache Line" */
export function clflush(rec: usize): void {
  readMem<u8>(segmentOf(rec), effectiveAddress(rec));
}

/** Cached translations follow the tables by themselves; the operands are checked. @sdm 2A "INVPCID-Invalidate Process-Context Identifier" */
export function invpcid(rec: usize): void {
  if (nonRoot() && invpcidUndefined()) {
    raise(VEC_UD);
    return;
  }
  if (!requireCpl0()) return;
  if (nonRoot() && exitInvpcid(rec)) return;
  const type = truncate(gpr(regField(rec)), load<u8>(rec, R_SIZE));
  if (type > 3) {
    gp0();
    return;
  }
  const seg = segmentOf(rec);
  const pcid = readMem<u64>(seg, effectiveAddress(rec));
  if (aborted()) return;
  const linear = readMem<u64>(seg, addressPlus(rec, 8));
  if (aborted()) return;
  const named = type < 2 && pcid != 0 && !(load<u64>(CR4) & CR4_PCIDE);
  if (pcid >> 12 || named || (type == 0 && !canonical(linear))) gp0();
}

/** No model has an x87 unit: #NM where an operating system emulates one, else #UD. @sdm 3A "x87 FPU Device Not Available" */
export function x87(_rec: usize): void {
  raise(load<u64>(CR0) & (CR0_EM | CR0_TS) ? VEC_NM : VEC_UD);
}
