// Page walks: linear -> guest-physical -> (EPT) -> physical, with permissions for the privilege that asks.
// @sdm 3A "Paging"
import { CR3, PDPTE, TR_EPTP, TR_MODE, TransBit } from "../abi/state";
import { PHYSICAL_WIDTH } from "../abi/width";
import { raisePageFault } from "../state/stop";
import { apicPage, apicTableAccess } from "./apicPage";
import { EPT_FINAL, EPT_LINEAR, EPT_QUIET, EPT_USER, eptTableAccess, eptWalk, keepsFlags } from "./ept";
import { noteDirty, notePageTable, TABLE_LEAF } from "./frames";
import { physRead32, physRead64, physToHost } from "./physical";

export const READ: u32 = 1;
export const WRITE: u32 = 2;
export const EXECUTE: u32 = 4;

// page-table entry bits
const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const XD: u64 = 0x8000000000000000;

const PHYSICAL_MASK: u64 = 0xffffffffff000; // bits 51:12
const RESERVED_HIGH: u64 = PHYSICAL_MASK & ~(((1 as u64) << PHYSICAL_WIDTH) - 1);

/** What the last successful walk found. */
export let walkPhys: u64 = 0; // physical address of the page's 4 KiB part
export let walkPerm: u32 = 0; // READ | WRITE | EXECUTE that a TLB entry may grant without another walk

// entries visited, for the accessed bits: physical addresses, root first
let e0: u64 = 0;
let e1: u64 = 0;
let e2: u64 = 0;
let e3: u64 = 0;
let levels: u32 = 0;
let ignoresAc: bool = false; // an implicit supervisor access: RFLAGS.AC does not lift SMAP
let silent: bool = false; // no side effects: no A/D bits, no fault record
let settled: u32 = 0; // not 0: silent, but notes tables; fails where an access would set an A/D bit, 2: sets it

function quietBit(): u32 {
  return silent ? EPT_QUIET : 0;
}

function visit(pa: u64): void {
  if (levels == 0) e0 = pa;
  else if (levels == 1) e1 = pa;
  else if (levels == 2) e2 = pa;
  else e3 = pa;
  levels++;
}

function visited(i: u32): u64 {
  return i == 0 ? e0 : i == 1 ? e1 : i == 2 ? e2 : e3;
}

/** Physical address of a paging-structure entry; all ones when EPT stopped the walk. */
function structure(gpa: u64, linear: u64): u64 {
  if (load<u64>(TR_EPTP) == 0) return gpa;
  const r = eptWalk(gpa, eptTableAccess(), EPT_LINEAR | quietBit(), linear);
  if (!r) return ~(0 as u64);
  if (apicPage(r & PHYSICAL_MASK)) {
    if (!silent) apicTableAccess();
    return ~(0 as u64);
  }
  return (r & PHYSICAL_MASK) | (gpa & 0xfff);
}

function fault(linear: u64, access: u32, user: bool, present: bool, reserved: bool): bool {
  if (silent) return false;
  const mode = load<u32>(TR_MODE);
  let error: u32 = u32(present);
  if (access == WRITE) error |= 2;
  if (user) error |= 4;
  if (reserved) error |= 8;
  if (access == EXECUTE && mode & (TransBit.Nx | TransBit.Smep)) error |= 16;
  raisePageFault(linear, error);
  return false;
}

/** Sets A on every visited entry and D on the leaf. False: EPT denied the write, or nothing may be set. */
function setAccessed(wide: bool, dirty: bool, linear: u64): bool {
  for (let i: u32 = 0; i < levels; i++) {
    const gpa = visited(i);
    const bits: u64 = dirty && i == levels - 1 ? A | D : A;
    const pa = structure(gpa, linear);
    const value = wide ? physRead64(pa) : u64(physRead32(pa));
    if ((value & bits) == bits) continue;
    if (settled == 1) return false;
    if (load<u64>(TR_EPTP) != 0 && eptWalk(gpa, READ | WRITE, EPT_LINEAR | quietBit(), linear) == 0) return false;
    const host = physToHost(pa);
    if (!host) continue;
    // an accessed or dirty bit changes no cached translation
    store<u8>(host, load<u8>(host) | u8(bits));
    noteDirty(host);
  }
  return true;
}

/** Leaf reached: permissions, A/D bits, then EPT for the page itself. */
function finish(
  linear: u64,
  access: u32,
  user: bool,
  gpa: u64,
  rights: u64,
  noExecute: bool,
  leaf: u64,
  wide: bool,
): bool {
  const mode = load<u32>(TR_MODE);
  let perm: u32 = READ;
  const userPage = (rights & US) != 0;
  if (user) {
    if (!userPage) perm = 0;
    else {
      if (rights & RW) perm |= WRITE;
      if (!noExecute) perm |= EXECUTE;
    }
  } else {
    if (rights & RW || !(mode & TransBit.Wp)) perm |= WRITE;
    if (!noExecute) perm |= EXECUTE;
    if (userPage) {
      if (mode & TransBit.Smep) perm &= ~EXECUTE;
      if (mode & TransBit.Smap && (ignoresAc || !(mode & TransBit.Ac))) perm &= EXECUTE;
    }
  }
  if ((perm & access) != access) return fault(linear, access, user, true, false);
  if (!silent || settled) {
    // `rights` are the bits that all entries have
    const kept = (rights & A) != 0 && (access != WRITE || (leaf & D) != 0);
    if (!kept && !setAccessed(wide, access == WRITE, linear)) return false;
    // a page that is not dirty yet must be walked again on the first write
    if (access != WRITE && !(leaf & D)) perm &= ~WRITE;
  }
  return translated(gpa, access, perm, linear, userPage);
}

/** The final guest-physical address, through EPT when it is on. */
function translated(gpa: u64, access: u32, perm: u32, linear: u64, userPage: bool): bool {
  if (load<u64>(TR_EPTP) != 0) {
    gpa = (gpa & PHYSICAL_MASK) | (linear & 0xfff); // an exit reports the byte
    const use = EPT_LINEAR | EPT_FINAL | quietBit() | (userPage ? EPT_USER : 0);
    const r = eptWalk(gpa, access, use, linear);
    if (r == 0) return false;
    perm &= u32(r) & 7;
    gpa = r & PHYSICAL_MASK;
  }
  walkPhys = gpa & PHYSICAL_MASK;
  walkPerm = perm;
  return true;
}

function mark(pa: u64, kind: u64): void {
  if (silent && !settled) return;
  const host = physToHost(pa);
  if (host) notePageTable(host, kind);
}

function walk32(linear: u64, access: u32, user: bool): bool {
  const mode = load<u32>(TR_MODE);
  const va = u32(linear);
  const pdeGpa = (load<u64>(CR3) & 0xfffff000) | u64((va >>> 22) << 2);
  let pa = structure(pdeGpa, linear);
  if (pa == ~(0 as u64)) return false;
  mark(pa, 4);
  const pde = u64(physRead32(pa));
  if (!(pde & P)) return fault(linear, access, user, false, false);
  visit(pdeGpa);
  if (pde & PS && mode & TransBit.Pse) {
    if (pde & 0x200000) return fault(linear, access, user, true, true);
    // PSE-36: bits 20:13 are physical bits 39:32
    const gpa = (pde & 0xffc00000) | (((pde >> 13) & 0xff) << 32) | u64(va & 0x3ff000);
    return finish(linear, access, user, gpa, pde, false, pde, false);
  }
  const pteGpa = (pde & 0xfffff000) | u64(((va >>> 12) & 0x3ff) << 2);
  pa = structure(pteGpa, linear);
  if (pa == ~(0 as u64)) return false;
  mark(pa, u64(va & 0xffc00000) | TABLE_LEAF | 4);
  const pte = u64(physRead32(pa));
  if (!(pte & P)) return fault(linear, access, user, false, false);
  visit(pteGpa);
  return finish(linear, access, user, pte & 0xfffff000, pde & pte, false, pte, false);
}

/** 4-level paging, and PAE paging from its PDPTE registers. */
function walkWide(linear: u64, access: u32, user: bool): bool {
  const mode = load<u32>(TR_MODE);
  const long = (mode & TransBit.Long) != 0;
  let reserved: u64 = RESERVED_HIGH;
  if (!(mode & TransBit.Nx)) reserved |= XD;
  if (!long) reserved |= 0x7ff0000000000000;
  let table: u64;
  let level: u32;
  let rights: u64 = RW | US | A;
  let noExecute = false;
  if (long) {
    table = load<u64>(CR3) & PHYSICAL_MASK;
    level = 3;
  } else {
    const pdpte = load<u64>(PDPTE + ((u32(linear) >>> 30) << 3));
    if (!(pdpte & P)) return fault(linear, access, user, false, false);
    table = pdpte & PHYSICAL_MASK;
    level = 1;
  }
  for (;;) {
    const shift = u64(12 + level * 9);
    const gpa = table | (((linear >> shift) & 0x1ff) << 3);
    const pa = structure(gpa, linear);
    if (pa == ~(0 as u64)) return false;
    mark(pa, level ? 8 : (linear & ~(0x1fffff as u64)) | TABLE_LEAF | 8);
    const e = physRead64(pa);
    if (!(e & P)) return fault(linear, access, user, false, false);
    if (e & reserved) return fault(linear, access, user, true, true);
    visit(gpa);
    rights &= e;
    if (e & XD) noExecute = true;
    if (level == 0) return finish(linear, access, user, e & PHYSICAL_MASK, rights, noExecute, e, true);
    if (e & PS) {
      if (level == 3) return fault(linear, access, user, true, true);
      const inside = ((1 as u64) << shift) - 1;
      // address bits below the page size are reserved, but for PAT (bit 12)
      if (e & PHYSICAL_MASK & inside & ~(0x1000 as u64)) return fault(linear, access, user, true, true);
      const page = (e & PHYSICAL_MASK & ~inside) | (linear & inside & PHYSICAL_MASK);
      return finish(linear, access, user, page, rights, noExecute, e, true);
    }
    table = e & PHYSICAL_MASK;
    level--;
  }
  return unreachable();
}

/**
 * Translates one linear address for one kind of access. True: walkPhys and walkPerm are set.
 * False: the stop word holds #PF or an EPT exit (nothing when `quiet`, which also leaves A/D bits alone).
 */
export function walk(linear: u64, access: u32, user: bool, implicit: bool, quiet: bool): bool {
  ignoresAc = implicit;
  silent = quiet;
  levels = 0;
  const mode = load<u32>(TR_MODE);
  if (!(mode & TransBit.Paging)) return translated(linear, access, READ | WRITE | EXECUTE, linear, true);
  return mode & TransBit.Pae ? walkWide(linear, access, user) : walk32(linear, access, user);
}

/**
 * A walk for an access that would not fault; it notes the tables it used. False: it would, or it would set an accessed or
 * dirty bit and is not `marking`, that is, the access follows for certain.
 */
export function walkSettled(linear: u64, access: u32, user: bool, marking: bool): bool {
  if (load<u64>(TR_EPTP) && keepsFlags()) return false;
  settled = 1 + u32(marking);
  const done = walk(linear, access, user, false, true);
  settled = 0;
  return done;
}
