// The header of a decoded block; its records follow it (blocks/cache.ts).

export const BK_HOST: u32 = 0; // u32 address of the first byte in linear memory; 0: dead
export const BK_MODE: u32 = 4; // u32 bits of the mode word that it was decoded in
export const BK_HASH_NEXT: u32 = 8; // u32 next in its hash chain
export const BK_FRAME_NEXT: u32 = 12; // u32 next in the frame's list
export const BK_COUNT: u32 = 16; // u16 instructions
export const BK_BYTES: u32 = 18; // u16 bytes of code
export const BK_SIZE: u32 = 20; // u32 bytes in the pool
export const BK_HOT: u32 = 24; // i32 runs; below 0 in the midst of a region
export const BK_REGION: u32 = 28; // u32 region that starts here
export const BK_RECORDS: u32 = 32;
