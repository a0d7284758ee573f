// Hardware task switches. @sdm 3A "Task Switching", table "Exception Conditions Checked During a Task Switch"
//
// switchTask() is the whole of it once the caller has checked the privilege of gate or descriptor. Before the commit point
// everything that can fault is probed, so that a fault leaves no effect; after it the state of the old task is saved and
// a fault belongs to the new one: RIP is then its first instruction.

import { REASON_TASK_SWITCH } from "../abi/exits";
import {
  CPL,
  CR0,
  CR3,
  CR4,
  DR7,
  EMULATE,
  EXTRA,
  GPR,
  PENDING_DEBUG,
  RIP,
  RSP,
  SEG_LDTR,
  SEG_SIZE,
  SEG_TR,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
} from "../abi/state";
import {
  CR0_PG,
  CR0_TS,
  CR4_PAE,
  DR6_BT,
  DR7_LOCAL,
  FLAG_NT,
  FLAG_VM,
  SA_P,
  SA_UNUSABLE,
  SEL_ERROR,
  SEL_TI,
  TYPE_TSS16,
  TYPE_TSS16_BUSY,
  TYPE_TSS32,
  TYPE_TSS32_BUSY,
  VEC_GP,
  VEC_NP,
  VEC_TS,
} from "../abi/x86";
import { probeSystem, readSystem } from "../memory/access";
import { commit } from "../memory/staging";
import { recordExit } from "../state/exitRecord";
import { setRflags } from "../state/flags";
import { aborted, raiseError } from "../state/stop";
import { loadPdptes } from "./control";
import {
  descriptorAttr,
  descriptorBase,
  descriptorLimit,
  isNull,
  locateDescriptor,
  systemType,
  tableAddress,
} from "./descriptor";
import { frameProbeCurrent, framePush, frameStart, frameStore } from "./frame";
import { cpl, recomputeMode } from "./mode";
import { selectorOf, setSegment, setVm86Segment } from "./segments";
import { loadTaskSegments } from "./taskSegments";
import { nonRoot } from "./vmxMode";
import { mergeSp, stackMask } from "./width";

/** What asks for the switch; the numbers are those of the exit qualification. */
export const enum TaskSource {
  Call = 0,
  Iret = 1,
  Jmp = 2,
  Gate = 3, // task gate in the IDT
}

/** Results of switchTask(). */
export const TASK_FAULT: u32 = 0; // a fault or exit is recorded, nothing changed
export const TASK_DONE: u32 = 1;
export const TASK_NEW_FAULT: u32 = 2; // switched; a fault of the new task is recorded

const ALL: u64 = 0xffffffffffffffff;
const BUSY: u32 = 2;

// 32-bit TSS: 0 link  1C CR3  20 EIP  24 EFLAGS  28 EAX ECX EDX EBX ESP EBP ESI EDI  48 ES CS SS DS FS GS  60 LDT  64 T
// 16-bit TSS: 0 link  0E IP  10 FLAGS  12 AX CX DX BX SP BP SI DI  22 ES CS SS DS  2A LDT
const MIN_LIMIT32: u32 = 0x67;
const MIN_LIMIT16: u32 = 0x2b;

/** The new task as its TSS says: CR3, EIP, EFLAGS, 8 registers, 6 selectors, LDT, T; u32 each. */
const image: usize = memory.data(80, 8);
const I_CR3: usize = 0;
const I_EIP: usize = 4;
const I_FLAGS: usize = 8;
const I_REGISTERS: usize = 12;
const I_SELECTORS: usize = 44;
const I_LDT: usize = 68;
const I_TRAP: usize = 72;

function is32(type: u32): bool {
  return (type & ~BUSY) == TYPE_TSS32;
}

function outcome(vector: u32, error: u32): u32 {
  raiseError(vector, error);
  return TASK_FAULT;
}

function read(base: u64, offset: u32, wide: bool): u32 {
  const at = tableAddress(base + <u64>offset);
  return wide ? readSystem<u32>(at) : <u32>readSystem<u16>(at);
}

/** False: a fault of the read is recorded. */
function readImage(base: u64, wide: bool): bool {
  store<u32>(image + I_CR3, wide ? read(base, 0x1c, true) : 0);
  if (aborted()) return false;
  const first: u32 = wide ? 0x20 : 0x0e;
  const step: u32 = wide ? 4 : 2;
  for (let i: u32 = 0; i < 10; i++) {
    store<u32>(image + I_EIP + i * 4, read(base, first + i * step, wide));
    if (aborted()) return false;
  }
  const selectors = first + 10 * step;
  for (let i: u32 = 0; i < 6; i++) {
    // a 16-bit TSS has no FS and GS: they become null
    store<u32>(image + I_SELECTORS + i * 4, wide || i < 4 ? read(base, selectors + i * step, false) : 0);
    if (aborted()) return false;
  }
  store<u32>(image + I_LDT, read(base, wide ? 0x60 : 0x2a, false));
  if (aborted()) return false;
  store<u32>(image + I_TRAP, wide ? read(base, 0x64, false) & 1 : 0);
  return !aborted();
}

/** The old task into its TSS at `host`, the address of its EIP. The upper halves of the selector slots are left alone. */
function save(host: usize, wide: bool, rip: u64, flags: u64): void {
  if (wide) {
    store<u32>(host, <u32>rip);
    store<u32>(host, <u32>flags, 4);
    for (let i: u32 = 0; i < 8; i++) store<u32>(host + 8 + i * 4, load<u32>(GPR + i * 8));
    for (let i: u32 = 0; i < 6; i++) store<u16>(host + 40 + i * 4, <u16>selectorOf(i * SEG_SIZE));
  } else {
    store<u16>(host, <u16>rip);
    store<u16>(host, <u16>flags, 2);
    for (let i: u32 = 0; i < 8; i++) store<u16>(host + 4 + i * 2, load<u16>(GPR + i * 8));
    for (let i: u32 = 0; i < 4; i++) store<u16>(host + 20 + i * 2, <u16>selectorOf(i * SEG_SIZE));
  }
}

/** Registers of the new task; every segment register has its selector but is unusable until it is loaded. */
function enter(nested: bool): void {
  let flags: u64 = <u64>load<u32>(image + I_FLAGS);
  if (nested) flags |= FLAG_NT;
  setRflags(flags);
  for (let i: u32 = 0; i < 8; i++) store<u64>(GPR + i * 8, <u64>load<u32>(image + I_REGISTERS + i * 4));
  store<u64>(RIP, <u64>load<u32>(image + I_EIP));
  for (let i: u32 = 0; i < 6; i++) {
    const selector = load<u32>(image + I_SELECTORS + i * 4);
    if (flags & FLAG_VM) setVm86Segment(i * SEG_SIZE, selector);
    else setSegment(i * SEG_SIZE, selector, 0, 0, SA_UNUSABLE);
  }
  setSegment(SEG_LDTR, load<u32>(image + I_LDT), 0, 0, SA_UNUSABLE);
  store<u32>(CPL, flags & FLAG_VM ? 3 : load<u32>(image + I_SELECTORS + 4) & 3);
  store<u64>(CR0, load<u64>(CR0) | CR0_TS);
  store<u64>(DR7, load<u64>(DR7) & ~(<u64>DR7_LOCAL));
}

/** CR3 of a 32-bit TSS when paging is on. False: #GP(0) of a bad PDPTE is recorded. */
function loadRoot(wide: bool): bool {
  if (!wide || !(load<u64>(CR0) & CR0_PG)) return true;
  const root = <u64>load<u32>(image + I_CR3);
  if (load<u64>(CR4) & CR4_PAE && !loadPdptes(root)) {
    raiseError(VEC_GP, 0);
    return false;
  }
  store<u64>(CR3, root);
  return true;
}

/**
 * Switches to the task of a TSS selector. rip, flags: what the old TSS takes; ext: EXT bit of error codes; ilen: length of
 * the instruction, for a VM exit; error code, if hasError, goes onto the stack of the new task.
 * In VMX non-root operation the exit comes after the checks of the TSS descriptor.
 * @sdm 3C "Treatment of Task Switches"
 */
export function switchTask(
  selector: u32,
  source: TaskSource,
  rip: u64,
  flags: u64,
  ext: u32,
  ilen: u32,
  hasError: bool,
  errorCode: u32,
): u32 {
  const iret = source == TaskSource.Iret;
  const error = (selector & SEL_ERROR) | ext;
  const illegal: u32 = iret ? VEC_TS : VEC_GP;
  const at = selector & SEL_TI ? ALL : locateDescriptor(selector, 8);
  if (at == ALL) return outcome(illegal, error);
  const d = readSystem<u64>(at);
  if (aborted()) return TASK_FAULT;
  const attr = descriptorAttr(d);
  const type = systemType(attr);
  const available = type == TYPE_TSS16 || type == TYPE_TSS32;
  const busy = type == TYPE_TSS16_BUSY || type == TYPE_TSS32_BUSY;
  if (iret ? !busy : !available) return outcome(illegal, error);
  if (!(attr & SA_P)) return outcome(VEC_NP, error);
  const wide = is32(type);
  if (descriptorLimit(d) < (wide ? MIN_LIMIT32 : MIN_LIMIT16)) return outcome(VEC_TS, error);
  if (nonRoot() && !load<u32>(EMULATE)) {
    recordExit(REASON_TASK_SWITCH, <u64>((selector & 0xffff) | ((<u32>source) << 30)), ilen);
    return TASK_FAULT;
  }

  // everything that the switch touches before the commit point
  const oldTr: usize = SEGS + SEG_TR;
  const oldSelector = load<u32>(oldTr, SG_SELECTOR);
  const oldBase = load<u64>(oldTr, SG_BASE);
  const oldWide = is32(systemType(load<u32>(oldTr, SG_ATTR)));
  if (load<u32>(oldTr, SG_LIMIT) < (oldWide ? MIN_LIMIT32 : MIN_LIMIT16)) {
    return outcome(VEC_TS, (oldSelector & SEL_ERROR) | ext);
  }
  const saved = probeSystem(tableAddress(oldBase + (oldWide ? 0x20 : 0x0e)), oldWide ? 64 : 28);
  if (aborted()) return TASK_FAULT;
  const nested = source == TaskSource.Call || source == TaskSource.Gate;
  const base = descriptorBase(d);
  let link: u32 = 0;
  if (nested) link = probeSystem(tableAddress(base), 2);
  if (aborted()) return TASK_FAULT;
  let oldType: u32 = 0;
  let oldBusy: u8 = 0;
  if (!nested && !isNull(oldSelector)) {
    const oldAt = locateDescriptor(oldSelector, 8);
    if (oldAt != ALL) {
      oldBusy = readSystem<u8>(oldAt + 5);
      if (aborted()) return TASK_FAULT;
      oldType = probeSystem(oldAt + 5, 1);
      if (aborted()) return TASK_FAULT;
    }
  }
  let newType: u32 = 0;
  if (!iret) newType = probeSystem(at + 5, 1);
  if (aborted() || !readImage(base, wide)) return TASK_FAULT;

  if (oldType) store<u8>(oldType, oldBusy & ~(<u8>BUSY));
  save(saved, oldWide, rip, flags & ~(iret ? <u64>FLAG_NT : 0));
  if (link) store<u16>(link, <u16>oldSelector);
  if (newType) store<u8>(newType, <u8>(attr | BUSY));
  commit();
  // the old TSS may be the new one
  if (iret) readImage(base, wide);

  setSegment(SEG_TR, selector, base, descriptorLimit(d), attr | BUSY);
  const rooted = loadRoot(wide);
  enter(nested);
  recomputeMode();
  store<u32>(EXTRA, 1);
  if (!rooted || !loadTaskSegments(image + I_SELECTORS, image + I_LDT, ext)) {
    recomputeMode();
    return TASK_NEW_FAULT;
  }
  recomputeMode();
  if (hasError && !pushError(errorCode, wide ? 4 : 2, ext)) return TASK_NEW_FAULT;
  if (load<u32>(image + I_TRAP)) store<u64>(PENDING_DEBUG, load<u64>(PENDING_DEBUG) | DR6_BT);
  return TASK_DONE;
}

function pushError(errorCode: u32, size: u32, ext: u32): bool {
  frameStart();
  framePush(<u64>errorCode);
  const sp = load<u64>(RSP);
  if (!frameProbeCurrent(size, sp, stackMask(), ext, cpl() == 3)) return false;
  frameStore(size);
  store<u64>(RSP, mergeSp(sp - size));
  return true;
}
