// Accesses of one block at known distances from each other: [esi], [esi+4] and [esi+8], or the pushes of a function's start.
// The first of them checks the bytes of all, the others go ahead.
import {
  R_ADDR_SHIFT,
  R_BASE,
  R_DISP,
  R_DST,
  R_FLAGS,
  R_IDX,
  R_IMM,
  R_OFF,
  R_SEG,
  R_SRC,
  RECORD_SIZE,
  RecordFlag,
} from "../abi/record";
import { SEG_FS } from "../abi/state";
import { besideCode } from "./besideCode";
import { segmented, wide } from "./context";
import { oftenStaged } from "./core";
import { addressable, formOf, isMemory, kindOf, memberOf, NO_REGISTER, sizeOf, writes } from "./kinds";
import {
  FORM_MI,
  FORM_MR,
  FORM_RI,
  FORM_RR,
  KIND_ALU,
  KIND_BIT_IMM,
  KIND_BSWAP,
  KIND_CALL_E,
  KIND_CALL_REL,
  KIND_CBW,
  KIND_CLC,
  KIND_CMC,
  KIND_CMOV,
  KIND_CWD,
  KIND_END,
  KIND_IMUL_GE,
  KIND_IMUL_IMM,
  KIND_JCC,
  KIND_JMP_REL,
  KIND_LEA,
  KIND_MOV,
  KIND_MOVSX8,
  KIND_MOVSX16,
  KIND_MOVSXD,
  KIND_MOVZX8,
  KIND_MOVZX16,
  KIND_NOP,
  KIND_POP_REG,
  KIND_PUSH_E,
  KIND_PUSH_IMM,
  KIND_PUSH_REG,
  KIND_RET,
  KIND_RET_IMM,
  KIND_SET,
  KIND_SHIFT,
  KIND_STC,
  KIND_UNARY,
} from "./kinds.generated";

export const NO_GROUP: u32 = 255;
/** Groups of a block that are used; each has a local. */
export const GROUPS: u32 = 8;
/** Bytes from the first to the end of the last of a group. */
const SPAN: i32 = 128;
const FAR: i32 = 1 << 24;
const RSP: u32 = 4;

// what a register holds: a symbol plus a distance
const symbols: usize = memory.data(64, 4); // u32 x 16
const distances: usize = memory.data(64, 4); // i32 x 16
let lastSymbol: u32 = 0;

// group: {u32 symbol, i32 lowest, i32 end, u16 members, u8 write, u8 number in use}
const MAX: u32 = 32;
const ENTRY: u32 = 16;
const groups: usize = memory.data(512, 4);
let count: u32 = 0;
// accesses of record i: explicit at 2i, stack at 2i + 1
const owner: usize = memory.data(144); // u8 group
const offsets: usize = memory.data(576, 4); // i32 distance from the symbol

let record: u32 = 0;
let checked: u32 = 0;
let parted: u32 = 0;

function symbolOf(register: u32): u32 {
  return load<u32>(symbols + (register << 2));
}
function distanceOf(register: u32): i32 {
  return load<i32>(distances + (register << 2));
}

function hold(register: u32, symbol: u32, distance: i32): void {
  store<u32>(symbols + (register << 2), symbol);
  store<i32>(distances + (register << 2), distance);
  if (distance > FAR || distance < -FAR) change(register);
}

function change(register: u32): void {
  store<u32>(symbols + (register << 2), ++lastSymbol);
  store<i32>(distances + (register << 2), 0);
}

function changeAll(): void {
  for (let r: u32 = 0; r < 16; r++) change(r);
}

function native(): u32 {
  return wide ? 8 : 4;
}

function near(value: i64): bool {
  return value > -FAR && value < FAR;
}

function enter(place: u32, symbol: u32, offset: i32, size: i32, write: bool): void {
  for (let g = count; g > 0; g--) {
    const e = groups + (g - 1) * ENTRY;
    if (load<u32>(e) != symbol || load<u8>(e, 14) != u8(write)) continue;
    const low = min<i32>(load<i32>(e, 4), offset);
    const end = max<i32>(load<i32>(e, 8), offset + size);
    if (end - low > SPAN) continue;
    store<i32>(e, low, 4);
    store<i32>(e, end, 8);
    store<u16>(e, load<u16>(e, 12) + 1, 12);
    store<u8>(owner + place, g - 1);
    store<i32>(offsets + (place << 2), offset);
    return;
  }
  if (count == MAX) return;
  const e = groups + count * ENTRY;
  store<u32>(e, symbol);
  store<i32>(e, offset, 4);
  store<i32>(e, offset + size, 8);
  store<u16>(e, 1, 12);
  store<u8>(e, u8(write), 14);
  store<u8>(e, NO_GROUP, 15);
  store<u8>(owner + place, count);
  store<i32>(offsets + (place << 2), offset);
  count++;
}

/** Bytes that the memory operand has, 0: such an instruction takes no part. */
function operandSize(rec: usize): u32 {
  switch (kindOf(rec)) {
    case KIND_MOVZX8:
    case KIND_MOVSX8:
    case KIND_SET:
      return 1;
    case KIND_MOVZX16:
    case KIND_MOVSX16:
      return 2;
    case KIND_MOVSXD:
      return 4;
    case KIND_ALU:
    case KIND_MOV:
    case KIND_UNARY:
    case KIND_SHIFT:
    case KIND_CMOV:
    case KIND_IMUL_GE:
    case KIND_IMUL_IMM:
    case KIND_PUSH_E:
    case KIND_CALL_E:
      return sizeOf(rec);
    default:
      return 0;
  }
}

function explicit(rec: usize, i: u32, host: u32): void {
  if (!isMemory(rec) || !addressable(rec) || (writes(rec) && besideCode(rec, host))) return;
  const size = operandSize(rec);
  const base = u32(load<u8>(rec, R_BASE));
  if (!size || base >= NO_REGISTER || load<u8>(rec, R_IDX) != NO_REGISTER) return;
  if (u32(load<u8>(rec, R_SEG)) << 3 >= <u32>SEG_FS || load<u8>(rec, R_FLAGS) & RecordFlag.SoftDisp) return;
  if (load<u8>(rec, R_ADDR_SHIFT) != (wide ? 0 : 32) || !near(load<i64>(rec, R_DISP))) return;
  const r = base >> 3;
  enter(i << 1, symbolOf(r), distanceOf(r) + i32(load<i64>(rec, R_DISP)), size, writes(rec));
}

function push(i: u32, size: i32, beside: bool): void {
  if (!beside) enter((i << 1) | 1, symbolOf(RSP), distanceOf(RSP) - size, size, true);
  hold(RSP, symbolOf(RSP), distanceOf(RSP) - size);
}

function dst(rec: usize): u32 {
  return load<u8>(rec, R_DST) >> 3;
}

/** A register destination moves by a constant, or is no longer known. */
function move(rec: usize, by: i64): void {
  const r = dst(rec);
  if (sizeOf(rec) == native() && near(by)) hold(r, symbolOf(r), distanceOf(r) + i32(by));
  else change(r);
}

/** Follows what a record does to the registers, after its operands were looked at. */
function follow(rec: usize, i: u32, host: u32): void {
  const size = sizeOf(rec);
  const k = memberOf(rec);
  const form = formOf(rec);
  switch (kindOf(rec)) {
    case KIND_NOP:
    case KIND_CLC:
    case KIND_STC:
    case KIND_CMC:
    case KIND_JCC:
    case KIND_JMP_REL:
    case KIND_END:
      break;
    case KIND_ALU:
      if (k >= 7 || form == FORM_MR || form == FORM_MI) break;
      if (form == FORM_RI && (k == 0 || k == 5) && !(load<u8>(rec, R_FLAGS) & RecordFlag.SoftImm)) {
        move(rec, k ? -load<i64>(rec, R_IMM) : load<i64>(rec, R_IMM));
      } else change(dst(rec));
      break;
    case KIND_UNARY:
      if (isMemory(rec)) break;
      if (k < 2) move(rec, k ? -1 : 1);
      else change(dst(rec));
      break;
    case KIND_MOV:
      if (form == FORM_MR || form == FORM_MI) break;
      if (form == FORM_RR && size == native()) {
        const from = u32(load<u8>(rec, R_SRC)) >> 3;
        hold(dst(rec), symbolOf(from), distanceOf(from));
      } else change(dst(rec));
      break;
    case KIND_LEA: {
      const base = u32(load<u8>(rec, R_BASE));
      const whole = size == native() && load<u8>(rec, R_ADDR_SHIFT) == (wide ? 0 : 32);
      if (whole && base < NO_REGISTER && load<u8>(rec, R_IDX) == NO_REGISTER && near(load<i64>(rec, R_DISP))) {
        if (load<u8>(rec, R_FLAGS) & RecordFlag.SoftDisp) change(dst(rec));
        else hold(dst(rec), symbolOf(base >> 3), distanceOf(base >> 3) + i32(load<i64>(rec, R_DISP)));
      } else change(dst(rec));
      break;
    }
    case KIND_SHIFT:
    case KIND_SET:
    case KIND_BIT_IMM:
      if (!isMemory(rec)) change(dst(rec));
      break;
    case KIND_MOVZX8:
    case KIND_MOVZX16:
    case KIND_MOVSX8:
    case KIND_MOVSX16:
    case KIND_MOVSXD:
    case KIND_CMOV:
    case KIND_IMUL_GE:
    case KIND_IMUL_IMM:
    case KIND_BSWAP:
      change(dst(rec));
      break;
    case KIND_CWD:
      change(2);
      break;
    case KIND_CBW:
      change(0);
      break;
    case KIND_PUSH_REG:
    case KIND_PUSH_IMM:
    case KIND_PUSH_E:
      push(i, size, besideCode(rec, host));
      break;
    case KIND_CALL_REL:
    case KIND_CALL_E:
      push(i, native(), besideCode(rec, host));
      break;
    case KIND_POP_REG:
      enter((i << 1) | 1, symbolOf(RSP), distanceOf(RSP), size, false);
      hold(RSP, symbolOf(RSP), distanceOf(RSP) + size);
      change(dst(rec));
      break;
    case KIND_RET:
    case KIND_RET_IMM:
      enter((i << 1) | 1, symbolOf(RSP), distanceOf(RSP), native(), false);
      break;
    default:
      changeAll();
  }
}

/** Looks at the `records` records of a block that begins at this address of linear memory. */
export function findGroups(first: usize, records: u32, host: u32): void {
  count = 0;
  checked = 0;
  lastSymbol = 0;
  changeAll();
  memory.fill(owner, u8(NO_GROUP), 144);
  if (segmented) return; // a group has one check of the linear address, not of offsets
  for (let i: u32 = 0; i < records; i++) {
    const rec = first + i * RECORD_SIZE;
    const at = host + load<u16>(rec, R_OFF);
    const table = oftenStaged(~at);
    if (!table) explicit(rec, i, at);
    follow(rec, i, at);
    // a store to a page table: what was translated before it may lie elsewhere after it
    if (table) changeAll();
  }
  let used: u32 = 0;
  for (let g: u32 = 0; g < count && used < GROUPS; g++) {
    const e = groups + g * ENTRY;
    if (load<u16>(e, 12) > 1) store<u8>(e, used++, 15);
  }
}

/** The records that follow are the accesses of record i. */
export function beginRecord(i: u32): void {
  record = i;
}

/** What was checked may not hold any more. */
export function forgetChecked(): void {
  checked = 0;
}

function ownerOf(stack: bool): u32 {
  return load<u8>(owner + (record << 1) + u32(stack));
}

/** Group of the explicit or stack access at hand, NO_GROUP: none. */
export function groupOf(stack: bool, write: bool): u32 {
  const g = ownerOf(stack);
  if (g == NO_GROUP) return NO_GROUP;
  const e = groups + g * ENTRY;
  return load<u8>(e, 14) == u8(write) ? load<u8>(e, 15) : NO_GROUP;
}

/** Bytes from the start of its group to this access. */
export function intoGroup(stack: bool): u32 {
  const e = groups + ownerOf(stack) * ENTRY;
  return load<i32>(offsets + (((record << 1) + u32(stack)) << 2)) - load<i32>(e, 4);
}

export function groupBytes(stack: bool): u32 {
  const e = groups + ownerOf(stack) * ENTRY;
  return load<i32>(e, 8) - load<i32>(e, 4);
}

export function isChecked(group: u32): bool {
  return ((checked >> group) & 1) != 0;
}

/** parts: its bytes may turn out to be on two pages, and each access is then looked at by itself. */
export function setChecked(group: u32, parts: bool): void {
  checked |= 1 << group;
  parted = (parted & ~(1 << group)) | (u32(parts) << group);
}

export function mayPart(group: u32): bool {
  return ((parted >> group) & 1) != 0;
}
