// Real-address mode: the interrupt vector table. @sdm 3B "Interrupt and Exception Handling" (8086 emulation)
import { EFLAGS_REST, IDTR_BASE, IDTR_LIMIT, RIP, RSP, SEG_CS, SEGS, SG_LIMIT } from "../abi/state";
import { ERR_IDT, FLAG_AC, FLAG_IF, FLAG_RF, FLAG_TF, VEC_GP } from "../abi/x86";
import { readSystem } from "../memory/access";
import { aborted } from "../state/stop";
import { tableAddress } from "../system/descriptor";
import { frameProbeCurrent, framePush, frameStart, frameStore } from "../system/frame";
import { recomputeTransfer } from "../system/mode";
import { selectorOf, setRealSegment } from "../system/segments";
import { mergeSp, stackMask } from "../system/width";
import { ext, fail, flagsImage, returnRip, vector } from "./event";

export function deliverReal(): bool {
  if (vector * 4 + 3 > load<u32>(IDTR_LIMIT)) return fail(VEC_GP, (vector * 8) | ERR_IDT | ext);
  const entry = readSystem<u32>(tableAddress(load<u64>(IDTR_BASE) + <u64>(vector * 4)));
  if (aborted()) return false;
  frameStart();
  framePush(flagsImage);
  framePush(<u64>selectorOf(SEG_CS));
  framePush(returnRip);
  const sp = load<u64>(RSP);
  if (!frameProbeCurrent(2, sp, stackMask(), ext, false)) return false;
  const offset = entry & 0xffff;
  if (offset > load<u32>(SEGS + SEG_CS + SG_LIMIT)) return fail(VEC_GP, ext);
  frameStore(2);
  store<u64>(RSP, mergeSp(sp - 6));
  setRealSegment(SEG_CS, entry >>> 16);
  store<u64>(RIP, <u64>offset);
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
  recomputeTransfer();
  return true;
}
