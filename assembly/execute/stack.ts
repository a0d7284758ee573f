// PUSH POP PUSHA POPA ENTER LEAVE of data; the stack pointer's width follows SS.B and 64-bit mode.
import { R_IMM, R_IMM2 } from "../abi/record";
import { GPR, MODE, ModeBit, RBP, RSP, SEG_SS, STOP, StopBit } from "../abi/state";
import { probeWrite } from "../memory/access";
import { commit, discard } from "../memory/staging";
import { aborted } from "../state/stop";
import { isMem } from "./operands";
import { dstSized, probeSized, readBytes, rmDst, setDstSized, setLow, setSlot, sizeOf, storeSized } from "./sized";

const places: usize = memory.data(132); // u32 each

export function stackMask(): u64 {
  const mode = load<u32>(MODE);
  return mode & ModeBit.Code64 ? ~(0 as u64) : mode & ModeBit.Stack32 ? 0xffffffff : 0xffff;
}

/** Writes SP, ESP or RSP by the stack's width; bits above a 16-bit SP stay. */
export function setStackPointer(value: u64): void {
  setLow(RSP, value, clz(stackMask()));
}

/** Pushes a value; nothing has changed when that faults. */
function push(value: u64, size: u32): void {
  const at = probePush(size);
  if (!at) return;
  storeSized(at, value, size);
  drop(0 - u64(size));
}

/** Address to store a pushed value at, 0: faulted. */
export function probePush(size: u32): u32 {
  return probeWrite(SEG_SS, (load<u64>(RSP) - u64(size)) & stackMask(), size);
}

/** The value on top; test aborted(). The caller moves the pointer with drop(). */
export function top(size: u32): u64 {
  return readBytes(SEG_SS, load<u64>(RSP) & stackMask(), size);
}

export function drop(bytes: u64): void {
  setStackPointer(load<u64>(RSP) + bytes);
}

export function pushReg(rec: usize): void {
  push(dstSized(rec), sizeOf(rec));
}

export function pushImm(rec: usize): void {
  push(load<u64>(rec, R_IMM), sizeOf(rec));
}

export function pushE(rec: usize): void {
  const v = rmDst(rec);
  if (!aborted()) push(v, sizeOf(rec));
}

export function popReg(rec: usize): void {
  const v = top(sizeOf(rec));
  if (aborted()) return;
  drop(sizeOf(rec));
  setDstSized(rec, v); // after the increment: POP SP takes the popped value
}

/** An address that uses RSP sees it after the increment; RSP is put back when the store faults. */
export function popE(rec: usize): void {
  const size = sizeOf(rec);
  const v = top(size);
  if (aborted()) return;
  const old = load<u64>(RSP);
  drop(size);
  if (!isMem(rec)) {
    setDstSized(rec, v);
    return;
  }
  const at = probeSized(rec);
  if (at) storeSized(at, v, size);
  else store<u64>(RSP, old);
}

/** Eight probes in the order of the pushes, then eight stores. */
export function pusha(rec: usize): void {
  const size = sizeOf(rec);
  const mask = stackMask();
  const sp = load<u64>(RSP);
  for (let i: u32 = 0; i < 8; i++) {
    const at = probeWrite(SEG_SS, (sp - (i + 1) * size) & mask, size);
    if (!at) return;
    store<u32>(places + (i << 2), at);
  }
  for (let i: u32 = 0; i < 8; i++) storeSized(load<u32>(places + (i << 2)), load<u64>(GPR + (i << 3)), size);
  setStackPointer((sp - 8 * size) & mask);
}

export function popa(rec: usize): void {
  const size = sizeOf(rec);
  const mask = stackMask();
  const sp = load<u64>(RSP);
  for (let i: u32 = 0; i < 8; i++) {
    store<u64>(popped + (i << 3), readBytes(SEG_SS, (sp + i * size) & mask, size));
    if (aborted()) return;
  }
  setStackPointer(sp + size * 8);
  for (let i: u32 = 0; i < 8; i++) {
    if (i != 3) setSlot((7 - i) << 3, load<u64>(popped + (i << 3)), size);
  }
}
const popped: usize = memory.data(64); // u64 a register

export function leave(rec: usize): void {
  const size = sizeOf(rec);
  const sp = load<u64>(RBP) & stackMask();
  const v = readBytes(SEG_SS, sp, size);
  if (aborted()) return;
  setStackPointer(sp + size);
  setSlot(RBP - GPR, v, size);
}

/** A store that was probed before, visible to the next read. */
function put(sp: u64, value: u64, size: u32): void {
  const at = probeWrite(SEG_SS, sp, size);
  if (!at) return;
  storeSized(at, value, size);
  if (load<u32>(STOP) & StopBit.Commit) commit();
}

/** @sdm 2A "ENTER-Make Stack Frame for Procedure Parameters" */
export function enter(rec: usize): void {
  const size = u64(sizeOf(rec));
  const mask = stackMask();
  const bytes = u64(load<u16>(rec, R_IMM));
  const level = u32(load<u8>(rec, R_IMM2)) & 31;
  let sp = (load<u64>(RSP) - size) & mask;
  const frame = sp;
  // with a 16-bit stack pointer the upper half of ESP comes along
  const pointer = mask == 0xffff ? (load<u64>(RSP) & 0xffff0000) | frame : frame;
  const count: u32 = level == 0 ? 1 : level + 1;
  // every read and probe comes before the first store, in the order of the pushes
  for (let i: u32 = 0; i < count; i++) {
    if (i > 0 && i < level) {
      readBytes(SEG_SS, (load<u64>(RBP) - i * size) & mask, u32(size));
      if (aborted()) return;
    }
    if (!probeWrite(SEG_SS, (frame - i * size) & mask, u32(size))) return;
  }
  const end = (frame - (count - 1) * size - bytes) & mask;
  // a write at the final stack pointer must be possible, and aligned where that is checked
  if (!probeWrite(SEG_SS, end, u32(size))) return;
  // nothing can fault any more: the pushes go one by one, since a frame pointer may be one that was pushed just now
  discard();
  put(frame, load<u64>(RBP), u32(size));
  for (let i: u32 = 1; i < level; i++) {
    put((frame - i * size) & mask, readBytes(SEG_SS, (load<u64>(RBP) - i * size) & mask, u32(size)), u32(size));
  }
  if (level) put((frame - level * size) & mask, pointer, u32(size));
  setSlot(RBP - GPR, pointer, u32(size));
  sp = end;
  setStackPointer(sp);
}
