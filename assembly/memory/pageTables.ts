// Stores to page tables: what came from the entries that they change leaves the TLB (frames.ts knows the tables).
import { PAGE, PageFlag } from "../abi/layout";
import { dropPage, flushTlb, isCodePage } from "./context";
import {
  clearPageFlag,
  KIND_ENTRY,
  pageFlags,
  TABLE_DIRECTORY,
  TABLE_EPT,
  TABLE_LEAF,
  TB_DIRECTORY,
  TB_STORES,
  tableAt,
} from "./frames";
import { physToHost } from "./physical";

/** Bits of an entry that nothing comes from when all of them are 0. */
const PRESENT_EPT: u32 = 0x407;
/** Bits of an entry that nothing comes from when one of them is 0: present, accessed. */
const USED: u32 = 0x21;
const LARGE: u64 = 0x80;
/** So many stores without a walk in between: it seems to be a table no longer, or one that is built. */
const STORES_MAX: u32 = 64;
/** Rises with every store to a page table that drops less than everything. */
export let tableStores: u64 = 0;

/** False: it is code, and `quiet`. */
function dropUsed(page: u64, quiet: bool): bool {
  if (quiet && isCodePage(page)) return false;
  dropPage(page);
  return true;
}

/** Drops what came from an entry of a directory. False: that may be more than the pages of a table. */
function dropTable(at: u32, size: u32, directory: u64, quiet: bool): bool {
  const entry = size == 8 ? load<u64>(at) : <u64>load<u32>(at);
  if (!(directory & TABLE_DIRECTORY) || entry & LARGE) return false;
  const table = physToHost(entry & 0xffffffffff000);
  if (!table) return false;
  let page = (directory >> 12) + u64((at & 0xfff) / size) * (PAGE / size);
  const kind = (page << 12) | TABLE_LEAF | size;
  for (let e = table; e < table + PAGE; e += 32) {
    // most entries are not in use
    const a = v128.load(e);
    const b = v128.load(e, 16);
    const used = v128.or(v128.and(a, i32x4.shr_u(a, 5)), v128.and(b, i32x4.shr_u(b, 5)));
    if (v128.any_true(v128.and(used, i32x4.splat(1)))) {
      for (let i: u32 = 0; i < 32; i += size) {
        const dropped = (load<u32>(e + i) & USED) != USED || dropUsed(page + i / size, quiet);
        if (!dropped) return false;
      }
    }
    page += 32 / size;
  }
  // nothing in the TLB came from it any more: it may be filled anew at speed
  const t = tableAt(table);
  const leaf = (pageFlags(table) & PageFlag.PageTable) != 0 && load<u64>(t) == kind && !load<u64>(t, TB_DIRECTORY);
  if (leaf) clearPageFlag(table, PageFlag.PageTable);
  return true;
}

/**
 * Must go before a store to a frame with PageFlag.PageTable: drops what came from the entries that it changes. An entry
 * that is not present, or not accessed, has nothing in the TLB. `quiet`: false is returned where code, or more than the pages of a table,
 * would have to go.
 * @sdm 3A "Caching Translation Information"
 */
export function dropMapped(host: u32, bytes: u32, quiet: bool): bool {
  tableStores++;
  const t = tableAt(host);
  const kind = load<u64>(t);
  const directory = load<u64>(t, TB_DIRECTORY);
  const size = u32(kind | directory) & KIND_ENTRY;
  const stores = load<u32>(t, TB_STORES) + 1;
  store<u32>(t, stores, TB_STORES);
  if (size != KIND_ENTRY && stores <= STORES_MAX) {
    let at = host & ~(size - 1);
    for (;;) {
      const entry = load<u32>(at);
      if (kind & TABLE_EPT ? (entry & PRESENT_EPT) != 0 : (entry & USED) == USED) {
        if (kind && !(kind & TABLE_LEAF && dropUsed((kind >> 12) + u64((at & 0xfff) / size), quiet))) break;
        if (directory && !dropTable(at, size, directory, quiet)) break;
      }
      at += size;
      if (at >= host + bytes) return true;
    }
  }
  if (!quiet) flushTlb();
  return false;
}
