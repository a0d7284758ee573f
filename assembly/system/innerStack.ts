// The stack of a more privileged level, from the TSS: gates and call gates outside IA-32e mode.
// @sdm 3A "Stack Switching"
import { RSP, SEG_SS } from "../abi/state";
import { SA_DB, SA_P, SEL_ERROR, SEL_RPL, VEC_SS, VEC_TS } from "../abi/x86";
import { aborted, raiseError } from "../state/stop";
import {
  attrDpl,
  descriptorAddress,
  descriptorAttr,
  descriptorBase,
  descriptorLimit,
  fetchDescriptor,
  isNull,
  isWritableData,
  markAccessed,
  probeAccessed,
} from "./descriptor";
import { frameCount, frameProbe } from "./frame";
import { setFromDescriptor } from "./segments";
import { readStack, stackPointer, stackSelector } from "./tss";

let descriptor: u64 = 0;
let attributes: u32 = 0;
let accessed: u32 = 0;

function fail(vector: u32, error: u32): bool {
  raiseError(vector, error);
  return false;
}

function innerMask(): u64 {
  return attributes & SA_DB ? 0xffffffff : 0xffff;
}

/** Reads and checks the stack of a level. False: a fault is recorded. */
export function selectInnerStack(level: u32, ext: u32): bool {
  if (!readStack(level, ext)) return false;
  const selector = stackSelector;
  if (isNull(selector)) return fail(VEC_TS, ext);
  const error = (selector & SEL_ERROR) | ext;
  descriptor = fetchDescriptor(selector, VEC_TS, ext);
  if (aborted()) return false;
  attributes = descriptorAttr(descriptor);
  if ((selector & SEL_RPL) != level || attrDpl(attributes) != level || !isWritableData(attributes))
    return fail(VEC_TS, error);
  if (!(attributes & SA_P)) return fail(VEC_SS, error);
  accessed = probeAccessed(attributes, descriptorAddress);
  return !aborted();
}

/** Probes the frame on the selected stack. */
export function probeInnerFrame(size: u32, ext: u32): bool {
  const error = (stackSelector & SEL_ERROR) | ext;
  return frameProbe(
    size,
    descriptorBase(descriptor),
    attributes,
    descriptorLimit(descriptor),
    stackPointer,
    innerMask(),
    error,
    false,
  );
}

/** Loads SS and RSP after the frame was stored; the caller sets CPL and calls recomputeMode(). */
export function loadInnerStack(size: u32): void {
  const mask = innerMask();
  const sp = stackPointer - <u64>(frameCount() * size);
  setFromDescriptor(SEG_SS, stackSelector, descriptor, markAccessed(attributes, accessed));
  store<u64>(RSP, (stackPointer & 0xffffffff & ~mask) | (sp & mask));
}
