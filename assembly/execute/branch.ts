// Near branches. RIP already holds the next instruction when these run.
import { R_ADDR_SHIFT, R_IMM } from "../abi/record";
import { BLOCK_RIP, CODE_END, MODE, ModeBit, RCX, RIP } from "../abi/state";
import { getZF } from "../state/flags";
import { aborted, raiseError } from "../state/stop";
import { rmDst, setLow, sizeOf, storeSized } from "./sized";
import { drop, probePush, top } from "./stack";

/** Can a near branch go there? Else #GP(0), on the branch itself. */
function reachable(target: u64): bool {
  const ok = load<u32>(MODE) & ModeBit.Code64 ? u64((i64(target) << 16) >> 16) == target : target < load<u64>(CODE_END);
  if (!ok) raiseError(13, 0);
  return ok;
}

/** Target of a relative branch, truncated to the operand size. */
export function relative(rec: usize): u64 {
  const target = load<u64>(BLOCK_RIP) + load<u64>(rec, R_IMM);
  const size = sizeOf(rec);
  return size == 8 ? target : size == 4 ? target & 0xffffffff : target & 0xffff;
}

export function jump(rec: usize): void {
  const target = relative(rec);
  if (reachable(target)) store<u64>(RIP, target);
}

export function jmpRel(rec: usize): void {
  jump(rec);
}

/** The stack is checked before the target, as processors do. */
function callTo(rec: usize, target: u64): void {
  const size = sizeOf(rec);
  const at = probePush(size);
  if (!at || !reachable(target)) return;
  storeSized(at, load<u64>(RIP), size);
  drop(0 - u64(size));
  store<u64>(RIP, target);
}

export function callRel(rec: usize): void {
  callTo(rec, relative(rec));
}

export function jmpE(rec: usize): void {
  const target = rmDst(rec);
  if (!aborted() && reachable(target)) store<u64>(RIP, target);
}

export function callE(rec: usize): void {
  const target = rmDst(rec);
  if (!aborted()) callTo(rec, target);
}

function returnDropping(rec: usize, bytes: u64): void {
  const size = sizeOf(rec);
  const target = top(size);
  if (aborted() || !reachable(target)) return;
  drop(size + bytes);
  store<u64>(RIP, target);
}

export function ret(rec: usize): void {
  returnDropping(rec, 0);
}

export function retImm(rec: usize): void {
  returnDropping(rec, load<u16>(rec, R_IMM));
}

/** rCX minus one by the address size, not yet written. */
export function countDown(rec: usize): u64 {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  return ((load<u64>(RCX) - 1) << shift) >> shift;
}

export function setCount(rec: usize, value: u64): void {
  setLow(RCX, value, load<u8>(rec, R_ADDR_SHIFT));
}

/** LOOP and its kin: the count is written only when the branch does not fault. */
function loopIf(rec: usize, condition: bool): void {
  const n = countDown(rec);
  if (n != 0 && condition) {
    jump(rec);
    if (aborted()) return;
  }
  setCount(rec, n);
}

export function loop(rec: usize): void {
  loopIf(rec, true);
}

export function loope(rec: usize): void {
  loopIf(rec, getZF() != 0);
}

export function loopne(rec: usize): void {
  loopIf(rec, getZF() == 0);
}

export function jcxz(rec: usize): void {
  const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
  if ((load<u64>(RCX) << shift) >> shift == 0) jump(rec);
}
