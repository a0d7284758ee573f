// State of the generator for the region at hand: its mode, the instruction being emitted, what is known of the flags.
import { JIT_TRANSLATED, LEFT_INSTRUCTION } from "../abi/generator";
import { REGIONS, RegionFlag, RG_BYTES, RG_FLAGS } from "../abi/layout";
import { R_INDEX, R_LEN, R_OFF } from "../abi/record";
import { ModeBit, SEG_FS } from "../abi/state";
import { physToHost } from "./core";
import { get, I32_ADD, I32_WRAP, I64_ADD, I64_EXTEND_U, i32c, i64c, op, set, tee } from "./emit";
import { L_ADJUST, L_GPR, L_PC, L_WHY } from "./locals";

/** 64-bit region: R is i64. */
export let wide: bool = false;
/** Neither 64-bit nor flat: every access adds a segment's base and checks its limit. */
export let segmented: bool = false;
/** The stack pointer is SP. */
export let stack16: bool = false;
/** Bit n: the base of segment n is used; the end of its readable range; of its writable range. */
export let basesUsed: u32 = 0;
export let readsUsed: u32 = 0;
export let writesUsed: u32 = 0;
/** No paging (so not 64-bit code), no EPT, no page whose accesses must be seen: addresses are physical, RAM starts at 0. */
export let direct: bool = false;
/** Bit n: guest register n is read or written / written. */
export let used: u32 = 0;
export let written: u32 = 0;
/** The arithmetic flags are written. */
export let flagsUsed: bool = false;
/** The TLB is looked at. */
export let tlbUsed: bool = false;

export let blockRip: u64 = 0;
export let blockCount: u32 = 0;
let rec: usize = 0;
/** The exit place of this instruction is set already. */
let placed: bool = false;

// what the last flag-setting instruction of this block left in L_A, L_B (or the 64-bit ones) and L_RESULT
export const KNOWN_NONE: u32 = 0;
export const KNOWN_SUB: u32 = 1;
export const KNOWN_LOGIC: u32 = 2;
export const KNOWN_ADD: u32 = 3;
export const KNOWN_RESULT: u32 = 4; // only that SF needs no correction
export const KNOWN_ONE: u32 = 5; // that, and L_ONE is not 0; with the others but KNOWN_NONE it is 0
export let known: u32 = 0;
export let knownSize: u32 = 0;

/** Linear address of offset 0 of the code, and the first offset past what may be executed. */
export let codeBase: u64 = 0;
export let codeEnd: u64 = 0;

export function setCode(base: u64, end: u64): void {
  codeBase = base;
  codeEnd = end;
}

/** The plain RAM that starts at physical address 0: its place in linear memory and its length; 0 bytes when there is none. */
export let lowRamHost: u32 = 0;
export let lowRamBytes: u32 = 0;

function findLowRam(): void {
  lowRamHost = physToHost(0);
  // no other region begins before it
  const plain = lowRamHost != 0 && load<u32>(REGIONS, RG_FLAGS) == <u32>RegionFlag.Ram;
  lowRamBytes = plain ? u32(min<u64>(load<u64>(REGIONS, RG_BYTES), 0xfffff000)) : 0;
}

export function beginRegion(mode: u32): void {
  wide = (mode & ModeBit.Code64) != 0;
  segmented = !(mode & (ModeBit.Code64 | ModeBit.Flat));
  stack16 = !(mode & (ModeBit.Code64 | ModeBit.Stack32));
  basesUsed = 0;
  readsUsed = 0;
  writesUsed = 0;
  findLowRam();
  direct = !load<u32>(JIT_TRANSLATED) && lowRamBytes != 0;
  used = 0;
  written = 0;
  flagsUsed = false;
  tlbUsed = false;
}

export function beginBlock(rip: u64, count: u32): void {
  blockRip = rip;
  blockCount = count;
  known = KNOWN_NONE;
}

/** Nothing sees the flags of the instruction at hand. */
export let flagsDead: bool = false;
/** Only its CF is seen. */
export let carryOnly: bool = false;

export function setFlagsSeen(dead: bool, carry: bool): void {
  flagsDead = dead;
  carryOnly = carry;
  if (dead) known = KNOWN_NONE;
}

export function beginInstruction(record: usize): void {
  rec = record;
  placed = false;
  fills = false;
  beside = false;
  besideBytes = 0;
}

/** The store of the instruction at hand may go to a frame with code (codeStore.ts). */
export let beside: bool = false;
/** Bytes of it, from L_BESIDE on as an address of checkTop(); 0: none was emitted yet. */
export let besideBytes: u32 = 0;

export function setBeside(): void {
  beside = true;
}

export function noteBeside(bytes: u32): void {
  besideBytes = bytes;
}

/** Accesses of the instruction at hand fill the TLB where they miss it. */
export let fills: bool = false;
/** FILL_STORE and FILL_CERTAIN of those that are in no group. */
export let fillsHow: u32 = 0;

export function setFills(on: bool, how: u32): void {
  fills = on;
  fillsHow = how;
}

export function setKnown(kind: u32, size: u32): void {
  known = kind;
  knownSize = size;
  flagsUsed = true;
}

/** What a comparison left in the locals of its operands is gone. */
export function forgetOperands(): void {
  if (known != KNOWN_NONE && known != KNOWN_ONE) known = KNOWN_RESULT;
}

export function forgetKnown(): void {
  known = KNOWN_NONE;
}

export function useTlb(): void {
  tlbUsed = true;
}

export function useFlags(): void {
  flagsUsed = true;
}

/** RIP of the instruction, of the next one. */
export function ripHere(): u64 {
  return truncate(blockRip + load<u16>(rec, R_OFF));
}
export function ripNext(): u64 {
  return truncate(blockRip + load<u16>(rec, R_OFF) + load<u8>(rec, R_LEN));
}
export function truncate(rip: u64): u64 {
  return wide ? rip : rip & 0xffffffff;
}

/** A constant of type R. */
export function constR(value: u64): void {
  if (wide) i64c(i64(value));
  else i32c(i32(value));
}

export function addR(): void {
  op(wide ? I64_ADD : I32_ADD);
}

/** Notes where a side exit of this instruction leaves: before it, to run it in the interpreter. */
export function place(): void {
  if (placed) return;
  placed = true;
  constR(ripHere());
  set(L_PC);
  i32c(blockCount - load<u8>(rec, R_INDEX));
  set(L_ADJUST);
  i32c(LEFT_INSTRUCTION);
  set(L_WHY);
}

/** Must an access through this segment (SEG_*) add its base and check its limit? FS and GS may have one in flat code too. */
export function throughSegment(seg: u32): bool {
  return !wide && (segmented || seg >= <u32>SEG_FS);
}

/** Notes that segment n is accessed. */
export function useSegment(n: u32, write: bool): void {
  basesUsed |= 1 << n;
  if (write) writesUsed |= 1 << n;
  else readsUsed |= 1 << n;
}

// --- registers; slot is a record's byte offset from GPR ---

function touch(slot: u32): u32 {
  const r = slot >> 3;
  used |= 1 << r;
  return L_GPR + r;
}

/** Pushes the whole register, as R. */
export function getR(slot: u32): void {
  get(touch(slot));
}

export function setR(slot: u32): void {
  const l = touch(slot);
  written |= 1 << (slot >> 3);
  set(l);
}

export function teeR(slot: u32): void {
  const l = touch(slot);
  written |= 1 << (slot >> 3);
  tee(l);
}

/** Pushes the low 32 bits of a register. */
export function get32(slot: u32): void {
  getR(slot);
  if (wide) op(I32_WRAP);
}

/** Pops an i32 into a register, upper half cleared. */
export function set32(slot: u32): void {
  if (wide) op(I64_EXTEND_U);
  setR(slot);
}
