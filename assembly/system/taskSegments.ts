// Segment registers of a new task. Called after the commit point: a fault belongs to the new task, which keeps the
// selector and an unusable register for everything that was not loaded yet.
// @sdm 3A table "Exception Conditions Checked During a Task Switch"
import { SEG_CS, SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_LDTR, SEG_SIZE, SEG_SS } from "../abi/state";
import { SA_CODE, SA_CONFORMING, SA_P, SEL_ERROR, SEL_RPL, SEL_TI, TYPE_LDT, VEC_NP, VEC_SS, VEC_TS } from "../abi/x86";
import { aborted, raiseError } from "../state/stop";
import {
  attrDpl,
  descriptorAddress,
  descriptorAttr,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  isReadable,
  isWritableData,
  markAccessed,
  probeAccessed,
  systemType,
} from "./descriptor";
import { cpl, deriveSegment, vm86 } from "./mode";
import { setFromDescriptor, setNull } from "./segments";

let ext: u32 = 0;

function fail(vector: u32, selector: u32): bool {
  raiseError(vector, (selector & SEL_ERROR) | ext);
  return false;
}

function accept(seg: u32, selector: u32, d: u64, attr: u32): bool {
  const accessed = probeAccessed(attr, descriptorAddress);
  if (aborted()) return false;
  setFromDescriptor(seg, selector, d, markAccessed(attr, accessed));
  return true;
}

function loadLdt(selector: u32): bool {
  if (isNull(selector)) return true;
  if (selector & SEL_TI) return fail(VEC_TS, selector);
  const d = fetchDescriptor(selector, VEC_TS, ext);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  if (systemType(attr) != TYPE_LDT || !(attr & SA_P)) return fail(VEC_TS, selector);
  setFromDescriptor(SEG_LDTR, selector, d, attr);
  deriveSegment(SEG_LDTR);
  return true;
}

function loadCode(selector: u32): bool {
  if (isNull(selector)) return fail(VEC_TS, selector);
  const d = fetchDescriptor(selector, VEC_TS, ext);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  const rpl = selector & SEL_RPL;
  if (!isCode(attr)) return fail(VEC_TS, selector);
  if (isConforming(attr) ? attrDpl(attr) > rpl : attrDpl(attr) != rpl) return fail(VEC_TS, selector);
  if (!(attr & SA_P)) return fail(VEC_NP, selector);
  return accept(SEG_CS, selector, d, attr);
}

function loadStack(selector: u32): bool {
  if (isNull(selector)) return fail(VEC_TS, selector);
  const d = fetchDescriptor(selector, VEC_TS, ext);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  if (!isWritableData(attr)) return fail(VEC_TS, selector);
  if (!(attr & SA_P)) return fail(VEC_SS, selector);
  if (attrDpl(attr) != cpl() || (selector & SEL_RPL) != cpl()) return fail(VEC_TS, selector);
  return accept(SEG_SS, selector, d, attr);
}

function loadData(seg: u32, selector: u32): bool {
  if (isNull(selector)) {
    setNull(seg, selector);
    return true;
  }
  const d = fetchDescriptor(selector, VEC_TS, ext);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  if (!isReadable(attr)) return fail(VEC_TS, selector);
  if ((attr & (SA_CODE | SA_CONFORMING)) != (SA_CODE | SA_CONFORMING)) {
    const dpl = attrDpl(attr);
    if ((selector & SEL_RPL) > dpl || cpl() > dpl) return fail(VEC_TS, selector);
  }
  if (!(attr & SA_P)) return fail(VEC_NP, selector);
  return accept(seg, selector, d, attr);
}

function selectorAt(selectors: usize, seg: u32): u32 {
  return load<u32>(selectors + (seg / SEG_SIZE) * 4);
}

/** selectors: ES CS SS DS FS GS, u32 each; ldt: u32. False: a fault is recorded. The caller calls recomputeMode(). */
export function loadTaskSegments(selectors: usize, ldt: usize, extBit: u32): bool {
  ext = extBit;
  if (!loadLdt(load<u32>(ldt))) return false;
  if (vm86()) return true;
  return (
    loadCode(selectorAt(selectors, SEG_CS)) &&
    loadStack(selectorAt(selectors, SEG_SS)) &&
    loadData(SEG_ES, selectorAt(selectors, SEG_ES)) &&
    loadData(SEG_DS, selectorAt(selectors, SEG_DS)) &&
    loadData(SEG_FS, selectorAt(selectors, SEG_FS)) &&
    loadData(SEG_GS, selectorAt(selectors, SEG_GS))
  );
}
