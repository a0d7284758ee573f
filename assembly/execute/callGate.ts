// JMP and CALL through call gates. @sdm 3A "Call Gates", "IA-32e Mode Call Gates"
//
//   63:48 offset 31:16 | 47 P 46:45 DPL 43:40 type | 36:32 parameter count | 31:16 selector | 15:0 offset 15:0
import { CPL, RIP, RSP, SEG_CS, SEG_SS } from "../abi/state";
import { SA_DB, SA_L, SA_P, SEL_ERROR, TYPE_CALL16, VEC_GP, VEC_NP } from "../abi/x86";
import { readSystem } from "../memory/access";
import { aborted } from "../state/stop";
import {
  attrDpl,
  descriptorAttr,
  fetchDescriptor,
  gateOffset,
  gateSelector,
  isCode,
  isConforming,
  isNull,
  locateDescriptor,
  systemType,
} from "../system/descriptor";
import { frameProbe, framePush, frameStart, frameStore } from "../system/frame";
import { loadInnerStack, probeInnerFrame, selectInnerStack } from "../system/innerStack";
import { cpl, longMode, recomputeTransfer } from "../system/mode";
import { selectorOf, setNull } from "../system/segments";
import { readStack64, stackPointer } from "../system/tss";
import { checkOffset, chooseCode, commitCode, fault, sameLevel, stackOperand } from "./farTarget";

const ALL: u64 = 0xffffffffffffffff;
const PARAMETERS: u32 = 31;

/** Type and DPL of the gate are checked already. */
export function throughCallGate(selector: u32, gate: u64, call: bool): void {
  const gateAttr = descriptorAttr(gate);
  const gateError = selector & SEL_ERROR;
  let target = gateOffset(gate);
  let size: u32 = 4;
  if (longMode()) {
    const at = locateDescriptor(selector, 16);
    if (at == ALL) {
      fault(VEC_GP, gateError);
      return;
    }
    const high = readSystem<u64>(at + 8);
    if (aborted()) return;
    if ((high >> 40) & 0x1f) {
      fault(VEC_GP, gateError);
      return;
    }
    target |= high << 32;
    size = 8;
  } else if (systemType(gateAttr) == TYPE_CALL16) {
    target &= 0xffff;
    size = 2;
  }
  if (!(gateAttr & SA_P)) {
    fault(VEC_NP, gateError);
    return;
  }
  const codeSelector = gateSelector(gate);
  if (isNull(codeSelector)) {
    fault(VEC_GP, 0);
    return;
  }
  const d = fetchDescriptor(codeSelector, VEC_GP, 0);
  if (aborted()) return;
  const attr = descriptorAttr(d);
  const dpl = attrDpl(attr);
  const from = cpl();
  const legal = call || isConforming(attr) ? dpl <= from : dpl == from;
  if (!isCode(attr) || !legal || (longMode() && (attr & (SA_L | SA_DB)) != SA_L)) {
    fault(VEC_GP, codeSelector & SEL_ERROR);
    return;
  }
  if (!chooseCode(codeSelector, d)) return;
  if (!call || isConforming(attr) || dpl == from) sameLevel(target, size, call);
  else if (longMode()) innerLong(dpl, target);
  else inner(dpl, target, size, <u32>(gate >> 32) & PARAMETERS);
}

/** More privilege: stack of the TSS, parameters copied from the old one. */
function inner(to: u32, target: u64, size: u32, parameters: u32): void {
  if (!selectInnerStack(to, 0)) return;
  frameStart();
  framePush(<u64>selectorOf(SEG_SS));
  framePush(load<u64>(RSP));
  for (let i = parameters; i > 0; i--) {
    framePush(stackOperand(size, (i - 1) * size));
    if (aborted()) return;
  }
  framePush(<u64>selectorOf(SEG_CS));
  framePush(load<u64>(RIP));
  if (!probeInnerFrame(size, 0)) return;
  const offset = checkOffset(target);
  if (aborted()) return;
  frameStore(size);
  loadInnerStack(size);
  commitCode(to);
  store<u64>(RIP, offset);
  recomputeTransfer();
}

function innerLong(to: u32, target: u64): void {
  if (!readStack64(to, 0, 0)) return;
  const sp = stackPointer;
  frameStart();
  framePush(<u64>selectorOf(SEG_SS));
  framePush(load<u64>(RSP));
  framePush(<u64>selectorOf(SEG_CS));
  framePush(load<u64>(RIP));
  if (!frameProbe(8, 0, 0, 0, sp, ALL, 0, false)) return;
  const offset = checkOffset(target);
  if (aborted()) return;
  frameStore(8);
  store<u64>(RSP, sp - 32);
  store<u32>(CPL, to);
  setNull(SEG_SS, to);
  commitCode(to);
  recomputeTransfer();
  store<u64>(RIP, offset);
}
