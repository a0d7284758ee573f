// The XSAVE feature set: XGETBV XSETBV, XSAVE XSAVEOPT XSAVEC XSAVES, XRSTOR XRSTORS. States: x87 (XCR0 bit 0), HDC (IA32_XSS bit 13).
// The area, at a multiple of 64: x87 state at 0-23 and 32-159 (nothing else of the legacy region: there is no SSE state), the header
// at 512, in compacted format HDC state at 576. The modified optimization is not used. @sdm 1 "Managing State Using the XSAVE Feature Set"
import { REASON_XRSTORS, REASON_XSAVES, REASON_XSETBV } from "../abi/exits";
import { R_SIZE } from "../abi/record";
import {
  CR0,
  CR4,
  MSR_PM_CTL1,
  MSR_XSS,
  RAX,
  RCX,
  RDX,
  SEGS,
  SG_EFFECTIVE,
  X87,
  X87_IN_USE,
  X87_SELECTORS,
  X87_WORDS,
  XCR0,
} from "../abi/state";
import { LINEAR_WIDTH } from "../abi/width";
import {
  CR0_TS,
  CR4_OSXSAVE,
  FORM_XGETBV1,
  FORM_XSAVEC,
  FORM_XSAVEOPT,
  FORM_XSAVES,
  STATE_HDC,
  STATE_X87,
  VEC_NM,
  VEC_UD,
} from "../abi/x86";
import { probeModify, probeWrite, readMem } from "../memory/access";
import { aborted, raise } from "../state/stop";
import { CpuidAnswers } from "../system/cpuidCache";
import { hasNoX87Selectors, xcr0Supported, xsaveForms } from "../system/features";
import { exitInstruction, exitXsaves, nonRoot, xsavesUndefined } from "../vmx/intercept";
import { effectiveAddress, segmentOf } from "./operands";
import { gp0, pair, requireCpl0, setPair } from "./privilege";

const XSTATE_BV: u32 = 512;
const XCOMP_BV: u32 = 520;
const HEADER_REST: u32 = 528;
const EXTENDED: u32 = 576;
const COMPACTED: u64 = (<u64>1) << 63;

const FCW_INIT: u16 = 0x37f;
const FCW_BITS: u32 = 0x1f3f; // those that can be written
const FCW_FIXED: u32 = 0x40;
const FSW_BITS: u32 = 0x7f7f; // without ES and B, which follow from the exceptions
const FSW_SUMMARY: u32 = 0x8080;
const EXCEPTIONS: u32 = 0x3f;
const FOP_BITS: u16 = 0x7ff;
const PM_CTL1_INIT: u64 = 1;

// of the instruction that runs
let segment: u32 = 0;
let area: u64 = 0;
/** Component bitmaps: XCR0, with IA32_XSS for XSAVES and XRSTORS, and what EDX:EAX asks for of it (RFBM). */
let enabled: u64 = 0;
let requested: u64 = 0;
const WORDS: u32 = X87_WORDS;
const words: usize = memory.data(WORDS * 8, 8);

function notThere(form: u32): bool {
  if (load<u64>(CR4) & CR4_OSXSAVE && (xsaveForms() & form) == form) return false;
  raise(VEC_UD);
  return true;
}

/** Components that are not in their initial configuration, as the processor tracks them (XINUSE). */
function inUse(): u64 {
  return (load<u64>(MSR_PM_CTL1) == PM_CTL1_INIT ? 0 : STATE_HDC) | load<u32>(X87_IN_USE);
}

/** @sdm 2C "XGETBV-Get Value of Extended Control Register" */
export function xgetbv(_rec: usize): void {
  if (notThere(0)) return;
  const index = load<u32>(RCX);
  const value = load<u64>(XCR0);
  if (!index) setPair(RDX, RAX, value);
  else if (index == 1 && xsaveForms() & FORM_XGETBV1) setPair(RDX, RAX, value & inUse());
  else gp0();
}

/** @sdm 2C "XSETBV-Set Extended Control Register" */
export function xsetbv(rec: usize): void {
  if (notThere(0) || !requireCpl0()) return;
  if (nonRoot()) {
    exitInstruction(REASON_XSETBV, 0, rec);
    return;
  }
  const value = pair(RDX, RAX);
  if (load<u32>(RCX) != 0 || !(value & STATE_X87) || value & ~xcr0Supported()) {
    gp0();
    return;
  }
  store<u64>(XCR0, value);
  CpuidAnswers.forget();
}

/** False: a fault or an exit. */
function begin(rec: usize, form: u32, reason: u32): bool {
  const supervisor = form == FORM_XSAVES;
  if (notThere(form)) return false;
  if (supervisor && nonRoot() && xsavesUndefined()) {
    raise(VEC_UD);
    return false;
  }
  if (load<u64>(CR0) & CR0_TS) {
    raise(VEC_NM);
    return false;
  }
  requested = pair(RDX, RAX);
  enabled = load<u64>(XCR0);
  if (supervisor) {
    if (!requireCpl0()) return false;
    const xss = load<u64>(MSR_XSS);
    if (nonRoot() && exitXsaves(requested & xss, reason, rec)) return false;
    enabled |= xss;
  }
  requested &= enabled;
  segment = segmentOf(rec);
  area = effectiveAddress(rec);
  if (!((area + load<u64>(SEGS + segment + SG_EFFECTIVE)) & 63)) return true;
  gp0();
  return false;
}

/** Byte offset in the area of a word of X87. */
function wordPlace(i: u32): u32 {
  return (i < 3 ? i : i + 1) << 3;
}

function read(offset: u32): u64 {
  return aborted() ? 0 : readMem<u64>(segment, area + offset);
}

function probe(offset: u32): u32 {
  return aborted() ? 0 : probeWrite(segment, area + offset, 8);
}

function probeBoth(offset: u32): u32 {
  return aborted() ? 0 : probeModify(segment, area + offset, 8);
}

/** A word of x87 state; FIP and FDP (1, 2) have their selectors above 32 bits unless the operand size is 64 bits. */
function x87Word(i: u32, wide: bool): u64 {
  const value = load<u64>(X87 + (i << 3));
  if (wide || i - 1 > 1) return value;
  return (value & 0xffffffff) | ((<u64>load<u16>(X87_SELECTORS + ((i - 1) << 1))) << 32);
}

/** All but XSAVE leave out components in their initial configuration. Processors probe the page of x87 state all the same. */
function save(rec: usize, form: u32, reason: u32): void {
  if (!begin(rec, form, reason)) return;
  const compacted = form >= <u32>FORM_XSAVEC;
  const used = requested & inUse();
  const head = compacted ? probe(XSTATE_BV) : probeBoth(XSTATE_BV);
  const layout: u32 = compacted ? probe(XCOMP_BV) : 0;
  const count: u32 = (form ? used : requested) & STATE_X87 ? WORDS : 0;
  for (let i: u32 = 0; i < count; i++) store<u32>(words + (i << 2), probe(wordPlace(i)));
  if (!count && requested & STATE_X87) probeBoth(0);
  const hdc: u32 = used & STATE_HDC ? probe(EXTENDED) : 0;
  if (aborted()) return;
  const wide = load<u8>(rec, R_SIZE) == 8;
  for (let i: u32 = 0; i < count; i++) store<u64>(load<u32>(words + (i << 2)), x87Word(i, wide));
  if (hdc) store<u64>(hdc, load<u64>(MSR_PM_CTL1));
  if (compacted) store<u64>(layout, requested | COMPACTED);
  store<u64>(head, compacted ? used : (load<u64>(head) & ~requested) | used);
}

/** @sdm 2C "XSAVE-Save Processor Extended States" */
export function xsave(rec: usize): void {
  save(rec, 0, 0);
}

/** @sdm 2C "XSAVEOPT-Save Processor Extended States Optimized" */
export function xsaveopt(rec: usize): void {
  save(rec, FORM_XSAVEOPT, 0);
}

/** @sdm 2C "XSAVEC-Save Processor Extended States With Compaction" */
export function xsavec(rec: usize): void {
  save(rec, FORM_XSAVEC, 0);
}

/** @sdm 2C "XSAVES-Save Processor Extended States Supervisor" */
export function xsaves(rec: usize): void {
  save(rec, FORM_XSAVES, REASON_XSAVES);
}

/** Does this header raise #GP(0)? */
function headerFaults(supervisor: bool, format: u64, present: u64): bool {
  const compacted = (format & COMPACTED) != 0;
  let rest: u64 = 0;
  // the standard format has no rule for bytes 63:24
  const end = compacted ? EXTENDED : HEADER_REST + 8;
  for (let at = HEADER_REST; at < end; at += 8) rest |= read(at);
  if (!compacted) return supervisor || (format | rest | (present & ~enabled)) != 0;
  const components = format ^ COMPACTED;
  return !(xsaveForms() & FORM_XSAVEC) || (rest | (components & ~enabled) | (present & ~components)) != 0;
}

/** Everything is read and checked before anything is loaded. */
function restore(rec: usize, form: u32, reason: u32): void {
  if (!begin(rec, form, reason)) return;
  const format = read(XCOMP_BV);
  const present = read(XSTATE_BV);
  const bad = headerFaults(form != 0, format, present);
  const loaded = requested & present;
  if (requested & STATE_X87 && !bad)
    for (let i: u32 = 0; i < WORDS; i++) store<u64>(words + (i << 3), read(wordPlace(i)));
  const hdc = loaded & STATE_HDC && !bad ? read(EXTENDED) : PM_CTL1_INIT;
  if (aborted()) return;
  if (bad || hdc > 1) {
    gp0();
    return;
  }
  if (requested & STATE_HDC) store<u64>(MSR_PM_CTL1, hdc);
  if (!(requested & STATE_X87)) return;
  if (loaded & STATE_X87) loadX87(load<u8>(rec, R_SIZE) == 8);
  else {
    memory.fill(X87, 0, X87_IN_USE + 4 - X87);
    store<u16>(X87, FCW_INIT);
  }
}

/** Bits that do not exist read 0 afterwards, and FCW bit 6 as 1. */
function loadX87(wide: bool): void {
  memory.copy(X87, words, WORDS * 8);
  const control = (load<u16>(X87) & FCW_BITS) | FCW_FIXED;
  const status = load<u16>(X87 + 2) & FSW_BITS;
  store<u16>(X87, <u16>control);
  store<u16>(X87 + 2, <u16>(status & ~control & EXCEPTIONS ? status | FSW_SUMMARY : status));
  store<u8>(X87 + 5, 0);
  store<u16>(X87 + 6, load<u16>(X87 + 6) & FOP_BITS);
  const selectors = !wide && !hasNoX87Selectors();
  for (let i: u32 = 0; i < 2; i++) {
    const at = X87 + 8 + (i << 3);
    store<u16>(X87_SELECTORS + (i << 1), selectors ? load<u16>(at + 4) : 0);
    const shift: u64 = wide ? 64 - LINEAR_WIDTH : 32;
    store<u64>(at, wide ? <u64>(((<i64>load<u64>(at)) << shift) >> shift) : load<u64>(at) & 0xffffffff);
  }
  for (let i: u32 = 0; i < 8; i++) {
    const exponent = X87 + 32 + (i << 4);
    store<u64>(exponent, <u64>load<u16>(exponent));
  }
  store<u32>(X87_IN_USE, 1);
}

/** @sdm 2C "XRSTOR-Restore Processor Extended States" */
export function xrstor(rec: usize): void {
  restore(rec, 0, 0);
}

/** @sdm 2C "XRSTORS-Restore Processor Extended States Supervisor" */
export function xrstors(rec: usize): void {
  restore(rec, FORM_XSAVES, REASON_XRSTORS);
}
