// A decoded instruction: RECORD_SIZE bytes in linear memory. Written by decode/, read by execute/, vmx/ and jit/.
// A record holds no linear address, so the same bytes mapped elsewhere share it.

export const RECORD_SIZE = 32;
export const R_OP = 0; // u16 operation (decode/operations.generated.ts), or one of these:
export const OP_UNDEFINED: u32 = 0;
export const OP_END: u32 = 1; // past the last instruction of a block that does not branch
export const OP_TOO_LONG: u32 = 2;
export const R_LEN = 2; // u8 bytes, 1-15
export const R_INDEX = 3; // u8 instructions before this one in its block
export const R_OFF = 4; // u16 offset of the first byte from BLOCK_RIP
export const R_SEG = 6; // u8 segment of the memory operand, SEG_* / 8
export const R_MODRM = 7; // u8 modrm.reg with REX.R in 3:0, modrm.rm with REX.B in 7:4
export const R_DONE = 7; // u8 instructions of the block, in a relative branch or END record that ends it; over R_MODRM
export const R_DST = 8; // u8 register operand as a byte offset from GPR (AH is 1, RCX is 8)
export const R_SRC = 9; // u8 second register operand, likewise
export const R_BASE = 10; // u8 base of the address: slot offset from GPR, ZERO_SLOT or BLOCK_RIP included
export const R_IDX = 11; // u8 index register, likewise; bits 1:0: its scale
export const R_FAST = 12; // u8 short form (decode/fast.generated.ts), 0: none
export const R_ADDR_SHIFT = 13; // u8 0, 32 or 48: (ea << shift) >> shift truncates to the address size
export const R_SIZE = 14; // u8 operand size in bytes: 1, 2, 4, 8
export const R_FLAGS = 15; // u8 RecordFlag
export const R_DISP = 16; // i64 displacement; RIP-relative ones are relative to BLOCK_RIP
export const R_IMM = 24; // i64 immediate, sign-extended; branch target relative to BLOCK_RIP; moffs address
// a branch that ends its block, once it has been followed: the blocks after it
export const R_LINKS = 8; // u32 poolEpoch (blocks/cache.ts) of which the links are; over R_DST to R_IDX
export const R_TAKEN = 16; // u32 block at the target, u32 block after the branch; over R_DISP
export const R_VVVV = 24; // u8 register of VEX.vvvv as a byte offset from GPR; such an instruction has no immediate
export const R_FAR_OFFSET = 24; // u32 of a far pointer
export const R_FAR_SELECTOR = 28; // u16 of a far pointer
export const R_IMM2 = 28; // u8 second immediate of ENTER (the first is the u16 at R_IMM)

export const enum RecordFlag {
  Lock = 1,
  Rep = 2, // F3
  Repne = 4, // F2
  Mem = 8, // modrm names memory
  Rex = 16,
  SoftImm = 64, // the immediate was patched in memory: generated code loads it from the record
  SoftDisp = 128, // likewise the displacement
  Ends = 32, // ends its block: RIP already holds the next instruction when the handler runs
}
