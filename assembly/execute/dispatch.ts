// Runs decoded records: short forms in one loop (short.generated.ts), everything else by its whole handler.
import { BK_HOST, BK_RECORDS } from "../abi/block";
import { R_FAST, R_FLAGS, R_INDEX, RECORD_SIZE, RecordFlag } from "../abi/record";
import { COUNT, COUNT_LIMIT, EFLAGS_REST, EXTRA, RIP, STOP, WORK } from "../abi/state";
import { FAST_END, FAST_MODIFY, FAST_STRING, FAST_WRITE } from "../decode/fast.generated";
import { executed } from "../imports";
import { FLAG_RF, FLAG_TF } from "../state/flags";
import { execute } from "./execute.generated";
import { countEnd, Follow, follow, link } from "./follow";
import { patches } from "./patches";
import { NO_LINK, SIDE, short, WHOLE } from "./short.generated";
import { few } from "./strings";

/** While one of these is set, instructions run one at a time. */
export const STEP_FLAGS: u32 = FLAG_TF | FLAG_RF;

/**
 * Runs decoded records from `rec` on, until the stop word is set or a block ends and the next one cannot follow: COUNT has
 * come to `limit`, something waits, it is not decoded, or `hot` is set and it has a region or has run that often. Returns
 * the last record; account() counts what it and those before it in its block completed. RIP is exact only when that
 * record ends its block. With a limit of 0 no block follows, and `rec` need not be in one; else Follow.begin() goes before.
 */
export function dispatch(rec: usize, limit: u64, hot: u32): usize {
  let end = Follow.end();
  let bounded = load<u64>(COUNT_LIMIT);
  let last = limit ? countEnd(limit) : 0;
  let counted = load<u64>(COUNT);
  for (;;) {
    // a record without a short form has nothing to do there
    const r = load<u8>(rec, R_FAST) ? short(rec - RECORD_SIZE, last, end, hot) : rec | WHOLE;
    if (COVERAGE && !load<u8>(rec, R_FAST)) executed(rec);
    rec = r & ~(WHOLE | NO_LINK | SIDE);
    const count = load<u64>(COUNT);
    if (count != counted) {
      store<u64>(WORK, load<u64>(WORK) + (count - counted));
      counted = count;
    }
    let next: u32;
    if (r & WHOLE) {
      const f = u32(load<u8>(rec, R_FAST));
      if (f == FAST_STRING ? few(rec) : f - FAST_WRITE < FAST_MODIFY - FAST_WRITE && limit && patches(rec)) {
        rec += RECORD_SIZE;
        continue;
      }
      execute(rec);
      if (load<u32>(STOP)) return rec;
      // a callback may have asked to stop, or something waits
      if (load<u32>(EXTRA) | u32(load<u64>(COUNT_LIMIT) != bounded)) {
        bounded = load<u64>(COUNT_LIMIT);
        if (limit) last = countEnd(limit);
      }
      if (!(load<u8>(rec, R_FLAGS) & RecordFlag.Ends)) {
        rec += RECORD_SIZE;
        continue;
      }
      if (!last || load<u8>(rec, R_FAST) == FAST_END || load<u32>(EFLAGS_REST) & STEP_FLAGS) return rec;
      end = Follow.end();
      const host = Follow.code(load<u64>(RIP));
      next = Follow.hashed(host);
      if (!host || load<u32>(next, BK_HOST) != host) next = follow();
    } else if (r & NO_LINK) next = link(rec, r & SIDE);
    else return rec;
    const done = u64(load<u8>(rec, R_INDEX)) + u64(load<u8>(rec, R_FAST) != FAST_END);
    if (!next || count + done >= last || !Follow.enter(next, count + done, end, hot)) return rec;
    rec = next + BK_RECORDS;
  }
  return unreachable();
}
