// ELF executables for the 386 and x86-64. Field names are those of the System V ABI, "Object Files".
import { checkBytes, GuestImageError } from "../../core/index.ts";
import type { GuestImage, ImageSegment, StartMode } from "./image.ts";

const ELFCLASS32 = 1;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const ET_EXEC = 2;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;

const TYPES = ["no file type", "a relocatable object", "an executable", "a shared object", "a core dump"];
const MACHINES: Readonly<Record<number, string>> = {
  2: "SPARC",
  8: "MIPS",
  20: "PowerPC",
  21: "PowerPC64",
  22: "S390",
  40: "ARM",
  183: "AArch64",
  243: "RISC-V",
};

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

interface ProgramHeader {
  readonly at: number;
  readonly type: number;
  readonly offset: bigint;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
}

class Reader {
  readonly #view: DataView;
  readonly size: number;
  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.size = bytes.byteLength;
  }
  /** Throws unless `bytes` bytes at `offset` are in the file. */
  need(what: string, offset: bigint, bytes: bigint): void {
    if (offset + bytes <= BigInt(this.size)) return;
    throw new GuestImageError(
      `truncated ELF file: ${what} needs bytes ${hex(offset)}-${hex(offset + bytes - 1n)}, the file has ${this.size} (${hex(this.size)})`,
      { offset: Number(offset) },
    );
  }
  u8(at: number): number {
    return this.#view.getUint8(at);
  }
  u16(at: number): number {
    return this.#view.getUint16(at, true);
  }
  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }
  u64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }
}

function programHeader32(r: Reader, at: number): ProgramHeader {
  return {
    at,
    type: r.u32(at),
    offset: BigInt(r.u32(at + 4)),
    vaddr: BigInt(r.u32(at + 8)),
    paddr: BigInt(r.u32(at + 12)),
    filesz: BigInt(r.u32(at + 16)),
    memsz: BigInt(r.u32(at + 20)),
  };
}

function programHeader64(r: Reader, at: number): ProgramHeader {
  return {
    at,
    type: r.u32(at),
    offset: r.u64(at + 8),
    vaddr: r.u64(at + 16),
    paddr: r.u64(at + 24),
    filesz: r.u64(at + 32),
    memsz: r.u64(at + 40),
  };
}

function checkHeader(r: Reader): boolean {
  r.need("the identification", 0n, 16n);
  const elfClass = r.u8(4);
  if (elfClass !== ELFCLASS32 && elfClass !== ELFCLASS64) {
    throw new GuestImageError(`ELF class ${elfClass} is neither 1 (32-bit) nor 2 (64-bit)`, { offset: 4 });
  }
  if (r.u8(5) !== ELFDATA2LSB) {
    throw new GuestImageError(`ELF data encoding ${r.u8(5)} is not little-endian (1): not an x86 program`, {
      offset: 5,
    });
  }
  const wide = elfClass === ELFCLASS64;
  r.need("the header", 0n, wide ? 64n : 52n);
  const machine = r.u16(18);
  const wanted = wide ? EM_X86_64 : EM_386;
  if (machine !== wanted) {
    const name = machine === EM_X86_64 ? "x86-64 (x32)" : (MACHINES[machine] ?? "another machine");
    throw new GuestImageError(
      `this ELF file is for machine ${machine}, ${name}; a ${wide ? 64 : 32}-bit guest must be for ${wanted} (${wide ? "x86-64" : "386"})`,
      { offset: 18 },
    );
  }
  const type = r.u16(16);
  if (type !== ET_EXEC) {
    throw new GuestImageError(
      `ELF type ${type} (${TYPES[type] ?? "unknown"}) cannot be run: link the guest as a static executable at a fixed address (-static -no-pie)`,
      { offset: 16 },
    );
  }
  return wide;
}

function readProgramHeaders(r: Reader, wide: boolean): ProgramHeader[] {
  const phoff = wide ? r.u64(32) : BigInt(r.u32(28));
  const phentsize = r.u16(wide ? 54 : 42);
  const phnum = r.u16(wide ? 56 : 44);
  const smallest = wide ? 56 : 32;
  if (phnum > 0 && phentsize < smallest) {
    throw new GuestImageError(`ELF program headers of ${phentsize} bytes are shorter than the ${smallest} they need`, {
      offset: wide ? 54 : 42,
    });
  }
  r.need("the program headers", phoff, BigInt(phentsize) * BigInt(phnum));
  return Array.from({ length: phnum }, (_, i) => {
    const at = Number(phoff) + i * phentsize;
    return wide ? programHeader64(r, at) : programHeader32(r, at);
  });
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly data: Uint8Array;
}

/** Notes of the PT_NOTE segments. */
export function parseNotes(bytes: Uint8Array): ElfNote[] {
  const r = new Reader(bytes);
  const wide = checkHeader(r);
  const notes: ElfNote[] = [];
  for (const header of readProgramHeaders(r, wide)) {
    if (header.type !== PT_NOTE) continue;
    r.need("the notes", header.offset, header.filesz);
    const end = Number(header.offset + header.filesz);
    for (let at = Number(header.offset); at + 12 <= end; ) {
      const nameSize = r.u32(at);
      const dataSize = r.u32(at + 4);
      const data = at + 12 + 4 * Math.ceil(nameSize / 4);
      if (data + dataSize > end) {
        throw new GuestImageError(`ELF note of ${nameSize} + ${dataSize} bytes ends outside its segment`, {
          offset: at,
        });
      }
      const owner = String.fromCharCode(...bytes.subarray(at + 12, at + 12 + Math.max(nameSize - 1, 0)));
      notes.push({ owner, type: r.u32(at + 8), data: bytes.subarray(data, data + dataSize) });
      at = data + 4 * Math.ceil(dataSize / 4);
    }
  }
  return notes;
}

function toSegment(bytes: Uint8Array, r: Reader, header: ProgramHeader, address: bigint): ImageSegment {
  const { at, offset, filesz, memsz } = header;
  if (filesz > memsz) {
    throw new GuestImageError(`ELF segment at ${hex(address)}: ${filesz} bytes in the file but ${memsz} in memory`, {
      offset: at,
    });
  }
  r.need(`the segment at ${hex(address)}`, offset, filesz);
  if (address + memsz > 1n << 32n) {
    throw new GuestImageError(
      `ELF segment ${hex(address)}-${hex(address + memsz - 1n)} lies above 4 GiB, outside any RAM a guest can have`,
      { offset: at },
    );
  }
  const start = Number(offset);
  return {
    address: Number(address),
    data: bytes.subarray(start, start + Number(filesz)),
    memorySize: Number(memsz),
  };
}

/** A statically linked executable, ELF32 for protected mode or ELF64 for long mode. */
export function parseElf(bytes: Uint8Array, options: { readonly mode?: StartMode; readonly entry?: number } = {}) {
  checkBytes("bytes", bytes);
  if (!isElf(bytes))
    throw new GuestImageError("this is no ELF file: it does not start with 7f 45 4c 46", { offset: 0 });
  const r = new Reader(bytes);
  const wide = checkHeader(r);
  const headers = readProgramHeaders(r, wide).filter((header) => header.type === PT_LOAD && header.memsz > 0n);
  if (headers.length === 0) throw new GuestImageError("this ELF file has no segment to load (PT_LOAD)");
  // some linkers leave every p_paddr 0
  const physical = headers.some((header) => header.paddr !== 0n);
  const place = (header: ProgramHeader) => (physical ? header.paddr : header.vaddr);

  let entry = wide ? r.u64(24) : BigInt(r.u32(24));
  if (options.entry !== undefined) {
    entry = BigInt(options.entry);
  } else {
    const home = headers.find((header) => entry >= header.vaddr && entry < header.vaddr + header.memsz);
    if (home === undefined) {
      throw new GuestImageError(`ELF entry ${hex(entry)} lies in none of the segments`, { offset: 24 });
    }
    entry = entry - home.vaddr + place(home);
  }
  const segments = headers.map((header) => toSegment(bytes, r, header, place(header)));
  segments.sort((a, b) => a.address - b.address);
  const image: GuestImage = {
    format: wide ? "elf64" : "elf32",
    mode: options.mode ?? (wide ? "long" : "protected"),
    entry: Number(entry),
    segments,
  };
  return image;
}
