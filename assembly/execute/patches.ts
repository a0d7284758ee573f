// The short way of a MOV that writes the immediate of an instruction nearby again: memory and the record take the value,
// and nothing has to be looked up.
import { R_FAST, R_IMM, R_SIZE, R_SRC } from "../abi/record";
import { GPR } from "../abi/state";
import { patchedBefore, setImmediate } from "../blocks/cache";
import { FAST_WRITE } from "../decode/fast.generated";
import { codePlace } from "../memory/access";
import { effectiveAddress, segmentOf } from "./operands";

/** `rec` is a MOV to memory. False: nothing was done. */
export function patches(rec: usize): bool {
  const form = u32(load<u8>(rec, R_FAST)) - FAST_WRITE;
  if (load<u8>(rec, R_SIZE) != 4) return false;
  const at = codePlace(segmentOf(rec), effectiveAddress(rec), 4);
  if (!at) return false;
  const memo = patchedBefore(at, 4);
  if (!memo) return false;
  const value = form & 1 ? load<i32>(rec, R_IMM) : load<i32>(load<u8>(rec, R_SRC), GPR);
  store<i32>(at, value);
  setImmediate(memo, value);
  return true;
}
