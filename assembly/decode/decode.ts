// Bytes -> one record. Touches no guest register. @sdm 2A "Instruction Format"

import {
  OP_END,
  OP_TOO_LONG,
  OP_UNDEFINED,
  R_ADDR_SHIFT,
  R_BASE,
  R_DISP,
  R_DST,
  R_FAR_OFFSET,
  R_FAR_SELECTOR,
  R_FAST,
  R_FLAGS,
  R_IDX,
  R_IMM,
  R_IMM2,
  R_INDEX,
  R_LEN,
  R_MODRM,
  R_OFF,
  R_OP,
  R_SEG,
  R_SIZE,
  R_SRC,
  R_VVVV,
  RecordFlag,
} from "../abi/record";
import { ModeBit, SEG_CS, SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_SS } from "../abi/state";
import { decoded } from "../imports";
import { FAST_END } from "./fast.generated";
import { available, shapeOf } from "./shape";
import { shortForm } from "./shortForm";
import {
  ARRANGE_E,
  ARRANGE_EG,
  ARRANGE_GE,
  ARRANGE_R,
  ARRANGE_SEG,
  ARRANGE_Z,
  ENTRY_BYTES,
  F_BYTE,
  F_DEFAULT64,
  F_ELSE,
  F_ENDS,
  F_FORCE64,
  F_LOCK,
  F_MEMFORM,
  F_MEMONLY,
  F_NATURAL,
  F_NO16,
  F_NO64,
  F_NODE,
  F_NOQUAD,
  F_ONLY64,
  F_RM8,
  F_SIZED,
  F_VVVV,
  IMM_FAR,
  IMM_IB,
  IMM_IV,
  IMM_IW,
  IMM_IWIB,
  IMM_IZ,
  IMM_J8,
  IMM_JZ,
  IMM_OFFSET,
  IMM_ONE,
  MAP_0F3A,
  MAP_0F38,
  MAP_VEX0F38,
  NODE_DIGIT,
  NODE_HIGH,
  NODE_LOW,
  NODE_MOD,
  NODE_MODE,
  NODE_PREFIX,
  OPCODES,
  OPCODES_0F,
  OPCODES_NODES,
} from "./table.generated";

/** Byte offset from GPR of the slots that stand for "no register" and for BLOCK_RIP. */
const NO_REGISTER: u32 = 128;
const RIP_SLOT: u32 = 136;
const MAX_LENGTH: u32 = 15;

let start: usize = 0;
let at: usize = 0;
let end: usize = 0;
let short: bool = false; // ran past the bytes there are

function next8(): u32 {
  if (at >= end) {
    short = true;
    return 0;
  }
  return load<u8>(at++);
}
function next16(): u32 {
  const low = next8();
  return low | (next8() << 8);
}
function next32(): u32 {
  const low = next16();
  return low | (next16() << 16);
}
function next64(): u64 {
  const low = u64(next32());
  return low | (u64(next32()) << 32);
}

/** Register number -> byte offset from GPR; without REX byte registers 4-7 are AH CH DH BH. */
function registerSlot(n: u32, byte: bool, rex: u32): u32 {
  return byte && rex == 0 && n >= 4 && n < 8 ? ((n - 4) << 3) + 1 : n << 3;
}

const base16: usize = memory.data<u8>([24, 24, 40, 40, 48, 56, 40, 24]); // BX BX BP BP SI DI BP BX
const index16: usize = memory.data<u8>([48, 56, 48, 56, 128, 128, 128, 128]); // SI DI SI DI

let segment: u32 = 0; // chosen segment + 1, 0: default
let ripRelative: bool = false;

/** The memory operand of a modrm byte with mod != 3. */
function memoryOperand(rec: usize, modrm: u32, rex: u32, addressShift: u32, code64: bool): void {
  const mod = modrm >> 6;
  const rm = modrm & 7;
  let base = NO_REGISTER;
  let index = NO_REGISTER;
  let scale: u32 = 0;
  let disp: i64 = 0;
  let stack = false; // SS is the default segment
  ripRelative = false;
  if (addressShift == 48) {
    if (mod == 0 && rm == 6) disp = i64(next16());
    else {
      base = load<u8>(base16 + rm);
      index = load<u8>(index16 + rm);
      stack = base == 40;
      if (mod == 1) disp = i64(i8(next8()));
      else if (mod == 2) disp = i64(i16(next16()));
    }
  } else {
    if (rm == 4) {
      const sib = next8();
      scale = sib >> 6;
      const i = ((sib >> 3) & 7) | ((rex & 2) << 2);
      if (i != 4) index = i << 3;
      else scale = 0;
      const b = sib & 7;
      if (b == 5 && mod == 0) disp = i64(i32(next32()));
      else {
        base = (b | ((rex & 1) << 3)) << 3;
        stack = base == 32 || base == 40;
      }
    } else if (rm == 5 && mod == 0) {
      disp = i64(i32(next32()));
      if (code64) {
        base = RIP_SLOT;
        ripRelative = true;
      }
    } else {
      base = (rm | ((rex & 1) << 3)) << 3;
      stack = base == 40;
    }
    if (mod == 1) disp = i64(i8(next8()));
    else if (mod == 2) disp = i64(i32(next32()));
  }
  store<u8>(rec, base, R_BASE);
  store<u8>(rec, index | scale, R_IDX);
  store<i64>(rec, disp, R_DISP);
  store<u8>(rec, (segment ? segment - 1 : stack ? SEG_SS : SEG_DS) >> 3, R_SEG);
}

/** Entry number of a record that holds no instruction of the tables (coverage build). */
const NO_ENTRY: u32 = 0xffff;

function finish(rec: usize, op: u32, flags: u32): u32 {
  store<u16>(rec, op, R_OP);
  store<u8>(rec, flags, R_FLAGS);
  store<u8>(rec, u32(at - start), R_LEN);
  return u32(at - start);
}

/** Where the instruction decoded last has a sign-extended immediate of four bytes; 0: it has none. */
export let longImmediate: u32 = 0;

/** An empty record. */
function begin(rec: usize, offset: u32, index: u32): void {
  for (let i: usize = 0; i < 32; i += 8) store<u64>(rec + i, 0);
  store<u16>(rec, offset, R_OFF);
  store<u8>(rec, index, R_INDEX);
}

/**
 * Decodes the instruction at `from` into `rec`; `bytes` of it can be read. `offset` and `index` are its place in the block.
 * Returns its length, or 0 when more bytes are needed. What cannot be decoded becomes a record that raises #UD or #GP(0).
 */
export function decode(from: usize, bytes: u32, rec: usize, mode: u32, offset: u32, index: u32): u32 {
  start = from;
  at = from;
  const limited = bytes > MAX_LENGTH;
  end = from + min<u32>(bytes, MAX_LENGTH);
  short = false;
  begin(rec, offset, index);
  if (COVERAGE) decoded(rec, NO_ENTRY);

  const code64 = (mode & ModeBit.Code64) != 0;
  const big = (mode & (ModeBit.Code32 | ModeBit.Code64)) != 0;
  let rex: u32 = 0;
  let operand16 = false; // 66 seen
  let addressSwap = false; // 67 seen
  let prefixes: u32 = 0; // RecordFlag of LOCK, F3, F2
  segment = 0;
  let opcode: u32 = 0;
  let more = true;
  while (more) {
    opcode = next8();
    if (short) return tooLong(rec, limited);
    let legacy = true;
    switch (opcode) {
      case 0x26:
        if (!code64) segment = SEG_ES + 1;
        break;
      case 0x2e:
        if (!code64) segment = SEG_CS + 1;
        break;
      case 0x36:
        if (!code64) segment = SEG_SS + 1;
        break;
      case 0x3e:
        if (!code64) segment = SEG_DS + 1;
        break;
      case 0x64:
        segment = SEG_FS + 1;
        break;
      case 0x65:
        segment = SEG_GS + 1;
        break;
      case 0x66:
        operand16 = true;
        break;
      case 0x67:
        addressSwap = true;
        break;
      case 0xf0:
        prefixes |= RecordFlag.Lock;
        break;
      case 0xf2:
        prefixes = (prefixes & RecordFlag.Lock) | RecordFlag.Repne;
        break;
      case 0xf3:
        prefixes = (prefixes & RecordFlag.Lock) | RecordFlag.Rep;
        break;
      default:
        legacy = false;
    }
    if (legacy) {
      rex = 0; // REX counts only right before the opcode
      continue;
    }
    more = code64 && (opcode & 0xf0) == 0x40;
    if (more) rex = opcode;
  }
  const addressShift: u32 = code64 ? (addressSwap ? 32 : 0) : big != addressSwap ? 32 : 48;
  // mandatory prefix: 0 none, 1 66, 2 F3, 3 F2
  let mandatory: u32 = prefixes & RecordFlag.Rep ? 2 : prefixes & RecordFlag.Repne ? 3 : operand16 ? 1 : 0;

  let entry: usize;
  let vex = false;
  let vvvv: u32 = 0;
  let bad = false;
  let payload: u32 = 0;
  const extended = (opcode & 0xfe) == 0xc4 || opcode == 0x62;
  if (extended) payload = next8();
  if (opcode == 0x0f) {
    opcode = next8();
    if ((opcode & 0xf8) == 0x38) {
      // 0F38 and 0F3A; 39 and 3B to 3F are undefined and as long
      bad = (opcode & 5) != 0;
      entry = OPCODES + (opcode & 2 ? MAP_0F3A : MAP_0F38);
      opcode = next8();
    } else entry = OPCODES_0F + opcode * ENTRY_BYTES;
  } else if (extended && (code64 || payload >= 0xc0) && (opcode == 0xc5 || (payload & 3) != 0)) {
    // @sdm 2A "Intel Advanced Vector Extensions (Intel AVX)": instruction encoding
    //   C5: R vvvv L pp     C4: R X B mmmmm, then W vvvv L pp; R X B vvvv inverted
    // 62 (EVEX, three bytes of which 1:0 of the first are the map) is undefined and as long as it says
    vex = true;
    let map: u32 = 1;
    if (opcode == 0x62) {
      bad = true;
      map = payload & 3;
      next16();
      mandatory = 0;
    } else {
      bad = rex != 0 || operand16 || prefixes != 0 || (mode & ModeBit.Protected) == 0;
      if (opcode == 0xc4) {
        map = payload & 31;
        rex = (~payload >> 5) & 7;
        payload = next8();
        rex |= (payload >> 4) & 8;
      } else rex = (~payload >> 5) & 4;
      if (!code64) rex = 0;
      rex |= 0x40; // byte registers are never AH to BH
      vvvv = (~payload >> 3) & 15;
      bad = bad || (payload & 4) != 0 || map > 3;
      mandatory = payload & 3;
      map &= 3;
    }
    operand16 = false;
    opcode = next8();
    if (map == 1) {
      bad = true;
      entry = OPCODES_0F + opcode * ENTRY_BYTES;
    } else entry = OPCODES + MAP_VEX0F38 + (map - 2) * ENTRY_BYTES;
  } else {
    if (extended && !short) at--;
    entry = OPCODES + opcode * ENTRY_BYTES;
  }
  if (short) return tooLong(rec, limited);

  let modrm: u32 = 0;
  let haveModrm = false;
  let base = entry;
  let shape = shapeOf(entry);
  while (load<u32>(shape, 2) & F_NODE) {
    const kind = u32(load<u8>(shape));
    base = OPCODES_NODES + u32(load<u16>(entry)) * ENTRY_BYTES;
    let choice: u32;
    if (kind == NODE_PREFIX) choice = mandatory;
    else if (kind == NODE_HIGH) choice = opcode >> 4;
    else if (kind == NODE_LOW) choice = opcode & 15;
    else if (kind == NODE_MODE) choice = u32(code64);
    else {
      if (!haveModrm) modrm = next8();
      haveModrm = true;
      choice = kind == NODE_MOD ? u32(modrm >= 0xc0) : kind == NODE_DIGIT ? (modrm >> 3) & 7 : modrm & 7;
    }
    entry = base + choice * ENTRY_BYTES;
    shape = shapeOf(entry);
  }
  if (short) return tooLong(rec, limited);
  if (!available(shape)) {
    if (load<u32>(shape, 2) & F_ELSE) {
      entry = base;
      shape = shapeOf(entry);
    } else bad = true;
  }
  let op = u32(load<u16>(entry));
  const format = u32(load<u8>(shape));
  const flags = load<u32>(shape, 2);
  const arrange = format & 7;
  const imm = format >> 3;

  // operand size
  let size: u32;
  if (flags & F_BYTE) size = 1;
  else if (flags & F_NATURAL) size = code64 ? 8 : 4;
  else if (code64) {
    if (flags & F_FORCE64) size = 8;
    else if (rex & 8)
      size = flags & F_NOQUAD ? 4 : 8; // REX.W beats 66
    else if (operand16 && !(flags & F_NO16)) size = 2;
    else size = flags & F_DEFAULT64 ? 8 : 4;
  } else size = flags & F_NO16 || big != operand16 ? 4 : 2;
  store<u8>(rec, size, R_SIZE);
  store<u8>(rec, addressShift, R_ADDR_SHIFT);
  store<u8>(rec, (segment ? segment - 1 : SEG_DS) >> 3, R_SEG);
  store<u8>(rec, NO_REGISTER, R_BASE);
  store<u8>(rec, NO_REGISTER, R_IDX);

  let recordFlags = prefixes;
  if (rex) recordFlags |= RecordFlag.Rex;
  if (flags & F_ENDS) recordFlags |= RecordFlag.Ends;

  const byte = size == 1;
  let isMemory = false;
  switch (arrange) {
    case ARRANGE_EG:
    case ARRANGE_GE:
    case ARRANGE_E:
    case ARRANGE_R: {
      if (!haveModrm) modrm = next8();
      const reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
      const rm = (modrm & 7) | ((rex & 1) << 3);
      store<u8>(rec, reg | (rm << 4), R_MODRM);
      isMemory = modrm < 0xc0 && arrange != ARRANGE_R;
      if (isMemory) {
        memoryOperand(rec, modrm, rex, addressShift, code64);
        recordFlags |= RecordFlag.Mem;
      } else ripRelative = false;
      const rmSlot = registerSlot(rm, byte || (flags & F_RM8) != 0, rex);
      const regSlot = registerSlot(reg, byte, rex);
      if (arrange == ARRANGE_GE) {
        store<u8>(rec, regSlot, R_DST);
        store<u8>(rec, rmSlot, R_SRC);
      } else {
        store<u8>(rec, rmSlot, R_DST);
        store<u8>(rec, regSlot, R_SRC);
      }
      break;
    }
    case ARRANGE_Z:
      store<u8>(rec, registerSlot((opcode & 7) | ((rex & 1) << 3), byte, rex), R_DST);
      store<u8>(rec, (opcode & 7) | ((rex & 1) << 3), R_MODRM);
      break;
    case ARRANGE_SEG:
      store<u8>(rec, (opcode >> 3) & 7, R_MODRM);
      break;
    default: // accumulator or nothing: offset 0 is RAX
  }

  if (vex) {
    if (flags & F_VVVV) store<u8>(rec, (code64 ? vvvv : vvvv & 7) << 3, R_VVVV);
    else if (vvvv != 0) bad = true;
  }
  longImmediate = 0;
  switch (imm) {
    case IMM_IB:
      store<i64>(rec, i64(i8(next8())), R_IMM);
      break;
    case IMM_IZ:
    case IMM_IV:
      if (size == 8 && imm == IMM_IV) store<u64>(rec, next64(), R_IMM);
      else if (size == 2) store<i64>(rec, i64(i16(next16())), R_IMM);
      else {
        longImmediate = u32(at - start);
        store<i64>(rec, i64(i32(next32())), R_IMM);
      }
      break;
    case IMM_IW:
      store<u64>(rec, u64(next16()), R_IMM);
      break;
    case IMM_IWIB:
      store<u64>(rec, u64(next16()), R_IMM);
      store<u8>(rec, next8(), R_IMM2);
      break;
    case IMM_ONE:
      store<u64>(rec, 1, R_IMM);
      break;
    case IMM_FAR:
      store<u32>(rec, size == 2 ? next16() : next32(), R_FAR_OFFSET);
      store<u16>(rec, next16(), R_FAR_SELECTOR);
      break;
    case IMM_J8: {
      const d = i64(i8(next8()));
      store<i64>(rec, d + i64(at - start) + i64(offset), R_IMM);
      break;
    }
    case IMM_JZ: {
      const d = size == 2 ? i64(i16(next16())) : i64(i32(next32()));
      store<i64>(rec, d + i64(at - start) + i64(offset), R_IMM);
      break;
    }
    case IMM_OFFSET:
      store<u64>(rec, addressShift == 0 ? next64() : addressShift == 32 ? u64(next32()) : u64(next16()), R_IMM);
      break;
    default:
  }
  if (short) return tooLong(rec, limited);
  if (isMemory && ripRelative) store<i64>(rec, load<i64>(rec, R_DISP) + i64(at - start) + i64(offset), R_DISP);

  // legality
  if (op == OP_UNDEFINED) bad = true;
  if (code64 && flags & F_NO64) bad = true;
  if (!code64 && flags & F_ONLY64) bad = true;
  if (flags & F_MEMONLY && !isMemory) bad = true;
  if (prefixes & RecordFlag.Lock && !(flags & F_LOCK && isMemory)) bad = true;
  if (COVERAGE && (!bad || op == OP_UNDEFINED)) decoded(rec, u32(entry - OPCODES) / ENTRY_BYTES);
  if (bad) return finish(rec, OP_UNDEFINED, recordFlags | RecordFlag.Ends);

  if (flags & F_SIZED) {
    op += size == 8 ? 2 : size == 4 ? 1 : 0;
    if (isMemory && flags & F_MEMFORM) op += 3;
  } else if (isMemory && flags & F_MEMFORM) op += 1;
  finish(rec, op, recordFlags);
  store<u8>(rec, shortForm(rec, op, opcode, mode), R_FAST);
  return u32(at - start);
}

/** The bytes ended: either the instruction is over 15 bytes long, or the rest lies in the next page. */
function tooLong(rec: usize, limited: bool): u32 {
  if (!limited && u32(end - start) < MAX_LENGTH) return 0;
  at = end;
  return finish(rec, OP_TOO_LONG, RecordFlag.Ends);
}

/** The pseudo-record that closes a block which no branch ends. */
export function closeBlock(rec: usize, offset: u32, index: u32): void {
  begin(rec, offset, index);
  if (COVERAGE) decoded(rec, NO_ENTRY);
  store<u16>(rec, OP_END, R_OP);
  store<u8>(rec, FAST_END, R_FAST);
  store<u8>(rec, RecordFlag.Ends, R_FLAGS);
}
