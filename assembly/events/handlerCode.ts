// The code segment that a gate of the IDT leads to. @sdm 2A "INT n/INTO/INT3/INT1-Call to Interrupt Procedure"
import { CPL, SEG_CS } from "../abi/state";
import { SA_DB, SA_L, SA_P, SEL_ERROR, SEL_RPL, VEC_GP, VEC_NP } from "../abi/x86";
import { aborted } from "../state/stop";
import {
  attrDpl,
  descriptorAddress,
  descriptorAttr,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  markAccessed,
  probeAccessed,
} from "../system/descriptor";
import { cpl, longMode, vm86 } from "../system/mode";
import { setFromDescriptor } from "../system/segments";
import { ext, fail } from "./event";

/** Descriptor of the handler's code. */
export let handlerCode: u64 = 0;
/** The handler runs at this level; whether it is an inner one. */
export let handlerLevel: u32 = 0;
export let handlerInner: bool = false;
let selector: u32 = 0;
let accessed: u32 = 0;

/** False: a fault is recorded. Nothing changes before commitHandler(). */
export function chooseHandler(gateSelector: u32): bool {
  if (isNull(gateSelector)) return fail(VEC_GP, ext);
  const error = (gateSelector & SEL_ERROR) | ext;
  const code = fetchDescriptor(gateSelector, VEC_GP, ext);
  if (aborted()) return false;
  const attr = descriptorAttr(code);
  const dpl = attrDpl(attr);
  const from = cpl();
  if (!isCode(attr) || dpl > from) return fail(VEC_GP, error);
  if (!(attr & SA_P)) return fail(VEC_NP, error);
  const inner = !isConforming(attr) && dpl < from;
  if (longMode() ? (attr & (SA_L | SA_DB)) != SA_L : vm86() && (!inner || dpl != 0)) return fail(VEC_GP, error);
  accessed = probeAccessed(attr, descriptorAddress);
  selector = gateSelector;
  handlerCode = code;
  handlerInner = inner;
  handlerLevel = inner ? dpl : from;
  return !aborted();
}

/** Loads CS and the CPL. */
export function commitHandler(): void {
  store<u32>(CPL, handlerLevel);
  const attr = markAccessed(descriptorAttr(handlerCode), accessed);
  setFromDescriptor(SEG_CS, (selector & ~SEL_RPL) | handlerLevel, handlerCode, attr);
}
