// Segment-register loads. @sdm 2B "MOV-Move", "LLDT", "LTR"; @sdm 3A "Segment Registers"
import { CPL, SEG_CS, SEG_LDTR, SEG_SS, SEG_TR, SEGS, SG_ATTR, SG_BASE, SG_LIMIT, SG_SELECTOR } from "../abi/state";
import {
  SA_ACCESSED,
  SA_CODE,
  SA_CONFORMING,
  SA_DB,
  SA_DPL,
  SA_DPL_SHIFT,
  SA_G,
  SA_P,
  SA_S,
  SA_UNUSABLE,
  SA_WRITE,
  SEL_ERROR,
  SEL_RPL,
  TYPE_LDT,
  TYPE_TSS16,
  TYPE_TSS32,
  VEC_GP,
  VEC_NP,
  VEC_SS,
} from "../abi/x86";
import { probeSystem, readSystem } from "../memory/access";
import { aborted, raiseError } from "../state/stop";
import {
  attrDpl,
  Descriptor,
  descriptorAddress,
  descriptorAttr,
  descriptorBase,
  descriptorLimit,
  fetchDescriptor,
  isNull,
  isReadable,
  isWritableData,
  locateDescriptor,
  markAccessed,
  probeAccessed,
  systemType,
} from "./descriptor";
import {
  code64,
  cpl,
  deriveData,
  deriveSegment,
  longMode,
  noteSegmentChange,
  protectedMode,
  recomputeTransfer,
  vm86,
} from "./mode";
import { canonical } from "./width";

export function selectorOf(seg: u32): u32 {
  return load<u32>(SEGS + seg + SG_SELECTOR);
}

/** Writes selector and hidden part; the caller calls recomputeMode() or deriveSegment(). */
export function setSegment(seg: u32, selector: u32, base: u64, limit: u32, attr: u32): void {
  noteSegmentChange();
  const at: usize = SEGS + seg;
  store<u32>(at, selector, SG_SELECTOR);
  store<u64>(at, base, SG_BASE);
  store<u32>(at, limit, SG_LIMIT);
  store<u32>(at, attr, SG_ATTR);
}

export function setFromDescriptor(seg: u32, selector: u32, d: u64, attr: u32): void {
  setSegment(seg, selector, descriptorBase(d), descriptorLimit(d), attr);
}

/** Null selector: unusable; SS keeps the CPL as its DPL. Intel processors clear the base. */
export function setNull(seg: u32, selector: u32): void {
  const dpl: u32 = seg == SEG_SS ? load<u32>(CPL) << SA_DPL_SHIFT : 0;
  setSegment(seg, selector, 0, 0, SA_UNUSABLE | dpl);
}

/** Real mode and vm86. Real mode changes selector and base only, so that a limit loaded in protected mode survives. */
export function setRealSegment(seg: u32, selector: u32): void {
  if (vm86()) {
    setVm86Segment(seg, selector);
    return;
  }
  noteSegmentChange();
  const at: usize = SEGS + seg;
  store<u32>(at, selector, SG_SELECTOR);
  store<u64>(at, (<u64>selector) << 4, SG_BASE);
  if (seg != SEG_CS) {
    store<u32>(at, (load<u32>(at, SG_ATTR) & (SA_DB | SA_G)) | SA_P | SA_S | SA_WRITE | SA_ACCESSED, SG_ATTR);
  }
}

/** @sdm 3B "Segment Registers" (8086 emulation): DPL 3, 64 KiB, read-write. */
export function setVm86Segment(seg: u32, selector: u32): void {
  const sel = selector & 0xffff;
  setSegment(seg, sel, (<u64>sel) << 4, 0xffff, SA_P | SA_S | SA_WRITE | SA_ACCESSED | SA_DPL);
}

/** MOV, POP, LxS to ES SS DS FS GS. False: a fault is recorded and nothing changed. */
export function loadSegment(seg: u32, selector: u32): bool {
  if (!protectedMode()) {
    setRealSegment(seg, selector);
    if (seg == SEG_SS) recomputeTransfer();
    else deriveData(seg);
    return true;
  }
  return seg == SEG_SS ? loadStack(selector) : loadData(seg, selector);
}

/** The descriptor of a selector that is not null; a fault is recorded. */
function toLoad(selector: u32): u64 {
  const d = Descriptor.cached(selector);
  return descriptorAttr(d) & SA_ACCESSED ? d : fetchDescriptor(selector, VEC_GP, 0);
}

/** Has the segment just this already? Then what follows from it is as it was. */
function isLoaded(seg: u32, selector: u32, d: u64, attr: u32): bool {
  const at: usize = SEGS + seg;
  const words =
    (load<u32>(at, SG_SELECTOR) ^ selector) |
    (load<u32>(at, SG_LIMIT) ^ Descriptor.limit(d)) |
    (load<u32>(at, SG_ATTR) ^ attr);
  return (<u64>words | (load<u64>(at, SG_BASE) ^ descriptorBase(d))) == 0;
}

function loadData(seg: u32, selector: u32): bool {
  if (isNull(selector)) {
    setNull(seg, selector);
    deriveData(seg);
    return true;
  }
  const d = toLoad(selector);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  const error = selector & SEL_ERROR;
  if (!isReadable(attr)) return fail(VEC_GP, error);
  if ((attr & (SA_CODE | SA_CONFORMING)) != (SA_CODE | SA_CONFORMING)) {
    const dpl = attrDpl(attr);
    if ((selector & SEL_RPL) > dpl || cpl() > dpl) return fail(VEC_GP, error);
  }
  if (!(attr & SA_P)) return fail(VEC_NP, error);
  if (isLoaded(seg, selector, d, attr)) return true;
  const accessed = probeAccessed(attr, descriptorAddress);
  if (aborted()) return false;
  setFromDescriptor(seg, selector, d, markAccessed(attr, accessed));
  deriveData(seg);
  return true;
}

function loadStack(selector: u32): bool {
  const rpl = selector & SEL_RPL;
  if (isNull(selector)) {
    if (!code64() || cpl() == 3 || rpl != cpl()) return fail(VEC_GP, 0);
    setNull(SEG_SS, selector);
    recomputeTransfer();
    return true;
  }
  const d = toLoad(selector);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  const error = selector & SEL_ERROR;
  if (rpl != cpl() || !isWritableData(attr) || attrDpl(attr) != cpl()) return fail(VEC_GP, error);
  if (!(attr & SA_P)) return fail(VEC_SS, error);
  if (isLoaded(SEG_SS, selector, d, attr)) return true;
  const accessed = probeAccessed(attr, descriptorAddress);
  if (aborted()) return false;
  setFromDescriptor(SEG_SS, selector, d, markAccessed(attr, accessed));
  recomputeTransfer();
  return true;
}

function fail(vector: u32, error: u32): bool {
  raiseError(vector, error);
  return false;
}

/** Reads the descriptor of LLDT or LTR; its high half (IA-32e mode) goes to systemHigh. */
let systemHigh: u64 = 0;

function fetchSystem(selector: u32): u64 {
  const at = locateDescriptor(selector, longMode() ? 16 : 8);
  if (selector & 4 || at == 0xffffffffffffffff) {
    raiseError(VEC_GP, selector & SEL_ERROR);
    return 0;
  }
  const d = readSystem<u64>(at);
  systemHigh = 0;
  if (longMode() && !aborted()) systemHigh = readSystem<u64>(at + 8);
  return d;
}

/** Type bits of the high half of a 16-byte descriptor must be 0, the base canonical. */
function highOk(base: u64): bool {
  return !longMode() || (((systemHigh >> 40) & 0x1f) == 0 && canonical(base));
}

/** @sdm 2A "LLDT-Load Local Descriptor Table Register" */
export function loadLdtr(selector: u32): bool {
  if (isNull(selector)) {
    setSegment(SEG_LDTR, selector, 0, 0, SA_UNUSABLE);
    deriveSegment(SEG_LDTR);
    return true;
  }
  const d = fetchSystem(selector);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  const error = selector & SEL_ERROR;
  const base = descriptorBase(d) | (systemHigh << 32);
  if (systemType(attr) != TYPE_LDT || !highOk(base)) return fail(VEC_GP, error);
  if (!(attr & SA_P)) return fail(VEC_NP, error);
  setSegment(SEG_LDTR, selector, base, descriptorLimit(d), attr);
  deriveSegment(SEG_LDTR);
  return true;
}

/** @sdm 2A "LTR-Load Task Register": marks the descriptor busy. */
export function loadTr(selector: u32): bool {
  if (isNull(selector)) return fail(VEC_GP, 0);
  const d = fetchSystem(selector);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  const error = selector & SEL_ERROR;
  const type = systemType(attr);
  const base = descriptorBase(d) | (systemHigh << 32);
  if (type != TYPE_TSS32 && (type != TYPE_TSS16 || longMode())) return fail(VEC_GP, error);
  if (!highOk(base)) return fail(VEC_GP, error);
  if (!(attr & SA_P)) return fail(VEC_NP, error);
  const host = probeSystem(locateDescriptor(selector, 8) + 5, 1);
  if (aborted()) return false;
  store<u8>(host, <u8>(attr | 2));
  setSegment(SEG_TR, selector, base, descriptorLimit(d), attr | 2);
  deriveSegment(SEG_TR);
  return true;
}
