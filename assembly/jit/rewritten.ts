// What was learned from leaving regions and from stores to code.
//
// Lines of code that were written to while a region held them. Blocks on lines that are written again and again stay in
// the interpreter, so that self-modifying code does not compile for ever.

const counts: usize = memory.data(4096); // u8 a hashed 64-byte line
const LIMIT: u32 = 3;

function slot(line: u32): usize {
  return counts + ((line * 0x9e3779b1) >>> 20);
}

/** A region was dropped because of a write to these bytes. */
export function noteRewritten(host: u32, bytes: u32): void {
  for (let line = host >> 6; line <= (host + bytes - 1) >> 6; line++) {
    const n = load<u8>(slot(line));
    if (n < 255) store<u8>(slot(line), n + 1);
  }
}

export function oftenRewritten(host: u32, bytes: u32): bool {
  for (let line = host >> 6; line <= (host + bytes - 1) >> 6; line++) {
    if (load<u8>(slot(line)) >= LIMIT) return true;
  }
  return false;
}

// Store instructions that met a frame with code or another flag again and again: generated code calls the interpreter
// for them instead of leaving.
const stores: usize = memory.data(4096); // u8 a hashed address
const STORE_LIMIT: u32 = 8;

function storeSlot(host: u32): usize {
  return stores + ((host * 0x9e3779b1) >>> 20);
}

/** The store at this address was staged. True: from now on it is one of them. */
export function noteStaged(host: u32): bool {
  const n = load<u8>(storeSlot(host));
  if (n > STORE_LIMIT) return false;
  store<u8>(storeSlot(host), n + 1);
  return n == STORE_LIMIT;
}

export function oftenStaged(host: u32): bool {
  return load<u8>(storeSlot(host)) > STORE_LIMIT;
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
  missLimit = min<u32>(threshold * PER_THRESHOLD, 0xfff0);
}

function missSlot(host: u32): usize {
  return misses + (((host * 0x9e3779b1) >>> 20) << 1);
}

/** A region left this instruction to the interpreter. True: it should fill the TLB from now on. */
export function noteMissed(host: u32): bool {
  const n = u32(load<u16>(missSlot(host)));
  if (n > missLimit) return false;
  store<u16>(missSlot(host), n + 1);
  return n == missLimit;
}

/** Its neighbours that miss too are among them. */
export function oftenMissed(host: u32): bool {
  return u32(load<u16>(missSlot(host))) > missLimit >> 5;
}
