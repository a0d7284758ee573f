// Descriptor-table registers and INVLPG. @sdm 2A "LGDT/LIDT", "LLDT", "LTR"; 2B "SGDT", "SIDT", "SLDT", "STR"

import { REASON_GDTR_IDTR_ACCESS, REASON_LDTR_TR_ACCESS } from "../abi/exits";
import { R_SIZE } from "../abi/record";
import { GDTR_BASE, GDTR_LIMIT, IDTR_BASE, IDTR_LIMIT, SEG_LDTR, SEG_TR, SEGS, SG_EFFECTIVE } from "../abi/state";
import { probeWrite, readMem } from "../memory/access";
import { aborted } from "../state/stop";
import { code64, noteSegmentChange } from "../system/mode";
import { loadLdtr, loadTr, selectorOf } from "../system/segments";
import { canonical } from "../system/width";
import { exitDescriptorTable, exitInvlpg, nonRoot } from "../vmx/intercept";
import { storeSystem, umip } from "./controlRegisters";
import { effectiveAddress, readRm, segmentOf } from "./operands";
import { gp0, requireCpl0, requireProtected } from "./privilege";

export function lgdt(rec: usize): void {
  loadTable(rec, GDTR_BASE, GDTR_LIMIT);
}

export function lidt(rec: usize): void {
  loadTable(rec, IDTR_BASE, IDTR_LIMIT);
}

export function sgdt(rec: usize): void {
  storeTable(rec, GDTR_BASE, GDTR_LIMIT);
}

export function sidt(rec: usize): void {
  storeTable(rec, IDTR_BASE, IDTR_LIMIT);
}

/** 16-bit operands load 24 bits of base; 64-bit mode always 64. */
function loadTable(rec: usize, baseAt: usize, limitAt: usize): void {
  if (!requireCpl0()) return;
  if (nonRoot() && exitDescriptorTable(REASON_GDTR_IDTR_ACCESS, rec)) return;
  const seg = segmentOf(rec);
  const ea = effectiveAddress(rec);
  const limit = <u32>readMem<u16>(seg, ea);
  if (aborted()) return;
  let base: u64;
  if (code64()) {
    base = readMem<u64>(seg, ea + 2);
    if (aborted()) return;
    if (!canonical(base)) {
      gp0();
      return;
    }
  } else {
    base = <u64>readMem<u32>(seg, ea + 2);
    if (aborted()) return;
    if (load<u8>(rec, R_SIZE) == 2) base &= 0xffffff;
  }
  store<u64>(baseAt, base);
  store<u32>(limitAt, limit);
  noteSegmentChange();
}

/** All 32 bits of the base are stored with 16-bit operands too, as processors since the 386 do. */
function storeTable(rec: usize, baseAt: usize, limitAt: usize): void {
  if (umip()) return;
  if (nonRoot() && exitDescriptorTable(REASON_GDTR_IDTR_ACCESS, rec)) return;
  const seg = segmentOf(rec);
  const ea = effectiveAddress(rec);
  const limitHost = probeWrite(seg, ea, 2);
  if (aborted()) return;
  const baseHost = probeWrite(seg, ea + 2, code64() ? 8 : 4);
  if (aborted()) return;
  store<u16>(limitHost, <u16>load<u32>(limitAt));
  if (code64()) store<u64>(baseHost, load<u64>(baseAt));
  else store<u32>(baseHost, load<u32>(baseAt));
}

export function lldt(rec: usize): void {
  if (!loadAllowed(rec)) return;
  const selector = <u32>readRm<u16>(rec);
  if (!aborted()) loadLdtr(selector);
}

export function ltr(rec: usize): void {
  if (!loadAllowed(rec)) return;
  const selector = <u32>readRm<u16>(rec);
  if (!aborted()) loadTr(selector);
}

function loadAllowed(rec: usize): bool {
  if (!requireProtected() || !requireCpl0()) return false;
  return !(nonRoot() && exitDescriptorTable(REASON_LDTR_TR_ACCESS, rec));
}

export function sldt(rec: usize): void {
  storeSelector(rec, SEG_LDTR);
}

export function str(rec: usize): void {
  storeSelector(rec, SEG_TR);
}

function storeSelector(rec: usize, seg: u32): void {
  if (!requireProtected() || umip()) return;
  if (nonRoot() && exitDescriptorTable(REASON_LDTR_TR_ACCESS, rec)) return;
  storeSystem(rec, <u64>selectorOf(seg));
}

/** Cached translations never outlive the tables they came from, so nothing has to be dropped. @sdm 2A "INVLPG-Invalidate TLB Entries" */
export function invlpg(rec: usize): void {
  if (!requireCpl0()) return;
  if (!nonRoot()) return;
  const linear = load<u64>(SEGS + segmentOf(rec) + SG_EFFECTIVE) + effectiveAddress(rec);
  exitInvlpg(code64() ? linear : linear & 0xffffffff, rec);
}
