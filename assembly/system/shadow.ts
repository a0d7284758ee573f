// Interrupt shadow of STI and MOV SS: it covers one instruction boundary. SHADOW_COUNT is the value COUNT has at that
// boundary, so the shadow ends by itself when the next instruction completes or an event is delivered.
// @sdm 3A "Masking Maskable Hardware Interrupts", "Masking Exceptions and Interrupts When Switching Stacks"
import { COUNT, INTERRUPTIBILITY, SHADOW_COUNT } from "../abi/state";
import { BLOCK_MOV_SS, BLOCK_STI } from "../abi/x86";

/** BLOCK_STI or BLOCK_MOV_SS when it holds at this boundary; a stale one is cleared. */
export function interruptShadow(): u32 {
  const state = load<u32>(INTERRUPTIBILITY);
  const shadow = state & (BLOCK_STI | BLOCK_MOV_SS);
  if (!shadow) return 0;
  if (load<u64>(SHADOW_COUNT) == load<u64>(COUNT)) return shadow;
  store<u32>(INTERRUPTIBILITY, state & ~shadow);
  return 0;
}

/** Sets the shadow after an instruction; completed: instructions of the block up to and with this one (R_INDEX + 1). */
export function setShadow(bit: u32, completed: u32): void {
  const at = load<u64>(COUNT) + <u64>completed;
  const state = load<u32>(INTERRUPTIBILITY);
  // the second of two in a row does not prolong the shadow
  if (state & bit && load<u64>(SHADOW_COUNT) + 1 == at) return;
  store<u32>(INTERRUPTIBILITY, (state & ~(BLOCK_STI | BLOCK_MOV_SS)) | bit);
  store<u64>(SHADOW_COUNT, at);
}

export function clearShadow(): void {
  store<u32>(INTERRUPTIBILITY, load<u32>(INTERRUPTIBILITY) & ~(BLOCK_STI | BLOCK_MOV_SS));
}
