// Protected mode and vm86: 16- and 32-bit interrupt and trap gates. @sdm 2A "INT n/INTO/INT3/INT1-Call to Interrupt Procedure"
import {
  EFLAGS_REST,
  IDTR_BASE,
  IDTR_LIMIT,
  RIP,
  RSP,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_SS,
} from "../abi/state";
import {
  ERR_IDT,
  FLAG_IF,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  SA_P,
  TYPE_INT16,
  TYPE_INT32,
  TYPE_TASK_GATE,
  TYPE_TRAP16,
  TYPE_TRAP32,
  VEC_GP,
  VEC_NP,
} from "../abi/x86";
import { readSystem } from "../memory/access";
import { aborted } from "../state/stop";
import {
  attrDpl,
  descriptorAttr,
  descriptorLimit,
  gateOffset,
  gateSelector,
  systemType,
  tableAddress,
} from "../system/descriptor";
import { frameCount, frameProbeCurrent, framePush, frameStart, frameStore } from "../system/frame";
import { loadInnerStack, probeInnerFrame, selectInnerStack } from "../system/innerStack";
import { cpl, recomputeMode, recomputeTransfer, vm86 } from "../system/mode";
import { selectorOf, setNull } from "../system/segments";
import { switchTask, TASK_DONE, TaskSource } from "../system/taskSwitch";
import { mergeSp, stackMask } from "../system/width";
import { checksDpl, errorCode, ext, fail, flagsImage, hasError, returnRip, vector } from "./event";
import { chooseHandler, commitHandler, handlerCode, handlerInner, handlerLevel } from "./handlerCode";

function isGate(type: u32): bool {
  return type == TYPE_INT16 || type == TYPE_TRAP16 || type == TYPE_INT32 || type == TYPE_TRAP32;
}

export function deliverProtected(): bool {
  const gateError = (vector * 8) | ERR_IDT | ext;
  if (vector * 8 + 7 > load<u32>(IDTR_LIMIT)) return fail(VEC_GP, gateError);
  const gate = readSystem<u64>(tableAddress(load<u64>(IDTR_BASE) + <u64>(vector * 8)));
  if (aborted()) return false;
  const gateAttr = descriptorAttr(gate);
  const type = systemType(gateAttr);
  if (type != TYPE_TASK_GATE && !isGate(type)) return fail(VEC_GP, gateError);
  if (checksDpl && attrDpl(gateAttr) < cpl()) return fail(VEC_GP, gateError);
  if (!(gateAttr & SA_P)) return fail(VEC_NP, gateError);
  if (type == TYPE_TASK_GATE) {
    const selector = gateSelector(gate);
    return switchTask(selector, TaskSource.Gate, returnRip, flagsImage, ext, 0, hasError, errorCode) == TASK_DONE;
  }
  return throughGate(gate, type);
}

function throughGate(gate: u64, type: u32): bool {
  if (!chooseHandler(gateSelector(gate))) return false;
  const inner = handlerInner;
  const fromVm86 = vm86();
  const wide = type == TYPE_INT32 || type == TYPE_TRAP32;
  const size: u32 = wide ? 4 : 2;
  const offset: u64 = wide ? gateOffset(gate) : gateOffset(gate) & 0xffff;
  if (inner && !selectInnerStack(handlerLevel, ext)) return false;
  const sp = load<u64>(RSP);
  frameStart();
  if (fromVm86) {
    framePush(<u64>selectorOf(SEG_GS));
    framePush(<u64>selectorOf(SEG_FS));
    framePush(<u64>selectorOf(SEG_DS));
    framePush(<u64>selectorOf(SEG_ES));
  }
  if (inner) {
    framePush(<u64>selectorOf(SEG_SS));
    framePush(sp);
  }
  framePush(flagsImage);
  framePush(<u64>selectorOf(SEG_CS));
  framePush(returnRip);
  if (hasError) framePush(<u64>errorCode);
  if (inner) {
    if (!probeInnerFrame(size, ext)) return false;
  } else if (!frameProbeCurrent(size, sp, stackMask(), ext, cpl() == 3)) {
    return false;
  }
  if (offset > <u64>descriptorLimit(handlerCode)) return fail(VEC_GP, ext);

  frameStore(size);
  if (inner) loadInnerStack(size);
  else store<u64>(RSP, mergeSp(sp - <u64>(frameCount() * size)));
  commitHandler();
  if (fromVm86) {
    setNull(SEG_ES, 0);
    setNull(SEG_DS, 0);
    setNull(SEG_FS, 0);
    setNull(SEG_GS, 0);
  }
  store<u64>(RIP, offset);
  clearFlags((type & 1) == 0);
  if (fromVm86) recomputeMode();
  else recomputeTransfer();
  return true;
}

/** Interrupt gates clear IF too. */
export function clearFlags(interruptGate: bool): void {
  let cleared = FLAG_TF | FLAG_NT | FLAG_VM | FLAG_RF;
  if (interruptGate) cleared |= FLAG_IF;
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~cleared);
}
