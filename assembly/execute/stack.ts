// PUSH POP PUSHA POPA ENTER LEAVE of data; the stack pointer's width follows SS.B and 64-bit mode.
import { R_IMM, R_IMM2 } from "../abi/record";
import { GPR, MODE, ModeBit, RBP, RSP, SEG_SS, STOP, StopBit } from "../abi/state";
import { probeWrite, readMem } from "../memory/access";
import { commit, discard } from "../memory/staging";
import { aborted } from "../state/stop";
import { dst, effectiveAddress, isMem, readMemory, segmentOf, setDst, setRegister } from "./operands";

const places: usize = memory.data(132); // u32 each

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

/** Address to store a pushed value at, 0: faulted. */
export function probePush<T>(): u32 {
  return probeWrite(SEG_SS, (load<u64>(RSP) - sizeof<T>()) & stackMask(), sizeof<T>());
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

/** Eight probes in the order of the pushes, then eight stores. */
export function pusha<T>(_rec: usize): void {
  const size: u32 = sizeof<T>();
  const mask = stackMask();
  const sp = load<u64>(RSP);
  for (let i: u32 = 0; i < 8; i++) {
    const at = probeWrite(SEG_SS, (sp - (i + 1) * size) & mask, size);
    if (!at) return;
    store<u32>(places + (i << 2), at);
  }
  for (let i: u32 = 0; i < 8; i++) store<T>(load<u32>(places + (i << 2)), load<T>(GPR + (i << 3)));
  setStackPointer((sp - 8 * size) & mask);
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

/** A store that was probed before, visible to the next read. */
function put<T>(sp: u64, value: T): void {
  const at = probeWrite(SEG_SS, sp, sizeof<T>());
  if (!at) return;
  store<T>(at, value);
  if (load<u32>(STOP) & StopBit.Commit) commit();
}

/** @sdm 2A "ENTER-Make Stack Frame for Procedure Parameters" */
export function enter<T>(rec: usize): void {
  const size: u64 = sizeof<T>();
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
      readMem<T>(SEG_SS, (load<u64>(RBP) - i * size) & mask);
      if (aborted()) return;
    }
    if (!probeWrite(SEG_SS, (frame - i * size) & mask, sizeof<T>())) return;
  }
  const end = (frame - (count - 1) * size - bytes) & mask;
  // a write at the final stack pointer must be possible, and aligned where that is checked
  if (!probeWrite(SEG_SS, end, sizeof<T>())) return;
  // nothing can fault any more: the pushes go one by one, since a frame pointer may be one that was pushed just now
  discard();
  put<T>(frame, load<T>(RBP));
  for (let i: u32 = 1; i < level; i++) {
    put<T>((frame - i * size) & mask, readMem<T>(SEG_SS, (load<u64>(RBP) - i * size) & mask));
  }
  if (level) put<T>((frame - level * size) & mask, pointer as T);
  setRegister<T>(RBP - GPR, pointer as T);
  sp = end;
  setStackPointer(sp);
}
