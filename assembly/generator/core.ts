// What the generator asks of the core: exports of assembly/index.ts.

/** Header of the block at an address in linear memory, 0: not decoded. */
export declare function findBlock(host: u32, mode: u32): u32;
/** Where the code at a linear address lies in linear memory, 0: fetching from it would change something, or fault. */
export declare function fetchSettled(linear: u64): u32;
/** Physical address of data that may be read (access 0), all ones when it may not. Changes nothing. */
export declare function translate(linear: u64, access: u32): u64;
/** Address in linear memory of a physical byte, 0 for a hole or an MMIO window. */
export declare function physToHost(physical: u64): u32;
/** Address of a frame's byte of PageFlag. */
export declare function frameFlags(host: u32): u32;
/** Address of a frame's u64 of 64-byte lines with decoded code. */
export declare function codeLines(host: u32): u32;
/** The same bits of the lines that [offset, offset + bytes) of a page touches. */
export declare function lineMask(offset: u32, bytes: u32): u64;
/** Where INT n leads when it stays in this code segment, else all ones. */
export declare function handlerHere(vector: u32): u64;
/** See jit/site.ts. */
export declare function copySite(site: u32, first: u32, last: u32): void;
/** What was learned from running generated code: see jit/rewritten.ts and jit/seen.ts. */
export declare function oftenRewritten(host: u32, bytes: u32): bool;
export declare function oftenStaged(host: u32): bool;
export declare function alwaysStaged(host: u32): bool;
export declare function oftenMissed(host: u32): bool;
export declare function seenTarget(branch: u32, i: u32): u64;
