// The map of the core's linear memory. All addresses are byte offsets into the Wasm memory.
//
//   0x0000  null guard
//   0x0800  the module's global variables (scripts/inline.mjs)
//   0x1000  STATE      the processor: everything that differs between processors (abi/state.ts)
//   0x2000  COMM       arguments and results between core and host
//   0x3000  REGIONS    physical memory map, 64 entries of 32 bytes, sorted by base
//   0x3800  STAGING    write log: bytes that commit after an instruction can no longer fault
//   0x4000  static data of the compiled module (memoryBase in asconfig.json)
//   0x20000 CPUID_TABLE
//   0x21000 OPERATIONS
//   0x22000 ...        contexts, traps, TLB, block cache, generated code, per-frame metadata, guest frames (last)

export const STATE = 0x1000;
export const STATE_SIZE = 0x1000;
export const COMM = 0x2000;
export const COMM_SIZE = 0x1000;

export const REGIONS = 0x3000;
export const REGION_MAX = 64;
export const REGION_SIZE = 32;
// region entry
export const RG_BASE = 0; // u64 guest-physical address, page aligned
export const RG_BYTES = 8; // u64 length, page aligned
export const RG_HOST = 16; // u32 address of the first frame in linear memory (0 for MMIO windows)
export const RG_FLAGS = 20; // u32 RegionFlag

export const STAGING = 0x3800;
export const STAGING_SIZE = 0x800;

export const STATIC_DATA = 0x4000;

export const CPUID_TABLE = 0x20000;
export const CPUID_MAX = 128;
export const CPUID_ENTRY = 32;
// CPUID entry
export const CE_LEAF = 0; // u32
export const CE_SUBLEAF = 4; // u32
export const CE_FLAGS = 8; // u32, CPUID_HAS_SUBLEAF
export const CE_EAX = 12;
export const CE_EBX = 16;
export const CE_ECX = 20;
export const CE_EDX = 24;
export const CPUID_HAS_SUBLEAF = 1;

export const OPERATIONS = 0x21000; // {u8 kind, u8 member, u8 operand bytes, u8 form} of each operation (decode/tables.ts)
export const OPERATIONS_END = 0x22000;

export const CONTEXTS = 0x22000; // address-space contexts of the TLB

// kept answers of CPUID, by the low bits of the leaf: {u32 leaf, subleaf, eax, ebx, ecx, edx} (system/cpuidCache.ts)
export const CPUID_ANSWERS = 0x23000;
export const CPUID_ANSWER = 24;
export const CPUID_ANSWER_MASK = 7;

// MSRs whose access only loads or stores, by the low bits of the index: {u32 index, u32 place, u64 bits that a stored value may
// have} (system/msrPlaces.ts)
export const MSR_READS = 0x23400;
export const MSR_WRITES = 0x23800;
export const MSR_PLACE = 16;
export const MSR_PLACE_MASK = 63;

export const JIT_SHARED = 0x23c00; // words that the core and the generator share (abi/generator.ts)

// addresses the host asked to be told of: sorted lists of disjoint ranges (memory/traps.ts)
export const TRAPS = 0x24000;
export const TRAP_LIST_BYTES = 0x3000;
export const TRAP_RANGE = 24; // u64 first, u64 last, u32 TrapKind bits, u32 unused
export const TRAP_MAX = 512; // ranges a list
export const enum TrapList {
  LinearCode = 0,
  PhysicalCode = 1,
  LinearData = 2,
  PhysicalData = 3,
}
export const enum TrapKind {
  Break = 1, // stop before the instruction
  CodeHook = 2, // call out before the instruction
  BlockHook = 4, // call out before the first instruction of a block
  DenyFetch = 8, // stop before the instruction: its bytes must not be executed
  WatchRead = 16, // stop after an instruction that read
  WatchWrite = 32,
  ReadHook = 64, // call out before a read
  WriteHook = 128, // call out before memory changes
  DenyRead = 256, // stop before an instruction that would read
  DenyWrite = 512,
}

export const JIT_WORK = 0x30000; // control-flow graph of the function being generated, 64 KiB

/** TLB_SPACES times two tables (supervisor, user) of TLB_ENTRIES: contexts that take turns do not displace each other's entries. */
export const TLB = 0x40000;
export const TLB_ENTRIES = 4096;
export const TLB_ENTRY = 32;
export const TLB_TABLE = 0x20000; // bytes of one table; this bit of its address is set in that of the user
export const TLB_SPACE = 0x40000;
export const TLB_SPACES = 8;
// TLB entry
export const TE_READ = 0; // u64 tag: linear page | context << 52; context is never 0, so tag 0 matches nothing
export const TE_WRITE = 8;
export const TE_EXEC = 16;
export const TE_ADDEND = 24; // u32: linear (low 32 bits) + addend = address in linear memory
export const TE_WRITABLE = 28; // u32: while the read tag matches, a write needs no walk, whatever flags its frame has

export const BLOCK_HASH = 0x240000;
export const BLOCK_HASH_ENTRIES = 0x8000;
// V8 collects garbage for a young memory of 32 MiB or more, at the next ArrayBuffer: with 16 MiB of RAM all this stays below
export const BLOCK_POOL = 0x260000; // decoded records
export const BLOCK_POOL_END = 0x960000;

// generated code (jit/, generator/)
export const JIT_CODE = 0x960000; // function bodies of a module
export const JIT_CODE_END = 0x9e0000;
export const JIT_BODY = 0x9e0000; // the function being generated
export const JIT_BODY_END = 0xa20000;
export const JIT_REGIONS = 0xa20000; // regions
export const JIT_REGION_MAX = 7680;
export const JIT_QUEUE = 0xb5b000; // requests
export const JIT_PLACES = 0xb5c000; // u32 places of the regions of a batch
export const GENERATOR_DATA = 0xb5d000; // static data of the generator (memoryBase in asconfig.generator.json)
export const GENERATOR_DATA_END = 0xb60000;
export const JIT_SITES = 0xb60000; // records that generated code has the interpreter run
export const JIT_SITES_END = 0xc60000;
export const JIT_TARGETS = 0xc60000; // tables of branch targets
export const JIT_TARGETS_END = 0xe60000;
export const JIT_JUMPS = 0xe60000; // cache of entries by RIP
export const JIT_JUMPS_END = 0xea0000;

export const FRAME_META = 0xea0000; // per-frame metadata; guest frames follow it
export const FRAME_META_BYTES = 17; // of each frame: flags, lines with code, list of blocks, write entry
/** Bytes after FRAME_META, beside one a frame, that generated code reads without a look at its address. */
export const FLAGS_REACH = 0x100010;
/** Wasm pages that the module asks of the memory it imports ("initialMemory" of asconfig.json). */
export const MEMORY_MIN = 251;

export const PAGE = 4096;

export const enum RegionFlag {
  Ram = 1,
  ReadOnly = 2,
  Mmio = 4,
}

// one byte a frame; a set bit means no write TLB entry for the frame
export const enum PageFlag {
  NotRam = 1,
  ReadOnly = 2,
  Code = 4,
  PageTable = 8,
  Traps = 16, // blocks of this frame end before every offset that a code trap may stand at
  DirtyLog = 32, // unchanged since the host copied it last
  WriteCached = 64, // some write TLB entry may exist; not a restriction
  Vmcs = 128, // a VMCS region whose checks are cached
}
/** Flags that forbid a write TLB entry. */
export const PAGE_NO_WRITE_ENTRY = 191;
