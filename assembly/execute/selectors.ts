// ARPL, LAR, LSL, VERR, VERW and the far-pointer loads LDS LES LFS LGS LSS.
import { R_SIZE } from "../abi/record";
import { SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_SS } from "../abi/state";
import { SA_S, SEL_RPL, TYPE_CALL16, TYPE_CALL32, TYPE_TASK_GATE } from "../abi/x86";
import { readMem, readSystem } from "../memory/access";
import { aborted } from "../state/stop";
import {
  attrDpl,
  descriptorAttr,
  descriptorLimit,
  isCode,
  isConforming,
  isNull,
  isReadable,
  isWritableData,
  locateDescriptor,
} from "../system/descriptor";
import { cpl, longMode } from "../system/mode";
import { loadSegment } from "../system/segments";
import { effectiveAddress, isMem, modifyMemory, readRm, readRmSource, segmentOf, setDst, src } from "./operands";
import { requireProtected } from "./privilege";
import { addressPlus, readBytes, setDstSized, setZeroFlag } from "./sized";

/** Raises the RPL of the destination to that of the source; ZF says whether it did. @sdm 2A "ARPL-Adjust RPL Field of Segment Selector" */
export function arpl(rec: usize): void {
  if (!requireProtected()) return;
  const rpl = <u32>src<u16>(rec) & SEL_RPL;
  // the operand is written only when it changes
  const selector = u32(readRm<u16>(rec));
  if (aborted()) return;
  const raised = (selector & SEL_RPL) < rpl;
  if (raised) {
    const value = <u16>((selector & ~SEL_RPL) | rpl);
    if (isMem(rec)) {
      const at = modifyMemory<u16>(rec);
      if (!at) return;
      store<u16>(at, value);
    } else setDst<u16>(rec, value);
  }
  setZeroFlag(raised);
}

let found: u64 = 0;

/** The descriptor of a selector into `found`; false: null, outside its table, or the read faulted. */
function look(selector: u32): bool {
  if (isNull(selector)) return false;
  const at = locateDescriptor(selector, 8);
  if (at == 0xffffffffffffffff) return false;
  found = readSystem<u64>(at);
  return !aborted();
}

/** Conforming code can be looked at from every level. */
function visible(selector: u32, attr: u32): bool {
  if (isCode(attr) && isConforming(attr)) return true;
  return max(cpl(), selector & SEL_RPL) <= attrDpl(attr);
}

/** Sets of descriptor types, one bit a type. In IA-32e mode: LDT, 64-bit TSS, and for LAR the 64-bit call gate. */
const LSL_TYPES: u32 = 0x0a0e;
const LSL_TYPES_LONG: u32 = 0x0a04;
const GATES: u32 = (1 << TYPE_CALL16) | (1 << TYPE_TASK_GATE) | (1 << TYPE_CALL32);
const GATES_LONG: u32 = 1 << TYPE_CALL32;

function typeIn(attr: u32, types: u32): bool {
  return (attr & SA_S) != 0 || ((types >> (attr & 15)) & 1) != 0;
}

/** Bits 19:16 of the result are undefined; processors give those of the limit. @sdm 2A "LAR-Load Access Rights Byte" */
export function lar(rec: usize): void {
  const selector = query(rec);
  if (aborted()) return;
  const types = longMode() ? LSL_TYPES_LONG | GATES_LONG : LSL_TYPES | GATES;
  const ok = look(selector) && typeIn(descriptorAttr(found), types) && visible(selector, descriptorAttr(found));
  if (aborted()) return;
  if (ok) setDstSized(rec, (found >> 32) & (load<u8>(rec, R_SIZE) == 2 ? 0xff00 : 0xffff00));
  setZeroFlag(ok);
}

/** @sdm 2A "LSL-Load Segment Limit" */
export function lsl(rec: usize): void {
  const selector = query(rec);
  if (aborted()) return;
  const types = longMode() ? LSL_TYPES_LONG : LSL_TYPES;
  const ok = look(selector) && typeIn(descriptorAttr(found), types) && visible(selector, descriptorAttr(found));
  if (aborted()) return;
  if (ok) setDstSized(rec, <u64>descriptorLimit(found));
  setZeroFlag(ok);
}

function query(rec: usize): u32 {
  return requireProtected() ? <u32>readRmSource<u16>(rec) : 0;
}

/** @sdm 2B "VERR/VERW-Verify a Segment for Reading or Writing" */
export function verr(rec: usize): void {
  verify(rec, false);
}

export function verw(rec: usize): void {
  verify(rec, true);
}

function verify(rec: usize, write: bool): void {
  if (!requireProtected()) return;
  const selector = <u32>readRm<u16>(rec);
  if (aborted()) return;
  let ok = look(selector);
  if (aborted()) return;
  if (ok) {
    const attr = descriptorAttr(found);
    ok = (write ? isWritableData(attr) : isReadable(attr)) && visible(selector, attr);
  }
  setZeroFlag(ok);
}

/** @sdm 2A "LDS/LES/LFS/LGS/LSS-Load Far Pointer": the selector is loaded first, for it may fault. */
function farPointer(rec: usize, seg: u32): void {
  const size = <u32>load<u8>(rec, R_SIZE);
  const from = segmentOf(rec);
  const offset = readBytes(from, effectiveAddress(rec), size);
  if (aborted()) return;
  const selector = <u32>readMem<u16>(from, addressPlus(rec, size));
  if (aborted()) return;
  if (loadSegment(seg, selector)) setDstSized(rec, offset);
}

export function les(rec: usize): void {
  farPointer(rec, SEG_ES);
}

export function lds(rec: usize): void {
  farPointer(rec, SEG_DS);
}

export function lss(rec: usize): void {
  farPointer(rec, SEG_SS);
}

export function lfs(rec: usize): void {
  farPointer(rec, SEG_FS);
}

export function lgs(rec: usize): void {
  farPointer(rec, SEG_GS);
}
