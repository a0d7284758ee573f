// Decoded blocks: found by the address of their first byte in linear memory and the bits of the mode word that change
// decoding. A block ends with a branch, its page or BLOCK_MAX instructions; an instruction that crosses a page is in none.
import {
  BK_BYTES,
  BK_COUNT,
  BK_FRAME_NEXT,
  BK_HASH_NEXT,
  BK_HOST,
  BK_HOT,
  BK_MODE,
  BK_RECORDS,
  BK_SIZE,
} from "../abi/block";
import { BLOCK_HASH, BLOCK_HASH_ENTRIES, BLOCK_POOL, BLOCK_POOL_END, PageFlag } from "../abi/layout";
import {
  OP_END,
  R_DISP,
  R_DONE,
  R_FAST,
  R_FLAGS,
  R_IMM,
  R_INDEX,
  R_LEN,
  R_LINKS,
  R_OFF,
  R_OP,
  RECORD_SIZE,
  RecordFlag,
} from "../abi/record";
import { ModeBit } from "../abi/state";
import { closeBlock, decode, longImmediate } from "../decode/decode";
import { FAST_CALL, FAST_END } from "../decode/fast.generated";
import { clearPageFlag, codeHead, codeLines, lineMask, noteCode } from "../memory/frames";
import { codeTraps, trapAt } from "../memory/traps";
import { quiet } from "./quiet";

/** Bits of the mode word that decoding depends on, and User, which the region of a block depends on. */
export const MODE_KEY: u32 =
  ModeBit.Code32 | ModeBit.Code64 | ModeBit.Stack32 | ModeBit.Protected | ModeBit.Vm86 | ModeBit.User;
/** Instructions of a block at most. */
export const BLOCK_MAX: u32 = 64;
const BLOCK_ROOM: u32 = BK_RECORDS + (BLOCK_MAX + 1) * RECORD_SIZE;

let top: u32 = BLOCK_POOL;
/** Rises when room of the pool may be used again: links of an older one lead anywhere. */
export let poolEpoch: u32 = 1;
/** Rises when every block is forgotten. */
export let blockGeneration: u32 = 0;

export class Chain {
  /** Where the first block of those with this hash is. */
  @inline static of(host: u32, key: u32): u32 {
    return BLOCK_HASH + (((host ^ key) * 0x9e3779b1) >>> 17) * 4;
  }
}

/** Header of the block at a host address, 0: not decoded. */
export function findBlock(host: u32, mode: u32): u32 {
  const key = mode & MODE_KEY;
  const chain = Chain.of(host, key);
  let link = chain;
  for (;;) {
    const b = load<u32>(link);
    if (!b) return 0;
    if (load<u32>(b, BK_HOST) == host && load<u32>(b, BK_MODE) == key) {
      // the first of its chain is found at once by an indirect branch
      if (link != chain) {
        store<u32>(link, load<u32>(b, BK_HASH_NEXT));
        store<u32>(b, load<u32>(chain), BK_HASH_NEXT);
        store<u32>(chain, b);
      }
      return b;
    }
    link = b + BK_HASH_NEXT;
  }
  return unreachable();
}

/** Decodes a block; 0: its first instruction crosses the page, or may have a trap. */
export function buildBlock(host: u32, mode: u32): u32 {
  if (top + BLOCK_ROOM > <u32>BLOCK_POOL_END) dropAllBlocks();
  if (codeTraps && trapAt(host)) return 0;
  const key = mode & MODE_KEY;
  const b = top;
  const pageEnd = (host & ~0xfff) + 4096;
  let rec = b + BK_RECORDS;
  let offset: u32 = 0;
  let count: u32 = 0;
  for (;;) {
    const here = host + offset;
    const length =
      here < pageEnd && !(codeTraps && trapAt(here)) ? decode(here, pageEnd - here, rec, mode, offset, count) : 0;
    if (length == 0) {
      if (count == 0) return 0;
      closeBlock(rec, offset, count);
      rec += RECORD_SIZE;
      break;
    }
    offset += length;
    count++;
    const ends = (load<u8>(rec, R_FLAGS) & RecordFlag.Ends) != 0;
    rec += RECORD_SIZE;
    if (ends) break;
    if (count == BLOCK_MAX) {
      closeBlock(rec, offset, count);
      rec += RECORD_SIZE;
      break;
    }
  }
  const last = u32(load<u8>(rec - RECORD_SIZE, R_FAST));
  if (last >= FAST_END && last <= FAST_CALL) {
    store<u32>(rec - RECORD_SIZE, 0, R_LINKS);
    store<u8>(rec - RECORD_SIZE, count, R_DONE);
  }
  quiet(b + BK_RECORDS, rec);
  const chain = Chain.of(host, key);
  const head = codeHead(host);
  store<u32>(b, host, BK_HOST);
  store<u32>(b, key, BK_MODE);
  store<u32>(b, load<u32>(chain), BK_HASH_NEXT);
  store<u32>(b, load<u32>(head), BK_FRAME_NEXT);
  store<u16>(b, count, BK_COUNT);
  store<u16>(b, offset, BK_BYTES);
  store<u32>(b, rec - b, BK_SIZE);
  store<u64>(b, 0, BK_HOT);
  store<u32>(chain, b);
  store<u32>(head, b);
  noteCode(host, offset);
  top = rec;
  changes++;
  return b;
}

function unchain(b: u32): void {
  let link: u32 = Chain.of(load<u32>(b, BK_HOST), load<u32>(b, BK_MODE));
  while (load<u32>(link)) {
    if (load<u32>(link) == b) {
      store<u32>(link, load<u32>(b, BK_HASH_NEXT));
      return;
    }
    link = load<u32>(link) + BK_HASH_NEXT;
  }
}

/** patch(): the blocks must be dropped; they are up to date, code made from them is not; both are up to date. */
export const PATCH_NONE: u32 = 0;
export const PATCH_BLOCKS: u32 = 1;
export const PATCH_ALL: u32 = 2;

/** Rises when a block is made or dropped. */
let changes: u32 = 1;
// stores that patched a whole immediate, or met no instruction: {u32 host, u32 changes, u16 bytes of the list, u16 bytes
// stored, u32 the records that have the immediate}
const memos: usize = memory.data(512, 8);
const MEMO_LIST: u32 = 12;
const MEMO_BYTES: u32 = 32;

function memoOf(host: u32): usize {
  return memos + ((host * 0x9e3779b1) >>> 28) * MEMO_BYTES;
}

const fresh: usize = memory.data(32);
const SOFT: u32 = RecordFlag.SoftImm | RecordFlag.SoftDisp;

/** setImmediate() does what a store of these bytes needs, which are a whole immediate or of no instruction; 0: patch() must look. */
export function patchedBefore(host: u32, bytes: u32): usize {
  const memo = memoOf(host);
  return load<u32>(memo) == host && load<u32>(memo, 4) == changes && u32(load<u16>(memo, 10)) == bytes ? memo : 0;
}

export function setImmediate(memo: usize, value: i32): void {
  const end = memo + load<u16>(memo, 8);
  for (let at = memo; at < end; at += 4) store<i64>(load<u32>(at, MEMO_LIST), <i64>value, R_IMM);
}

/**
 * After a write to [host, host + bytes): where it changed nothing but the immediate or the displacement of an instruction
 * that does not end its block, the records take the new value and stay.
 */
export function patch(host: u32, bytes: u32): u32 {
  const known = patchedBefore(host, bytes);
  if (known) {
    setImmediate(known, load<i32>(host));
    return PATCH_ALL;
  }
  let result = PATCH_ALL;
  let found: u32 = 0;
  let whole: u32 = 0;
  const memo = memoOf(host);
  store<u32>(memo, 0);
  for (let b: u32 = load<u32>(codeHead(host)); b; b = load<u32>(b, BK_FRAME_NEXT)) {
    const begin = load<u32>(b, BK_HOST);
    if (begin >= host + bytes || host >= begin + load<u16>(b, BK_BYTES)) continue;
    let rec = b + BK_RECORDS;
    while (begin + load<u16>(rec, R_OFF) + load<u8>(rec, R_LEN) <= host && load<u16>(rec, R_OP) != OP_END) {
      rec += RECORD_SIZE;
    }
    found += 4;
    const r = patchRecord(rec, begin + load<u16>(rec, R_OFF), host, bytes, load<u32>(b, BK_MODE));
    if (r == PATCH_NONE) return r;
    if (r == PATCH_BLOCKS) result = r;
    else if (bytes == 4 && longImmediate && begin + load<u16>(rec, R_OFF) + longImmediate == host) {
      // the next write of it needs no decoding
      if (whole < MEMO_BYTES - MEMO_LIST) store<u32>(memo + whole, rec, MEMO_LIST);
      whole += 4;
    }
  }
  if (found == whole && whole <= MEMO_BYTES - MEMO_LIST) {
    store<u32>(memo, host);
    store<u32>(memo, changes, 4);
    store<u16>(memo, whole, 8);
    store<u16>(memo, bytes, 10);
  }
  return result;
}

function patchRecord(rec: usize, at: u32, host: u32, bytes: u32, mode: u32): u32 {
  const flags = u32(load<u8>(rec, R_FLAGS));
  const length = u32(load<u8>(rec, R_LEN));
  if (flags & RecordFlag.Ends || host < at || host + bytes > at + length) return PATCH_NONE;
  if (decode(at, length, fresh, mode, load<u16>(rec, R_OFF), load<u8>(rec, R_INDEX)) != length) return PATCH_NONE;
  store<u8>(fresh, u32(load<u8>(fresh, R_FLAGS)) | (flags & SOFT), R_FLAGS);
  store<u8>(fresh, load<u8>(rec, R_FAST), R_FAST); // follows from the operation, and from those after it
  if (load<u64>(fresh) != load<u64>(rec) || load<u64>(fresh, 8) != load<u64>(rec, 8)) return PATCH_NONE;
  let soft: u32 = 0;
  if (load<u64>(fresh, R_IMM) != load<u64>(rec, R_IMM)) soft |= RecordFlag.SoftImm;
  if (load<u64>(fresh, R_DISP) != load<u64>(rec, R_DISP)) soft |= RecordFlag.SoftDisp;
  for (let i: usize = 0; i < <usize>RECORD_SIZE; i += 8) store<u64>(rec + i, load<u64>(fresh + i));
  store<u8>(rec, flags | soft, R_FLAGS);
  return soft & ~flags ? PATCH_BLOCKS : PATCH_ALL;
}

/** Drops the blocks of one frame that hold a byte of [host, host + bytes). */
export function invalidate(host: u32, bytes: u32): void {
  let link: u32 = codeHead(host);
  let lines: u64 = 0;
  for (;;) {
    const b = load<u32>(link);
    if (!b) break;
    const first = load<u32>(b, BK_HOST);
    const size = u32(load<u16>(b, BK_BYTES));
    if (first < host + bytes && host < first + size) {
      store<u32>(link, load<u32>(b, BK_FRAME_NEXT));
      unchain(b);
      changes++;
      store<u32>(b, 0, BK_HOST);
      // the newest block gives its place back
      if (b + load<u32>(b, BK_SIZE) == top) {
        top = b;
        poolEpoch++;
      }
    } else {
      lines |= lineMask(first, size);
      link = b + BK_FRAME_NEXT;
    }
  }
  store<u64>(codeLines(host), lines);
  if (lines == 0) clearPageFlag(host, PageFlag.Code);
}

/** Forgets every block. */
export function dropAllBlocks(): void {
  for (let b: u32 = BLOCK_POOL; b < top; b += load<u32>(b, BK_SIZE)) {
    const host = load<u32>(b, BK_HOST);
    if (!host) continue;
    store<u32>(codeHead(host), 0);
    store<u64>(codeLines(host), 0);
    clearPageFlag(host, PageFlag.Code);
  }
  // an untouched page of memory costs nothing
  if (top != <u32>BLOCK_POOL) memory.fill(BLOCK_HASH, 0, BLOCK_HASH_ENTRIES * 4);
  top = BLOCK_POOL;
  blockGeneration++;
  poolEpoch++;
  changes++;
}
