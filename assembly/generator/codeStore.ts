// A store beside code: the bytes are stored at once, and the core is told when they are on a 64-byte line of decoded code
// (run/step.ts, jitStored).
import { R_INDEX } from "../abi/record";
import { besideBytes, blockCount, constR, direct, lowRamHost, ripNext } from "./context";
import { codeLines } from "./core";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_SHL,
  I32_SHR_U,
  I32_WRAP,
  I64_EXTEND_U,
  I64_LOAD,
  I64_OR,
  I64_SHR_U,
  i32c,
  mem,
  op,
  set,
  unsigned,
  W_CALL,
} from "./emit";
import { forgetChecked } from "./groups";
import { generate } from "./instruction";
import { close, leaveBehind, openIf } from "./labels";
import { L_BESIDE, L_PC } from "./locals";
import { pageList } from "./plan";

/** Function 1 of a generated module: jitStored. */
const CALL_STORED: u32 = 1;

/** Pushes the place of the store, moved by an offset. */
function storedAt(offset: u32): void {
  get(L_BESIDE);
  if (!offset) return;
  i32c(offset);
  op(I32_ADD);
}

/** Pushes, as bit 0 of an i64, whether decoded code covers a byte of the 64-byte line there. */
function lineBit(offset: u32): void {
  storedAt(offset);
  i32c(12);
  op(I32_SHR_U);
  i32c(3);
  op(I32_SHL);
  // frames and their lines go up together, those of the region among them
  const frame = load<u32>(pageList, 8);
  const from = direct ? lowRamHost : 0;
  i32c(i32(codeLines(frame) - (((frame - from) >> 12) << 3)));
  op(I32_ADD);
  mem(I64_LOAD, 0);
  storedAt(offset);
  i32c(6);
  op(I32_SHR_U);
  op(I64_EXTEND_U);
  op(I64_SHR_U);
}

/**
 * After a store, with the RIP to go on at in L_PC: leaves the region where the store may have changed what it was made from;
 * so many of the instructions begun have not completed.
 */
export function leaveIfChanged(behind: u32): void {
  lineBit(0);
  if (besideBytes > 1) {
    lineBit(besideBytes - 1);
    op(I64_OR);
  }
  op(I32_WRAP);
  i32c(1);
  op(I32_AND);
  forgetChecked();
  openIf();
  storedAt(direct ? lowRamHost : 0);
  i32c(besideBytes);
  op(W_CALL);
  unsigned(CALL_STORED);
  openIf();
  leaveBehind(behind, 0);
  close();
  close();
}

/** Emits a record that stores beside code. False: it has no generated form. */
export function storeBeside(rec: usize): bool {
  if (!generate(rec)) return false;
  if (!besideBytes) return true;
  constR(ripNext());
  set(L_PC);
  leaveIfChanged(blockCount - load<u8>(rec, R_INDEX) - 1);
  return true;
}
