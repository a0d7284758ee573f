// The stack as Wasm: SP, ESP or RSP by SS.B and 64-bit mode.
import { SEG_SS } from "../abi/state";
import { constR, getR, setR, stack16 } from "./context";
import { addR, low16, probe, read, readTop, setSlot, toLinear } from "./operand";

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

/** Probes the place of a push. */
export function probePush(size: u32): void {
  getR(RSP_SLOT);
  constR(u64(-i64(size)));
  addR();
  if (stack16) low16();
  toLinear(SEG_SS, size, true);
  probe(true, size);
}
