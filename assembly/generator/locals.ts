// Locals of a generated function (limit: i32, state: i32) -> i32, and what the generator knows while it emits one.
// Guest registers are i32 in 32-bit regions and i64 in 64-bit ones ("R"); so are the flag result, RIP and addresses.

export const L_LIMIT: u32 = 0; // instructions that may run
export const L_STATE: u32 = 1; // which entry the central node goes to
export const L_GPR: u32 = 2; // 16 x R
export const L_RESULT: u32 = 18; // R: FLAG_RESULT
export const L_PC: u32 = 19; // R: RIP to leave with
export const L_EA: u32 = 20; // R
export const L_V: u32 = 21; // R: popped or loaded value
export const L_ACCESS: u32 = 22; // R: address of an access that begins a group
export const L_CARRIES: u32 = 23; // i32 from here on: FLAG_CARRIES
export const L_COUNT: u32 = 24; // instructions begun, a block at a time
export const L_ADJUST: u32 = 25; // of those, not completed at the exit
export const L_WHY: u32 = 26; // JIT_WHY
export const L_ENTRY: u32 = 27; // TLB entry
export const L_HOST: u32 = 28; // probed place
export const L_A: u32 = 29; // operands and temporaries
export const L_B: u32 = 30;
export const L_T0: u32 = 31;
export const L_T1: u32 = 32;
export const L_T2: u32 = 33;
export const L_GROUP: u32 = 34; // GROUPS: place of the first byte of a group
export const L_TABLE: u32 = 42; // TR_TABLE
export const L_APART: u32 = 43; // where it would be for an access by itself
export const L_BESIDE: u32 = 44; // place of a store beside code
export const L_TAG: u32 = 45; // i64 from here on: TR_TAG
export const L_A64: u32 = 46;
export const L_B64: u32 = 47;
export const L_U0: u32 = 48;
export const L_U1: u32 = 49;
export const L_U2: u32 = 50;

// one a segment, ES CS SS DS FS GS, where the region accesses memory through segments
export const L_SEG_BASE: u32 = 51; // i32: SG_EFFECTIVE
export const L_SEG_READ: u32 = 57; // i64: SG_READ_END
export const L_SEG_WRITE: u32 = 63; // i64: SG_WRITE_END

/**
 * R: not 0 after INC or DEC whose OF and AF nobody has asked for: the result that overflows. L_CARRIES then has CF, and
 * nothing else of it holds.
 */
export const L_ONE: u32 = 69;

const LOCALS: u32 = 70;
const PARAMETERS: u32 = 2;

// A function has only the locals that are named in it, numbered as they come: the baseline compiler clears each at entry.
const numbers: usize = memory.data(72); // u8 each: number in the function, 0: none yet
const names: usize = memory.data(72); // u8 each: the local of a number
let count: u32 = 0;

export function clearLocals(): void {
  memory.fill(numbers, 0, LOCALS);
  count = PARAMETERS;
}

/** The number of a local in the function that is emitted. */
export function numberOf(local: u32): u32 {
  if (local < PARAMETERS) return local;
  if (!load<u8>(numbers + local)) {
    store<u8>(names + count, local);
    store<u8>(numbers + local, count++);
  }
  return load<u8>(numbers + local);
}

/** Locals of the function that is emitted, parameters among them. */
export function localCount(): u32 {
  return count;
}

/** Is the local of this number R; is it i64? Else it is i32. */
export function isR(number: u32): bool {
  const local = u32(load<u8>(names + number));
  return local < L_CARRIES || local == L_ONE;
}
export function isLong(number: u32): bool {
  const local = u32(load<u8>(names + number));
  return (local >= L_TAG && local < L_SEG_BASE) || local >= L_SEG_READ;
}
