// Guest-physical to physical through the EPT structures that TR_EPTP names; accessed and dirty flags, page-modification
// log, mode-based execute control.
//
// EPT entry (SDM tables 28-1 to 28-6)
//   0 R  1 W  2 X (supervisor-mode addresses)  5:3 memory type (leaf)  6 ignore PAT  7 leaf (PDPTE, PDE)  8 A  9 D
//   10 X for user-mode addresses, with mode-based execute control  N-1:12 address  51:N reserved
import { SECONDARY_ENABLE_PML } from "../abi/controls";
import { TR_EPTP, VMCS_HOST, XR_LINEAR, XR_PHYSICAL } from "../abi/state";
import { V_PML_ADDRESS, V_PML_INDEX } from "../abi/vmcsLayout";
import { PHYSICAL_WIDTH } from "../abi/width";
import { recordExit } from "../state/exitRecord";
import { secondaryControl } from "../state/vmcs";
import { noteDirty, notePageTable, TABLE_EPT } from "./frames";
import { physToHost, physWrite64 } from "./physical";

// access
export const EPT_READ: u32 = 1;
export const EPT_WRITE: u32 = 2;
export const EPT_FETCH: u32 = 4;

// use: bits 7 and 8 are those of the exit qualification
/** A linear address belongs to the access (not so for the PDPTEs that MOV to CR loads). */
export const EPT_LINEAR: u32 = 0x80;
/** The access is to the translation of the linear address, not to a guest paging-structure entry. */
export const EPT_FINAL: u32 = 0x100;
/** Look only: a failure leaves no exit record, and no flag is set. */
export const EPT_QUIET: u32 = 0x10000;
/** Paging maps the linear address as a user-mode one, or paging is off. */
export const EPT_USER: u32 = 0x20000;

const REASON_VIOLATION: u32 = 48;
const REASON_MISCONFIGURATION: u32 = 49;
const REASON_PML_FULL: u32 = 62;

/** Guest-physical addresses are 48 bits wide with 4-level EPT. */
const GPA_WIDTH: u64 = 48;
const RWX: u64 = 7;
const USER_X: u64 = 0x400;
const LEAF: u64 = 0x80;
const A: u64 = 0x100;
const D: u64 = 0x200;
const ADDRESS: u64 = (((<u64>1) << PHYSICAL_WIDTH) - 1) & ~(<u64>0xfff);
const HIGH_RESERVED: u64 = (((<u64>1) << 52) - 1) & ~(((<u64>1) << PHYSICAL_WIDTH) - 1);
// TR_EPTP
const ACCESSED_DIRTY: u64 = 0x40;
/** Not in an EPT pointer: mode-based execute control is on. */
export const EPT_SPLIT_EXECUTE: u64 = 0x80;
/** Memory types 2, 3 and 7 do not exist. */
const BAD_TYPES: u32 = 0x8c;
const PML_ENTRIES: u32 = 512;

/** Size of the page that the last successful eptWalk found: 12, 21 or 30. */
export let eptPageShift: u32 = 12;

/** Places in linear memory of the entries of a walk, by level. */
const entries: usize = memory.data(16);

export function keepsFlags(): bool {
  return (load<u64>(TR_EPTP) & ACCESSED_DIRTY) != 0;
}

/** Access rights that reading a guest paging-structure entry needs: a write too when EPT keeps accessed and dirty flags. */
export function eptTableAccess(): u32 {
  return keepsFlags() ? EPT_READ | EPT_WRITE : EPT_READ;
}

/** Is a present entry malformed? level 3 = PML4E ... 0 = PTE. @sdm 3C "EPT Misconfigurations" */
function misconfigured(entry: u64, level: u32): bool {
  if ((entry & 3) == 2) return true; // writable but not readable
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
 * Sets the flags that a walk down to `level` needs. False: the page-modification log is full, nothing is set.
 * @sdm 3C "Accessed and Dirty Flags for EPT", "Page-Modification Logging"
 */
function setFlags(gpa: u64, level: u32, dirty: bool): bool {
  let missing: u64 = dirty ? D & ~load<u64>(load<u32>(entries + level * 4)) : 0;
  for (let i = level; i < 4; i++) missing |= A & ~load<u64>(load<u32>(entries + i * 4));
  if (!missing) return true;
  const logs = secondaryControl(SECONDARY_ENABLE_PML);
  const vmcs = load<u32>(VMCS_HOST);
  const index = <u32>load<u16>(vmcs, V_PML_INDEX);
  if (logs && index >= PML_ENTRIES) return false;
  // an accessed or dirty flag changes no cached translation
  for (let i = level; i < 4; i++) {
    const at = load<u32>(entries + i * 4);
    store<u64>(at, load<u64>(at) | A);
    noteDirty(at);
  }
  if (!(missing & D)) return true;
  const leaf = load<u32>(entries + level * 4);
  store<u64>(leaf, load<u64>(leaf) | D);
  noteDirty(leaf);
  if (logs) {
    physWrite64((load<u64>(vmcs, V_PML_ADDRESS) & ADDRESS) + 8 * <u64>index, gpa & ~(<u64>0xfff));
    store<u16>(vmcs, <u16>(index - 1), V_PML_INDEX);
  }
  return true;
}

/**
 * Translates a guest-physical address. Success: physical address of its 4 KiB page | EPT_READ/WRITE/FETCH rights (never 0)
 * that later accesses of this kind may have without another walk; eptPageShift says how large the mapping is. Failure: 0
 * with the exit recorded (reason 48, 49 or 62).
 * @sdm 3C "EPT Translation Mechanism", "EPT-Induced VM Exits", table "Exit Qualification for EPT Violations"
 */
export function eptWalk(gpa: u64, access: u32, use: u32, linear: u64): u64 {
  const why = <u64>(access | (use & EPT_LINEAR ? use & (EPT_LINEAR | EPT_FINAL) : 0));
  if (gpa >> GPA_WIDTH) return fail(REASON_VIOLATION, gpa, why, use, linear);
  const split = (load<u64>(TR_EPTP) & EPT_SPLIT_EXECUTE) != 0;
  const present = split ? RWX | USER_X : RWX;
  let table = load<u64>(TR_EPTP) & ADDRESS;
  let rights = present;
  let level: u32 = 3;
  while (true) {
    const shift = 12 + 9 * level;
    const page = physToHost(table);
    const host = page + (<u32>(gpa >> shift) & 511) * 8;
    // a table where there is no memory reads as all ones
    const entry = page ? load<u64>(host) : ~(<u64>0);
    if (!(entry & present)) return fail(REASON_VIOLATION, gpa, why, use, linear);
    if (misconfigured(entry, level)) return fail(REASON_MISCONFIGURATION, gpa, 0, use, linear);
    notePageTable(host, TABLE_EPT | 8);
    store<u32>(entries + level * 4, host);
    rights &= entry;
    if (level == 0 || (entry & LEAF && level < 3)) {
      const executable = split && use & EPT_USER ? rights >> 10 : rights >> 2;
      let allowed = (rights & 3) | ((executable & 1) << 2);
      if ((<u64>access & ~allowed) != 0) {
        const user = (rights & USER_X) >> 4;
        return fail(REASON_VIOLATION, gpa, why | ((rights & RWX) << 3) | user, use, linear);
      }
      if (keepsFlags() && !(use & EPT_QUIET)) {
        if (!setFlags(gpa, level, (access & EPT_WRITE) != 0)) return fail(REASON_PML_FULL, 0, 0, use & EPT_QUIET, 0);
        // a page that is not dirty yet must be walked again on the first write
        if (!(load<u64>(host) & D)) allowed &= ~(<u64>EPT_WRITE);
      }
      eptPageShift = shift;
      const inside = ((<u64>1) << shift) - 1;
      return (entry & ADDRESS & ~inside) | (gpa & inside & ~(<u64>0xfff)) | allowed;
    }
    table = entry & ADDRESS;
    level--;
  }
}
