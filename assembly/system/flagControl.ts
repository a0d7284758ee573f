// RFLAGS writes of POPF, IRET, STI: which bits an image may change, and what follows from a change.
// @sdm 2B "POPF/POPFD/POPFQ", 2A "IRET/IRETD/IRETQ"
import { EFLAGS_REST } from "../abi/state";
import {
  FLAG_AC,
  FLAG_AF,
  FLAG_CF,
  FLAG_DF,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_OF,
  FLAG_PF,
  FLAG_RF,
  FLAG_SF,
  FLAG_TF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  FLAG_ZF,
} from "../abi/x86";
import { setRflags } from "../state/flags";
import { iopl } from "./tss";

/** Bits that any program may change. */
export const FLAGS_FREE: u64 = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_TF | FLAG_DF | FLAG_OF | FLAG_NT;
/** Further ones of 32- and 64-bit operands. */
export const FLAGS_WIDE: u64 = FLAG_AC | FLAG_ID;

/** Bits that POPF and IRET may change at a privilege level outside vm86. */
export function changeableFlags(size: u32, level: u32, iret: bool): u64 {
  let mask = FLAGS_FREE;
  if (size > 2) {
    mask |= FLAGS_WIDE;
    if (iret) mask |= FLAG_RF;
  }
  if (level <= iopl()) mask |= FLAG_IF;
  if (level == 0) {
    mask |= FLAG_IOPL;
    if (iret && size > 2) mask |= FLAG_VIF | FLAG_VIP;
  }
  return mask;
}

/** Replaces the bits of mask, FLAGS_FREE among them. True: VM or AC changed, so that the caller has to call recomputeMode(). */
export function replaceFlags(image: u64, mask: u64): bool {
  const before = load<u32>(EFLAGS_REST);
  setRflags((<u64>before & ~mask) | (image & mask));
  const after = load<u32>(EFLAGS_REST);
  return ((before ^ after) & (FLAG_VM | FLAG_AC)) != 0;
}
