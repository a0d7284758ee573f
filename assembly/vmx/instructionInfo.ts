// The VM-exit instruction-information field from a decoded record. @sdm 3C "Information for VM Exits Due to Instruction
// Execution", tables 27-8 to 27-14

import { R_ADDR_SHIFT, R_BASE, R_DISP, R_FLAGS, R_IDX, R_MODRM, R_SEG, R_SIZE, RecordFlag } from "../abi/record";
import { BLOCK_RIP, GPR, SEG_SIZE } from "../abi/state";

/** Bits 9:7: address size, 0 = 16 bits, 1 = 32, 2 = 64. */
function addressSize(rec: usize): u32 {
  const shift = <u32>load<u8>(rec, R_ADDR_SHIFT);
  return (shift == 48 ? 0 : shift == 32 ? 1 : 2) << 7;
}

/** R_SEG counts in units of 8 bytes of the segment array. */
function segment(rec: usize): u32 {
  return ((<u32>load<u8>(rec, R_SEG) * 8) / SEG_SIZE) << 15;
}

/** INS and OUTS (table 27-8). The segment of INS is undefined; here it is ES (0). */
export function stringIoInfo(rec: usize, input: bool): u32 {
  return input ? addressSize(rec) : addressSize(rec) | segment(rec);
}

/** A base or index slot as its register number; 16 and up: none. */
function register(slot: u32): u32 {
  return slot >> 3;
}

/** Scaling 1:0, address size 9:7, segment 17:15, index 21:18 or none 22, base 26:23 or none 27. */
function memoryOperand(rec: usize): u32 {
  const base = register(load<u8>(rec, R_BASE));
  const index = register(load<u8>(rec, R_IDX));
  let info = addressSize(rec) | segment(rec);
  info |= index < 16 ? (load<u8>(rec, R_IDX) & 7) | (index << 18) : 1 << 22;
  return info | (base < 16 ? base << 23 : 1 << 27);
}

/** LGDT, LIDT, SGDT, SIDT (table 27-10): 11 operand size, 29:28 which. */
export function tableRegisterInfo(rec: usize): u32 {
  const size: u32 = load<u8>(rec, R_SIZE) == 2 ? 0 : 1 << 11;
  return memoryOperand(rec) | size | (identity(rec) << 28);
}

/** LLDT, LTR, SLDT, STR (table 27-11): 6:3 register, 10 register form, 29:28 which. */
export function selectorInfo(rec: usize): u32 {
  const operand: u32 = inMemory(rec) ? memoryOperand(rec) : (rm(rec) << 3) | (1 << 10);
  return operand | (identity(rec) << 28);
}

/** INVEPT, INVVPID, VMCLEAR, VMPTRLD, VMPTRST, VMXON (tables 27-9 and 27-13): 31:28 register of the first two. */
export function vmxMemoryInfo(rec: usize): u32 {
  return memoryOperand(rec) | (reg(rec) << 28);
}

/** RDRAND and RDSEED (table 27-12): 6:3 register, 12:11 operand size, 0 = 16 bits, 1 = 32, 2 = 64. */
export function randomInfo(rec: usize): u32 {
  return (rm(rec) << 3) | ((<u32>load<u8>(rec, R_SIZE) >> 2) << 11);
}

/** VMREAD and VMWRITE (table 27-14): 6:3 register, 10 register form, 31:28 register with the encoding. */
export function vmxFieldInfo(rec: usize): u32 {
  const operand: u32 = inMemory(rec) ? memoryOperand(rec) : (rm(rec) << 3) | (1 << 10);
  return operand | (reg(rec) << 28);
}

function inMemory(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & RecordFlag.Mem) != 0;
}

/** modrm.reg, which tells apart the instructions of 0F 00 and of 0F 01: store and load of the first and second register. */
function identity(rec: usize): u32 {
  return reg(rec) & 3;
}

function reg(rec: usize): u32 {
  return load<u8>(rec, R_MODRM) & 15;
}

function rm(rec: usize): u32 {
  return load<u8>(rec, R_MODRM) >> 4;
}

/** Exit qualification of instructions with a memory operand: the displacement, with RIP added when it is relative to it. */
export function displacement(rec: usize): u64 {
  if (!inMemory(rec)) return 0;
  const value = load<u64>(rec, R_DISP);
  return GPR + load<u8>(rec, R_BASE) == BLOCK_RIP ? value + load<u64>(BLOCK_RIP) : value;
}
