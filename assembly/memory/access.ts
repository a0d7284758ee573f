// Linear and segmented accesses: the TLB hit path inline, everything else in the slow path below it.
//
// A read that faults returns 0, a write probe that faults returns 0; the stop word then holds the event or exit and
// the caller tests aborted(). probe* return the address in linear memory to store to (or to read-modify-write at).
import { FILL_BESIDE, FILL_CERTAIN, FILL_STORE, FILL_WRITE } from "../abi/generator";
import {
  PAGE_NO_WRITE_ENTRY,
  PageFlag,
  STATIC_DATA,
  TE_ADDEND,
  TE_EXEC,
  TE_READ,
  TE_WRITABLE,
  TE_WRITE,
  TLB_TABLE,
} from "../abi/layout";
import { COMM_DATA } from "../abi/run";
import {
  CPL,
  DEBUG_WATCH,
  LINEAR_MASK,
  MODE,
  ModeBit,
  SEG_SS,
  SEGS,
  SG_ATTR,
  SG_EFFECTIVE,
  SG_LIMIT,
  SG_READ_END,
  SG_WRITE_END,
  STOP,
  StopBit,
  TAG_REAL,
  TR_TABLE,
  TR_TAG,
  TR_TAG_IMPLICIT,
  WatchBit,
} from "../abi/state";
import { aborted, raiseError, raisePageFault } from "../state/stop";
import { apicFetch, apicModify, apicModifyExits, apicPage, apicRead, apicWrite, virtualApicAddress } from "./apicPage";
import { tlbMask, tlbTable } from "./context";
import { emulatedAddress, pieceBytes } from "./emulate";
import { hitsCode, noteWriteEntry, pageFlags, pageTableCount } from "./frames";
import { dropMapped } from "./pageTables";
import { physToHost } from "./physical";
import { noteRefused, refused, refusedError, refusedPage } from "./refused";
import { deviceRead, stage, stageHooked, stageRead } from "./staging";
import {
  afterRead,
  beforeRead,
  beforeWrite,
  codeTraps,
  dataTrapped,
  dataTraps,
  noteWriteAt,
  unmarked,
  worksOnCopy,
} from "./traps";
import { EXECUTE, NO_FAULT, READ, WRITE, walk, walkPerm, walkPhys, walkSettled } from "./walk";
import { noteAccess, pageWatched } from "./watch";

/** Place of a translated byte that is not plain RAM: lastPhys holds its physical address. */
const DEVICE: u32 = 1;
/** Place of a byte on the APIC-access page that apicRead() or apicWrite() is to allow. */
const APIC: u32 = 2;
let lastPhys: u64 = 0;
const buffer: usize = memory.data(64);

/** Addresses of system structures have 64 bits in compatibility mode too. */
function systemMask(): u64 {
  return load<u32>(MODE) & ModeBit.LongMode ? ~(0 as u64) : 0xffffffff;
}

/** Linear address of the part on the next page; an address above 4 GiB is not one of 32-bit code. */
function nextPart(linear: u64, bytes: u32): u64 {
  const next = linear + bytes;
  return linear >> 32 ? next : next & load<u64>(LINEAR_MASK);
}

function tlbEntry(table: u32, linear: u64): u32 {
  return table + ((u32(linear >> 12) & tlbMask) << 5);
}

/** Enters what walk() found. A frame with flags gets no write entry; a place that is no RAM gets none at all. */
function fill(table: u32, tag: u64, linear: u64, host: u32): void {
  const e = tlbEntry(table, linear);
  const full = (linear >> 12) | tag;
  const addend = (host & ~0xfff) - (u32(linear) & ~0xfff);
  if (load<u32>(e, TE_ADDEND) != addend || (load<u64>(e, TE_READ) != full && load<u64>(e, TE_EXEC) != full)) {
    store<u64>(e, 0, TE_READ);
    store<u64>(e, 0, TE_WRITE);
    store<u64>(e, 0, TE_EXEC);
    store<u32>(e, addend, TE_ADDEND);
    store<u32>(e, 0, TE_WRITABLE);
  }
  if (walkPerm & EXECUTE && !(codeTraps && unmarked(linear, walkPhys, host))) store<u64>(e, full, TE_EXEC);
  if (load<u32>(DEBUG_WATCH) & WatchBit.Data && pageWatched(linear)) return;
  if (dataTraps && dataTrapped(linear, walkPhys)) return;
  if (walkPerm & READ) store<u64>(e, full, TE_READ);
  if (!(walkPerm & WRITE)) return;
  store<u32>(e, 1, TE_WRITABLE);
  if (pageFlags(host) & PAGE_NO_WRITE_ENTRY) return;
  store<u64>(e, full, TE_WRITE);
  noteWriteEntry(host, e);
}

/** Address of one linear byte; 0: faulted, DEVICE: no RAM there, APIC: see there. */
function translateAt(linear: u64, access: u32, table: u32, tag: u64): u32 {
  const e = tlbEntry(table, linear);
  const have =
    access == EXECUTE
      ? load<u64>(e, TE_EXEC)
      : access == READ || load<u32>(e, TE_WRITABLE)
        ? load<u64>(e, TE_READ)
        : (0 as u64);
  // traps want the physical address
  if (have == ((linear >> 12) | tag) && !(dataTraps | codeTraps)) return u32(linear) + load<u32>(e, TE_ADDEND);
  if (((linear >> 12) | tag) == refusedPage && refusedError != NO_FAULT && refused(table, access)) {
    raisePageFault(linear, refusedError);
    return 0;
  }
  if (!walk(linear, access, (table & TLB_TABLE) != 0, tag != load<u64>(TAG_REAL), false)) {
    const emulated = access == EXECUTE ? 0 : emulatedAddress();
    if (!emulated) return 0;
    lastPhys = emulated;
    return DEVICE;
  }
  if (apicPage(walkPhys)) {
    if (access != EXECUTE) return APIC;
    apicFetch(linear);
    return 0;
  }
  const pa = walkPhys | (linear & 0xfff);
  const host = physToHost(pa);
  lastPhys = pa;
  if (!host) return DEVICE;
  fill(table, tag, linear, host);
  return host;
}

function canonical(linear: u64): bool {
  return u64((i64(linear) << 16) >> 16) == linear;
}

/** Full segmentation check of an explicit access. @sdm 3A "Limit Checking" "Type Checking" */
function segmentOk(seg: u32, ea: u64, size: u32, write: bool): bool {
  const s = SEGS + seg;
  const vector: u32 = seg == SEG_SS ? 12 : 13;
  const mode = load<u32>(MODE);
  if (mode & ModeBit.Code64) {
    const linear = ea + load<u64>(s, SG_EFFECTIVE);
    if (canonical(linear) && canonical(linear + size - 1)) return true;
    raiseError(vector, 0);
    return false;
  }
  const attr = load<u32>(s, SG_ATTR);
  let ok = (attr & 0x10000) == 0;
  if (ok && mode & ModeBit.Protected) {
    if (attr & 8)
      ok = !write && (attr & 2) != 0; // code: never written, read if readable
    else ok = !write || (attr & 2) != 0;
  }
  if (ok) {
    const last = ea + size - 1;
    const limit = u64(load<u32>(s, SG_LIMIT));
    if ((attr & 0xc) == 4 && attr & 0x10) {
      const top: u64 = attr & 0x4000 ? 0xffffffff : 0xffff;
      ok = ea > limit && last <= top;
    } else ok = last <= limit || limit == 0xffffffff; // at 4 GiB addresses wrap, as on processors; the manual leaves it open
  }
  if (!ok) raiseError(vector, 0);
  return ok;
}

/** Linear address of a checked segment offset; ~0 cannot occur for a checked access. */
function toLinear(seg: u32, ea: u64): u64 {
  return (ea + load<u64>(SEGS + seg, SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
}

class Checks {
  /** Can segmentOk() be anything but true? */
  @inline static segment(ea: u64, size: u32, end: u64): bool {
    return (load<u32>(MODE) & ModeBit.Code64) != 0 || ea + size > end;
  }

  /** Must the access be aligned? */
  @inline static alignment(): bool {
    return load<u64>(TR_TAG) == ~(0 as u64);
  }
}

function aligned(linear: u64, size: u32): bool {
  if (!(u32(linear) & (size - 1)) || size > 8) return true;
  raiseError(17, 0);
  return false;
}

/** The place of a read from the APIC-access page; 0: a VM exit. */
function apicSource(linear: u64, size: u32): u32 {
  if (!apicRead(linear, size)) return 0;
  lastPhys = virtualApicAddress(linear);
  return max<u32>(physToHost(lastPhys), DEVICE);
}

/** The staged copy of a write to the APIC-access page; 0: a VM exit. */
function apicTarget(linear: u64, size: u32): u32 {
  if (!apicWrite(linear, size)) return 0;
  const pa = virtualApicAddress(linear);
  return stage(size, physToHost(pa), pa, size, 0, 0);
}

/** Where `size` bytes (at most 64) of a linear address can be read: in RAM, or copied into `buffer`; 0: faulted. */
function gather(linear: u64, size: u32, access: u32, table: u32, tag: u64): u32 {
  const len1 = min<u32>(size, 4096 - (u32(linear) & 0xfff));
  let h1 = translateAt(linear, access, table, tag);
  if (h1 > APIC && size <= len1 && !dataTraps) return h1;
  if (h1 == APIC) h1 = apicSource(linear, size);
  if (!h1) return 0;
  const p1 = lastPhys;
  let h2: u32 = 0;
  if (size > len1) {
    const next = nextPart(linear, len1);
    h2 = translateAt(next, access, table, tag);
    if (h2 == APIC) h2 = apicSource(next, size);
    if (!h2) return 0;
  }
  const p2 = lastPhys;
  if (dataTraps) {
    const replaced = beforeRead(linear, p1, len1, nextPart(linear, len1), p2, size);
    if (aborted()) return 0;
    if (replaced) {
      memory.copy(buffer, COMM_DATA, size);
      afterRead(buffer);
      return u32(buffer);
    }
  }
  part(buffer, h1, p1, len1);
  if (aborted()) return 0;
  if (h2) part(buffer + len1, h2, p2, size - len1);
  if (aborted()) return 0;
  if (dataTraps) afterRead(buffer);
  return u32(buffer);
}

function part(to: usize, host: u32, pa: u64, bytes: u32): void {
  if (host != DEVICE) {
    memory.copy(to, host, bytes);
    return;
  }
  while (bytes) {
    const n = pieceBytes(pa, bytes);
    const v = deviceRead(pa, n);
    if (aborted()) return;
    for (let i: u32 = 0; i < n; i++) store<u8>(to + i, u8(v >> u64(i << 3)));
    pa += n;
    to += n;
    bytes -= n;
  }
}

/** May stores to frames with code go round the write log where they miss the code? */
let besideCode: bool = true;

export function setBesideCode(on: bool): void {
  besideCode = on;
}

function probeAt(linear: u64, size: u32, table: u32, tag: u64): u32 {
  const len1 = min<u32>(size, 4096 - (u32(linear) & 0xfff));
  const h1 = translateAt(linear, WRITE, table, tag);
  if (!h1) return 0;
  if (h1 == APIC) return apicTarget(linear, size);
  const p1 = lastPhys;
  const next = nextPart(linear, len1);
  let h2: u32 = 0;
  if (size != len1) {
    h2 = translateAt(next, WRITE, table, tag);
    if (!h2) return 0;
  }
  if (h2 == APIC) return apicTarget(next, 8);
  const p2 = lastPhys;
  const ram1 = h1 == DEVICE ? 0 : h1;
  const ram2 = h2 == DEVICE ? 0 : h2;
  if (dataTraps) {
    const kinds = beforeWrite(linear, p1, len1, next, p2, size);
    if (aborted()) return 0;
    if (kinds) {
      noteWriteAt(ram1, ram2);
      if (worksOnCopy(kinds)) {
        const at = stage(size, ram1, p1, len1, ram2, p2);
        if (at) stageHooked(at, linear, kinds);
        return at;
      }
    }
  }
  if (size == len1 && ram1) {
    const flags = pageFlags(ram1) & PAGE_NO_WRITE_ENTRY;
    if (!flags || (besideCode && flags == PageFlag.Code && !hitsCode(ram1, size))) return ram1;
  }
  return stage(size, ram1, p1, len1, ram2, p2);
}

// --- explicit accesses ---

/** Reads a segment-relative operand with the current privilege. */
export function readMem<T>(seg: u32, ea: u64): T {
  if (ea + sizeof<T>() <= load<u64>(SEGS + seg, SG_READ_END)) {
    const linear = (ea + load<u64>(SEGS + seg, SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
    const e = tlbEntry(load<u32>(TR_TABLE), linear);
    if (
      load<u64>(e, TE_READ) == ((linear >> 12) | load<u64>(TR_TAG)) &&
      (u32(linear) & 0xfff) <= <u32>(4096 - sizeof<T>())
    ) {
      return load<T>(u32(linear) + load<u32>(e, TE_ADDEND));
    }
  }
  const at = readSlow(seg, ea, sizeof<T>());
  return at ? load<T>(at) : (0 as T);
}

function readSlow(seg: u32, ea: u64, size: u32): u32 {
  if (Checks.segment(ea, size, load<u64>(SEGS + seg, SG_READ_END)) && !segmentOk(seg, ea, size, false)) return 0;
  const linear = toLinear(seg, ea);
  if (Checks.alignment() && !aligned(linear, size)) return 0;
  const at = gather(linear, size, READ, load<u32>(TR_TABLE), load<u64>(TAG_REAL));
  if (at && load<u32>(DEBUG_WATCH) & WatchBit.Data) noteAccess(linear, size, false);
  return at;
}

/** Translates a write of `size` bytes (at most 64): the address to store to, 0 when it faults. */
export function probeWrite(seg: u32, ea: u64, size: u32): u32 {
  if (ea + size <= load<u64>(SEGS + seg, SG_WRITE_END)) {
    const linear = (ea + load<u64>(SEGS + seg, SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
    const e = tlbEntry(load<u32>(TR_TABLE), linear);
    if (load<u64>(e, TE_WRITE) == ((linear >> 12) | load<u64>(TR_TAG)) && (u32(linear) & 0xfff) <= 4096 - size) {
      return u32(linear) + load<u32>(e, TE_ADDEND);
    }
  }
  return probeSlow(seg, ea, size);
}

function probeSlow(seg: u32, ea: u64, size: u32): u32 {
  if (Checks.segment(ea, size, load<u64>(SEGS + seg, SG_WRITE_END)) && !segmentOk(seg, ea, size, true)) return 0;
  const linear = toLinear(seg, ea);
  if (Checks.alignment() && !aligned(linear, size)) return 0;
  const at = probeAt(linear, size, load<u32>(TR_TABLE), load<u64>(TAG_REAL));
  if (at && load<u32>(DEBUG_WATCH) & WatchBit.Data) noteAccess(linear, size, true);
  return at;
}

/** As probeWrite, for an instruction that reads the operand first: a device is asked for its contents. */
export function probeModify(seg: u32, ea: u64, size: u32): u32 {
  const at = probeWrite(seg, ea, size);
  if (at != 0 && at < <u32>STATIC_DATA) {
    if (!apicModify()) return 0;
    stageRead(at);
    if (aborted()) return 0;
  }
  if (!at && load<u32>(STOP) & StopBit.Exit) apicModifyExits(size);
  return at;
}

export class Plain {
  @inline static at(table: u32, tag: u64, linear: u64, bytes: u32, entry: u32): u32 {
    const e = tlbEntry(table, linear);
    const hit = load<u64>(e + entry) == ((linear >> 12) | tag) && (u32(linear) & 0xfff) + bytes <= 4096;
    return hit ? u32(linear) + load<u32>(e, TE_ADDEND) : 0;
  }

  /** Address of plain bytes of a system structure, 0: not cached or not plain; changes nothing. */
  @inline static system(linear: u64, bytes: u32): u32 {
    return Plain.at(tlbTable(false), load<u64>(TR_TAG_IMPLICIT), linear, bytes, u32(TE_READ));
  }
}

function plainAt(table: u32, tag: u64, linear: u64, bytes: u32, entry: u32): u32 {
  return Plain.at(table, tag, linear, bytes, entry);
}

/** Address of `bytes` plain readable bytes of one page, 0: not cached, not plain or not allowed; changes nothing. */
export function plainRead(seg: u32, ea: u64, bytes: u32): u32 {
  if (ea + bytes > load<u64>(SEGS + seg + SG_READ_END)) return 0;
  return Plain.at(load<u32>(TR_TABLE), load<u64>(TR_TAG), toLinear(seg, ea), bytes, u32(TE_READ));
}

/** The same of bytes to write to. */
export function plainWrite(seg: u32, ea: u64, bytes: u32): u32 {
  if (ea + bytes > load<u64>(SEGS + seg + SG_WRITE_END)) return 0;
  return plainAt(load<u32>(TR_TABLE), load<u64>(TR_TAG), toLinear(seg, ea), bytes, u32(TE_WRITE));
}

export function readLinear<T>(linear: u64): T {
  const at = gather(linear, sizeof<T>(), READ, load<u32>(TR_TABLE), load<u64>(TAG_REAL));
  return at ? load<T>(at) : (0 as T);
}

export function probeWriteLinear(linear: u64, size: u32): u32 {
  return probeAt(linear, size, load<u32>(TR_TABLE), load<u64>(TAG_REAL));
}

// --- implicit supervisor accesses: descriptor tables, TSS, frames of gates to CPL 0-2 ---

export function readSystem<T>(linear: u64): T {
  linear &= systemMask();
  const e = tlbEntry(tlbTable(false), linear);
  if (
    load<u64>(e, TE_READ) == ((linear >> 12) | load<u64>(TR_TAG_IMPLICIT)) &&
    (u32(linear) & 0xfff) <= <u32>(4096 - sizeof<T>())
  ) {
    return load<T>(u32(linear) + load<u32>(e, TE_ADDEND));
  }
  const at = gather(linear, sizeof<T>(), READ, tlbTable(false), load<u64>(TR_TAG_IMPLICIT));
  return at ? load<T>(at) : (0 as T);
}

export function probeSystem(linear: u64, size: u32): u32 {
  return probeAt(linear & systemMask(), size, tlbTable(false), load<u64>(TR_TAG_IMPLICIT));
}

/** A write with the privilege of a stack about to be switched to. */
export function probeAs(linear: u64, size: u32, user: bool): u32 {
  const at = user
    ? probeAt(linear & systemMask(), size, tlbTable(true), load<u64>(TAG_REAL))
    : probeSystem(linear, size);
  if (at && load<u32>(DEBUG_WATCH) & WatchBit.Data) noteAccess(linear, size, true);
  return at;
}

/** Address of bytes to write to on a page whose frame has this flag and no other, 0: not cached or not that; changes nothing. */
function flaggedPlace(linear: u64, bytes: u32, flag: u32): u32 {
  const at = plainAt(load<u32>(TR_TABLE), load<u64>(TR_TAG), linear, bytes, u32(TE_READ));
  if (!at || !load<u32>(tlbEntry(load<u32>(TR_TABLE), linear), TE_WRITABLE)) return 0;
  return (pageFlags(at) & PAGE_NO_WRITE_ENTRY) == flag ? at : 0;
}

/** The same on a page whose frame holds code. */
export function codePlace(seg: u32, ea: u64, bytes: u32): u32 {
  if (ea + bytes > load<u64>(SEGS + seg + SG_WRITE_END)) return 0;
  return flaggedPlace(toLinear(seg, ea), bytes, PageFlag.Code);
}

/** Address of plain writable bytes of one page for such a stack, 0: not cached or not plain; changes nothing. */
export function plainPlace(linear: u64, bytes: u32, user: bool): u32 {
  const tag = user ? load<u64>(TAG_REAL) : load<u64>(TR_TAG_IMPLICIT);
  return plainAt(tlbTable(user), tag, linear, bytes, u32(TE_WRITE));
}

// --- instruction fetch ---

/** Address of an instruction byte, 0: faulted, 1: no RAM there. */
export function fetchAt(linear: u64): u32 {
  return translateAt(linear, EXECUTE, load<u32>(TR_TABLE), load<u64>(TAG_REAL));
}

/** Physical address for the host, all ones when the access would fault; changes nothing. access: READ, WRITE or EXECUTE. */
export function translateQuiet(linear: u64, access: u32, user: bool): u64 {
  if (!walk(linear, access, user, false, true)) return ~(0 as u64);
  return walkPhys | (linear & 0xfff);
}

/** Address of an instruction byte when fetching it would change nothing, accessed bits included; else 0. */
export function fetchSettled(linear: u64): u32 {
  const e = tlbEntry(load<u32>(TR_TABLE), linear);
  if (load<u64>(e, TE_EXEC) == ((linear >> 12) | load<u64>(TR_TAG))) return u32(linear) + load<u32>(e, TE_ADDEND);
  if (u64((i64(linear) << 16) >> 16) != linear) return 0;
  if (!walkSettled(linear, EXECUTE, load<u32>(CPL) == 3, false)) return 0;
  return physToHost(walkPhys | (linear & 0xfff));
}

/**
 * Enters the page of an access that generated code misses in the TLB, when that changes nothing but accessed and dirty bits
 * of one that follows for certain. 0: it would, or the page has no entry for this access, or `bytes` reach into the next
 * page. A page table need have none for a store that follows at once, nor a frame with code where that is looked at.
 */
export function fillSettled(linear: u64, bytes: u32, how: u32): u32 {
  if ((u32(linear) & 0xfff) + bytes > 4096 || u64((i64(linear) << 16) >> 16) != linear) return 0;
  if (how & FILL_STORE) {
    const at = flaggedPlace(linear, bytes, PageFlag.PageTable);
    if (at) return u32(dropMapped(at, bytes, true));
  }
  if (how & FILL_BESIDE && flaggedPlace(linear, bytes, PageFlag.Code)) return 1;
  const page = (linear >> 12) | load<u64>(TR_TAG);
  const table = load<u32>(TR_TABLE);
  const write = how & FILL_WRITE;
  const access = write ? WRITE : READ;
  // one that faults or exits comes again
  if (page == refusedPage && refused(table, access)) return 0;
  const tables = pageTableCount;
  if (!walkSettled(linear, access, load<u32>(CPL) == 3, (how & FILL_CERTAIN) != 0) || apicPage(walkPhys)) {
    noteRefused(page, table, access);
    return 0;
  }
  const host = physToHost(walkPhys | (linear & 0xfff));
  if (!host) return 0;
  fill(table, load<u64>(TAG_REAL), linear, host);
  // the frame of a table that was not one before may be written through an address that was translated already
  if (pageTableCount != tables) return 0;
  if (how & FILL_BESIDE && flaggedPlace(linear, bytes, PageFlag.Code)) return 1;
  return u32(plainAt(table, load<u64>(TR_TAG), linear, bytes, write ? u32(TE_WRITE) : u32(TE_READ)) != 0);
}
