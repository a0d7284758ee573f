// From the end of one block to the next one.
import { BK_BYTES, BK_HOST, BK_HOT, BK_MODE, BK_REGION } from "../abi/block";
import { TE_ADDEND, TE_EXEC } from "../abi/layout";
import { R_FAST, R_IMM, R_LEN, R_LINKS, R_OFF, R_TAKEN } from "../abi/record";
import {
  BLOCK_RIP,
  CODE_END,
  COUNT,
  COUNT_LIMIT,
  EXTRA,
  LINEAR_MASK,
  MODE,
  ModeBit,
  RIP,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  TR_TABLE,
  TR_TAG,
} from "../abi/state";
import { BLOCK_MAX, Chain, findBlock, MODE_KEY, poolEpoch } from "../blocks/cache";
import { FAST_CALL, FAST_END } from "../decode/fast.generated";
import { tlbMask } from "../memory/context";

/** Address in linear memory of the byte at BLOCK_RIP. */
const blockHost: usize = memory.data(8);

export class Follow {
  @inline static get host(): usize {
    return blockHost;
  }

  /** The running block begins at this address. */
  @inline static begin(host: u32): void {
    store<u32>(blockHost, host);
  }

  /** Does a relative branch stay on the page of its block, and before `end`? */
  @inline static stays(rec: usize, taken: bool, end: u64): bool {
    const by = taken ? load<u64>(rec, R_IMM) : u64(u32(load<u16>(rec, R_OFF)) + load<u8>(rec, R_LEN));
    const here = u64(load<u32>(blockHost));
    return load<u64>(BLOCK_RIP) + by < end && (here ^ (here + by)) >> 12 == 0;
  }

  /** Where the instruction at an offset of CS is, when the TLB has it; else 0. */
  @inline static code(rip: u64): u32 {
    const linear = (load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) + rip) & load<u64>(LINEAR_MASK);
    const e = load<u32>(TR_TABLE) + ((u32(linear >> 12) & tlbMask) << 5);
    return load<u64>(e, TE_EXEC) == ((linear >> 12) | load<u64>(TR_TAG)) ? u32(linear) + load<u32>(e, TE_ADDEND) : 0;
  }

  /** The first block of those with the hash of `host`, if it was decoded in this mode; else 0. */
  @inline static hashed(host: u32): u32 {
    const key = load<u32>(MODE) & MODE_KEY;
    const next = load<u32>(Chain.of(host, key));
    return load<u32>(next, BK_MODE) == key ? next : 0;
  }

  /** The offset in CS that no block may reach past. Jumps of 16-bit code wrap at 64 KiB: their whole handlers do that. */
  @inline static end(): u64 {
    const end = load<u64>(CODE_END);
    return load<u32>(MODE) & (ModeBit.Code32 | ModeBit.Code64) ? end : min<u64>(end, 0x10000);
  }

  /** Begins the block `next` at RIP, with `count` completed instructions before it; false: the run loop must look first. */
  @inline static enter(next: u32, count: u64, end: u64, hot: u32): bool {
    const rip = load<u64>(RIP);
    if (rip + load<u16>(next, BK_BYTES) > end) return false;
    if (hot) {
      const runs = load<i32>(next, BK_HOT) + 1;
      if (load<u32>(next, BK_REGION) || runs >= i32(hot)) return false;
      store<i32>(next, runs, BK_HOT);
    }
    store<u64>(COUNT, count);
    store<u64>(BLOCK_RIP, rip);
    Follow.begin(load<u32>(next, BK_HOST));
    return true;
  }
}

/**
 * How far COUNT may have come when one more block follows: below `limit`, with room for a block before COUNT_LIMIT, and
 * with nothing that waits for a boundary; 0: none may follow.
 */
export function countEnd(limit: u64): u64 {
  const end = load<u64>(COUNT_LIMIT);
  if (load<u32>(EXTRA) || end < BLOCK_MAX) return 0;
  return min<u64>(limit, end - (BLOCK_MAX - 1));
}

/** Links a relative branch to the block at RIP, when that is decoded; side: 0, or 4 when it falls through. The block, else 0. */
export function link(rec: usize, side: usize): u32 {
  const next = follow();
  if (!next || u32(load<u8>(rec, R_FAST)) - FAST_END > FAST_CALL - FAST_END) return next;
  if (load<u32>(rec, R_LINKS) != poolEpoch) {
    store<u32>(rec, poolEpoch, R_LINKS);
    store<u64>(rec, 0, R_TAKEN);
  }
  store<u32>(rec + side, next, R_TAKEN);
  return next;
}

/** The block at RIP, when the TLB has its page and it is decoded; else 0. */
export function follow(): u32 {
  const host = Follow.code(load<u64>(RIP));
  return host ? findBlock(host, load<u32>(MODE)) : 0;
}
