// Wasm bytes: a cursor into linear memory, LEB128, and the few opcodes in use.

import { numberOf } from "./locals";

export const W_UNREACHABLE: u32 = 0x00;
export const W_BLOCK: u32 = 0x02;
export const W_LOOP: u32 = 0x03;
export const W_IF: u32 = 0x04;
export const W_ELSE: u32 = 0x05;
export const W_END: u32 = 0x0b;
export const W_BR: u32 = 0x0c;
export const W_BR_IF: u32 = 0x0d;
export const W_BR_TABLE: u32 = 0x0e;
export const W_RETURN: u32 = 0x0f;
export const W_CALL: u32 = 0x10;
export const W_SELECT: u32 = 0x1b;
export const W_DROP: u32 = 0x1a;
const W_GET: u32 = 0x20;
const W_SET: u32 = 0x21;
const W_TEE: u32 = 0x22;
export const I32_LOAD: u32 = 0x28;
export const I64_LOAD: u32 = 0x29;
export const I32_LOAD8_S: u32 = 0x2c;
export const I32_LOAD8_U: u32 = 0x2d;
export const I32_LOAD16_S: u32 = 0x2e;
export const I32_LOAD16_U: u32 = 0x2f;
export const I32_STORE: u32 = 0x36;
export const I64_STORE: u32 = 0x37;
export const I32_STORE8: u32 = 0x3a;
export const I32_STORE16: u32 = 0x3b;
export const I32_EQZ: u32 = 0x45;
export const I32_EQ: u32 = 0x46;
export const I32_NE: u32 = 0x47;
export const I32_LT_S: u32 = 0x48;
export const I32_LT_U: u32 = 0x49;
export const I32_GE_S: u32 = 0x4e;
export const I32_GE_U: u32 = 0x4f;
export const I32_LE_S: u32 = 0x4c;
export const I32_LE_U: u32 = 0x4d;
export const I32_GT_S: u32 = 0x4a;
export const I32_GT_U: u32 = 0x4b;
export const I64_EQZ: u32 = 0x50;
export const I64_EQ: u32 = 0x51;
export const I64_NE: u32 = 0x52;
export const I64_LT_S: u32 = 0x53;
export const I64_LT_U: u32 = 0x54;
export const I64_LE_S: u32 = 0x57;
export const I64_LE_U: u32 = 0x58;
export const I64_GT_U: u32 = 0x56;
export const I64_GE_U: u32 = 0x5a;
export const I32_CLZ: u32 = 0x67;
export const I32_CTZ: u32 = 0x68;
export const I32_POPCNT: u32 = 0x69;
export const I32_ADD: u32 = 0x6a;
export const I32_SUB: u32 = 0x6b;
export const I32_MUL: u32 = 0x6c;
export const I32_DIV_S: u32 = 0x6d;
export const I32_DIV_U: u32 = 0x6e;
export const I32_REM_U: u32 = 0x70;
export const I32_AND: u32 = 0x71;
export const I32_OR: u32 = 0x72;
export const I32_XOR: u32 = 0x73;
export const I32_SHL: u32 = 0x74;
export const I32_SHR_S: u32 = 0x75;
export const I32_SHR_U: u32 = 0x76;
export const I32_ROTL: u32 = 0x77;
export const I32_ROTR: u32 = 0x78;
export const I64_CLZ: u32 = 0x79;
export const I64_CTZ: u32 = 0x7a;
export const I64_POPCNT: u32 = 0x7b;
export const I64_ADD: u32 = 0x7c;
export const I64_SUB: u32 = 0x7d;
export const I64_MUL: u32 = 0x7e;
export const I64_DIV_S: u32 = 0x7f;
export const I64_DIV_U: u32 = 0x80;
export const I64_AND: u32 = 0x83;
export const I64_OR: u32 = 0x84;
export const I64_XOR: u32 = 0x85;
export const I64_SHL: u32 = 0x86;
export const I64_SHR_S: u32 = 0x87;
export const I64_SHR_U: u32 = 0x88;
export const I64_ROTL: u32 = 0x89;
export const I64_ROTR: u32 = 0x8a;
export const I32_WRAP: u32 = 0xa7;
export const I64_EXTEND_S: u32 = 0xac;
export const I64_EXTEND_U: u32 = 0xad;
export const I32_EXTEND8_S: u32 = 0xc0;
export const I32_EXTEND16_S: u32 = 0xc1;
export const TYPE_VOID: u32 = 0x40;
export const TYPE_I32: u32 = 0x7f;
export const TYPE_I64: u32 = 0x7e;

let at: u32 = 0;
let end: u32 = 0;
/** The buffer ran full: what was emitted is useless. */
export let overflow: bool = false;

export function emitTo(start: u32, limit: u32): void {
  at = start;
  end = limit;
  overflow = false;
}

export function emitted(): u32 {
  return at;
}

/** Takes back what was emitted from `place` on. */
export function backUp(place: u32): void {
  at = place;
  overflow = false;
}

export function op(byte: u32): void {
  if (at >= end) {
    overflow = true;
    return;
  }
  store<u8>(at++, byte);
}

export function unsigned(value: u32): void {
  while (value >= 0x80) {
    op((value & 0x7f) | 0x80);
    value >>>= 7;
  }
  op(value);
}

export function signed(value: i64): void {
  for (;;) {
    const low = u32(value) & 0x7f;
    value >>= 7;
    if ((value == 0 && !(low & 0x40)) || (value == -1 && low & 0x40)) {
      op(low);
      return;
    }
    op(low | 0x80);
  }
}

export function get(local: u32): void {
  op(W_GET);
  unsigned(numberOf(local));
}

export function set(local: u32): void {
  op(W_SET);
  unsigned(numberOf(local));
}

export function tee(local: u32): void {
  op(W_TEE);
  unsigned(numberOf(local));
}

export function i32c(value: i32): void {
  op(0x41);
  signed(i64(value));
}

export function i64c(value: i64): void {
  op(0x42);
  signed(value);
}

/** A load or store; the alignment hint is 0. */
export function mem(code: u32, offset: u32): void {
  op(code);
  op(0);
  unsigned(offset);
}

/** Pops destination, source (or a byte) and count. */
export function memoryCopy(): void {
  op(0xfc);
  op(0x0a);
  op(0);
  op(0);
}

export function memoryFill(): void {
  op(0xfc);
  op(0x0b);
  op(0);
}

/** Five bytes that patchUnsigned() fills in later. */
export function reserve(): u32 {
  const place = at;
  for (let i = 0; i < 5; i++) op(0);
  return place;
}

export function patchUnsigned(place: u32, value: u32): void {
  for (let i: u32 = 0; i < 4; i++) {
    store<u8>(place + i, (value & 0x7f) | 0x80);
    value >>>= 7;
  }
  store<u8>(place + 4, value);
}

export function copyBytes(from: u32, bytes: u32): void {
  if (at + bytes > end) {
    overflow = true;
    return;
  }
  memory.copy(at, from, bytes);
  at += bytes;
}
