import type { SegmentRegister } from "../../core/index.ts";
import type { RegisterUpdate } from "../registers.ts";
import { type BootOptions, bootInformation } from "./boot.ts";
import { type GuestImage, LONG_MODE_TABLES } from "./image.ts";

/** Registers and memory that a start mode asks for, besides the image itself. */
export interface StartState {
  readonly registers: RegisterUpdate;
  readonly memory: readonly { readonly address: number; readonly data: Uint8Array }[];
}

const CR0_PE = 1n;
const CR0_ET = 1n << 4n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const RFLAGS_FIXED = 2n;

// access rights, VMCS format: type 3:0, S 4, DPL 6:5, P 7, L 13, D/B 14, G 15, unusable 16
const CODE_16 = 0x009b;
const DATA_16 = 0x0093;
const CODE_32 = 0xc09b;
const DATA_32 = 0xc093;
const CODE_64 = 0xa09b;
const TSS_BUSY = 0x008b;
const UNUSABLE = 0x10000;

const segment = (selector: number, base: number, limit: number, attributes: number): SegmentRegister => ({
  selector,
  base: BigInt(base),
  limit,
  attributes,
});

const NO_TABLE = { base: 0n, limit: 0 };
const COMMON = {
  rflags: RFLAGS_FIXED,
  gdtr: NO_TABLE,
  idtr: NO_TABLE,
  ldtr: segment(0, 0, 0xffff, UNUSABLE),
  tr: segment(0, 0, 0xffff, TSS_BUSY),
};

function allData(data: SegmentRegister): RegisterUpdate {
  return { ds: data, es: data, ss: data, fs: data, gs: data };
}

/** IP = entry with CS base 0 while the entry is below 64 KiB; else CS starts at the load address. */
function real(image: GuestImage): StartState {
  const load = image.segments[0]?.address ?? 0;
  const base = image.entry < 0x10000 ? 0 : load;
  const selector = (base >> 4) & 0xffff;
  return {
    memory: [],
    registers: {
      ...COMMON,
      cr0: CR0_ET,
      efer: 0,
      cr4: 0,
      ...allData(segment(0, 0, 0xffff, DATA_16)),
      cs: segment(selector, base, 0xffff, CODE_16),
      idtr: { base: 0n, limit: 0x3ff },
      rip: image.entry - base,
      rsp: 0x7c00,
    },
  };
}

function protectedMode(image: GuestImage, ramSize: number): StartState {
  return {
    memory: [],
    registers: {
      ...COMMON,
      cr0: CR0_PE | CR0_ET,
      efer: 0,
      cr4: 0,
      ...allData(segment(0x10, 0, 0xffff_ffff, DATA_32)),
      cs: segment(0x08, 0, 0xffff_ffff, CODE_32),
      rip: image.entry,
      rsp: ramSize - 16,
    },
  };
}

/** PML4, PDPT and four page directories that map the first 4 GiB at themselves with 2 MiB pages. */
function identityTables(base: number): Uint8Array {
  const PRESENT_WRITABLE = 3n;
  const LARGE = 1n << 7n;
  const bytes = new Uint8Array(6 * 4096);
  const view = new DataView(bytes.buffer);
  const set = (page: number, index: number, value: bigint) => {
    view.setBigUint64(page * 4096 + index * 8, value, true);
  };
  set(0, 0, BigInt(base + 4096) | PRESENT_WRITABLE);
  for (let g = 0; g < 4; g++) {
    set(1, g, BigInt(base + (2 + g) * 4096) | PRESENT_WRITABLE);
    for (let i = 0; i < 512; i++) set(2 + g, i, (BigInt(g * 512 + i) << 21n) | PRESENT_WRITABLE | LARGE);
  }
  return bytes;
}

function long(image: GuestImage, ramSize: number): StartState {
  const tables = ramSize - LONG_MODE_TABLES;
  return {
    memory: [{ address: tables, data: identityTables(tables) }],
    registers: {
      ...COMMON,
      cr3: tables,
      cr4: CR4_PAE,
      efer: EFER_LME,
      cr0: CR0_PE | CR0_ET | CR0_PG,
      ...allData(segment(0x10, 0, 0xffff_ffff, DATA_32)),
      cs: segment(0x08, 0, 0xffff_ffff, CODE_64),
      rip: image.entry,
      rsp: tables - 16,
    },
  };
}

/**
 * Start state of an image in `ramSize` bytes of RAM.
 *
 * - `real`: CR0.PE clear, other segments 0, SP = 0x7C00
 * - `protected`: flat 32-bit, paging off, CS = 08, others 10, ESP at the top of RAM
 * - `long`: 64-bit, CPL 0, first 4 GiB mapped at themselves by tables in the top 32 KiB of RAM, RSP below them
 *
 * Interrupts are off and no descriptor table is set up.
 */
export function startState(image: GuestImage, ramSize: number, boot: BootOptions = {}): StartState {
  const { memory, registers } = modeState(image, ramSize);
  const information = bootInformation(image, ramSize, boot);
  const tss = image.boot?.protocol === "pvh" ? { tr: segment(0, 0, 0x67, TSS_BUSY) } : {};
  return {
    memory: [...memory, ...information.memory],
    registers: { ...registers, ...tss, ...information.registers },
  };
}

function modeState(image: GuestImage, ramSize: number): StartState {
  switch (image.mode) {
    case "real":
      return real(image);
    case "protected":
      return protectedMode(image, ramSize);
    case "long":
      return long(image, ramSize);
  }
}
