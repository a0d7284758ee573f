// Every import of the Wasm module. Called only where the matching bit of HOOKS (or an MMIO region) is set, with all
// registers in the state block and before any effect. A callback that throws is caught by the host, which sets
// StopBit.Host and RunCode.HostError before it returns; the caller tests aborted() and abandons the instruction.
//
// Engines make a wrapper for each import when the module is instantiated, so that callbacks go through few, by their number.

/** Callback (abi/run.ts) with at most three 32-bit arguments; what it does not use is 0. */
export declare function call(callback: u32, a: u32, b: u32, c: u32): u32;
/** Callback with 64-bit arguments. */
export declare function callWide(callback: u32, a: u32, b: u64, c: u64): u32;
/** Read of an MMIO window; size 1, 2, 4, 8. */
export declare function mmioRead(address: u64, size: u32): u64;
/** Has the generator (assembly/generator) answer the requests in JIT_QUEUE. 0: generated code is not possible here. */
export declare function jitGenerate(): u32;

// --- in a coverage build only (scripts/coverage.ts) ---

/** The record at `rec` holds an instruction of this entry of the opcode tables; 0xFFFF: of none. */
export declare function decoded(rec: usize, entry: u32): void;
/** The record at `rec` is carried out. */
export declare function executed(rec: usize): void;
