// Linear addresses of a region through the TLB to places in linear memory.

import { FILL_BESIDE, FILL_STORE, FILL_WRITE, JIT_TLB_MASK } from "../abi/generator";
import { TE_ADDEND, TE_WRITE } from "../abi/layout";
import { addR, constR, fills, fillsHow, place, useTlb, wide } from "./context";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_EQZ,
  I32_LOAD,
  I32_SHR_U,
  I32_WRAP,
  I64_EXTEND_U,
  I64_LOAD,
  I64_NE,
  I64_OR,
  I64_SHR_U,
  i32c,
  mem,
  op,
  set,
  tee,
  unsigned,
  W_CALL,
  W_SELECT,
} from "./emit";
import { branchExit, close, openIf } from "./labels";
import { L_APART, L_EA, L_ENTRY, L_GROUP, L_TABLE, L_TAG } from "./locals";

/** Function 2 of a generated module: fillSettled. */
const CALL_FILL: u32 = 2;

/** Pops an address (R), leaves the region when the TLB can have no entry for it; L_ENTRY is its place in the table. */
function translate(size: u32, tag: u32): void {
  lookUp(size, tag);
  if (!fills) {
    branchExit();
    return;
  }
  openIf();
  fill(size, tag, fillsHow);
  op(I32_EQZ);
  branchExit();
  close();
}

/** Pops an address (R) into L_EA, pushes whether the TLB has no entry for it at L_ENTRY. */
function lookUp(size: u32, tag: u32): void {
  useTlb();
  place();
  tee(L_EA);
  constR(7);
  op(wide ? I64_SHR_U : I32_SHR_U);
  if (wide) op(I32_WRAP);
  i32c(i32(load<u32>(JIT_TLB_MASK) << 5));
  op(I32_AND);
  get(L_TABLE);
  op(I32_ADD);
  tee(L_ENTRY);
  mem(I64_LOAD, tag);
  // the page of the last byte: an access over the end of a page misses
  get(L_EA);
  if (size > 1) {
    constR(size - 1);
    addR();
  }
  constR(12);
  op(wide ? I64_SHR_U : I32_SHR_U);
  if (!wide) op(I64_EXTEND_U);
  get(L_TAG);
  op(I64_OR);
  op(I64_NE);
}

/** Pushes whether the TLB has an entry for the bytes at L_EA now. */
function fill(size: u32, tag: u32, how: u32): void {
  get(L_EA);
  if (!wide) op(I64_EXTEND_U);
  i32c(size);
  i32c(tag == TE_WRITE ? how | FILL_WRITE : how & ~(FILL_STORE | FILL_BESIDE));
  op(W_CALL);
  unsigned(CALL_FILL);
}

/** Pops an address (R), pushes its place in linear memory (i32). */
export function translateTop(size: u32, tag: u32): void {
  translate(size, tag);
  pushPlace();
}

/** Pushes the place of L_EA, whose entry is L_ENTRY. */
function pushPlace(): void {
  get(L_EA);
  if (wide) op(I32_WRAP);
  get(L_ENTRY);
  mem(I32_LOAD, TE_ADDEND);
  op(I32_ADD);
}

/** L_GROUP of a group whose bytes are not on one page: each access is looked at by itself. */
export const APART: u32 = 1;

/** Pops the address of the first byte of a group; its local takes the place. */
export function checkGroup(group: u32, bytes: u32, tag: u32): void {
  if (!fills) {
    translateTop(bytes, tag);
    set(L_GROUP + group);
    return;
  }
  lookUp(bytes, tag);
  set(L_APART);
  get(L_APART);
  openIf();
  fill(bytes, tag, 0);
  op(I32_EQZ);
  set(L_APART);
  close();
  i32c(APART);
  pushPlace();
  get(L_APART);
  op(W_SELECT);
  set(L_GROUP + group);
}
