// Every import of the Wasm module. Called only where the matching bit of HOOKS (or an MMIO region) is set, with all
// registers in the state block and before any effect. A callback that throws is caught by the host, which sets
// StopBit.Host and RunCode.HostError before it returns; the caller tests aborted() and abandons the instruction.

/** Value of IN; size in bytes 1, 2, 4. */
export declare function portIn(port: u32, size: u32): u32;
export declare function portOut(port: u32, size: u32, value: u32): void;
/** Read of an MMIO window; size 1, 2, 4, 8. */
export declare function mmioRead(address: u64, size: u32): u64;
export declare function mmioWrite(address: u64, size: u32, value: u64): void;
/** 1: the callback has put EAX, EBX, ECX, EDX into COMM_CPUID; 0: not overridden. */
export declare function cpuidHook(leaf: u32, subleaf: u32): u32;
/** 0: not overridden; 1: the value is in COMM_VALUE; 2: raise #GP(0). */
export declare function rdmsrHook(index: u32): u32;
/** 0: not overridden; 1: the callback took the write; 2: raise #GP(0). */
export declare function wrmsrHook(index: u32, value: u64): u32;
/**
 * Compiles `count` function bodies of `bytes` bytes at `code`, each with its size before it and of type (i32, i32) -> i32,
 * and puts function i into the table at slot base + the u32 at places + 4 * i. The base, 0: generated code is not possible here.
 * Bit 31 set: not in the table yet, linkRegion(place, ticket, base) will ask for each.
 */
export declare function jitCompile(code: u32, bytes: u32, count: u32, places: u32, ticket: u32): u32;
