// Frames of guest memory and their metadata: one byte of PageFlag, one bit for each 64-byte line that decoded code
// covers, and the head of the frame's list of blocks. `host` is any address inside the frame.
import { FLAGS_REACH, FRAME_META, PAGE, PageFlag, TE_WRITE } from "../abi/layout";
import { StopBit } from "../abi/state";
import { stop } from "../state/stop";
import { dropWriteEntries, flushTlb, isWriteEntry } from "./context";

let frameLimit: u32 = 0; // frames that metadata was reserved for
let frameCount: u32 = 0; // frames handed out
let frameFirst: u32 = 0; // address of frame 0
let linesBase: u32 = 0;
let headsBase: u32 = 0;
let writersBase: u32 = 0;
/** In place of the address of a frame's one write TLB entry: there may be several. */
const MANY: u32 = 1;

const CODE_WRITE_MAX: u32 = 64;
const codeWrites: usize = memory.data(512); // CODE_WRITE_MAX x {u32 host, u32 bytes}
let codeWriteCount: u32 = 0;
const PT_MAX: u32 = 1024;
// frames that carry PageFlag.PageTable: {u64 kind, u32 frame, u32 stores since it last served a walk, u64 kind as a directory}
const pageTables: usize = memory.data(24576, 8);
const TABLE: u32 = 24;
export const TB_DIRECTORY: usize = 16;
export const TB_STORES: usize = 12;
/** Kind of a page table: the bytes of an entry, 4 or 8, with these; 0: it is none. */
export const TABLE_LEAF: u64 = 1; // its entries map the 4 KiB pages from the linear address in bits 63:12 on
export const TABLE_EPT: u64 = 2;
export const TABLE_DIRECTORY: u64 = 16; // they are physical addresses of such tables, the first for that linear address
/** Both sizes: nothing is known. */
export const KIND_ENTRY: u32 = 12;
const KIND_SHARED: u64 = TABLE_EPT | KIND_ENTRY;
/** Frames that served a walk since the last flush. */
export let pageTableCount: u32 = 0;

function growTo(end: u64): bool {
  const have = u64(u32(memory.size())) << 16;
  if (end <= have) return true;
  if (end > 0xffff0000) return false;
  return memory.grow(i32((end - have + 0xffff) >> 16)) >= 0;
}

/** Reserves metadata for `frames` frames in a memory of zeros. False: out of memory. */
export function initFrames(frames: u32): bool {
  const lines = (u64(FRAME_META) + u64(frames) + 7) & ~(7 as u64);
  const heads = lines + u64(frames) * 8;
  const writers = heads + u64(frames) * 4;
  const first = (writers + u64(frames) * 4 + 4095) & ~(4095 as u64);
  // generated code looks at the flags of any 32-bit address before it knows that it is RAM
  const flagsEnd = u64(FRAME_META) + frames + FLAGS_REACH;
  if (!growTo(max<u64>(first, flagsEnd))) return false;
  linesBase = u32(lines);
  headsBase = u32(heads);
  writersBase = u32(writers);
  frameFirst = u32(first);
  frameLimit = frames;
  return true;
}

/** Address of `frames` zeroed frames, 0: they do not fit. */
export function allocFrames(frames: u32): u32 {
  if (frames == 0 || frames > frameLimit - frameCount) return 0;
  const host = u64(frameFirst) + (u64(frameCount) << 12);
  if (!growTo(host + (u64(frames) << 12))) return 0;
  frameCount += frames;
  return u32(host);
}

export function frameRangeValid(host: u32, bytes: u64): bool {
  return host >= frameFirst && u64(host) + bytes <= u64(frameFirst) + (u64(frameCount) << 12);
}

function frameOf(host: u32): u32 {
  return (host - frameFirst) >> 12;
}

/** Address of a frame's flags byte; those of neighbouring frames are neighbours. */
export function flagsAddress(host: u32): u32 {
  return FRAME_META + frameOf(host);
}

export function pageFlags(host: u32): u32 {
  return load<u8>(FRAME_META + frameOf(host));
}

export function orPageFlag(host: u32, flag: u32): void {
  const p = FRAME_META + frameOf(host);
  store<u8>(p, load<u8>(p) | flag);
}

export function clearPageFlag(host: u32, flag: u32): void {
  const p = FRAME_META + frameOf(host);
  store<u8>(p, load<u8>(p) & ~flag);
}

/** Address of the frame's u64 of code lines. */
export function codeLines(host: u32): u32 {
  return linesBase + (frameOf(host) << 3);
}

/** Address of the frame's u32 list head of blocks. */
export function codeHead(host: u32): u32 {
  return headsBase + (frameOf(host) << 2);
}

/** A set bit for each 64-byte line of one page that [offset, offset + bytes) touches. */
export function lineMask(offset: u32, bytes: u32): u64 {
  const first = (offset & 0xfff) >> 6;
  const last = ((offset & 0xfff) + bytes - 1) >> 6;
  return (~(0 as u64) >> u64(63 - (last - first))) << u64(first);
}

/** Is any of these bytes on a line with code? The frame must hold code. */
export function hitsCode(host: u32, bytes: u32): bool {
  return (load<u64>(codeLines(host)) & lineMask(host, bytes)) != 0;
}

/** Where the address of the frame's write TLB entry stands; a page table, which has none, has its place in pageTables there. */
function writerPlace(host: u32): u32 {
  return writersBase + (frameOf(host) << 2);
}

function restrict(host: u32, flag: u32): void {
  const f = pageFlags(host);
  if (f & flag) return;
  orPageFlag(host, flag);
  if (f & PageFlag.WriteCached) {
    const only = load<u32>(writerPlace(host));
    if (only == MANY) dropWriteEntries(host & ~0xfff);
    else if (isWriteEntry(only, host & ~0xfff)) store<u64>(only, 0, TE_WRITE);
    clearPageFlag(host, PageFlag.WriteCached);
  }
}

/** The frame has this write TLB entry from now on. */
export function noteWriteEntry(host: u32, entry: u32): void {
  const place = writerPlace(host);
  const other = load<u32>(place);
  if (!(pageFlags(host) & PageFlag.WriteCached)) orPageFlag(host, PageFlag.WriteCached);
  else if (other == entry) return;
  else if (other == MANY || isWriteEntry(other, host & ~0xfff)) entry = MANY;
  store<u32>(place, entry);
}

/** The frame holds code from now on: it loses its write entries, so that every store to it is seen. */
export function noteCode(host: u32, bytes: u32): void {
  const lines = codeLines(host);
  store<u64>(lines, load<u64>(lines) | lineMask(host, bytes));
  restrict(host, PageFlag.Code);
}

/** Number of stores to watched frames. */
export let watchedWrites: u32 = 0;

/** Stores to this frame are counted from now on. */
export function watchFrame(host: u32): void {
  restrict(host, PageFlag.Vmcs);
}

export function unwatchFrame(host: u32): void {
  clearPageFlag(host, PageFlag.Vmcs);
}

/** What is known of a frame with PageFlag.PageTable, in pageTables. */
export function tableAt(host: u32): u32 {
  return load<u32>(writerPlace(host));
}

/** The frame served a page walk, as a table of this kind: a store to it drops what came from it. */
export function notePageTable(host: u32, kind: u64): void {
  let t: u32;
  const role = kind & TABLE_DIRECTORY ? u32(TB_DIRECTORY) : 0;
  if (pageFlags(host) & PageFlag.PageTable) {
    t = load<u32>(writerPlace(host));
    // of two kinds what they share stays
    const had = load<u64>(t + role);
    if (had != kind && had) kind = (had ^ kind) & KIND_SHARED ? KIND_ENTRY : kind & KIND_SHARED;
  } else {
    if (pageTableCount == PT_MAX) flushTlb();
    restrict(host, PageFlag.PageTable);
    t = u32(pageTables) + pageTableCount * TABLE;
    store<u32>(writerPlace(host), t);
    store<u64>(t, 0);
    store<u32>(t, host & ~0xfff, 8);
    store<u64>(t, 0, TB_DIRECTORY);
    pageTableCount++;
  }
  store<u64>(t + role, kind);
  store<u32>(t, 0, TB_STORES);
}

/** Called by flushTlb: no translation is cached any more, so no frame is a table in use. */
export function forgetPageTables(): void {
  for (let i: u32 = 0; i < pageTableCount; i++) {
    clearPageFlag(load<u32>(pageTables + i * TABLE, 8), PageFlag.PageTable);
  }
  pageTableCount = 0;
}

/** Must follow every write to a frame that may carry flags, unless dropMapped() went before; the range stays inside one page. */
export function noteWrite(host: u32, bytes: u32): void {
  if (pageFlags(host) & PageFlag.PageTable) flushTlb();
  noteStored(host, bytes);
}

/** The rest of noteWrite(). */
export function noteStored(host: u32, bytes: u32): void {
  const f = pageFlags(host);
  if (f & PageFlag.Code && hitsCode(host, bytes)) {
    if (codeWriteCount < CODE_WRITE_MAX) {
      store<u32>(codeWrites + (codeWriteCount << 3), host);
      store<u32>(codeWrites + (codeWriteCount << 3), bytes, 4);
    }
    codeWriteCount++;
    stop(StopBit.Leave);
  }
  if (f & PageFlag.Vmcs) watchedWrites++;
  if (f & PageFlag.DirtyLog) clearPageFlag(host, PageFlag.DirtyLog);
}

/** Must go with every write to a frame that is not followed by noteWrite(). */
export function noteDirty(host: u32): void {
  if (pageFlags(host) & PageFlag.DirtyLog) clearPageFlag(host, PageFlag.DirtyLog);
}

/** Holds the frame zeros only? */
export function zeroPage(host: u32): bool {
  const end = host + PAGE;
  while (host < end) {
    if (load<u64>(host) | load<u64>(host, 8) | load<u64>(host, 16) | load<u64>(host, 24)) return false;
    host += 32;
  }
  return true;
}

/** noteWrite over a range of any length. */
export function noteWrites(host: u32, bytes: u32): void {
  while (bytes) {
    const n = min<u32>(bytes, PAGE - (host & 0xfff));
    noteWrite(host, n);
    host += n;
    bytes -= n;
  }
}

// --- the list of stores to code, drained by run/ through blocks/ ---
export function codeWritesPending(): u32 {
  return codeWriteCount;
}
/** More stores than the list holds: every block must go. */
export function codeWritesOverflow(): bool {
  return codeWriteCount > CODE_WRITE_MAX;
}
export function codeWriteHost(i: u32): u32 {
  return load<u32>(codeWrites + (i << 3));
}
export function codeWriteBytes(i: u32): u32 {
  return load<u32>(codeWrites + (i << 3), 4);
}
export function clearCodeWrites(): void {
  codeWriteCount = 0;
}
