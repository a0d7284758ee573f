// Checks of the code and stack segments that far transfers go to; the commit comes after every check of the instruction.
import {
  CPL,
  RIP,
  RSP,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_SS,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
  TR_TAG,
} from "../abi/state";
import {
  SA_CODE,
  SA_CONFORMING,
  SA_DB,
  SA_L,
  SA_P,
  SA_UNUSABLE,
  SEL_ERROR,
  SEL_RPL,
  VEC_AC,
  VEC_GP,
  VEC_NP,
  VEC_SS,
} from "../abi/x86";
import { readMem } from "../memory/access";
import { aborted, raiseError } from "../state/stop";
import {
  attrDpl,
  descriptorAddress,
  descriptorAttr,
  descriptorLimit,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  isWritableData,
  markAccessed,
  probeAccessed,
} from "../system/descriptor";
import { frameCount, frameProbe, framePush, frameStart, frameStore, insideStack } from "../system/frame";
import { cpl, deriveSegment, longMode, noteSegmentChange, recomputeTransfer } from "../system/mode";
import { selectorOf, setFromDescriptor, setNull } from "../system/segments";
import { canonical, mergeSp, stackMask } from "../system/width";

/** Code segment that the transfer goes to. */
let code: u64 = 0;
let codeSelector: u32 = 0;
let codeAttr: u32 = 0;
let codeAccessed: u32 = 0;
/** Stack segment of a return. */
let stack: u64 = 0;
let stackSelector: u32 = 0;
let stackAttr: u32 = 0;
let stackAccessed: u32 = 0;

export function fault(vector: u32, error: u32): bool {
  raiseError(vector, error);
  return false;
}

/** The target is 64-bit code. */
export function targetLong(): bool {
  return longMode() && (codeAttr & SA_L) != 0;
}

/** Remembers a code segment; its present bit and its L and D/B bits are checked here, privilege by the caller. */
export function chooseCode(selector: u32, d: u64): bool {
  codeSelector = selector;
  code = d;
  codeAttr = descriptorAttr(d);
  const error = selector & SEL_ERROR;
  if (longMode() && (codeAttr & (SA_L | SA_DB)) == (SA_L | SA_DB)) return fault(VEC_GP, error);
  if (!(codeAttr & SA_P)) return fault(VEC_NP, error);
  codeAccessed = probeAccessed(codeAttr, descriptorAddress);
  return !aborted();
}

/** Truncates an offset to the target's width and checks it: limit, or canonical in 64-bit code. Test aborted() after it. */
export function checkOffset(offset: u64): u64 {
  if (targetLong()) {
    if (!canonical(offset)) raiseError(VEC_GP, 0);
    return offset;
  }
  const truncated = offset & 0xffffffff;
  if (truncated > <u64>descriptorLimit(code)) raiseError(VEC_GP, 0);
  return truncated;
}

/** Loads CS with RPL = level. The caller calls recomputeMode() and sets RIP. */
export function commitCode(level: u32): void {
  setFromDescriptor(SEG_CS, (codeSelector & ~SEL_RPL) | level, code, markAccessed(codeAttr, codeAccessed));
  store<u32>(CPL, level);
}

/** Probes the pushes of a CALL as the target's mode sees the stack, which is what processors do. */
function probeTargetStack(size: u32, sp: u64): bool {
  const ss: usize = SEGS + SEG_SS;
  const attr = load<u32>(ss, SG_ATTR);
  const long = targetLong();
  const base = long ? 0 : load<u64>(ss, SG_BASE);
  const mask: u64 = long ? 0xffffffffffffffff : attr & SA_DB ? 0xffffffff : 0xffff;
  const first = (sp - <u64>size) & mask;
  // no entry of the TLB may match while alignment is checked
  if (
    load<u64>(TR_TAG) == 0xffffffffffffffff &&
    <u32>(base + first) & (size - 1) &&
    (long || insideStack(attr, load<u32>(ss, SG_LIMIT), first, size))
  ) {
    return fault(VEC_AC, 0);
  }
  return frameProbe(size, base, attr, load<u32>(ss, SG_LIMIT), sp, mask, 0, cpl() == 3);
}

/** JMP or CALL into the chosen code segment without a change of privilege. */
export function sameLevel(target: u64, size: u32, call: bool): void {
  const sp = load<u64>(RSP);
  frameStart();
  if (call) {
    framePush(<u64>selectorOf(SEG_CS));
    framePush(load<u64>(RIP));
    if (!probeTargetStack(size, sp)) return;
  }
  const offset = checkOffset(target);
  if (aborted()) return;
  if (call) frameStore(size);
  commitCode(cpl());
  recomputeTransfer();
  if (call) store<u64>(RSP, mergeSp(sp - <u64>(frameCount() * size)));
  store<u64>(RIP, offset);
}

/** Code segment of RETF and IRET: privilege by the RPL of the popped selector. */
export function chooseReturnCode(selector: u32): bool {
  if (isNull(selector)) return fault(VEC_GP, 0);
  const error = selector & SEL_ERROR;
  const d = fetchDescriptor(selector, VEC_GP, 0);
  if (aborted()) return false;
  const attr = descriptorAttr(d);
  const rpl = selector & SEL_RPL;
  if (!isCode(attr) || rpl < cpl()) return fault(VEC_GP, error);
  if (isConforming(attr) ? attrDpl(attr) > rpl : attrDpl(attr) != rpl) return fault(VEC_GP, error);
  return chooseCode(selector, d);
}

/** Stack segment of a return to privilege level. A null selector is legal for 64-bit code below CPL 3. */
export function chooseReturnStack(selector: u32, level: u32): bool {
  stackSelector = selector;
  stackAttr = 0;
  stackAccessed = 0;
  const rpl = selector & SEL_RPL;
  if (isNull(selector)) {
    if (!targetLong() || level == 3 || rpl != level) return fault(VEC_GP, 0);
    stackAttr = SA_UNUSABLE;
    return true;
  }
  const error = selector & SEL_ERROR;
  stack = fetchDescriptor(selector, VEC_GP, 0);
  if (aborted()) return false;
  stackAttr = descriptorAttr(stack);
  if (rpl != level || !isWritableData(stackAttr) || attrDpl(stackAttr) != level) return fault(VEC_GP, error);
  if (!(stackAttr & SA_P)) return fault(VEC_SS, error);
  stackAccessed = probeAccessed(stackAttr, descriptorAddress);
  return !aborted();
}

/** After commitCode: loads SS and RSP; a 16-bit stack segment takes 16 bits only. */
export function commitReturnStack(sp: u64): void {
  if (stackAttr & SA_UNUSABLE) setNull(SEG_SS, stackSelector);
  else setFromDescriptor(SEG_SS, stackSelector, stack, markAccessed(stackAttr, stackAccessed));
  if (targetLong()) store<u64>(RSP, sp);
  else if (stackAttr & SA_DB) store<u64>(RSP, sp & 0xffffffff);
  else store<u64>(RSP, (load<u64>(RSP) & 0xffff0000) | (sp & 0xffff));
}

/**
 * Return to an outer level: data segments that it may not use become null, and null selectors 0, as a Xeon leaves them.
 * @sdm 3A "Returning from a Called Procedure"
 */
export function dropDataSegments(level: u32): void {
  dropIfInner(SEG_ES, level);
  dropIfInner(SEG_DS, level);
  dropIfInner(SEG_FS, level);
  dropIfInner(SEG_GS, level);
}

function dropIfInner(seg: u32, level: u32): void {
  const attr = load<u32>(SEGS + seg + SG_ATTR);
  // the base of a null FS or GS stays
  if (attr & SA_UNUSABLE) {
    store<u32>(SEGS + seg + SG_SELECTOR, 0);
    noteSegmentChange();
  }
  if (attr & SA_UNUSABLE || (attr & (SA_CODE | SA_CONFORMING)) == (SA_CODE | SA_CONFORMING)) return;
  if (attrDpl(attr) >= level) return;
  setNull(seg, 0);
  deriveSegment(seg);
}

/** Operand of `size` bytes on the stack, `offset` bytes above RSP. Test aborted() after it. */
export function stackOperand(size: u32, offset: u32): u64 {
  const at = (load<u64>(RSP) + <u64>offset) & stackMask();
  if (size == 8) return readMem<u64>(SEG_SS, at);
  return size == 4 ? <u64>readMem<u32>(SEG_SS, at) : <u64>readMem<u16>(SEG_SS, at);
}
