// The registers and flags of a region: locals in generated code, the state block outside of it.
import {
  FLAG_CARRIES,
  FLAG_RESULT,
  GPR,
  JIT_WHY,
  RIP,
  SEG_SIZE,
  SEGS,
  SG_EFFECTIVE,
  SG_READ_END,
  SG_WRITE_END,
  TR_TABLE,
  TR_TAG,
} from "../abi/state";
import { basesUsed, flagsUsed, readsUsed, tlbUsed, wide, writesUsed } from "./context";
import {
  get,
  I32_AND,
  I32_LOAD,
  I32_NE,
  I32_OR,
  I32_SHL,
  I32_STORE,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_LOAD,
  I64_STORE,
  i32c,
  mem,
  op,
  set,
  tee,
} from "./emit";
import { putCarries, settleCarries } from "./flags";
import {
  L_CARRIES,
  L_GPR,
  L_HOST,
  L_PC,
  L_RESULT,
  L_SEG_BASE,
  L_SEG_READ,
  L_SEG_WRITE,
  L_TABLE,
  L_TAG,
  L_WHY,
} from "./locals";

/** At entry; while a region runs the context stays. */
export function loadState(mask: u32): void {
  loadRegisters(mask);
  if (!tlbUsed) return;
  i32c(0);
  mem(I64_LOAD, TR_TAG);
  set(L_TAG);
  i32c(0);
  mem(I32_LOAD, TR_TABLE);
  set(L_TABLE);
}

/** Registers, flags and segments from the state block. */
export function loadRegisters(mask: u32): void {
  for (let r: u32 = 0; r < 16; r++) {
    if (!((mask >> r) & 1)) continue;
    i32c(0);
    mem(wide ? I64_LOAD : I32_LOAD, GPR + (r << 3));
    set(L_GPR + r);
  }
  if (flagsUsed) {
    i32c(0);
    mem(wide ? I64_LOAD : I32_LOAD, FLAG_RESULT);
    if (!wide) {
      // only the low byte, the sign and whether it is zero matter: the upper half gives the last two
      i32c(0);
      mem(I32_LOAD, FLAG_RESULT + 4);
      tee(L_HOST);
      i32c(i32.MIN_VALUE);
      op(I32_AND);
      op(I32_OR);
      get(L_HOST);
      i32c(0);
      op(I32_NE);
      i32c(8);
      op(I32_SHL);
      op(I32_OR);
    }
    set(L_RESULT);
    i32c(0);
    mem(I32_LOAD, FLAG_CARRIES);
    putCarries();
  }
  for (let n: u32 = 0; n < 6; n++) {
    loadSegment(basesUsed, n, SG_EFFECTIVE, I32_LOAD, L_SEG_BASE);
    loadSegment(readsUsed, n, SG_READ_END, I64_LOAD, L_SEG_READ);
    loadSegment(writesUsed, n, SG_WRITE_END, I64_LOAD, L_SEG_WRITE);
  }
}

function loadSegment(mask: u32, n: u32, field: u32, how: u32, local: u32): void {
  if (!((mask >> n) & 1)) return;
  i32c(0);
  mem(how, SEGS + n * SEG_SIZE + field);
  set(local + n);
}

function storeR(address: u32, local: u32, sign: bool): void {
  i32c(0);
  get(local);
  if (!wide) op(sign ? I64_EXTEND_S : I64_EXTEND_U);
  mem(I64_STORE, address);
}

/** Registers and flags go to the state block. */
export function storeRegisters(mask: u32): void {
  for (let r: u32 = 0; r < 16; r++) if ((mask >> r) & 1) storeR(GPR + (r << 3), L_GPR + r, false);
  if (!flagsUsed) return;
  settleCarries();
  storeR(FLAG_RESULT, L_RESULT, true);
  i32c(0);
  get(L_CARRIES);
  mem(I32_STORE, FLAG_CARRIES);
}

export function storeState(mask: u32): void {
  storeRegisters(mask);
  storeR(RIP, L_PC, false);
  i32c(0);
  get(L_WHY);
  mem(I32_STORE, JIT_WHY);
}
