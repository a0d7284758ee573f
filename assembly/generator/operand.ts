// Operands of a record as Wasm: sub-registers, addresses, translated memory. An access that misses the TLB leaves the
// region before the instruction has changed anything.

import { PAGE_NO_WRITE_ENTRY, PageFlag, TE_READ, TE_WRITE } from "../abi/layout";
import { R_ADDR_SHIFT, R_BASE, R_DISP, R_DST, R_FLAGS, R_IDX, R_SEG, R_SRC, RecordFlag } from "../abi/record";
import { SEG_FS, SEG_SIZE, SEGS, SG_EFFECTIVE } from "../abi/state";
import {
  addR,
  beside,
  blockRip,
  constR,
  direct,
  fills,
  get32,
  getR,
  lowRamBytes,
  lowRamHost,
  noteBeside,
  place,
  set32,
  setR,
  throughSegment,
  useSegment,
  wide,
} from "./context";
import { frameFlags } from "./core";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_EQ,
  I32_EXTEND8_S,
  I32_EXTEND16_S,
  I32_GT_U,
  I32_LOAD,
  I32_LOAD8_S,
  I32_LOAD8_U,
  I32_LOAD16_S,
  I32_LOAD16_U,
  I32_OR,
  I32_SHL,
  I32_SHR_U,
  I32_STORE,
  I32_STORE8,
  I32_STORE16,
  I32_SUB,
  I32_WRAP,
  I64_ADD,
  I64_AND,
  I64_EXTEND_U,
  I64_GT_U,
  I64_LOAD,
  I64_OR,
  I64_SHL,
  I64_STORE,
  i32c,
  i64c,
  mem,
  op,
  set,
  tee,
  W_DROP,
  W_ELSE,
} from "./emit";
import { groupBytes, groupOf, intoGroup, isChecked, mayPart, NO_GROUP, setChecked } from "./groups";
import { isMemory, NO_REGISTER } from "./kinds";
import { branchExit, close, openIf } from "./labels";
import { L_ACCESS, L_APART, L_BESIDE, L_EA, L_GROUP, L_HOST, L_SEG_BASE, L_SEG_READ, L_SEG_WRITE } from "./locals";
import { APART, checkGroup, translateTop } from "./translate";

const RIP_BASE: u32 = 136;

/** Pushes a sub-register of 1, 2 or 4 bytes zero-extended to i32, or of 8 bytes as i64. */
export function getSlot(slot: u32, size: u32): void {
  if (size == 8) {
    getR(slot);
    return;
  }
  get32(slot);
  if (size == 1) {
    if (slot & 1) {
      i32c(8);
      op(I32_SHR_U);
    }
    i32c(0xff);
    op(I32_AND);
  } else if (size == 2) {
    i32c(0xffff);
    op(I32_AND);
  }
}

/** Pops a value of 1, 2 or 4 bytes (i32, upper bits ignored) or 8 bytes (i64) into a sub-register. */
export function setSlot(slot: u32, size: u32): void {
  if (size == 8) {
    setR(slot);
    return;
  }
  if (size == 4) {
    set32(slot);
    return;
  }
  const mask: i64 = size == 2 ? 0xffff : slot & 1 ? 0xff00 : 0xff;
  if (size == 1 && slot & 1) {
    i32c(8);
    op(I32_SHL);
  }
  i32c(i32(mask));
  op(I32_AND);
  if (wide) op(I64_EXTEND_U);
  getR(slot & ~1);
  if (wide) {
    i64c(~mask);
    op(I64_AND);
    op(I64_OR);
  } else {
    i32c(i32(~mask));
    op(I32_AND);
    op(I32_OR);
  }
  setR(slot & ~1);
}

export function getDst(rec: usize, size: u32): void {
  getSlot(load<u8>(rec, R_DST), size);
}
export function setDst(rec: usize, size: u32): void {
  setSlot(load<u8>(rec, R_DST), size);
}
export function getSrc(rec: usize, size: u32): void {
  getSlot(load<u8>(rec, R_SRC), size);
}
export function setSrc(rec: usize, size: u32): void {
  setSlot(load<u8>(rec, R_SRC), size);
}

/** Pushes the offset that the memory operand names, as R. */
export function offset(rec: usize): void {
  const base = u32(load<u8>(rec, R_BASE));
  const index = u32(load<u8>(rec, R_IDX)) & 0xf8;
  const soft = (load<u8>(rec, R_FLAGS) & RecordFlag.SoftDisp) != 0;
  let disp = soft ? 0 : load<u64>(rec, R_DISP);
  let terms: u32 = 0;
  if (soft) {
    i32c(0);
    mem(wide ? I64_LOAD : I32_LOAD, u32(rec) + R_DISP);
    terms++;
  }
  if (base == RIP_BASE) disp += blockRip;
  else if (base != NO_REGISTER) {
    getR(base);
    if (terms) addR();
    terms++;
  }
  if (index != NO_REGISTER) {
    getR(index);
    const scale = load<u8>(rec, R_IDX) & 7;
    if (scale) {
      constR(scale);
      op(wide ? I64_SHL : I32_SHL);
    }
    if (terms) addR();
    terms++;
  }
  if (disp != 0 || terms == 0) {
    constR(disp);
    if (terms) addR();
  }
  truncateOffset(load<u8>(rec, R_ADDR_SHIFT));
}

/** Truncates an offset (R) to the address size; shift: R_ADDR_SHIFT. */
export function truncateOffset(shift: u32): void {
  if (wide && shift == 32) {
    op(I32_WRAP);
    op(I64_EXTEND_U);
  } else if (shift == 48) low16();
}

/** Truncates an offset to 16 bits. */
export function low16(): void {
  i32c(0xffff);
  op(I32_AND);
}

/** Pushes the linear address of the `size` bytes of the memory operand, as R. */
export function address(rec: usize, size: u32, write: bool): void {
  offset(rec);
  inSegment(rec, size, write);
}

/** Turns an offset (R) in the segment of the memory operand into a linear address. */
export function inSegment(rec: usize, size: u32, write: bool): void {
  toLinear(u32(load<u8>(rec, R_SEG)) << 3, size, write);
}

/** Turns an offset (R) into a linear address; outside of the segment the region is left. */
export function toLinear(seg: u32, size: u32, write: bool): void {
  if (wide) {
    if (seg < <u32>SEG_FS) return;
    i32c(0);
    mem(I64_LOAD, SEGS + seg + SG_EFFECTIVE);
    op(I64_ADD);
    return;
  }
  if (!throughSegment(seg)) return;
  const n = seg / <u32>SEG_SIZE;
  useSegment(n, write);
  place();
  tee(L_EA);
  op(I64_EXTEND_U);
  i64c(size);
  op(I64_ADD);
  get((write ? L_SEG_WRITE : L_SEG_READ) + n);
  op(I64_GT_U);
  branchExit();
  get(L_EA);
  get(L_SEG_BASE + n);
  op(I32_ADD);
}

/** Pops a physical address into L_EA, leaves the region unless the bytes are RAM whose frames have none of these flags. */
export function checkRam(size: u32, flags: u32): void {
  place();
  tee(L_EA);
  i32c(i32(lowRamBytes - size));
  op(I32_GT_U);
  branchExit();
  if (!flags) return;
  if (size > 1) {
    // this frame's and the next one's at once; which of them matter is looked at when one has a flag
    pushFrame(0);
    mem(I32_LOAD16_U, frameFlags(lowRamHost));
    i32c(flags | (flags << 8));
    op(I32_AND);
    openIf();
    pageFlagsOf(size - 1);
  }
  pageFlagsOf(0);
  if (size > 1) op(I32_OR);
  i32c(flags);
  op(I32_AND);
  branchExit();
  if (size > 1) close();
}

/** Pushes the number of the frame of the physical address L_EA + offset. */
function pushFrame(offset: u32): void {
  get(L_EA);
  if (offset) {
    i32c(offset);
    op(I32_ADD);
  }
  i32c(12);
  op(I32_SHR_U);
}

/** Pushes its flags. */
function pageFlagsOf(offset: u32): void {
  pushFrame(offset);
  mem(I32_LOAD8_U, frameFlags(lowRamHost));
}

export function loadAt(size: u32, sign: bool): void {
  loadFrom(size, sign, 0);
}

function loadFrom(size: u32, sign: bool, offset: u32): void {
  if (size == 8) mem(I64_LOAD, offset);
  else if (size == 4) mem(I32_LOAD, offset);
  else if (size == 2) mem(sign ? I32_LOAD16_S : I32_LOAD16_U, offset);
  else mem(sign ? I32_LOAD8_S : I32_LOAD8_U, offset);
}

/** What is added to an address that was checked, for its place in linear memory. */
function placeOffset(): u32 {
  return direct ? lowRamHost : 0;
}

/** Pops an address (R), pushes what is placeOffset() below its place in linear memory. */
function checkTop(size: u32, write: bool): void {
  const look = write && beside;
  if (direct) {
    checkRam(size, !write ? 0 : look ? PAGE_NO_WRITE_ENTRY & ~PageFlag.Code : PAGE_NO_WRITE_ENTRY);
    get(L_EA);
  } else translateTop(size, write ? TE_WRITE : TE_READ);
  if (!look) return;
  tee(L_BESIDE);
  noteBeside(size);
}

function placeTop(size: u32, write: bool): void {
  checkTop(size, write);
  if (!direct) return;
  i32c(i32(lowRamHost));
  op(I32_ADD);
}

/** Pops an address (R), pushes the place in linear memory to read `size` bytes from. */
export function readPlace(size: u32): void {
  placeTop(size, false);
}

/** The same to write them. */
export function writePlace(size: u32): void {
  placeTop(size, true);
}

/** Pops an address (R), pushes the value there. */
export function readTop(size: u32, sign: bool): void {
  checkTop(size, false);
  loadFrom(size, sign, placeOffset());
}

/** What lies between L_HOST and the place that was probed. */
let hostOffset: u32 = 0;

/** Pops an address (R), for loadHost() and storeHost(). */
export function probeTop(size: u32): void {
  checkTop(size, true);
  set(L_HOST);
  hostOffset = placeOffset();
}

/** Pushes the contents of the probed place. */
export function loadHost(size: u32): void {
  get(L_HOST);
  loadFrom(size, false, hostOffset);
}

/** Pops L_HOST and a value, which the probed place takes, or one so many bytes further. */
export function storeHost(size: u32, further: u32 = 0): void {
  storeTo(size, hostOffset + further);
}

/** Pops a place and a value. */
export function storeAt(size: u32): void {
  storeTo(size, 0);
}

function storeTo(size: u32, offset: u32): void {
  mem(size == 8 ? I64_STORE : size == 4 ? I32_STORE : size == 2 ? I32_STORE16 : I32_STORE8, offset);
}

/**
 * Pops the address (R) of an access of a group, which is checked when that was not done yet, then pushes what is
 * groupOffset() below its place.
 */
function groupPlace(group: u32, stack: bool, size: u32, write: bool): void {
  const into = intoGroup(stack);
  if (!isChecked(group)) {
    if (fills) tee(L_ACCESS);
    if (into) {
      constR(0 - u64(into));
      addR();
    }
    const bytes = groupBytes(stack);
    if (direct) {
      checkRam(bytes, write ? PAGE_NO_WRITE_ENTRY : 0);
      get(L_EA);
      set(L_GROUP + group);
    } else checkGroup(group, bytes, write ? TE_WRITE : TE_READ);
    setChecked(group, fills);
  } else if (mayPart(group)) set(L_ACCESS);
  else op(W_DROP);
  if (!mayPart(group)) {
    get(L_GROUP + group);
    return;
  }
  get(L_GROUP + group);
  i32c(APART);
  op(I32_EQ);
  openIf();
  get(L_ACCESS);
  translateTop(size, write ? TE_WRITE : TE_READ);
  i32c(into);
  op(I32_SUB);
  set(L_APART);
  op(W_ELSE);
  get(L_GROUP + group);
  set(L_APART);
  close();
  get(L_APART);
}

function groupOffset(stack: bool): u32 {
  return placeOffset() + intoGroup(stack);
}

/** Pops an address (R), pushes the value there; `stack`: the access is the instruction's own of the stack. */
export function read(stack: bool, size: u32, sign: bool): void {
  const group = groupOf(stack, false);
  if (group == NO_GROUP) {
    readTop(size, sign);
    return;
  }
  groupPlace(group, stack, size, false);
  loadFrom(size, sign, groupOffset(stack));
}

/** Pops an address (R), for loadHost() and storeHost(). */
export function probe(stack: bool, size: u32): void {
  const group = groupOf(stack, true);
  if (group == NO_GROUP) {
    probeTop(size);
    return;
  }
  groupPlace(group, stack, size, true);
  set(L_HOST);
  hostOffset = groupOffset(stack);
}

export function readMemory(rec: usize, size: u32, sign: bool): void {
  address(rec, size, false);
  read(false, size, sign);
}

export function probeMemory(rec: usize, size: u32): void {
  address(rec, size, true);
  probe(false, size);
}

/** Pushes the operand that an instruction is going to change with changed(). */
export function toChange(rec: usize, size: u32): void {
  if (isMemory(rec)) {
    probeMemory(rec, size);
    loadHost(size);
  } else getDst(rec, size);
}

/** The operand of toChange() takes what a local holds. */
export function changed(rec: usize, size: u32, local: u32): void {
  if (isMemory(rec)) {
    get(L_HOST);
    get(local);
    storeHost(size);
  } else {
    get(local);
    setDst(rec, size);
  }
}

/** Pushes the rm operand of a G,E form. */
export function readSource(rec: usize, size: u32, sign: bool): void {
  if (isMemory(rec)) {
    readMemory(rec, size, sign);
    return;
  }
  getSrc(rec, size);
  if (sign && size == 1) op(I32_EXTEND8_S);
  if (sign && size == 2) op(I32_EXTEND16_S);
}

/** Pushes the rm operand of an E form. */
export function readRm(rec: usize, size: u32): void {
  if (isMemory(rec)) readMemory(rec, size, false);
  else getDst(rec, size);
}
