// What the generator asks of the host.

/**
 * Compiles `count` function bodies of `bytes` bytes at `code`, each with its size before it and of type (i32, i32) -> i32,
 * and puts function i into the table at slot base + the u32 at places + 4 * i. The base, 0: generated code is not possible here.
 * Bit 31 set: not in the table yet, linkRegion(place, ticket, base) will ask for each.
 */
export declare function jitCompile(code: u32, bytes: u32, count: u32, places: u32, ticket: u32): u32;
