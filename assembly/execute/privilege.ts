// Checks that begin the handlers of privileged instructions.
import { R_INDEX, R_MODRM } from "../abi/record";
import { COUNT, CPL, GPR, RIP } from "../abi/state";
import { VEC_GP, VEC_UD } from "../abi/x86";
import { aborted, raise, raiseError } from "../state/stop";
import { protectedMode } from "../system/mode";
import { insnRip, nextRip } from "./operands";

/** CPL 0 or #GP(0); vm86 is CPL 3. */
export function requireCpl0(): bool {
  if (load<u32>(CPL) == 0) return true;
  raiseError(VEC_GP, 0);
  return false;
}

/** Not in real mode or vm86, else #UD. */
export function requireProtected(): bool {
  if (protectedMode()) return true;
  raise(VEC_UD);
  return false;
}

export function gp0(): void {
  raiseError(VEC_GP, 0);
}

/** modrm.reg with REX.R */
export function regField(rec: usize): u32 {
  return <u32>load<u8>(rec, R_MODRM) & 15;
}

/** modrm.rm with REX.B */
export function rmField(rec: usize): u32 {
  return <u32>load<u8>(rec, R_MODRM) >> 4;
}

export function gpr(index: u32): u64 {
  return load<u64>(GPR + index * 8);
}

/** EDX:EAX of WRMSR and the like. */
export function pair(high: usize, low: usize): u64 {
  return ((<u64>load<u32>(high)) << 32) | <u64>load<u32>(low);
}

/** Zero-extended halves, as RDMSR and RDTSC write them. */
export function setPair(high: usize, low: usize, value: u64): void {
  store<u64>(low, value & 0xffffffff);
  store<u64>(high, value >> 32);
}

/** Before a callback: RIP is that of the instruction, COUNT what completed before it. */
export function enterHook(rec: usize): void {
  store<u64>(RIP, insnRip(rec));
  store<u64>(COUNT, load<u64>(COUNT) + <u64>load<u8>(rec, R_INDEX));
}

/** After it. False: the callback stopped the instruction. */
export function leaveHook(rec: usize): bool {
  store<u64>(RIP, nextRip(rec));
  store<u64>(COUNT, load<u64>(COUNT) - <u64>load<u8>(rec, R_INDEX));
  return !aborted();
}
