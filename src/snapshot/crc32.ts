// CRC-32 of ISO 3309, as gzip and PNG use it (polynomial EDB88320H, reflected).
let table: Uint32Array | undefined;

function makeTable(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let c = byte;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c;
  });
}

/** `before`: the checksum of the bytes before these. */
export function crc32(bytes: Uint8Array, before = 0): number {
  table ??= makeTable();
  let c = ~before;
  for (let i = 0; i < bytes.length; i++) c = table[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
}
