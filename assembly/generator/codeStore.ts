// A store that keeps hitting frames with code, without paging: data beside code is stored at once, bytes of code are
// reported to the core (run/step.ts, jitStored).
import { PAGE_NO_WRITE_ENTRY, PageFlag } from "../abi/layout";
import { R_FLAGS, R_INDEX, RecordFlag } from "../abi/record";
import { beginInstruction, blockCount, constR, direct, lowRamHost, ripNext } from "./context";
import { codeLines } from "./core";
import {
  get,
  I32_ADD,
  I32_SHL,
  I32_SHR_U,
  I64_AND,
  I64_EXTEND_U,
  I64_LOAD,
  I64_NE,
  I64_OR,
  I64_SHR_U,
  i32c,
  i64c,
  mem,
  op,
  set,
  tee,
  unsigned,
  W_CALL,
} from "./emit";
import { forgetChecked } from "./groups";
import { pushStored, storesPlainly } from "./instruction";
import { branch, close, LABEL_EXIT, openIf } from "./labels";
import { L_ADJUST, L_EA, L_HOST, L_PC, L_WHY } from "./locals";
import { address, checkRam, storeAt } from "./operand";

/** Pushes, as i64, the bit of the 64-byte line of L_EA + offset, alone: non-zero when decoded code covers it. */
function lineBit(offset: u32): void {
  get(L_EA);
  i32c(offset);
  op(I32_ADD);
  i32c(12);
  op(I32_SHR_U);
  i32c(3);
  op(I32_SHL);
  mem(I64_LOAD, codeLines(lowRamHost));
  get(L_EA);
  i32c(offset);
  op(I32_ADD);
  i32c(6);
  op(I32_SHR_U);
  op(I64_EXTEND_U);
  op(I64_SHR_U);
}

/** Emits the store of a MOV of `size` bytes. False: it is none, or the region uses the TLB. */
export function codeStore(rec: usize, size: u32): bool {
  if (!direct || !storesPlainly(rec)) return false;
  if (load<u8>(rec, R_FLAGS) & (RecordFlag.SoftDisp | RecordFlag.SoftImm)) return false;
  beginInstruction(rec);
  address(rec, size, true);
  checkRam(size, PAGE_NO_WRITE_ENTRY & ~PageFlag.Code);
  get(L_EA);
  i32c(i32(lowRamHost));
  op(I32_ADD);
  tee(L_HOST);
  pushStored(rec, size);
  storeAt(size);
  lineBit(0);
  if (size > 1) {
    lineBit(size - 1);
    op(I64_OR);
  }
  i64c(1);
  op(I64_AND);
  i64c(0);
  op(I64_NE);
  forgetChecked();
  openIf();
  get(L_HOST);
  i32c(size);
  op(W_CALL);
  unsigned(1);
  openIf();
  constR(ripNext());
  set(L_PC);
  i32c(blockCount - load<u8>(rec, R_INDEX) - 1);
  set(L_ADJUST);
  i32c(0);
  set(L_WHY);
  branch(LABEL_EXIT);
  close();
  close();
  return true;
}
