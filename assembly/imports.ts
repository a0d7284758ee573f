// Every import of the Wasm module. Called only where the matching bit of HOOKS (or an MMIO region) is set, with all
// registers in the state block and before any effect. A callback that throws is caught by the host, which sets
// StopBit.Host and RunCode.HostError before it returns; the caller tests aborted() and abandons the instruction.
//
// Engines make a wrapper for each type of import when the module is first instantiated, a tenth of a millisecond for each:
// most callbacks have one of two types, and `none` is an argument that is not used.

/** Value of IN; size in bytes 1, 2, 4. */
export declare function portIn(port: u32, size: u32, none: u32): u32;
export declare function portOut(port: u32, size: u32, value: u32): u32;
/** Read of an MMIO window; size 1, 2, 4, 8. */
export declare function mmioRead(address: u64, size: u32): u64;
export declare function mmioWrite(size: u32, address: u64, value: u64): u32;
/** 1: the callback has put EAX, EBX, ECX, EDX into COMM_CPUID; 0: not overridden. */
export declare function cpuidHook(leaf: u32, subleaf: u32, none: u32): u32;
/** 0: not overridden; 1: the value is in COMM_VALUE; 2: raise #GP(0). */
export declare function rdmsrHook(index: u32, none1: u32, none2: u32): u32;
/** 0: not overridden; 1: the callback took the write; 2: raise #GP(0). */
export declare function wrmsrHook(index: u32, value: u64, none: u64): u32;
/** The vector of the external interrupt that the processor takes; PENDING_INTR is the line's level after it. */
export declare function acknowledgeInterrupt(none1: u32, none2: u32, none3: u32): u32;
/** A register of the local APIC by its MSR number. 1: the value is in COMM_VALUE; 0: #GP(0). */
export declare function apicRead(index: u32, none1: u32, none2: u32): u32;
/** The same; IA32_TSC, IA32_TSC_ADJUST and IA32_APIC_BASE are told after they have changed. 0: #GP(0). */
export declare function apicWrite(index: u32, value: u64, none: u64): u32;
/**
 * Before the instruction at a linear address that a code trap stands at; kinds: TrapKind.CodeHook, BlockHook.
 * 0: run what RIP now points at, 1: stop with RunCode.Stopped.
 */
export declare function codeHook(kinds: u32, linear: u64, none: u64): u32;
/**
 * kind TrapKind.ReadHook: before a read, 1: COMM_DATA holds what is read instead. TrapKind.WriteHook: before memory changes,
 * COMM_DATA holds what is written, 1: replaced there, 2: memory stays as it is. what: kind | size << 16, at most 64.
 */
export declare function memoryHook(what: u32, linear: u64, physical: u64): u32;
/** Before an exception or interrupt (EV_*) is intercepted or delivered. 1: it is not; the callback has dealt with it. */
export declare function eventHook(type: u32, vector: u32, none: u32): u32;
/** VMCALL outside VMX non-root operation, before its checks. 1: the callback has carried it out. */
export declare function vmcallHook(none1: u32, none2: u32, none3: u32): u32;
/** 1: the value is in COMM_VALUE. */
export declare function rdtscHook(none1: u32, none2: u32, none3: u32): u32;
/** Before a VM exit (XR_*) is taken. 1: it is not; the callback has dealt with it. */
export declare function vmExitHook(reason: u32, none1: u32, none2: u32): u32;
/** Before VMLAUNCH (1) or VMRESUME (0) of guest code that may execute it. 1: the callback has carried it out. */
export declare function vmEntryHook(launch: u32, none1: u32, none2: u32): u32;
/** Has the generator (assembly/generator) answer the requests in JIT_QUEUE. 0: generated code is not possible here. */
export declare function jitGenerate(none1: u32, none2: u32, none3: u32): u32;

// --- in a coverage build only (scripts/coverage.ts) ---

/** The record at `rec` holds an instruction of this entry of the opcode tables; 0xFFFF: of none. */
export declare function decoded(rec: usize, entry: u32): void;
/** The record at `rec` is carried out. */
export declare function executed(rec: usize): void;
