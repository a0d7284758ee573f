// What generated code could not have entered into the TLB last (fillSettled() in access.ts). The interpreter comes to it next, and
// need not walk again for a fault while no table has changed.
import { contextChanges } from "./context";
import { tableStores } from "./pageTables";
import { refusal } from "./walk";

/** Page and context. */
export let refusedPage: u64 = ~(0 as u64);
/** Error code of its page fault; NO_FAULT: it was something else. */
export let refusedError: u32 = 0;
let refusedTable: u32 = 0;
let refusedAccess: u32 = 0;
let when: u64 = 0;

/** Both rise, and never fall. */
function now(): u64 {
  return contextChanges + tableStores;
}

/** Is this access, on that page, still refused? */
export function refused(table: u32, access: u32): bool {
  return ((table ^ refusedTable) | (access ^ refusedAccess)) == 0 && when == now();
}

/** The last walk was for this access. */
export function noteRefused(page: u64, table: u32, access: u32): void {
  refusedPage = page;
  refusedTable = table;
  refusedAccess = access;
  refusedError = refusal;
  when = now();
}
