// PUSH POP PUSHA POPA ENTER LEAVE of data; the stack pointer's width follows SS.B and 64-bit mode.
import { R_IMM, R_IMM2 } from "../abi/record";
import { GPR, MODE, ModeBit, RBP, RSP, SEG_SS } from "../abi/state";
import { probeWrite, readMem } from "../memory/access";
import { aborted } from "../state/stop";
import { dst, effectiveAddress, isMem, readMemory, segmentOf, setDst, setRegister } from "./operands";

export function stackMask(): u64 {
  const mode = load<u32>(MODE);
  return mode & ModeBit.Code64 ? ~(0 as u64) : mode & ModeBit.Stack32 ? 0xffffffff : 0xffff;
}

/** Writes SP, ESP or RSP by the stack's width; bits above a 16-bit SP stay. */
export function setStackPointer(value: u64): void {
  const mask = stackMask();
  if (mask == 0xffff) store<u16>(RSP, u16(value));
  else store<u64>(RSP, value & mask);
}

/** Pushes a value. False: faulted, nothing changed. */
export function push<T>(value: T): bool {
  const sp = (load<u64>(RSP) - sizeof<T>()) & stackMask();
  const at = probeWrite(SEG_SS, sp, sizeof<T>());
  if (!at) return false;
  store<T>(at, value);
  setStackPointer(sp);
  return true;
}

/** The value on top; test aborted(). The caller moves the pointer with drop(). */
export function top<T>(): T {
  return readMem<T>(SEG_SS, load<u64>(RSP) & stackMask());
}

export function drop(bytes: u64): void {
  setStackPointer(load<u64>(RSP) + bytes);
}

export function pushReg<T>(rec: usize): void {
  push<T>(dst<T>(rec));
}

export function pushImm<T>(rec: usize): void {
  push<T>(load<T>(rec, R_IMM));
}

export function pushE<T>(rec: usize): void {
  if (!isMem(rec)) {
    push<T>(dst<T>(rec));
    return;
  }
  const v = readMemory<T>(rec);
  if (!aborted()) push<T>(v);
}

export function popReg<T>(rec: usize): void {
  const v = top<T>();
  if (aborted()) return;
  drop(sizeof<T>());
  setDst<T>(rec, v); // after the increment: POP SP takes the popped value
}

/** An address that uses RSP sees it after the increment; RSP is put back when the store faults. */
export function popE<T>(rec: usize): void {
  const v = top<T>();
  if (aborted()) return;
  const old = load<u64>(RSP);
  drop(sizeof<T>());
  if (!isMem(rec)) {
    setDst<T>(rec, v);
    return;
  }
  const at = probeWrite(segmentOf(rec), effectiveAddress(rec), sizeof<T>());
  if (at) store<T>(at, v);
  else store<u64>(RSP, old);
}

export function pusha<T>(_rec: usize): void {
  const size: u32 = sizeof<T>();
  const mask = stackMask();
  const sp = (load<u64>(RSP) - size * 8) & mask;
  if (sp + size * 8 - 1 > mask) {
    pushaWrapped<T>(sp, mask);
    return;
  }
  const at = probeWrite(SEG_SS, sp, size * 8);
  if (!at) return;
  for (let i: u32 = 0; i < 8; i++) store<T>(at + (7 - i) * size, load<T>(GPR + (i << 3)));
  setStackPointer(sp);
}

/** The frame runs over the end of a 16-bit stack: eight probes, then eight stores. */
function pushaWrapped<T>(sp: u64, mask: u64): void {
  for (let i: u32 = 0; i < 8; i++) {
    const at = probeWrite(SEG_SS, (sp + i * sizeof<T>()) & mask, sizeof<T>());
    if (!at) return;
    store<T>(at, load<T>(GPR + ((7 - i) << 3)));
  }
  setStackPointer(sp);
}

export function popa<T>(_rec: usize): void {
  const size: u32 = sizeof<T>();
  const mask = stackMask();
  const sp = load<u64>(RSP);
  for (let i: u32 = 0; i < 8; i++) {
    store<u64>(popped + (i << 3), u64(readMem<T>(SEG_SS, (sp + i * size) & mask)));
    if (aborted()) return;
  }
  setStackPointer(sp + size * 8);
  for (let i: u32 = 0; i < 8; i++) {
    if (i != 3) setRegister<T>((7 - i) << 3, load<T>(popped + (i << 3)));
  }
}
const popped: usize = memory.data(64); // u64 a register

export function leave<T>(_rec: usize): void {
  const mask = stackMask();
  const sp = load<u64>(RBP) & mask;
  const v = readMem<T>(SEG_SS, sp);
  if (aborted()) return;
  setStackPointer(sp + sizeof<T>());
  setRegister<T>(RBP - GPR, v);
}

/** @sdm 2A "ENTER-Make Stack Frame for Procedure Parameters" */
export function enter<T>(rec: usize): void {
  const size: u64 = sizeof<T>();
  const mask = stackMask();
  const bytes = u64(load<u16>(rec, R_IMM));
  const level = u32(load<u8>(rec, R_IMM2)) & 31;
  let sp = (load<u64>(RSP) - size) & mask;
  const frame = sp;
  const count: u32 = level == 0 ? 1 : level + 1;
  // every read and probe comes before the first store
  for (let i: u32 = 1; i < level; i++) {
    store<u64>(links + (i << 3), u64(readMem<T>(SEG_SS, (load<u64>(RBP) - i * size) & mask)));
    if (aborted()) return;
  }
  for (let i: u32 = 0; i < count; i++) {
    const at = probeWrite(SEG_SS, (frame - i * size) & mask, sizeof<T>());
    if (!at) return;
    store<u32>(places + (i << 2), at);
  }
  const end = (frame - (count - 1) * size - bytes) & mask;
  if (!touch<T>(end)) return;
  store<T>(load<u32>(places), load<T>(RBP));
  for (let i: u32 = 1; i < level; i++) store<T>(load<u32>(places + (i << 2)), load<T>(links + (i << 3)));
  if (level) {
    // the new frame pointer, in the stack's width
    store<T>(load<u32>(places + (level << 2)), (mask == 0xffff ? (load<u64>(RBP) & ~mask) | frame : frame) as T);
  }
  sp = end;
  if (mask == 0xffff) {
    setRegister<T>(RBP - GPR, ((load<u64>(RBP) & 0xffff0000) | frame) as T);
  } else setRegister<T>(RBP - GPR, frame as T);
  setStackPointer(sp);
}
const links: usize = memory.data(256); // u64 each
const places: usize = memory.data(132); // u32 each

/** A write at the final stack pointer must be possible; it writes back what is there. */
function touch<T>(sp: u64): bool {
  return probeWrite(SEG_SS, sp, sizeof<T>()) != 0;
}
