// RFLAGS and selectors as values: PUSHF, LAHF, SAHF, PUSH and MOV of segment registers.
import { R_MODRM, R_SIZE } from "../abi/record";
import { EFLAGS_REST, MODE, ModeBit, SEG_SIZE, SEGS, SG_SELECTOR } from "../abi/state";
import { FLAG_RF, FLAG_VM } from "../abi/x86";
import { get, I32_AND, I32_LOAD, I32_OR, I32_SHL, I64_EXTEND_U, i32c, mem, op, set } from "./emit";
import { pushImage, pushOF, setImage } from "./flags";
import { isMemory } from "./kinds";
import { L_HOST, L_T1 } from "./locals";
import { address, getSlot, probeTop, setDst, setSlot, storeHost } from "./operand";
import { moveStack, probePush, pushValue } from "./stack";

/** AH as a slot. */
const AH: u32 = 1;

/** Pushes the selector that the instruction names. False: there is none. */
function selector(rec: usize): bool {
  const n = u32(load<u8>(rec, R_MODRM)) & 7;
  if (n > 5) return false;
  i32c(0);
  mem(I32_LOAD, SEGS + n * SEG_SIZE + SG_SELECTOR);
  return true;
}

/** PUSH of a segment register: 16 bits are written whatever the slot, but for 64-bit ones. */
export function pushSegment(rec: usize): bool {
  const size = u32(load<u8>(rec, R_SIZE));
  probePush(size, size == 8 ? 8 : 2);
  get(L_HOST);
  if (!selector(rec)) return false;
  if (size == 8) op(I64_EXTEND_U);
  storeHost(size == 8 ? 8 : 2);
  moveStack(-i32(size));
  return true;
}

export function movFromSegment(rec: usize): bool {
  if (!isMemory(rec)) {
    if (!selector(rec)) return false;
    const size = u32(load<u8>(rec, R_SIZE));
    if (size == 8) op(I64_EXTEND_U);
    setDst(rec, size);
    return true;
  }
  address(rec, 2, true);
  probeTop(2);
  get(L_HOST);
  if (!selector(rec)) return false;
  storeHost(2);
  return true;
}

/** In vm86 it looks at IOPL. */
export function pushFlags(rec: usize): bool {
  if (load<u32>(MODE) & ModeBit.Vm86) return false;
  const size = u32(load<u8>(rec, R_SIZE));
  i32c(0);
  mem(I32_LOAD, EFLAGS_REST);
  i32c(~(FLAG_VM | FLAG_RF));
  op(I32_AND);
  pushImage();
  op(I32_OR);
  if (size == 8) op(I64_EXTEND_U);
  pushValue(size);
  return true;
}

/** LAHF. */
export function loadAh(): void {
  pushImage();
  i32c(2);
  op(I32_OR);
  setSlot(AH, 1);
}

/** SAHF. */
export function storeAh(): void {
  getSlot(AH, 1);
  pushOF();
  i32c(11);
  op(I32_SHL);
  op(I32_OR);
  set(L_T1);
  setImage(L_T1);
}
