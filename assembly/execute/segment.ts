// MOV, PUSH and POP of segment registers. @sdm 2B "MOV-Move", "PUSH", "POP"
import { R_INDEX, R_MODRM, R_SIZE } from "../abi/record";
import { RSP, SEG_CS, SEG_SIZE, SEG_SS } from "../abi/state";
import { BLOCK_MOV_SS, VEC_UD } from "../abi/x86";
import { probeWrite } from "../memory/access";
import { aborted, raise } from "../state/stop";
import { loadSegment, selectorOf } from "../system/segments";
import { setShadow } from "../system/shadow";
import { mergeSp, stackMask } from "../system/width";
import { storeSystem } from "./controlRegisters";
import { stackOperand } from "./farTarget";
import { readRm } from "./operands";

/** SEG_* of the segment operand; REX.R does not extend it. 6 and 7 are #UD, then all ones. */
function segmentOperand(rec: usize): u32 {
  const n = <u32>load<u8>(rec, R_MODRM) & 7;
  if (n < 6) return n * SEG_SIZE;
  raise(VEC_UD);
  return 0xffffffff;
}

/** Debug traps and interrupts wait one instruction after a load of SS. */
function noteStackLoad(seg: u32, rec: usize): void {
  if (seg == SEG_SS) setShadow(BLOCK_MOV_SS, <u32>load<u8>(rec, R_INDEX) + 1);
}

/** A register takes the selector zero-extended to the operand size, memory 16 bits. */
export function movFromSeg(rec: usize): void {
  const seg = segmentOperand(rec);
  if (!aborted()) storeSystem(rec, <u64>selectorOf(seg));
}

export function movToSeg(rec: usize): void {
  const seg = segmentOperand(rec);
  if (aborted()) return;
  if (seg == SEG_CS) {
    raise(VEC_UD);
    return;
  }
  const selector = <u32>readRm<u16>(rec);
  if (aborted()) return;
  if (loadSegment(seg, selector)) noteStackLoad(seg, rec);
}

/** With a 32-bit operand 16 bits are written and the rest of the slot is left alone, as current processors do. */
export function pushSeg(rec: usize): void {
  const seg = segmentOperand(rec);
  const size: u32 = load<u8>(rec, R_SIZE);
  const sp = load<u64>(RSP) - <u64>size;
  const host = probeWrite(SEG_SS, sp & stackMask(), size == 8 ? 8 : 2);
  if (aborted()) return;
  if (size == 8) store<u64>(host, <u64>selectorOf(seg));
  else store<u16>(host, <u16>selectorOf(seg));
  store<u64>(RSP, mergeSp(sp));
}

export function popSeg(rec: usize): void {
  const seg = segmentOperand(rec);
  const size: u32 = load<u8>(rec, R_SIZE);
  // 16 bits are read of a 32-bit slot, as current processors do
  const selector = <u32>stackOperand(size == 8 ? 8 : 2, 0) & 0xffff;
  if (aborted()) return;
  // the width of the stack is that before SS changes
  const sp = mergeSp(load<u64>(RSP) + <u64>size);
  if (!loadSegment(seg, selector)) return;
  store<u64>(RSP, sp);
  noteStackLoad(seg, rec);
}
