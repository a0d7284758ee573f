// The stack as Wasm: SP, ESP or RSP by SS.B and 64-bit mode.
import { SEG_SS } from "../abi/state";
import { addR, constR, getR, place, setR, stack16 } from "./context";
import { get, I32_GT_U, I32_LOAD, I32_LOAD16_U, i32c, mem, op, set } from "./emit";
import { branchExit } from "./labels";
import { L_HOST, L_T0, L_U0 } from "./locals";
import { low16, probe, probeTop, read, readPlace, readTop, setSlot, storeHost, toLinear } from "./operand";

const RSP_SLOT: u32 = 32;

/** Pushes the value of `size` bytes on top of the stack. */
export function readStackTop(size: u32): void {
  readStackAt(RSP_SLOT, size);
}

/** Pushes the value of `size` bytes where a register points into the stack. */
export function readStackAt(slot: u32, size: u32): void {
  getR(slot);
  if (stack16) low16();
  toLinear(SEG_SS, size, false);
  if (slot == RSP_SLOT) read(true, size, false);
  else readTop(size, false);
}

/** Moves the stack pointer by a constant. */
export function moveStack(bytes: i32): void {
  stackFrom(RSP_SLOT, bytes);
}

/** Sets the stack pointer to a register plus a constant. */
export function stackFrom(slot: u32, bytes: i32): void {
  getR(slot);
  constR(u64(i64(bytes)));
  addR();
  if (stack16) setSlot(RSP_SLOT, 2);
  else setR(RSP_SLOT);
}

/** Probes the place of a push of `size` bytes, which stores `bytes`. */
export function probePush(size: u32, bytes: u32): void {
  getR(RSP_SLOT);
  constR(u64(-i64(size)));
  addR();
  if (stack16) low16();
  toLinear(SEG_SS, bytes, true);
  probe(true, bytes);
}

/** PUSH of the value on the Wasm stack. */
export function pushValue(size: u32): void {
  if (size == 8) set(L_U0);
  else set(L_T0);
  probePush(size, size);
  get(L_HOST);
  get(size == 8 ? L_U0 : L_T0);
  storeHost(size);
  moveStack(-i32(size));
}

/** Pushes SP plus `from`; where the frame of a 16-bit stack goes round, the interpreter takes over. */
function frame(from: u32, bytes: u32): void {
  if (stack16) {
    place();
    getR(RSP_SLOT);
    constR(from);
    addR();
    low16();
    i32c(0x10000 - bytes);
    op(I32_GT_U);
    branchExit();
  }
  getR(RSP_SLOT);
  constR(from);
  addR();
  if (stack16) low16();
}

/** PUSHA. */
export function pushAll(size: u32): void {
  frame(0 - size * 8, size * 8);
  toLinear(SEG_SS, size * 8, true);
  probeTop(size * 8);
  for (let i: u32 = 0; i < 8; i++) {
    get(L_HOST);
    getR(i << 3);
    storeHost(size, (7 - i) * size);
  }
  moveStack(-8 * i32(size));
}

/** POPA. */
export function popAll(size: u32): void {
  frame(0, size * 8);
  toLinear(SEG_SS, size * 8, false);
  readPlace(size * 8);
  set(L_HOST);
  for (let i: u32 = 0; i < 8; i++) {
    if (i << 3 == RSP_SLOT) continue;
    get(L_HOST);
    mem(size == 4 ? I32_LOAD : I32_LOAD16_U, (7 - i) * size);
    setSlot(i << 3, size);
  }
  moveStack(8 * i32(size));
}
