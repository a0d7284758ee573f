// Page walks: linear -> guest-physical -> (EPT) -> physical, with permissions for the privilege that asks.
// @sdm 3A "Paging"
import { CR3, PDPTE, TR_EPTP, TR_MODE, TransBit } from "../abi/state";
import { PHYSICAL_WIDTH } from "../abi/width";
import { raisePageFault } from "../state/stop";
import { apicPage, apicTableAccess } from "./apicPage";
import { EPT_FINAL, EPT_LINEAR, EPT_QUIET, EPT_USER, eptTableAccess, eptWalk, keepsFlags } from "./ept";
import { noteDirty, notePageTable, TABLE_DIRECTORY, TABLE_LEAF } from "./frames";
import { Physical } from "./physical";

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

/** Error code of the page fault that the last walk ended in, NO_FAULT: none. */
export let refusal: u32 = 0xffffffff;
export const NO_FAULT: u32 = 0xffffffff;

// entries visited, root first: {u64 guest-physical address, u32 address in linear memory, u32 -}
const path: usize = memory.data(64, 8);
const PATH_HOST: usize = 8;
const PATH_ENTRY: u32 = 16;
let levels: u32 = 0;
/** An entry where there is no memory reads as all ones. */
const hole: usize = memory.data<u64>([0xffffffffffffffff]);
let ignoresAc: bool = false; // an implicit supervisor access: RFLAGS.AC does not lift SMAP
let silent: bool = false; // no side effects: no A/D bits, no fault record
let settled: u32 = 0; // not 0: silent, but notes tables; fails where an access would set an A/D bit, 2: sets it

function quietBit(): u32 {
  return silent ? EPT_QUIET : 0;
}

/** Physical address of a paging-structure entry; all ones when EPT stopped the walk. */
function throughEpt(gpa: u64, linear: u64): u64 {
  const r = eptWalk(gpa, eptTableAccess(), EPT_LINEAR | quietBit(), linear);
  if (!r) return ~(0 as u64);
  if (apicPage(r & PHYSICAL_MASK)) {
    if (!silent) apicTableAccess();
    return ~(0 as u64);
  }
  return (r & PHYSICAL_MASK) | (gpa & 0xfff);
}

/** Where the next entry of the walk is; its frame is a table of this kind. 0: EPT stopped the walk. */
function entryAt(gpa: u64, linear: u64, kind: u64): u32 {
  const pa = load<u64>(TR_EPTP) ? throughEpt(gpa, linear) : gpa;
  if (pa == ~(0 as u64)) return 0;
  let host = Physical.host(pa);
  if (!host) host = u32(hole);
  else if (!silent || settled) notePageTable(host, kind);
  const at = path + levels * PATH_ENTRY;
  store<u64>(at, gpa);
  store<u32>(at, host, PATH_HOST);
  levels++;
  return host;
}

function fault(linear: u64, access: u32, user: bool, present: bool, reserved: bool): bool {
  const mode = load<u32>(TR_MODE);
  let error: u32 = u32(present);
  if (access == WRITE) error |= 2;
  if (user) error |= 4;
  if (reserved) error |= 8;
  if (access == EXECUTE && mode & (TransBit.Nx | TransBit.Smep)) error |= 16;
  refusal = error;
  if (!silent) raisePageFault(linear, error);
  return false;
}

/** Sets A on every visited entry and D on the leaf. False: EPT denied the write, or nothing may be set. */
function setAccessed(dirty: bool, linear: u64): bool {
  for (let i: u32 = 0; i < levels; i++) {
    const at = path + i * PATH_ENTRY;
    const host = load<u32>(at, PATH_HOST);
    const value = u32(load<u8>(host));
    const bits: u32 = u32(dirty && i == levels - 1 ? A | D : A) & ~value;
    if (!bits) continue;
    if (settled == 1) return false;
    if (load<u64>(TR_EPTP) != 0 && eptWalk(load<u64>(at), READ | WRITE, EPT_LINEAR | quietBit(), linear) == 0)
      return false;
    // an accessed or dirty bit changes no cached translation
    store<u8>(host, value | bits);
    noteDirty(host);
  }
  return true;
}

/** Leaf reached: permissions, A/D bits, then EPT for the page itself. */
function finish(linear: u64, access: u32, user: bool, gpa: u64, rights: u64, noExecute: bool, leaf: u64): bool {
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
    if (!kept && !setAccessed(access == WRITE, linear)) return false;
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

function walk32(linear: u64, access: u32, user: bool): bool {
  const mode = load<u32>(TR_MODE);
  const va = u32(linear);
  const pdeGpa = (load<u64>(CR3) & 0xfffff000) | u64((va >>> 22) << 2);
  let at = entryAt(pdeGpa, linear, load<u64>(TR_EPTP) ? 4 : TABLE_DIRECTORY | 4);
  if (!at) return false;
  const pde = u64(load<u32>(at));
  if (!(pde & P)) return fault(linear, access, user, false, false);
  if (pde & PS && mode & TransBit.Pse) {
    if (pde & 0x200000) return fault(linear, access, user, true, true);
    // PSE-36: bits 20:13 are physical bits 39:32
    const gpa = (pde & 0xffc00000) | (((pde >> 13) & 0xff) << 32) | u64(va & 0x3ff000);
    return finish(linear, access, user, gpa, pde, false, pde);
  }
  const pteGpa = (pde & 0xfffff000) | u64(((va >>> 12) & 0x3ff) << 2);
  at = entryAt(pteGpa, linear, u64(va & 0xffc00000) | TABLE_LEAF | 4);
  if (!at) return false;
  const pte = u64(load<u32>(at));
  if (!(pte & P)) return fault(linear, access, user, false, false);
  return finish(linear, access, user, pte & 0xfffff000, pde & pte, false, pte);
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
    let kind: u64 = 8;
    if (level == 0) kind |= (linear & ~(0x1fffff as u64)) | TABLE_LEAF;
    // the addresses in one under EPT are no physical ones
    else if (level == 1 && !load<u64>(TR_EPTP)) kind |= (linear & ~(0x3fffffff as u64)) | TABLE_DIRECTORY;
    const at = entryAt(gpa, linear, kind);
    if (!at) return false;
    const e = load<u64>(at);
    if (!(e & P)) return fault(linear, access, user, false, false);
    if (e & reserved) return fault(linear, access, user, true, true);
    rights &= e;
    if (e & XD) noExecute = true;
    if (level == 0) return finish(linear, access, user, e & PHYSICAL_MASK, rights, noExecute, e);
    if (e & PS) {
      if (level == 3) return fault(linear, access, user, true, true);
      const inside = ((1 as u64) << shift) - 1;
      // address bits below the page size are reserved, but for PAT (bit 12)
      if (e & PHYSICAL_MASK & inside & ~(0x1000 as u64)) return fault(linear, access, user, true, true);
      const page = (e & PHYSICAL_MASK & ~inside) | (linear & inside & PHYSICAL_MASK);
      return finish(linear, access, user, page, rights, noExecute, e);
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
  refusal = NO_FAULT;
  const mode = load<u32>(TR_MODE);
  if (!(mode & TransBit.Paging)) return translated(linear, access, READ | WRITE | EXECUTE, linear, true);
  return mode & TransBit.Pae ? walkWide(linear, access, user) : walk32(linear, access, user);
}

/**
 * A walk for an access that would not fault; it notes the tables it used. False: it would, or it would set an accessed or
 * dirty bit and is not `marking`, that is, the access follows for certain.
 */
export function walkSettled(linear: u64, access: u32, user: bool, marking: bool): bool {
  refusal = NO_FAULT;
  if (load<u64>(TR_EPTP) && keepsFlags()) return false;
  settled = 1 + u32(marking);
  const done = walk(linear, access, user, false, true);
  settled = 0;
  return done;
}
