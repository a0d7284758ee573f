// Segments of the usual kind, for the short ways of gates, returns and loads: the TLB has the descriptor, which is that of a
// present segment that was accessed before. Whatever else there is takes the long way, which alone raises faults.
import {
  CPL,
  DEBUG_WATCH,
  DELIVERING,
  EXTRA,
  INTERRUPTIBILITY,
  MODE,
  ModeBit,
  SEG_CS,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
} from "../abi/state";
import {
  BLOCK_MOV_SS,
  BLOCK_STI,
  SA_ACCESSED,
  SA_CODE,
  SA_CONFORMING,
  SA_DB,
  SA_DOWN,
  SA_DPL,
  SA_DPL_SHIFT,
  SA_L,
  SA_P,
  SA_S,
  SA_WRITE,
  SEL_RPL,
} from "../abi/x86";
import { attrDpl, Descriptor, descriptorAttr, descriptorBase } from "./descriptor";
import { recomputeTransfer } from "./mode";
import { setSegment } from "./segments";
import { canonical } from "./width";

const CS: usize = SEGS + SEG_CS;

export class Usual {
  /** 64-bit mode, or protected mode outside of IA-32e mode. */
  @inline static mode(): bool {
    const mode = load<u32>(MODE) & (ModeBit.Protected | ModeBit.LongMode | ModeBit.Code64);
    return mode == ModeBit.Protected || (mode & ModeBit.Code64) != 0;
  }

  /** Nothing waits at the next boundary, and nothing watches. */
  @inline static quiet(): bool {
    return !(
      load<u32>(EXTRA) |
      (load<u32>(INTERRUPTIBILITY) & ~(BLOCK_STI | BLOCK_MOV_SS)) |
      load<u32>(DEBUG_WATCH) |
      load<u32>(DELIVERING)
    );
  }
}

/** Descriptor of non-conforming code of the width of the present code, when the offset lies in it; else 0. Its DPL is the caller's to check. */
export function usualCode(selector: u32, offset: u64): u64 {
  const d = Descriptor.cached(selector);
  const have = descriptorAttr(d) & (SA_P | SA_S | SA_CODE | SA_CONFORMING | SA_ACCESSED | SA_L | SA_DB);
  const want = (load<u32>(CS, SG_ATTR) & (SA_L | SA_DB)) | SA_P | SA_S | SA_CODE | SA_ACCESSED;
  const inside = load<u32>(MODE) & ModeBit.Code64 ? canonical(offset) : offset <= <u64>Descriptor.limit(d);
  return have == want && inside ? d : 0;
}

/** Descriptor of a 32-bit stack for a privilege level, else 0. */
export function usualStack(selector: u32, level: u32): u64 {
  const d = Descriptor.cached(selector);
  const have = descriptorAttr(d) & (SA_P | SA_S | SA_CODE | SA_DOWN | SA_WRITE | SA_ACCESSED | SA_DB | SA_DPL);
  const want = SA_P | SA_S | SA_WRITE | SA_ACCESSED | SA_DB | (level << SA_DPL_SHIFT);
  return have == want && (selector & SEL_RPL) == level ? d : 0;
}

/** Enters usualCode() at its DPL; changed: so have the CPL, SS or RFLAGS.AC. */
export function enterCode(selector: u32, d: u64, changed: bool): void {
  const attr = descriptorAttr(d);
  const base = descriptorBase(d);
  const limit = Descriptor.limit(d);
  const level = attrDpl(attr);
  const loaded = (selector & ~SEL_RPL) | level;
  if (
    !changed &&
    loaded == load<u32>(CS, SG_SELECTOR) &&
    attr == load<u32>(CS, SG_ATTR) &&
    base == load<u64>(CS, SG_BASE) &&
    limit == load<u32>(CS, SG_LIMIT)
  ) {
    return;
  }
  setSegment(SEG_CS, loaded, base, limit, attr);
  store<u32>(CPL, level);
  recomputeTransfer();
}
