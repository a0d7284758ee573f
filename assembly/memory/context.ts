// Address-space contexts of the TLB. A context number stands for everything a cached translation depends on besides
// the tables themselves: CR3 (none when paging is off), the PDPTEs of PAE paging, the bits of TR_MODE, EPTP and VPID. Since a store to a frame
// that served a walk drops what came from it, an entry stays true for as long as its context number lives: MOV CR3 and VM entries
// only choose another number.
import {
  CONTEXTS,
  TE_ADDEND,
  TE_EXEC,
  TE_READ,
  TE_WRITE,
  TLB,
  TLB_ENTRIES,
  TLB_ENTRY,
  TLB_SPACE,
  TLB_SPACES,
  TLB_TABLE,
} from "../abi/layout";
import {
  CPL,
  CR0,
  CR3,
  EFLAGS_REST,
  PDPTE,
  TAG_REAL,
  TR_EPTP,
  TR_MODE,
  TR_TABLE,
  TR_TAG,
  TR_TAG_IMPLICIT,
  TR_VPID,
  TransBit,
} from "../abi/state";
import { CR0_AM, FLAG_AC } from "../abi/x86";
import { forgetPageTables } from "./frames";

// CONTEXTS: WAYS entries of {u64 root, u64 eptp, u32 mode | vpid << 16, u32 number (0: free), 4 x u64 PDPTEs of PAE paging}
const WAYS: u32 = 16;
const ENTRY: u32 = 56;
let nextWay: u32 = 0;
let lastNumber: u32 = 0;
/** The place in CONTEXTS that contextFor() chose last. */
let way: u32 = 0;
/** Bits of the spaces that may hold entries of a context in use. */
let spaces: u32 = 0;
/** Rises when a context number is given away or taken back: tags chosen before stand only while it is the same. */
export let contextChanges: u64 = 1;

function samePdptes(e: usize): bool {
  return (
    load<u64>(e, 24) == load<u64>(PDPTE) &&
    load<u64>(e, 32) == load<u64>(PDPTE, 8) &&
    load<u64>(e, 40) == load<u64>(PDPTE, 16) &&
    load<u64>(e, 48) == load<u64>(PDPTE, 24)
  );
}

function contextFor(root: u64, eptp: u64, key: u32): u64 {
  const pdptes = (key & (TransBit.Paging | TransBit.Pae | TransBit.Long)) == (TransBit.Paging | TransBit.Pae);
  for (way = 0; way < WAYS; way++) {
    const e = CONTEXTS + way * ENTRY;
    if (
      load<u32>(e, 16) == key &&
      load<u64>(e) == root &&
      load<u64>(e, 8) == eptp &&
      load<u32>(e, 20) != 0 &&
      (!pdptes || samePdptes(e))
    ) {
      return u64(load<u32>(e, 20)) << 52;
    }
  }
  lastNumber++;
  contextChanges++;
  way = nextWay;
  nextWay = (nextWay + 1) & (WAYS - 1);
  const e = CONTEXTS + way * ENTRY;
  store<u64>(e, root);
  store<u64>(e, eptp, 8);
  store<u32>(e, key, 16);
  store<u32>(e, lastNumber, 20);
  memory.copy(e + 24, PDPTE, 32);
  return u64(lastNumber) << 52;
}

/** The table of the present context for CPL 3, or for the other levels. */
export function tlbTable(user: bool): u32 {
  return (load<u32>(TR_TABLE) & ~TLB_TABLE) | (user ? TLB_TABLE : 0);
}

/** Are unaligned accesses of the present CPL #AC? */
export function checksAlignment(): bool {
  return load<u32>(CPL) == 3 && (load<u32>(EFLAGS_REST) & FLAG_AC) != 0 && (load<u64>(CR0) & CR0_AM) != 0;
}

/** Chooses the context, and its tables, of the present CR3, PDPTEs, TR_MODE, EPTP and VPID. Called whenever one of them, CPL or RFLAGS.AC changes. */
export function selectContext(): void {
  if (lastNumber >= 0xffd) clearTlb(); // two more are to be had
  const mode = load<u32>(TR_MODE);
  let root: u64 = 0;
  if (mode & TransBit.Paging) {
    root = load<u64>(CR3) & (mode & TransBit.Pae && !(mode & TransBit.Long) ? 0xffffffe0 : 0xffffffffff000);
  }
  const eptp = load<u64>(TR_EPTP);
  const vpid = load<u32>(TR_VPID) << 16;
  const tag = contextFor(root, eptp, mode | vpid);
  const space = way & (TLB_SPACES - 1);
  spaces |= 1 << space;
  store<u32>(TR_TABLE, TLB + space * TLB_SPACE + (load<u32>(CPL) == 3 ? TLB_TABLE : 0));
  store<u64>(TAG_REAL, tag);
  store<u64>(TR_TAG, checksAlignment() ? ~(0 as u64) : tag);
  store<u64>(TR_TAG_IMPLICIT, mode & TransBit.Ac ? contextFor(root, eptp, (mode & ~TransBit.Ac) | vpid) : tag);
}

function dropContexts(): void {
  contextChanges++;
  spaces = 0;
  memory.fill(CONTEXTS, 0, WAYS * ENTRY);
}

function clearTlb(): void {
  memory.fill(TLB, 0, TLB_SPACE * TLB_SPACES);
  lastNumber = 0;
  dropContexts();
}

/** Rises with every flush, and when a page of noteCodePage() may have got another place. */
export let flushCount: u32 = 0;
const CODE_PAGES: u32 = 4096;
const codePages: usize = memory.data(CODE_PAGES); // u8 a hashed page

/** Drops every cached translation. */
export function flushTlb(): void {
  flushCount++;
  memory.fill(codePages, 0, CODE_PAGES);
  dropContexts();
  forgetPageTables();
  selectContext();
}

/** Entries in use of each table, less 1. Generated code has it as a constant. */
export let tlbMask: u32 = TLB_ENTRIES - 1;

/** For tests: a TLB of so many entries, a power of two up to TLB_ENTRIES, shows what relies on a hit. */
export function setTlbEntries(entries: u32): void {
  tlbMask = entries - 1;
  clearTlb();
  selectContext();
}

/** Does this TLB entry let a frame be written? */
export function isWriteEntry(e: u32, frame: u32): bool {
  return (u32(load<u64>(e, TE_WRITE)) << 12) + load<u32>(e, TE_ADDEND) == frame;
}

function codePage(page: u64): usize {
  return codePages + (u32(page) & (CODE_PAGES - 1));
}

/** May somebody rely on the place of this linear page? */
export function isCodePage(page: u64): u32 {
  return load<u8>(codePage(page));
}

/** Until flushCount changes, somebody relies on the place of this linear page. */
export function noteCodePage(page: u64): void {
  store<u8>(codePage(page), 1);
}

/** Drops a linear page in every context. */
export function dropPage(page: u64): void {
  flushCount += isCodePage(page);
  const first = TLB + ((u32(page) & tlbMask) << 5);
  for (let space: u32 = 0; space < <u32>TLB_SPACES; space++) {
    if (!((spaces >> space) & 1)) continue;
    const e = first + space * TLB_SPACE;
    dropEntry(e, page);
    dropEntry(e + TLB_TABLE, page);
  }
}

function dropEntry(e: usize, page: u64): void {
  // tags that are not 0 are alike
  if (((load<u64>(e, TE_READ) | load<u64>(e, TE_EXEC)) ^ page) << 12) return;
  store<u64>(e, 0, TE_READ);
  store<u64>(e, 0, TE_WRITE);
  store<u64>(e, 0, TE_EXEC);
}

/** Drops the write entries of one frame. */
export function dropWriteEntries(frame: u32): void {
  for (let space: u32 = 0; space < <u32>TLB_SPACES; space++) {
    if (!((spaces >> space) & 1)) continue;
    const first = TLB + space * TLB_SPACE;
    for (let e = first; e < first + TLB_SPACE; e += TLB_ENTRY) {
      if (isWriteEntry(e, frame)) store<u64>(e, 0, TE_WRITE);
    }
  }
}
