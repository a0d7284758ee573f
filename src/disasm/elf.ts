// Code and names of an ELF file, for listings. Field names are those of the System V ABI, "Object Files".
import { checkBytes, GuestImageError } from "../core/index.ts";
import type { DisassemblyMode } from "./fields.ts";

const EM_386 = 3;
const EM_X86_64 = 62;
const ET_REL = 1;
const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const SHF_EXECINSTR = 4n;
const PT_LOAD = 1;
const PF_X = 1;
const STT_NOTYPE = 0;
const STT_FUNC = 2;

export interface CodeSection {
  readonly name: string;
  /** Address of the first byte in the running program; 0 in relocatable objects. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** Holds instructions. */
  readonly executable: boolean;
}

export interface CodeSymbol {
  readonly name: string;
  readonly address: bigint;
  /** Index into `sections`, in relocatable objects, whose addresses count from the section; else undefined. */
  readonly section?: number;
}

export interface ElfCode {
  readonly mode: DisassemblyMode;
  /** Sections with bytes; of a file without section headers its loaded segments. */
  readonly sections: readonly CodeSection[];
  /** Functions and labels, lowest address first. */
  readonly symbols: readonly CodeSymbol[];
}

/** Fields of one header by their offsets in the 32- and the 64-bit form. */
class ElfView {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly wide: boolean;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.wide = bytes[4] === 2;
  }

  #at(base: number, narrow: number, wide: number, bytes: number): number {
    const at = base + (this.wide ? wide : narrow);
    if (at + bytes > this.#bytes.length) {
      throw new GuestImageError(
        `truncated ELF file: a header needs bytes up to 0x${(at + bytes - 1).toString(16)}, the file has ${this.#bytes.length}`,
        { offset: at },
      );
    }
    return at;
  }

  u8(base: number, narrow: number, wide: number): number {
    return this.#view.getUint8(this.#at(base, narrow, wide, 1));
  }

  u16(base: number, narrow: number, wide: number): number {
    return this.#view.getUint16(this.#at(base, narrow, wide, 2), true);
  }

  u32(base: number, narrow: number, wide: number): number {
    return this.#view.getUint32(this.#at(base, narrow, wide, 4), true);
  }

  /** Addr, Off and the like: as wide as the file's class. */
  word(base: number, narrow: number, wide: number): bigint {
    if (!this.wide) return BigInt(this.u32(base, narrow, wide));
    return this.#view.getBigUint64(this.#at(base, narrow, wide, 8), true);
  }

  slice(what: string, offset: bigint, size: bigint): Uint8Array {
    if (offset + size > BigInt(this.#bytes.length)) {
      throw new GuestImageError(
        `truncated ELF file: ${what} needs ${size} bytes at 0x${offset.toString(16)}, the file has ${this.#bytes.length}`,
        { offset: Number(offset) },
      );
    }
    return this.#bytes.subarray(Number(offset), Number(offset + size));
  }
}

interface SectionHeader {
  readonly name: number;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: bigint;
  readonly size: bigint;
  readonly link: number;
}

function sectionHeaders(view: ElfView): SectionHeader[] {
  const offset = Number(view.word(0, 32, 40));
  const size = view.u16(0, 46, 58);
  const count = offset === 0 ? 0 : view.u16(0, 48, 60);
  return Array.from({ length: count }, (_, i) => {
    const at = offset + i * size;
    return {
      name: view.u32(at, 0, 0),
      type: view.u32(at, 4, 4),
      flags: view.word(at, 8, 8),
      address: view.word(at, 12, 16),
      offset: view.word(at, 16, 24),
      size: view.word(at, 20, 32),
      link: view.u32(at, 24, 40),
    };
  });
}

function text(table: Uint8Array, at: number): string {
  const end = table.indexOf(0, at);
  return new TextDecoder().decode(table.subarray(at, end < 0 ? undefined : end));
}

function segments(view: ElfView): CodeSection[] {
  const offset = Number(view.word(0, 28, 32));
  const size = view.u16(0, 42, 54);
  const count = view.u16(0, 44, 56);
  const found: CodeSection[] = [];
  for (let i = 0; i < count; i++) {
    const at = offset + i * size;
    if (view.u32(at, 0, 0) !== PT_LOAD) continue;
    const bytes = view.slice(`segment ${i}`, view.word(at, 4, 8), view.word(at, 16, 32));
    if (bytes.length === 0) continue;
    const executable = (view.u32(at, 24, 4) & PF_X) !== 0;
    found.push({ name: `segment ${i}`, address: view.word(at, 8, 16), bytes, executable });
  }
  return found;
}

function symbols(view: ElfView, headers: readonly SectionHeader[], places: ReadonlyMap<number, number>): CodeSymbol[] {
  const relocatable = view.u16(0, 16, 16) === ET_REL;
  const found: CodeSymbol[] = [];
  for (const header of headers) {
    const names = headers[header.link];
    if (header.type !== SHT_SYMTAB || names === undefined) continue;
    const strings = view.slice("the symbol names", names.offset, names.size);
    const entry = view.wide ? 24 : 16;
    for (let at = Number(header.offset); at + entry <= Number(header.offset + header.size); at += entry) {
      const type = view.u8(at, 12, 4) & 15;
      const section = places.get(view.u16(at, 14, 6));
      const name = text(strings, view.u32(at, 0, 0));
      if ((type !== STT_FUNC && type !== STT_NOTYPE) || name === "" || section === undefined) continue;
      found.push({ name, address: view.word(at, 4, 8), ...(relocatable ? { section } : {}) });
    }
  }
  return found.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
}

/** Sections and names of an ELF file for the 386 or x86-64, linked or not. GuestImageError for any other. */
export function elfCode(bytes: Uint8Array): ElfCode {
  checkBytes("bytes", bytes);
  const magic = [0x7f, 0x45, 0x4c, 0x46];
  if (!magic.every((byte, i) => bytes[i] === byte)) {
    throw new GuestImageError("this is no ELF file: it does not start with 7f 45 4c 46", { offset: 0 });
  }
  const view = new ElfView(bytes);
  const machine = view.u16(0, 18, 18);
  if (bytes[5] !== 1 || (machine !== EM_386 && machine !== EM_X86_64)) {
    throw new GuestImageError(`this ELF file is for machine ${machine}, not for the 386 (3) or x86-64 (62)`, {
      offset: 18,
    });
  }
  const mode = machine === EM_386 ? 32 : 64;
  const headers = sectionHeaders(view);
  const nameTable = headers[view.u16(0, 50, 62)];
  const names = nameTable ? view.slice("the section names", nameTable.offset, nameTable.size) : new Uint8Array();
  const places = new Map<number, number>();
  const sections: CodeSection[] = [];
  headers.forEach((header, index) => {
    const name = text(names, header.name);
    if (header.type === 0 || header.type === SHT_NOBITS || header.size === 0n) return;
    places.set(index, sections.length);
    const executable = (header.flags & SHF_EXECINSTR) !== 0n;
    const content = view.slice(`section ${name}`, header.offset, header.size);
    sections.push({ name, address: header.address, bytes: content, executable });
  });
  if (sections.length === 0) return { mode, sections: segments(view), symbols: [] };
  return { mode, sections, symbols: symbols(view, headers, places) };
}
