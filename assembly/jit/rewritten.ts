// What was learned from stores to code and from leaving regions: counts by hashed address, which end one above their limit.

function place(table: usize, address: u32): usize {
  return table + (((address * 0x9e3779b1) >>> 20) << 1);
}

/** Counts it as long as it is not above the limit. The count before. */
function count(table: usize, address: u32, limit: u32): u32 {
  const n = u32(load<u16>(place(table, address)));
  if (n <= limit) store<u16>(place(table, address), n + 1);
  return n;
}

/** Counts it. True: this time the count went above the limit. */
function note(table: usize, address: u32, limit: u32): bool {
  return count(table, address, limit) == limit;
}

function often(table: usize, address: u32, limit: u32): bool {
  return u32(load<u16>(place(table, address))) > limit;
}

// Lines of code that were written to while a region held them. Blocks on lines that are written again and again stay in
// the interpreter, so that self-modifying code does not compile for ever.
const lines: usize = memory.data(8192, 2); // u16 a hashed 64-byte line
const LINE_LIMIT: u32 = 2;

/** A region was dropped because of a write to these bytes. */
export function noteRewritten(host: u32, bytes: u32): void {
  for (let line = host >> 6; line <= (host + bytes - 1) >> 6; line++) note(lines, line, LINE_LIMIT);
}

export function oftenRewritten(host: u32, bytes: u32): bool {
  for (let line = host >> 6; line <= (host + bytes - 1) >> 6; line++) {
    if (often(lines, line, LINE_LIMIT)) return true;
  }
  return false;
}

// Store instructions that met a frame with code or another flag again and again: generated code looks at the lines of code
// itself. Those for which that was not enough (devices) are left to the interpreter, which generated code calls. Those that met
// page tables and nothing else stand at the complement of their address: generated code asks fillSettled() and stores.
const stores: usize = memory.data(8192, 2); // u16 a hashed address
const STORE_LIMIT: u32 = 8;
// other regions have the instruction too, made before that
const AGAIN: u32 = 64;
const CALL_LIMIT: u32 = 2000;

/** The store at this address was staged. True: the region that it left should be made anew. */
export function noteStaged(host: u32): bool {
  const n = count(stores, host, CALL_LIMIT);
  return n == STORE_LIMIT || n == AGAIN || n == CALL_LIMIT;
}

export function oftenStaged(host: u32): bool {
  return often(stores, host, STORE_LIMIT);
}

/** The form for a store beside code was of no use. */
export function alwaysStaged(host: u32): bool {
  return often(stores, host, CALL_LIMIT);
}

// Instructions that regions left again and again, mostly for an access that missed the TLB: generated code fills it there.
// Not everywhere, because registers do not stay in registers over a call.
const misses: usize = memory.data(8192, 2); // u16 a hashed address
export const DEFAULT_THRESHOLD: u32 = 500;
/** More than the pages that are touched for the first time, at the usual threshold. */
const PER_THRESHOLD: u32 = 4;
let missLimit: u32 = DEFAULT_THRESHOLD * PER_THRESHOLD;

/** Must follow a change of the threshold from which blocks are hot. */
export function setMissLimit(threshold: u32): void {
  missLimit = min<u32>(threshold, 0xfff0 / PER_THRESHOLD) * PER_THRESHOLD;
}

/** A region left this instruction to the interpreter. True: it should fill the TLB from now on. */
export function noteMissed(host: u32): bool {
  return note(misses, host, missLimit);
}

/** Its neighbours that miss too are among them. */
export function oftenMissed(host: u32): bool {
  return often(misses, host, missLimit >> 5);
}
