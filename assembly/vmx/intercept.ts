// Which instructions of a guest exit, and the exit record of those that do. A handler asks after its #UD and privilege
// checks; true: the exit is recorded and the instruction must have no effect.
// @sdm 3C "Instructions That Cause VM Exits"
import {
  PRIMARY_CR3_LOAD_EXITING,
  PRIMARY_CR3_STORE_EXITING,
  PRIMARY_CR8_LOAD_EXITING,
  PRIMARY_CR8_STORE_EXITING,
  PRIMARY_HLT_EXITING,
  PRIMARY_INVLPG_EXITING,
  PRIMARY_MONITOR_EXITING,
  PRIMARY_MOV_DR_EXITING,
  PRIMARY_MWAIT_EXITING,
  PRIMARY_PAUSE_EXITING,
  PRIMARY_RDPMC_EXITING,
  PRIMARY_RDTSC_EXITING,
  PRIMARY_UNCONDITIONAL_I_O_EXITING,
  PRIMARY_USE_I_O_BITMAPS,
  PRIMARY_USE_MSR_BITMAPS,
  PRIMARY_USE_TSC_OFFSETTING,
  SECONDARY_DESCRIPTOR_TABLE_EXITING,
  SECONDARY_ENABLE_INVPCID,
  SECONDARY_ENABLE_RDTSCP,
  SECONDARY_ENABLE_XSAVES_XRSTORS,
  SECONDARY_PAUSE_LOOP_EXITING,
  SECONDARY_RDRAND_EXITING,
  SECONDARY_RDSEED_EXITING,
  SECONDARY_USE_TSC_SCALING,
  SECONDARY_VMCS_SHADOWING,
  SECONDARY_WBINVD_EXITING,
} from "../abi/controls";
import {
  REASON_CR_ACCESS,
  REASON_DR_ACCESS,
  REASON_GDTR_IDTR_ACCESS,
  REASON_HLT,
  REASON_INVLPG,
  REASON_INVPCID,
  REASON_IO_INSTRUCTION,
  REASON_MONITOR,
  REASON_MWAIT,
  REASON_PAUSE,
  REASON_RDMSR,
  REASON_RDPMC,
  REASON_RDRAND,
  REASON_RDSEED,
  REASON_WBINVD,
  REASON_WRMSR,
} from "../abi/exits";
import { R_INDEX, R_LEN } from "../abi/record";
import { CPL, CR0, CR4, PAUSE_FIRST, PAUSE_LAST, XR_INFO, XR_LINEAR } from "../abi/state";
import {
  V_CR0_GUEST_HOST_MASK,
  V_CR0_READ_SHADOW,
  V_CR3_TARGET_COUNT,
  V_CR3_TARGET_VALUE_0,
  V_CR4_GUEST_HOST_MASK,
  V_CR4_READ_SHADOW,
  V_IO_BITMAP_A_ADDRESS,
  V_IO_BITMAP_B_ADDRESS,
  V_MSR_BITMAP_ADDRESS,
  V_PLE_GAP,
  V_PLE_WINDOW,
  V_TSC_MULTIPLIER,
  V_TSC_OFFSET,
  V_VMREAD_BITMAP_ADDRESS,
  V_VMWRITE_BITMAP_ADDRESS,
  V_XSS_EXITING_BITMAP,
} from "../abi/vmcsLayout";
import { CR0_PE, CR0_TS } from "../abi/x86";
import { physToHost } from "../memory/physical";
import { recordExit } from "../state/exitRecord";
import { readTsc } from "../system/time";
import { CR3_TARGETS } from "../system/vmxCaps";
import { nonRoot, primary, secondary } from "./controls";
import {
  displacement,
  randomInfo,
  selectorInfo,
  stringIoInfo,
  tableRegisterInfo,
  vmxMemoryInfo,
} from "./instructionInfo";
import { vmcs32, vmcs64 } from "./vmcs";

export {
  boundaryCheck,
  initSignal,
  interceptEvent,
  iretUnblocksNmi,
  tripleFaultExits,
  wantsBoundary,
} from "./boundary";
export { nonRoot, primary, secondary };

/** VM exit of an instruction that always exits: writes the exit record. */
export function exitInstruction(reason: u32, qualification: u64, rec: usize): void {
  recordExit(reason, qualification, load<u8>(rec, R_LEN));
}

function exitIf(condition: bool, reason: u32, qualification: u64, rec: usize): bool {
  if (condition) exitInstruction(reason, qualification, rec);
  return condition;
}

/** A bit of a bitmap page in physical memory; where there is no memory it reads 1. */
function bitmapBit(page: u64, bit: u32): bool {
  const host = physToHost(page + <u64>(bit >> 3));
  return host == 0 || ((load<u8>(host) >> (bit & 7)) & 1) != 0;
}

// MSR bitmap page: 000H reads of 0-1FFFH   400H reads of C0000000H-C0001FFFH   800H and C00H writes likewise
const MSR_HIGH: u32 = 0xc0000000;
const MSR_RANGE: u32 = 0x2000;
const MSR_WRITES: u32 = 2 * MSR_RANGE;

/** @sdm 3C "MSR-Bitmap Address" */
function msrExits(index: u32, write: bool): bool {
  if (!primary(PRIMARY_USE_MSR_BITMAPS)) return true;
  const inRange = index & (MSR_RANGE - 1);
  let bit: u32;
  if (index < MSR_RANGE) bit = inRange;
  else if (index - MSR_HIGH < MSR_RANGE) bit = MSR_RANGE + inRange;
  else return true;
  return bitmapBit(vmcs64(V_MSR_BITMAP_ADDRESS), write ? MSR_WRITES + bit : bit);
}

export function exitRdmsr(index: u32, rec: usize): bool {
  return nonRoot() && exitIf(msrExits(index, false), REASON_RDMSR, 0, rec);
}

export function exitWrmsr(index: u32, rec: usize): bool {
  return nonRoot() && exitIf(msrExits(index, true), REASON_WRMSR, 0, rec);
}

/** Does VMREAD or VMWRITE of this field exit? @sdm 3C "VMREAD", "VMWRITE"; "Instructions That Cause VM Exits Conditionally" */
export function fieldAccessExits(encoding: u64, write: bool): bool {
  if (!secondary(SECONDARY_VMCS_SHADOWING) || encoding >> 15) return true;
  return bitmapBit(vmcs64(write ? V_VMWRITE_BITMAP_ADDRESS : V_VMREAD_BITMAP_ADDRESS), <u32>encoding);
}

/** @sdm 3C "I/O-Bitmap Addresses" */
function portExits(port: u32, size: u32): bool {
  if (!primary(PRIMARY_USE_I_O_BITMAPS)) return primary(PRIMARY_UNCONDITIONAL_I_O_EXITING);
  if (port + size > 0x10000) return true;
  for (let p = port; p < port + size; p++) {
    const page = vmcs64(p < 0x8000 ? V_IO_BITMAP_A_ADDRESS : V_IO_BITMAP_B_ADDRESS);
    if (bitmapBit(page, p & 0x7fff)) return true;
  }
  return false;
}

const IO_IN: u32 = 8;
const IO_STRING: u32 = 0x10;

/**
 * IN, OUT, INS, OUTS. bits: exit-qualification bits 3 (IN), 4 (string), 5 (REP), 6 (immediate port); linear: of the
 * string operand. Qualification (table 27-5): 2:0 size - 1   31:16 port
 */
export function exitIo(port: u32, size: u32, bits: u32, linear: u64, rec: usize): bool {
  if (!nonRoot() || !portExits(port, size)) return false;
  exitInstruction(REASON_IO_INSTRUCTION, (port << 16) | bits | (size - 1), rec);
  if (bits & IO_STRING) {
    store<u64>(XR_LINEAR, linear);
    store<u32>(XR_INFO, stringIoInfo(rec, (bits & IO_IN) != 0));
  }
  return true;
}

export function exitHlt(rec: usize): bool {
  return nonRoot() && exitIf(primary(PRIMARY_HLT_EXITING), REASON_HLT, 0, rec);
}

// qualification of control-register accesses (table 27-3)
//   3:0 register   5:4 access type   6 LMSW memory operand   11:8 general register   31:16 LMSW source
const CR_FROM: u32 = 1 << 4;
const CR_CLTS: u32 = 2 << 4;
const CR_LMSW: u32 = 3 << 4;

function crExits(condition: bool, cr: u32, access: u32, gpr: u32, rec: usize): bool {
  return exitIf(condition, REASON_CR_ACCESS, cr | access | (gpr << 8), rec);
}

function isCr3Target(value: u64): bool {
  const count = min(vmcs32(V_CR3_TARGET_COUNT), CR3_TARGETS);
  for (let i: u32 = 0; i < count; i++) if (vmcs64(V_CR3_TARGET_VALUE_0 + 8 * i) == value) return true;
  return false;
}

export function exitMovToCr(cr: u32, gpr: u32, value: u64, rec: usize): bool {
  if (!nonRoot()) return false;
  let exits = false;
  switch (cr) {
    case 0:
      exits = ((value ^ vmcs64(V_CR0_READ_SHADOW)) & vmcs64(V_CR0_GUEST_HOST_MASK)) != 0;
      break;
    case 3:
      exits = primary(PRIMARY_CR3_LOAD_EXITING) && !isCr3Target(value);
      break;
    case 4:
      exits = ((value ^ vmcs64(V_CR4_READ_SHADOW)) & vmcs64(V_CR4_GUEST_HOST_MASK)) != 0;
      break;
    case 8:
      exits = primary(PRIMARY_CR8_LOAD_EXITING);
      break;
    default:
      break;
  }
  return crExits(exits, cr, 0, gpr, rec);
}

export function exitMovFromCr(cr: u32, gpr: u32, rec: usize): bool {
  if (!nonRoot()) return false;
  const exits = (cr == 3 && primary(PRIMARY_CR3_STORE_EXITING)) || (cr == 8 && primary(PRIMARY_CR8_STORE_EXITING));
  return crExits(exits, cr, CR_FROM, gpr, rec);
}

/** CLTS that does not exit leaves a TS bit that the host owns: maskCr0() sees to it. */
export function exitClts(rec: usize): bool {
  if (!nonRoot()) return false;
  const owned = vmcs64(V_CR0_GUEST_HOST_MASK) & vmcs64(V_CR0_READ_SHADOW) & CR0_TS;
  return crExits(owned != 0, 0, CR_CLTS, 0, rec);
}

/** source: the 16-bit operand, already read; linear: its address when memory. */
export function exitLmsw(source: u32, memory: bool, linear: u64, rec: usize): bool {
  if (!nonRoot()) return false;
  const mask = vmcs64(V_CR0_GUEST_HOST_MASK);
  const shadow = vmcs64(V_CR0_READ_SHADOW);
  // LMSW can set PE but not clear it
  const pe = mask & ~shadow & <u64>source & CR0_PE;
  const others = mask & (shadow ^ <u64>source) & 0xe;
  if (!(pe | others)) return false;
  exitInstruction(REASON_CR_ACCESS, CR_LMSW | ((<u32>memory) << 6) | ((source & 0xffff) << 16), rec);
  if (memory) store<u64>(XR_LINEAR, linear);
  return true;
}

/** Before the CPL, CR4.DE and DR7.GD checks. Qualification (table 27-4): 2:0 register   4 from DR   11:8 general register */
export function exitMovDr(dr: u32, fromDr: bool, gpr: u32, rec: usize): bool {
  if (!nonRoot()) return false;
  return exitIf(primary(PRIMARY_MOV_DR_EXITING), REASON_DR_ACCESS, (dr & 7) | ((<u32>fromDr) << 4) | (gpr << 8), rec);
}

export function exitInvlpg(linear: u64, rec: usize): bool {
  return nonRoot() && exitIf(primary(PRIMARY_INVLPG_EXITING), REASON_INVLPG, linear, rec);
}

/** RDTSC (16) and RDTSCP (51). */
export function exitRdtsc(reason: u32, rec: usize): bool {
  return nonRoot() && exitIf(primary(PRIMARY_RDTSC_EXITING), reason, 0, rec);
}

/** RDTSCP and RDPID are #UD in a guest without "enable RDTSCP". */
export function rdtscpUndefined(): bool {
  return !secondary(SECONDARY_ENABLE_RDTSCP);
}

export function invpcidUndefined(): bool {
  return !secondary(SECONDARY_ENABLE_INVPCID);
}

export function exitInvpcid(rec: usize): bool {
  if (!primary(PRIMARY_INVLPG_EXITING)) return false;
  exitMemory(REASON_INVPCID, rec);
  return true;
}

/** XSAVES and XRSTORS are #UD in a guest without "enable XSAVES/XRSTORS". */
export function xsavesUndefined(): bool {
  return !secondary(SECONDARY_ENABLE_XSAVES_XRSTORS);
}

/** XSAVES (63) and XRSTORS (64); states: IA32_XSS and EDX:EAX. */
export function exitXsaves(states: u64, reason: u32, rec: usize): bool {
  if (!(states & vmcs64(V_XSS_EXITING_BITMAP))) return false;
  exitMemory(reason, rec);
  return true;
}

function exitMemory(reason: u32, rec: usize): void {
  exitInstruction(reason, displacement(rec), rec);
  store<u32>(XR_INFO, vmxMemoryInfo(rec));
}

export function exitMonitor(rec: usize): bool {
  return exitIf(primary(PRIMARY_MONITOR_EXITING), REASON_MONITOR, 0, rec);
}

/** Qualification: 0 the address range is armed. */
export function exitMwait(armed: u32, rec: usize): bool {
  return exitIf(primary(PRIMARY_MWAIT_EXITING), REASON_MWAIT, armed, rec);
}

export function exitRandom(seed: bool, rec: usize): bool {
  if (!secondary(seed ? SECONDARY_RDSEED_EXITING : SECONDARY_RDRAND_EXITING)) return false;
  exitInstruction(seed ? REASON_RDSEED : REASON_RDRAND, 0, rec);
  store<u32>(XR_INFO, randomInfo(rec));
  return true;
}

export function exitRdpmc(rec: usize): bool {
  return nonRoot() && exitIf(primary(PRIMARY_RDPMC_EXITING), REASON_RDPMC, 0, rec);
}

export function exitWbinvd(rec: usize): bool {
  return nonRoot() && exitIf(secondary(SECONDARY_WBINVD_EXITING), REASON_WBINVD, 0, rec);
}

/** PAUSE_LAST: none since VM entry. */
export const NO_PAUSE: u64 = 0xffffffffffffffff;

export function exitPause(rec: usize): bool {
  return exitIf(primary(PRIMARY_PAUSE_EXITING) || pauseLoopExits(rec), REASON_PAUSE, 0, rec);
}

/** Gap and window are TSC ticks. @sdm 3C "Instructions That Cause VM Exits Conditionally" (PAUSE) */
function pauseLoopExits(rec: usize): bool {
  if (!secondary(SECONDARY_PAUSE_LOOP_EXITING) || load<u32>(CPL) != 0) return false;
  const now = readTsc(load<u8>(rec, R_INDEX));
  const last = load<u64>(PAUSE_LAST);
  store<u64>(PAUSE_LAST, now);
  if (last == NO_PAUSE || now - last > <u64>vmcs32(V_PLE_GAP)) {
    store<u64>(PAUSE_FIRST, now);
    return false;
  }
  return now - load<u64>(PAUSE_FIRST) > <u64>vmcs32(V_PLE_WINDOW);
}

/** LGDT LIDT SGDT SIDT (46), LLDT LTR SLDT STR (47). */
export function exitDescriptorTable(reason: u32, rec: usize): bool {
  if (!nonRoot() || !secondary(SECONDARY_DESCRIPTOR_TABLE_EXITING)) return false;
  exitInstruction(reason, displacement(rec), rec);
  store<u32>(XR_INFO, reason == REASON_GDTR_IDTR_ACCESS ? tableRegisterInfo(rec) : selectorInfo(rec));
  return true;
}

function shadowed(value: u64, mask: u64, shadow: u64): u64 {
  return (value & ~mask) | (shadow & mask);
}

/** CR0 as software reads it: in a guest the read shadow in bits of the guest/host mask. */
export function guestCr0(): u64 {
  const value = load<u64>(CR0);
  return nonRoot() ? shadowed(value, vmcs64(V_CR0_GUEST_HOST_MASK), vmcs64(V_CR0_READ_SHADOW)) : value;
}

export function guestCr4(): u64 {
  const value = load<u64>(CR4);
  return nonRoot() ? shadowed(value, vmcs64(V_CR4_GUEST_HOST_MASK), vmcs64(V_CR4_READ_SHADOW)) : value;
}

/** New CR0 value after the guest/host mask: bits the host owns stay as they are. */
export function maskCr0(value: u64): u64 {
  return nonRoot() ? shadowed(value, vmcs64(V_CR0_GUEST_HOST_MASK), load<u64>(CR0)) : value;
}

export function maskCr4(value: u64): u64 {
  return nonRoot() ? shadowed(value, vmcs64(V_CR4_GUEST_HOST_MASK), load<u64>(CR4)) : value;
}

/** The TSC as RDTSC, RDTSCP and RDMSR 10H give it. */
export function guestTsc(tsc: u64): u64 {
  if (!nonRoot() || !primary(PRIMARY_USE_TSC_OFFSETTING)) return tsc;
  if (secondary(SECONDARY_USE_TSC_SCALING)) tsc = scaled(tsc, vmcs64(V_TSC_MULTIPLIER));
  return tsc + vmcs64(V_TSC_OFFSET);
}

/** Bits 111:48 of the product. */
function scaled(tsc: u64, multiplier: u64): u64 {
  const low = (tsc & 0xffffffff) * (multiplier & 0xffffffff);
  const middle1 = (tsc >> 32) * (multiplier & 0xffffffff) + (low >> 32);
  const middle2 = (tsc & 0xffffffff) * (multiplier >> 32) + (middle1 & 0xffffffff);
  const high = (tsc >> 32) * (multiplier >> 32) + (middle1 >> 32) + (middle2 >> 32);
  return (high << 16) | ((middle2 & 0xffffffff) >> 16);
}
