// Guest-physical to physical through the EPT structures that TR_EPTP names.
//
// EPT entry (SDM tables 28-1 to 28-6)
//   0 R  1 W  2 X  5:3 memory type (leaf)  6 ignore PAT  7 leaf (PDPTE, PDE)  8 A  9 D  N-1:12 address  51:N reserved
import { TR_EPTP, XR_LINEAR, XR_PHYSICAL } from "../abi/state";
import { PHYSICAL_WIDTH } from "../abi/width";
import { recordExit } from "../state/exitRecord";
import { notePageTable } from "./frames";
import { physToHost } from "./physical";

// access
export const EPT_READ: u32 = 1;
export const EPT_WRITE: u32 = 2;
export const EPT_FETCH: u32 = 4;

// use: bits 7 and 8 are those of the exit qualification
/** A linear address belongs to the access (not so for the PDPTEs that MOV to CR loads). */
export const EPT_LINEAR: u32 = 0x80;
/** The access is to the translation of the linear address, not to a guest paging-structure entry. */
export const EPT_FINAL: u32 = 0x100;
/** Look only: a failure leaves no exit record. */
export const EPT_QUIET: u32 = 0x10000;

const REASON_VIOLATION: u32 = 48;
const REASON_MISCONFIGURATION: u32 = 49;

/** Guest-physical addresses are 48 bits wide with 4-level EPT. */
const GPA_WIDTH: u64 = 48;
const RWX: u64 = 7;
const LEAF: u64 = 0x80;
const ADDRESS: u64 = (((<u64>1) << PHYSICAL_WIDTH) - 1) & ~(<u64>0xfff);
const HIGH_RESERVED: u64 = (((<u64>1) << 52) - 1) & ~(((<u64>1) << PHYSICAL_WIDTH) - 1);
const ACCESSED_DIRTY: u64 = 0x40; // EPTP
/** Memory types 2, 3 and 7 do not exist. */
const BAD_TYPES: u32 = 0x8c;

/** Size of the page that the last successful eptWalk found: 12, 21 or 30. */
export let eptPageShift: u32 = 12;

/** Access rights that reading a guest paging-structure entry needs: a write too when EPT keeps accessed and dirty flags. */
export function eptTableAccess(): u32 {
  return load<u64>(TR_EPTP) & ACCESSED_DIRTY ? EPT_READ | EPT_WRITE : EPT_READ;
}

/** Is a present entry malformed? level 3 = PML4E ... 0 = PTE. @sdm 3C "EPT Misconfigurations" */
function misconfigured(entry: u64, level: u32): bool {
  const rights = <u32>(entry & RWX);
  if (rights == 2 || rights == 6) return true; // writable but not readable
  if (entry & HIGH_RESERVED) return true;
  const leaf = level == 0 || (level < 3 && (entry & LEAF) != 0);
  if (!leaf) return (entry & (level == 3 ? <u64>0xf8 : <u64>0x78)) != 0;
  if ((BAD_TYPES >> <u32>((entry >> 3) & 7)) & 1) return true;
  return level != 0 && (entry & ADDRESS & (((<u64>1) << (12 + 9 * level)) - 1)) != 0;
}

function fail(reason: u32, gpa: u64, qualification: u64, use: u32, linear: u64): u64 {
  if (use & EPT_QUIET) return 0;
  recordExit(reason, qualification, 0);
  store<u64>(XR_PHYSICAL, gpa);
  if (use & EPT_LINEAR) store<u64>(XR_LINEAR, linear);
  return 0;
}

/**
 * Translates a guest-physical address. Success: physical address of its 4 KiB page | EPT_READ/WRITE/FETCH rights of the
 * whole walk (never 0), eptPageShift says how large the mapping is. Failure: 0 with the exit recorded (reason 48 or 49).
 * @sdm 3C "EPT Translation Mechanism", "EPT-Induced VM Exits", table "Exit Qualification for EPT Violations"
 */
export function eptWalk(gpa: u64, access: u32, use: u32, linear: u64): u64 {
  const why = <u64>(access | (use & EPT_LINEAR ? use & (EPT_LINEAR | EPT_FINAL) : 0));
  if (gpa >> GPA_WIDTH) return fail(REASON_VIOLATION, gpa, why, use, linear);
  let table = load<u64>(TR_EPTP) & ADDRESS;
  let rights: u64 = RWX;
  let level: u32 = 3;
  while (true) {
    const shift = 12 + 9 * level;
    const host = physToHost(table);
    // a table where there is no memory reads as all ones
    const entry = host ? load<u64>(host + (<u32>(gpa >> shift) & 511) * 8) : ~(<u64>0);
    if (!(entry & RWX)) return fail(REASON_VIOLATION, gpa, why, use, linear);
    if (misconfigured(entry, level)) return fail(REASON_MISCONFIGURATION, gpa, 0, use, linear);
    notePageTable(host);
    rights &= entry;
    if (level == 0 || (entry & LEAF && level < 3)) {
      if ((<u64>access & ~rights) != 0) return fail(REASON_VIOLATION, gpa, why | (rights << 3), use, linear);
      // accessed and dirty flags: not advertised (IA32_VMX_EPT_VPID_CAP bit 21); they are set here when they are
      eptPageShift = shift;
      const inside = ((<u64>1) << shift) - 1;
      return (entry & ADDRESS & ~inside) | (gpa & inside & ~(<u64>0xfff)) | rights;
    }
    table = entry & ADDRESS;
    level--;
  }
}
