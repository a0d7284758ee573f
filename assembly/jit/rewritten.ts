// Lines of code that were written to while a region held them. Blocks on lines that are written again and again stay in
// the interpreter, so that self-modifying code does not compile for ever.

const ENTRIES: u32 = 4096;
const counts: usize = memory.data(4096); // u8 a hashed 64-byte line
const LIMIT: u32 = 3;

export function initRewritten(): void {
  memory.fill(counts, 0, ENTRIES);
}

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
