// IA-32e mode: 64-bit interrupt and trap gates with the interrupt stack table. @sdm 3A "Exception and Interrupt Handling in 64-bit Mode"
//
//   63:48 offset 31:16 | 47 P 46:45 DPL 43:40 type | 34:32 IST | 31:16 selector | 15:0 offset 15:0; high half: 31:0 offset 63:32
import { IDTR_BASE, IDTR_LIMIT, RIP, RSP, SEG_CS, SEG_SS } from "../abi/state";
import { ERR_IDT, SA_P, TYPE_INT32, TYPE_TRAP32, VEC_GP, VEC_NP } from "../abi/x86";
import { readSystem } from "../memory/access";
import { aborted } from "../state/stop";
import { attrDpl, descriptorAttr, gateOffset, gateSelector, systemType } from "../system/descriptor";
import { frameCount, frameProbe, framePush, frameStart, frameStore } from "../system/frame";
import { cpl, recomputeTransfer } from "../system/mode";
import { selectorOf, setNull } from "../system/segments";
import { readStack64, stackPointer } from "../system/tss";
import { canonical } from "../system/width";
import { checksDpl, errorCode, ext, fail, flagsImage, hasError, returnRip, vector } from "./event";
import { chooseHandler, commitHandler, handlerInner, handlerLevel } from "./handlerCode";
import { clearFlags } from "./protected";

const ALL: u64 = 0xffffffffffffffff;

export function deliverLong(): bool {
  const gateError = (vector * 8) | ERR_IDT | ext;
  if (vector * 16 + 15 > load<u32>(IDTR_LIMIT)) return fail(VEC_GP, gateError);
  const at = load<u64>(IDTR_BASE) + <u64>(vector * 16);
  const gate = readSystem<u64>(at);
  if (aborted()) return false;
  const high = readSystem<u64>(at + 8);
  if (aborted()) return false;
  const gateAttr = descriptorAttr(gate);
  const type = systemType(gateAttr);
  if (type != TYPE_INT32 && type != TYPE_TRAP32) return fail(VEC_GP, gateError);
  if (checksDpl && attrDpl(gateAttr) < cpl()) return fail(VEC_GP, gateError);
  if (!(gateAttr & SA_P)) return fail(VEC_NP, gateError);

  if (!chooseHandler(gateSelector(gate))) return false;
  const inner = handlerInner;
  const level = handlerLevel;
  const ist = <u32>(gate >> 32) & 7;
  let sp = load<u64>(RSP);
  if (inner || ist) {
    if (!readStack64(level, ist, ext)) return false;
    sp = stackPointer;
  }
  sp &= ~(<u64>0xf);
  frameStart();
  framePush(<u64>selectorOf(SEG_SS));
  framePush(load<u64>(RSP));
  framePush(flagsImage);
  framePush(<u64>selectorOf(SEG_CS));
  framePush(returnRip);
  if (hasError) framePush(<u64>errorCode);
  if (!frameProbe(8, 0, 0, 0, sp, ALL, ext, level == 3)) return false;
  const offset = gateOffset(gate) | (high << 32);
  if (!canonical(offset)) return fail(VEC_GP, ext);

  frameStore(8);
  store<u64>(RSP, sp - <u64>(frameCount() * 8));
  commitHandler();
  if (inner) setNull(SEG_SS, level);
  clearFlags(type == TYPE_INT32);
  recomputeTransfer();
  store<u64>(RIP, offset);
  return true;
}
