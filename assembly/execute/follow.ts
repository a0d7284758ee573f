// From the end of one block to the next one.
import { TE_ADDEND, TE_EXEC } from "../abi/layout";
import { R_FAST, R_INDEX, R_LINKS, R_TAKEN } from "../abi/record";
import {
  BLOCK_RIP,
  CODE_END,
  COUNT,
  COUNT_LIMIT,
  EXTRA,
  LINEAR_MASK,
  MODE,
  RIP,
  SEG_CS,
  SEGS,
  SG_EFFECTIVE,
  TR_TABLE,
  TR_TAG,
  WORK,
} from "../abi/state";
import {
  BK_BYTES,
  BK_COUNT,
  BK_HOST,
  BK_HOT,
  BK_MODE,
  BK_REGION,
  Chain,
  findBlock,
  MODE_KEY,
  poolEpoch,
} from "../blocks/cache";
import { FAST_END } from "../decode/fast.generated";
import { tlbMask } from "../memory/context";

/** Address in linear memory of the byte at BLOCK_RIP. */
const blockHost: usize = memory.data(8);

export class Follow {
  /** The running block begins at this address. */
  @inline static begin(host: u32): void {
    store<u32>(blockHost, host);
  }

  /** Where the instruction at an offset of CS is, when the TLB has it; else 0. */
  @inline static code(rip: u64): u32 {
    const linear = (load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) + rip) & load<u64>(LINEAR_MASK);
    const e = load<u32>(TR_TABLE) + ((u32(linear >> 12) & tlbMask) << 5);
    return load<u64>(e, TE_EXEC) == ((linear >> 12) | load<u64>(TR_TAG)) ? u32(linear) + load<u32>(e, TE_ADDEND) : 0;
  }

  /** The same for the target of a branch: on the page of its block nothing has to be translated. */
  @inline static target(rip: u64): u32 {
    const here = u64(load<u32>(blockHost));
    const host = here + (rip - load<u64>(BLOCK_RIP));
    return (host ^ here) >> 12 ? Follow.code(rip) : u32(host);
  }

  /**
   * The block at `host` that a branch leads to: by its link, which is that of the first time, or else the first of its
   * chain; 0: neither, or no link yet. link: the record, plus 4 for falling through.
   */
  @inline static linked(rec: usize, link: usize, host: u32): u32 {
    if (load<u32>(rec, R_LINKS) != poolEpoch) return 0;
    let next = load<u32>(link, R_TAKEN);
    const key = load<u32>(MODE) & MODE_KEY;
    if (!next || (load<u32>(next, BK_HOST) == host && load<u32>(next, BK_MODE) == key)) return next;
    next = load<u32>(Chain.of(host, key));
    return load<u32>(next, BK_HOST) == host && load<u32>(next, BK_MODE) == key && host ? next : 0;
  }

  /** Counts the block that ends with `rec` and begins `next`; false: the run loop must look first. */
  @inline static enter(rec: usize, next: u32, rip: u64, limit: u64, hot: u32): bool {
    const done = u64(load<u8>(rec, R_INDEX)) + u64(load<u8>(rec, R_FAST) != FAST_END);
    const count = load<u64>(COUNT) + done;
    if (
      count >= limit ||
      load<u32>(EXTRA) ||
      rip + load<u16>(next, BK_BYTES) > load<u64>(CODE_END) ||
      count + load<u16>(next, BK_COUNT) > load<u64>(COUNT_LIMIT)
    ) {
      return false;
    }
    if (hot) {
      const runs = load<i32>(next, BK_HOT) + 1;
      if (load<u32>(next, BK_REGION) || runs >= i32(hot)) return false;
      store<i32>(next, runs, BK_HOT);
    }
    store<u64>(COUNT, count);
    store<u64>(WORK, load<u64>(WORK) + done);
    store<u64>(BLOCK_RIP, rip);
    Follow.begin(load<u32>(next, BK_HOST));
    return true;
  }
}

/** Links a branch to the block at RIP, when that is decoded; side: 0, or 4 when it falls through. The block, else 0. */
export function link(rec: usize, side: usize): u32 {
  const next = follow();
  if (!next) return 0;
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
