// The interruption-information format of VM entry, VM exit and IDT vectoring.
//   7:0 vector   10:8 type (EventType)   11 error code   12 NMI unblocking by IRET (exit only)   31 valid
import { EventType } from "../abi/state";

export const INFO_VECTOR: u32 = 0xff;
export const INFO_ERROR: u32 = 0x800;
export const INFO_NMI_UNBLOCKED: u32 = 0x1000;
export const INFO_RESERVED: u32 = 0x7ffff000;
export const INFO_VALID: u32 = 0x80000000;

/** Type 7: with vector 0 a pending monitor-trap-flag exit (VM entry only). */
export const TYPE_OTHER: u32 = 7;

export function infoType(info: u32): u32 {
  return (info >> 8) & 7;
}

export function interruptionInfo(type: u32, vector: u32, hasError: bool): u32 {
  const recorded: u32 = type == EventType.Trap ? EventType.Exception : type;
  return INFO_VALID | (hasError ? INFO_ERROR : 0) | (recorded << 8) | vector;
}

/** Exceptions that push an error code outside real mode: #DF #TS #NP #SS #GP #PF #AC. */
export function pushesError(vector: u32): bool {
  return vector < 32 && ((0x27d00 >> vector) & 1) != 0;
}

const DR6_BD: u64 = 0x2000;

/**
 * Is this event a fault, so that delivery pushes RF = 1? Traps, aborts, software events, interrupts and instruction
 * breakpoints are not. `dr6` tells the #DB of general detect, a fault, from the others.
 * @sdm 3B "Debug Exception (#DB)", "Instruction-Breakpoint Exception Condition"
 */
export function faultKind(info: u32, dr6: u64): bool {
  if (infoType(info) != EventType.Exception) return false;
  switch (info & INFO_VECTOR) {
    case 1:
      return (dr6 & DR6_BD) != 0;
    case 2:
    case 3:
    case 4:
    case 8:
    case 18:
      return false;
    default:
      return true;
  }
}
