// What the core and the code generator (assembly/generator, a module of its own over the same memory) tell each other.

// why a region was left (JIT_WHY): 0, for no reason that is told
export const LEFT_INSTRUCTION = 1; // the instruction at RIP must run in the interpreter
export const LEFT_BY_BRANCH = 2; // bit: the branch branchAt() of generator/plan.ts names; not set in other values: the site of the
// last instruction of the block at RIP, whose instructions are not counted yet

// words at JIT_SHARED (layout.ts)
export const ENTRY_START = 0x23c00; // u64 COUNT when the running region was entered
export const JIT_QUEUED = 0x23c08; // u32 requests in JIT_QUEUE
export const JIT_REGION_COUNT = 0x23c0c; // u32 places in use in JIT_REGIONS, dead ones among them
export const JIT_NEXT_TARGET = 0x23c10; // u32 where to look for room in JIT_TARGETS
export const JIT_NEXT_SITE = 0x23c14; // u32 where to look for room in JIT_SITES
export const JIT_BATCH = 0x23c18; // u32 times that code was generated: the clock of the cache
export const JIT_THRESHOLD = 0x23c1c; // u32 runs after which a block is hot
export const JIT_TRANSLATED = 0x23c20; // u32 JR_TRANSLATED of what is made now
export const JIT_TLB_MASK = 0x23c24; // u32 entries of a TLB table in use, less 1

// how an access that misses the TLB goes on (jitFill)
export const FILL_WRITE = 1; // it is a write
export const FILL_STORE = 2; // the store follows at once
export const FILL_CERTAIN = 4; // the access follows for certain
export const FILL_BESIDE = 8; // the write may go to a frame with code, for which there is no write entry

// a request, in JIT_QUEUE
export const RQ_RIP = 0; // u64
export const RQ_BLOCK = 8; // u32
export const RQ_MODE = 12; // u32
export const RQ_BASE = 16; // u64 base of CS
export const RQ_END = 24; // u64 CODE_END
export const REQUEST_SIZE = 32;
export const REQUEST_MAX = 128;

// a region, in JIT_REGIONS
export const JR_SLOT = 0; // u32 table slot; 0: dead
export const JR_MODE = 4; // u32
export const JR_TOTAL = 8; // u32 longest path
export const JR_SPAN = 12; // u32 bytes from the first block to the last
export const JR_FIRST = 16; // u64 RIP of the first
export const JR_TARGETS = 24; // u32 table of entry numbers: u16 for each of JR_SPAN + 1 bytes
export const JR_PAGES = 28; // u32
export const JR_TAG = 32; // u64 context the mapping was checked in
export const JR_FLUSH = 40; // u32 flushCount at that time
export const JR_TICKET = 44; // u32 batch it was made in
export const JR_LIST = 48; // JR_PAGES_MAX x {u64 linear page, u32 host page, u32 -, u64 64-byte lines}
export const JR_PAGE = 24;
export const JR_PAGES_MAX = 4;
export const JR_TRANSLATED = 144; // u32 TransBit.Paging and Ept it was made for; bit 31: no access may go round the TLB
export const JR_USED = 148; // u32 batch at its last entry
export const JR_SITES = 152; // u32 its sites
export const JR_SITES_BYTES = 156; // u32
export const JR_BASE = 160; // u32 base of CS
export const JR_LAST = 164; // u32 CODE_END - 1
export const JR_SIZE = 168;
/** JR_SLOT of a region whose function is not in the table yet. */
export const UNLINKED: u32 = 0xffffffff;
