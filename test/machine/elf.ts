// Builds ELF files for tests, field by field as the System V ABI lays them out.

export interface TestSegment {
  readonly vaddr: number;
  readonly paddr?: number;
  readonly data: Uint8Array;
  readonly memsz?: number;
  readonly type?: number;
}

export interface TestElf {
  readonly wide: boolean;
  readonly entry: number;
  readonly segments: readonly TestSegment[];
  readonly machine?: number;
  readonly type?: number;
}

export function buildElf({ wide, entry, segments, machine = wide ? 62 : 3, type = 2 }: TestElf): Uint8Array {
  const ehsize = wide ? 64 : 52;
  const phsize = wide ? 56 : 32;
  let offset = ehsize + phsize * segments.length;
  const bytes = new Uint8Array(offset + segments.reduce((sum, s) => sum + s.data.length, 0));
  const view = new DataView(bytes.buffer);
  const word = (at: number, value: number) =>
    wide ? view.setBigUint64(at, BigInt(value), true) : view.setUint32(at, value, true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, type, true);
  view.setUint16(18, machine, true);
  view.setUint32(20, 1, true);
  word(24, entry);
  word(wide ? 32 : 28, ehsize);
  view.setUint16(wide ? 52 : 40, ehsize, true);
  view.setUint16(wide ? 54 : 42, phsize, true);
  view.setUint16(wide ? 56 : 44, segments.length, true);
  segments.forEach((segment, i) => {
    const at = ehsize + i * phsize;
    const { vaddr, paddr = vaddr, data, memsz = data.length } = segment;
    view.setUint32(at, segment.type ?? 1, true);
    const fields = [offset, vaddr, paddr, data.length, memsz];
    fields.forEach((value, f) => {
      word(at + (wide ? 8 + 8 * f : 4 + 4 * f), value);
    });
    bytes.set(data, offset);
    offset += data.length;
  });
  return bytes;
}
