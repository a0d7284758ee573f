// Which stores of a region are taken to meet frames with code again and again, as variables and stacks beside code do.
import { BK_HOST } from "../abi/block";
import { R_BASE, R_FLAGS, R_OFF, RECORD_SIZE, RecordFlag } from "../abi/record";
import { oftenStaged } from "./core";
import { blockOf, nodeCount } from "./graph";
import { isMemory, kindOf, NO_REGISTER, writes } from "./kinds";
import {
  KIND_CALL_E,
  KIND_CALL_REL,
  KIND_MOV_STORE_OFFSET,
  KIND_PUSH_E,
  KIND_PUSH_IMM,
  KIND_PUSH_REG,
  KIND_PUSH_SEG,
  KIND_PUSHA,
  KIND_PUSHF,
} from "./kinds.generated";
import { firstRecord } from "./plan";

const OTHER: u32 = 0;
const STACK: u32 = 1;
const CONSTANT: u32 = 2;

/** Kinds of which one store has shown it: a stack and variables at constant addresses tend to lie together. */
let kinds: u32 = 0;

/** Does it push, or store to a constant address? */
function kindOfStore(rec: usize): u32 {
  switch (kindOf(rec)) {
    case KIND_PUSH_REG:
    case KIND_PUSH_IMM:
    case KIND_PUSH_E:
    case KIND_PUSH_SEG:
    case KIND_PUSHF:
    case KIND_PUSHA:
    case KIND_CALL_REL:
    case KIND_CALL_E:
      return STACK;
    case KIND_MOV_STORE_OFFSET:
      return CONSTANT;
    default:
      return isMemory(rec) && load<u8>(rec, R_BASE) >= NO_REGISTER && writes(rec) ? CONSTANT : OTHER;
  }
}

/** Looks at the blocks of the planned region. */
export function findBeside(): void {
  kinds = 0;
  for (let n: u32 = 1; n < nodeCount; n++) {
    const host = load<u32>(blockOf(n), BK_HOST);
    for (let rec = firstRecord(blockOf(n)); ; rec += RECORD_SIZE) {
      if (oftenStaged(host + load<u16>(rec, R_OFF))) kinds |= kindOfStore(rec);
      if (load<u8>(rec, R_FLAGS) & RecordFlag.Ends) break;
    }
  }
}

/** Is the store of this record, if it has one, taken to be beside code? `host`: of its first byte. */
export function besideCode(rec: usize, host: u32): bool {
  return (kinds && (kindOfStore(rec) & kinds) != 0) || oftenStaged(host);
}
