// Far JMP and CALL. @sdm 2A "JMP-Jump", "CALL-Call Procedure"
import { R_FAR_OFFSET, R_FAR_SELECTOR, R_SIZE } from "../abi/record";
import { RIP, RSP, SEG_CS, SEGS, SG_LIMIT } from "../abi/state";
import {
  SA_S,
  SEL_ERROR,
  SEL_RPL,
  TYPE_CALL16,
  TYPE_CALL32,
  TYPE_TASK_GATE,
  TYPE_TSS16,
  TYPE_TSS32,
  VEC_GP,
} from "../abi/x86";
import { readMem } from "../memory/access";
import { aborted } from "../state/stop";
import {
  attrDpl,
  descriptorAttr,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  systemType,
} from "../system/descriptor";
import { frameProbeCurrent, framePush, frameStart, frameStore } from "../system/frame";
import { cpl, longMode, protectedMode, recomputeTransfer } from "../system/mode";
import { selectorOf, setRealSegment } from "../system/segments";
import { mergeSp, sizeMask, stackMask } from "../system/width";
import { throughCallGate } from "./callGate";
import { chooseCode, fault, sameLevel } from "./farTarget";
import { effectiveAddress, segmentOf } from "./operands";
import { transferShort } from "./shortTransfer";
import { toTask } from "./task";

export function jmpFarPtr(rec: usize): void {
  transfer(load<u16>(rec, R_FAR_SELECTOR), <u64>load<u32>(rec, R_FAR_OFFSET), load<u8>(rec, R_SIZE), false, rec);
}

export function callFarPtr(rec: usize): void {
  transfer(load<u16>(rec, R_FAR_SELECTOR), <u64>load<u32>(rec, R_FAR_OFFSET), load<u8>(rec, R_SIZE), true, rec);
}

export function jmpFarMem(rec: usize): void {
  transferMem(rec, false);
}

export function callFarMem(rec: usize): void {
  transferMem(rec, true);
}

/** m16:16, m16:32, m16:64. */
function transferMem(rec: usize, call: bool): void {
  const size = <u32>load<u8>(rec, R_SIZE);
  const seg = segmentOf(rec);
  const ea = effectiveAddress(rec);
  const offset = readSized(seg, ea, size);
  if (aborted()) return;
  const selector = <u32>readMem<u16>(seg, ea + <u64>size);
  if (aborted()) return;
  transfer(selector, offset, size, call, rec);
}

function readSized(seg: u32, ea: u64, size: u32): u64 {
  if (size == 8) return readMem<u64>(seg, ea);
  return size == 4 ? <u64>readMem<u32>(seg, ea) : <u64>readMem<u16>(seg, ea);
}

function transfer(selector: u32, target: u64, size: u32, call: bool, rec: usize): void {
  const offset = target & sizeMask(size);
  if (transferShort(selector, offset, size, call)) return;
  if (!protectedMode()) {
    real(selector, offset, size, call);
    return;
  }
  if (isNull(selector)) {
    fault(VEC_GP, 0);
    return;
  }
  const d = fetchDescriptor(selector, VEC_GP, 0);
  if (aborted()) return;
  const attr = descriptorAttr(d);
  if (!(attr & SA_S)) {
    system(selector, d, attr, call, rec);
    return;
  }
  const dpl = attrDpl(attr);
  const legal = isConforming(attr) ? dpl <= cpl() : dpl == cpl() && (selector & SEL_RPL) <= cpl();
  if (!isCode(attr) || !legal) {
    fault(VEC_GP, selector & SEL_ERROR);
    return;
  }
  if (!chooseCode(selector, d)) return;
  sameLevel(offset, size, call);
}

/** Real mode and vm86. */
function real(selector: u32, offset: u64, size: u32, call: bool): void {
  const sp = load<u64>(RSP);
  if (call) {
    frameStart();
    framePush(<u64>selectorOf(SEG_CS));
    framePush(load<u64>(RIP));
    if (!frameProbeCurrent(size, sp, stackMask(), 0, cpl() == 3)) return;
  }
  if (offset > <u64>load<u32>(SEGS + SEG_CS + SG_LIMIT)) {
    fault(VEC_GP, 0);
    return;
  }
  if (call) {
    frameStore(size);
    store<u64>(RSP, mergeSp(sp - <u64>(2 * size)));
  }
  store<u64>(RIP, offset);
  if (selector == selectorOf(SEG_CS)) return;
  setRealSegment(SEG_CS, selector);
  recomputeTransfer();
}

/** Call gates, task gates, TSS descriptors; task gates and TSS descriptors do not exist in IA-32e mode. */
function system(selector: u32, gate: u64, attr: u32, call: bool, rec: usize): void {
  const type = systemType(attr);
  const task = type == TYPE_TASK_GATE || type == TYPE_TSS16 || type == TYPE_TSS32;
  const legal = type == TYPE_CALL32 || (!longMode() && (type == TYPE_CALL16 || task));
  const dpl = attrDpl(attr);
  if (!legal || dpl < cpl() || dpl < (selector & SEL_RPL)) {
    fault(VEC_GP, selector & SEL_ERROR);
    return;
  }
  if (task) toTask(selector, gate, call, rec);
  else throughCallGate(selector, gate, call);
}
