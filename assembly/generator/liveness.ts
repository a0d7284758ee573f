// Which instructions of a block set flags that nothing can see: all of them are set again before anything reads them and
// before the region can be left.

import { R_FLAGS, R_IMM, RECORD_SIZE, RecordFlag } from "../abi/record";
import { wide } from "./context";
import { addressable, formOf, isMemory, kindOf, memberOf, sizeOf } from "./kinds";

import {
  FORM_CL,
  KIND_ALU,
  KIND_ANDN,
  KIND_BEXTR,
  KIND_BLSI,
  KIND_BLSMSK,
  KIND_BLSR,
  KIND_BSWAP,
  KIND_BZHI,
  KIND_CBW,
  KIND_CLD,
  KIND_CWD,
  KIND_DOUBLE_SHIFT,
  KIND_FENCE,
  KIND_LEA,
  KIND_LEAVE,
  KIND_LZCNT,
  KIND_MOV,
  KIND_MOV_LOAD_OFFSET,
  KIND_MOV_STORE_OFFSET,
  KIND_MOVBE_LOAD,
  KIND_MOVBE_STORE,
  KIND_MOVNTI,
  KIND_MOVSX8,
  KIND_MOVSX16,
  KIND_MOVSXD,
  KIND_MOVZX8,
  KIND_MOVZX16,
  KIND_MULX,
  KIND_NOP,
  KIND_POP_REG,
  KIND_POPCNT,
  KIND_PUSH_E,
  KIND_PUSH_IMM,
  KIND_PUSH_REG,
  KIND_RORX,
  KIND_SARX,
  KIND_SHIFT,
  KIND_SHLX,
  KIND_SHRX,
  KIND_STD,
  KIND_TZCNT,
  KIND_UNARY,
  KIND_XCHG,
  KIND_XCHG_ACCUMULATOR,
} from "./kinds.generated";

const dead: usize = memory.data(72); // u8 a record of the block

// what of the flags is seen later
export const FLAGS_LIVE: u32 = 0;
export const FLAGS_DEAD: u32 = 1;
/** CF alone. */
export const FLAGS_CARRY: u32 = 2;

/** What is seen of the flags that record i of the block sets. */
export function liveFlags(i: u32): u32 {
  return load<u8>(dead + i);
}

// what a record does to flags that are live after it
const SEES: u32 = 0; // reads them, or is not known
const KEEPS: u32 = 1;
const SETS: u32 = 2; // all of them
const CHANGES: u32 = 3; // some of them
const COUNTS: u32 = 4; // all but CF
const CARRIES: u32 = 5; // all, by CF

function effect(rec: usize): u32 {
  if (load<u8>(rec, R_FLAGS) & (RecordFlag.SoftImm | RecordFlag.SoftDisp)) return SEES;
  const size = sizeOf(rec);
  if ((isMemory(rec) && !addressable(rec)) || (size == 8 && !wide)) return SEES;
  const k = memberOf(rec);
  switch (kindOf(rec)) {
    case KIND_ALU:
      return k == 2 || k == 3 ? CARRIES : SETS; // ADC, SBB
    case KIND_DOUBLE_SHIFT:
      if (size == 2) return SEES;
      if (formOf(rec) & FORM_CL) return CHANGES;
      return load<u8>(rec, R_IMM) & (size == 8 ? 63 : 31) ? SETS : KEEPS;
    case KIND_POPCNT:
    case KIND_TZCNT:
    case KIND_LZCNT:
    case KIND_ANDN:
    case KIND_BLSR:
    case KIND_BLSMSK:
    case KIND_BLSI:
    case KIND_BEXTR:
    case KIND_BZHI:
      return SETS;
    case KIND_UNARY:
      return k < 2 ? COUNTS : k == 2 ? KEEPS : SETS;
    case KIND_SHIFT: {
      if (k == 2 || k == 3) return SEES;
      if (formOf(rec) & FORM_CL) return CHANGES;
      if (!(load<u8>(rec, R_IMM) & (size == 8 ? 63 : 31))) return KEEPS;
      return k < 2 ? CHANGES : SETS;
    }
    case KIND_MOV:
    case KIND_LEA:
    case KIND_MOVZX8:
    case KIND_MOVZX16:
    case KIND_MOVSX8:
    case KIND_MOVSX16:
    case KIND_MOVSXD:
    case KIND_PUSH_REG:
    case KIND_PUSH_IMM:
    case KIND_PUSH_E:
    case KIND_POP_REG:
    case KIND_CWD:
    case KIND_CBW:
    case KIND_NOP:
    case KIND_XCHG:
    case KIND_XCHG_ACCUMULATOR:
    case KIND_BSWAP:
    case KIND_LEAVE:
    case KIND_MOV_LOAD_OFFSET:
    case KIND_MOV_STORE_OFFSET:
    case KIND_FENCE:
    case KIND_CLD:
    case KIND_STD:
    case KIND_MOVBE_LOAD:
    case KIND_MOVBE_STORE:
    case KIND_MOVNTI:
    case KIND_MULX:
    case KIND_SHLX:
    case KIND_SHRX:
    case KIND_SARX:
    case KIND_RORX:
      return KEEPS;
    default:
      return SEES;
  }
}

/** Can the region be left at this record, before it did anything? */
function mayLeave(rec: usize): bool {
  switch (kindOf(rec)) {
    case KIND_PUSH_REG:
    case KIND_PUSH_IMM:
    case KIND_PUSH_E:
    case KIND_POP_REG:
    case KIND_LEAVE:
    case KIND_MOV_LOAD_OFFSET:
    case KIND_MOV_STORE_OFFSET:
      return true;
    default:
      return isMemory(rec) && kindOf(rec) != KIND_LEA && kindOf(rec) != KIND_NOP;
  }
}

/** Looks at the `count` records from `first` on, the last of which ends the block. */
export function findDead(first: usize, count: u32): void {
  let seen = FLAGS_LIVE;
  for (let i = count; i > 0; i--) {
    const rec = first + (i - 1) * RECORD_SIZE;
    const does = load<u8>(rec, R_FLAGS) & RecordFlag.Ends ? SEES : effect(rec);
    let mark = does == SEES ? FLAGS_LIVE : seen;
    if (does == CARRIES && mark == FLAGS_DEAD) mark = FLAGS_CARRY;
    // nothing of what INC and DEC set is CF, and only ALU instructions have a form that sets CF alone
    else if (mark == FLAGS_CARRY && !isAlu(rec)) mark = does == COUNTS || does == KEEPS ? FLAGS_DEAD : FLAGS_LIVE;
    store<u8>(dead + i - 1, mark);
    if (does == SEES || mayLeave(rec)) seen = FLAGS_LIVE;
    else if (does == SETS) seen = FLAGS_DEAD;
    else if (does == CARRIES) seen = FLAGS_CARRY;
    else if (does == COUNTS && seen == FLAGS_LIVE) seen = FLAGS_CARRY;
    else if (does == CHANGES && seen == FLAGS_CARRY) seen = FLAGS_LIVE;
  }
}

function isAlu(rec: usize): bool {
  return kindOf(rec) == KIND_ALU;
}
