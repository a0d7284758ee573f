// Ways out of a block: out of the region, to the central node, by an address.
import { codeEnd, constR, place, wide } from "./context";
import {
  get,
  I32_AND,
  I32_EQZ,
  I32_GE_U,
  I32_LOAD16_U,
  I32_LT_S,
  I32_LT_U,
  I32_NE,
  I32_SHL,
  I32_SUB,
  I32_WRAP,
  I64_ADD,
  I64_EQZ,
  I64_LT_U,
  I64_SHR_U,
  I64_SUB,
  i32c,
  i64c,
  mem,
  op,
  set,
  tee,
} from "./emit";
import { entryCount } from "./graph";
import { branchExit, branchIf, close, LABEL_CENTRE, leaveBehind, openIf } from "./labels";
import { L_COUNT, L_EA, L_HOST, L_LIMIT, L_PC, L_STATE, L_V } from "./locals";
import { storeHost } from "./operand";
import { firstRip, span } from "./plan";
import { moveStack, probePush } from "./stack";

/** Entry numbers of branch targets, by their distance from the first block. */
let targets: u32 = 0;

export function setTargets(table: u32): void {
  targets = table;
}

export function exitTo(rip: u64, why: u32): void {
  constR(rip);
  set(L_PC);
  leave(why);
}

/** L_PC holds the RIP; everything begun has completed. */
export function leave(why: u32): void {
  leaveBehind(0, why);
}

/** Pushes 1 while another pass fits the budget. */
export function budgetLeft(): void {
  get(L_COUNT);
  get(L_LIMIT);
  op(I32_LT_S);
}

/** With one entry nothing leads to the central node: where a branch goes back to it the region is left. */
export function central(): bool {
  return entryCount > 1;
}

/** The target is in L_V: to the central node when it is an entry, else out; inside: it may be one. */
export function followIndirect(inside: bool, why: u32): void {
  if (inside && central()) findTarget();
  get(L_V);
  set(L_PC);
  leave(why);
}

function findTarget(): void {
  get(L_V);
  constR(firstRip);
  op(wide ? I64_SUB : I32_SUB);
  tee(L_EA);
  constR(u64(span) + 1);
  op(wide ? I64_LT_U : I32_LT_U);
  openIf();
  get(L_EA);
  if (wide) op(I32_WRAP);
  i32c(1);
  op(I32_SHL);
  mem(I32_LOAD16_U, targets);
  tee(L_STATE);
  i32c(0);
  op(I32_NE);
  budgetLeft();
  op(I32_AND);
  branchIf(LABEL_CENTRE);
  close();
}

/** A branch to a non-canonical address, or past the end of CS, faults on the branch itself: the interpreter does it. */
export function checkTarget(size: u32): void {
  if (!wide) {
    if (codeEnd >= (1 as u64) << (size << 3)) return;
    place();
    get(L_V);
    i32c(i32(codeEnd));
    op(I32_GE_U);
    branchExit();
    return;
  }
  get(L_V);
  i64c(0x800000000000);
  op(I64_ADD);
  i64c(48);
  op(I64_SHR_U);
  op(I64_EQZ);
  op(I32_EQZ);
  branchExit();
}

export function pushReturn(rip: u64, size: u32): void {
  probePush(size, size);
  get(L_HOST);
  constR(rip);
  storeHost(size);
  moveStack(-i32(size));
}
