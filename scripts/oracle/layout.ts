// The sandbox both sides run a case in, and the records between them. native.c gets these numbers as macros.

/** Linear address of the window; nothing else below 4 GiB is mapped while a case runs. */
export const BASE = 0x1000_0000;

/** Offsets in the window: two executable pages, one read-only and two writable pages, the way out. */
export const CODE = 0x0000;
export const CODE_SIZE = 0x2000;
/** Out of reach of 16-bit offsets. */
export const STUB = 0x02b7_3000;
/** Limit of the 16-bit code segment in pages: the way out lies in it. */
export const CODE16_LIMIT_PAGES = 0x3fff;
export const READ_ONLY = 0x8000;
export const DATA = 0x9000;
export const DATA_SIZE = 0x2000;
/** Bytes of READ_ONLY and DATA together. */
export const IMAGE_SIZE = DATA + DATA_SIZE - READ_ONLY;

/** The way out by mode: a case ends with a JMP there. */
export const STUB_OF = { 16: STUB, 32: STUB + 0x40, 64: STUB + 0x100 } as const;
export type Bits = keyof typeof STUB_OF;

/** Where a case starts: in the middle of a page, or so that it crosses into the next one or out of the code. */
export const CODE_AT = 0x200;
/** INT3 before and after the bytes of a case. */
export const SLED = 64;
export const MAX_CODE = 64;
export const MAX_PATCH = 48;

/** Linux's user selectors, and those of the local descriptor table that the harness makes. */
export const SELECTOR = {
  code32: 0x23,
  data: 0x2b,
  code64: 0x33,
  /** Code and data of 16-bit mode: base BASE. */
  code16: 0x07,
  data16: 0x0f,
  /** FS of 32- and 16-bit mode: base at DATA, limit 1FFF. */
  small: 0x17,
  /** GS of 32- and 16-bit mode: expand-down, base BASE, from DATA on. */
  expandDown: 0x1f,
  /** Flat data that is not present, read-only data, 32-bit code that cannot be read, and absent code (Linux has no other conforming code). */
  absentData: 0x27,
  readOnly: 0x2f,
  executeOnly: 0x37,
  absentConforming: 0x3f,
  absentCode: 0x47,
} as const;

/** A case, as the harness reads it. */
export const CASE = {
  bits: 0, // u8
  length: 1, // u8
  at: 2, // u16 offset of the first byte in the window
  patchAt: 4, // u16 offset in the window
  patchLength: 6, // u16
  gpr: 8, // 16 x u64
  rflags: 136, // u64
  fsBase: 144, // u64, 64-bit mode
  gsBase: 152, // u64
  patch: 160, // MAX_PATCH bytes
  code: 208, // MAX_CODE bytes
  size: 272,
} as const;

/** A result: a head, then `words` times {u32 index, u32 low, u32 high}: 8-byte words of the image that changed. */
export const RESULT = {
  vector: 0, // u32, or REACHED_END
  error: 4, // u32
  cr2: 8, // u64, of page faults
  rip: 16, // u64
  gpr: 24, // 16 x u64
  rflags: 152, // u64
  selectors: 160, // ES CS SS DS FS GS, u16 each; CS is 0 at the end
  words: 172, // u32
  head: 176,
  word: 12,
} as const;

export const REACHED_END = 0xffff_ffff;
/** The vector of a case that did not end on the processor. */
export const STUCK = 0xffff_fffe;
export const MAX_WORDS = IMAGE_SIZE / 8;
