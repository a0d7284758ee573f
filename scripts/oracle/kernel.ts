// The smallest long-mode kernel that can run a case at CPL 3: Linux's selectors, a page table with the window in it,
// handlers that save everything and halt, and an entry that loads everything and returns to CPL 3.
import { type CpuModel, genericModel, Machine, type ModelOptions, skylakeModel } from "../../src/index.ts";
import { FEATURES } from "../opcodes.ts";
import { BASE, CODE, CODE_SIZE, CODE16_LIMIT_PAGES, DATA, DATA_SIZE, READ_ONLY } from "./layout.ts";

const KERNEL = 0xffff_8000_0000_0000n;
const GDT = 0x1000;
const IDT = 0x2000;
const TSS = 0x3000;
const LDT = 0x3800;
const LDT_ENTRIES = 9;
const ENTER = 0x4000;
const ENTER_64 = 0x4400;
const HANDLERS = 0x5000;
const SAVE_ALL = 0x4800;
const TABLES = 0x20000;
/** The window's physical address. */
export const WINDOW_AT = 0x100000;

/** Registers on the way in and out, then the frame of the entry's IRET, then what the handlers push. */
export const AREA = 0x8000;
export const IN_FS_BASE = 160;
export const IN_SELECTORS = 176; // ES CS SS DS FS GS
export const OUT_CR2 = 200;
export const IN_FRAME = 0x100; // RIP CS RFLAGS RSP SS
export const IN_SIZE = 0x128;
export const OUT_FRAME = 0x200 - 56; // vector, error code, RIP CS RFLAGS RSP SS
export const OUT_SIZE = 0x200;

const VECTORS = 32;
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17, 21]);

const bytes64 = (value: bigint): number[] =>
  Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
const bytes32 = (value: number): number[] => [
  value & 255,
  (value >> 8) & 255,
  (value >> 16) & 255,
  (value >> 24) & 255,
];

/** Access byte, flags nibble (G D L AVL), base, 20-bit limit. */
function descriptor(access: number, flags: number, base: number, limit: number): number[] {
  return [
    limit & 255,
    limit >> 8,
    base & 255,
    (base >> 8) & 255,
    (base >> 16) & 255,
    access,
    (flags << 4) | (limit >> 16),
    base >>> 24,
  ];
}

function enterCode(bases: boolean): number[] {
  const area = KERNEL + BigInt(AREA);
  const code = [0x49, 0xbf, ...bytes64(area)]; // mov r15, AREA
  for (const [modrm, index] of [
    [0x87, 0], // mov es, [r15 + ...]
    [0x9f, 3],
    [0xa7, 4],
    [0xaf, 5],
  ] as const) {
    code.push(0x41, 0x8e, modrm, ...bytes32(IN_SELECTORS + 2 * index));
  }
  for (const [msr, at] of bases
    ? ([
        [0xc0000100, IN_FS_BASE],
        [0xc0000101, IN_FS_BASE + 8],
      ] as const)
    : []) {
    // mov ecx, msr; mov eax, [r15 + at]; mov edx, [r15 + at + 4]; wrmsr
    code.push(
      0xb9,
      ...bytes32(msr | 0),
      0x41,
      0x8b,
      0x87,
      ...bytes32(at),
      0x41,
      0x8b,
      0x97,
      ...bytes32(at + 4),
      0x0f,
      0x30,
    );
  }
  code.push(0x48, 0xbc, ...bytes64(area + BigInt(IN_FRAME))); // mov rsp, frame
  for (let r = 0; r < 16; r++) {
    if (r !== 4) code.push(r < 8 ? 0x49 : 0x4d, 0x8b, 0x87 | ((r & 7) << 3), ...bytes32(8 * r));
  }
  return [...code, 0x48, 0xcf]; // iretq
}

function saveAllCode(): number[] {
  const area = bytes64(KERNEL + BigInt(AREA));
  const code = [0x48, 0xa3, ...area, 0x48, 0xb8, ...area]; // mov [AREA], rax; mov rax, AREA
  for (let r = 1; r < 16; r++) {
    if (r !== 4) code.push(r < 8 ? 0x48 : 0x4c, 0x89, 0x80 | ((r & 7) << 3), ...bytes32(8 * r));
  }
  code.push(0x0f, 0x20, 0xd1, 0x48, 0x89, 0x88, ...bytes32(OUT_CR2)); // mov rcx, cr2; mov [rax + OUT_CR2], rcx
  for (const index of [0, 3, 4, 5]) code.push(0x8c, 0x80 | (index << 3), ...bytes32(IN_SELECTORS + 2 * index));
  return [...code, 0xf4];
}

const CX16 = [1, "ECX", 13] as const;

/** The generic model with every feature that a row of the opcode table can need, as the processor has them all. */
export function allFeatures(options: ModelOptions = {}): CpuModel {
  const generic = genericModel(options);
  const leaves = [...generic.cpuid];
  for (const [leaf, register, bit] of [...Object.values(FEATURES), CX16]) {
    const name = register.toLowerCase() as "ebx" | "ecx" | "edx";
    const at = leaves.findIndex((l) => l.leaf === leaf);
    const row = leaves[at] ?? { leaf, subleaf: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    leaves[at < 0 ? leaves.length : at] = { ...row, [name]: (row[name] | (1 << bit)) >>> 0 };
  }
  leaves[0] = { ...leaves[0]!, eax: 0xd };
  // x87 and HDC state, in every form
  leaves.push(...skylakeModel().cpuid.filter(({ leaf }) => leaf === 0xd));
  return { ...generic, cpuid: leaves };
}

export interface Kernel {
  readonly machine: Machine;
  /** Physical address of the page-table entry of a page of the window. */
  readonly entryOf: (offset: number) => number;
  /** Where to set RIP to enter a case; only the first loads the FS and GS bases. */
  readonly enter64: bigint;
  readonly enter: bigint;
}

export function makeKernel(): Kernel {
  const machine = new Machine({ memory: 2 << 20, extraMemory: 0, cpu: allFeatures() });
  const put = (at: number, bytes: readonly number[]): void => machine.writeMemory(at, Uint8Array.from(bytes));

  const gdt = [
    [0x9b, 0xc], // 08
    [0x9b, 0xa], // 10 code of the kernel
    [0x93, 0xc], // 18
    [0xfb, 0xc], // 23 32-bit code
    [0xf3, 0xc], // 2B data
    [0xfb, 0xa], // 33 64-bit code
  ] as const;
  gdt.forEach(([access, flags], i) => {
    put(GDT + 8 * (i + 1), descriptor(access, flags, 0, 0xfffff));
  });
  put(LDT, [
    ...descriptor(0xfb, 8, BASE, CODE16_LIMIT_PAGES),
    ...descriptor(0xf3, 0, BASE, 0xffff),
    ...descriptor(0xf3, 4, BASE + DATA, DATA_SIZE - 1),
    ...descriptor(0xf7, 4, BASE, DATA - 1),
    ...descriptor(0x73, 0xc, 0, 0xfffff),
    ...descriptor(0xf1, 0xc, 0, 0xfffff),
    ...descriptor(0xf9, 0xc, 0, 0xfffff),
    ...descriptor(0x7f, 0xc, 0, 0xfffff),
    ...descriptor(0x7b, 0xc, 0, 0xfffff),
  ]);

  put(TSS + 36, bytes64(KERNEL + BigInt(AREA + OUT_SIZE)));
  put(TSS + 102, [0x68, 0]); // no I/O bitmap
  put(SAVE_ALL, saveAllCode());
  for (let v = 0; v < VECTORS; v++) {
    const at = HANDLERS + 16 * v;
    const push = [...(WITH_ERROR.has(v) ? [] : [0x6a, 0]), 0x6a, v, 0xe9];
    put(at, [...push, ...bytes32(SAVE_ALL - (at + push.length + 4))]);
    // DPL 3, so that INT3 and INTO get through; stack 1 of the TSS
    const offset = KERNEL + BigInt(at);
    const low = bytes64(offset);
    put(IDT + 16 * v, [low[0]!, low[1]!, 0x10, 0, 1, 0xee, low[2]!, low[3]!, ...low.slice(4), 0, 0, 0, 0]);
  }
  put(ENTER, enterCode(false));
  put(ENTER_64, enterCode(true));

  const PRESENT = 1n;
  const WRITE = 2n;
  const USER = 4n;
  const LARGE = 0x80n;
  const NX = 1n << 63n;
  const entry = (at: number, value: bigint): void => put(at, bytes64(value));
  const table = (n: number): number => TABLES + n * 0x1000;
  const to = (n: number): bigint => BigInt(table(n)) | PRESENT | WRITE | USER;
  entry(table(0), to(1));
  entry(table(1), to(2));
  entry(table(2) + 8 * (BASE >> 21), to(3));
  entry(table(0) + 8 * 256, to(4));
  entry(table(4), to(5));
  entry(table(5), LARGE | PRESENT | WRITE);
  const map = (offset: number, size: number, bits: bigint): void => {
    for (let o = offset; o < offset + size; o += 4096) {
      entry(table(3) + (o >> 12) * 8, BigInt(WINDOW_AT + o) | PRESENT | USER | bits);
    }
  };
  map(CODE, CODE_SIZE, 0n);
  map(READ_ONLY, DATA - READ_ONLY, NX);
  map(DATA, DATA_SIZE, WRITE | NX);

  const flat = { selector: 0x18, base: 0n, limit: 0xffffffff, attributes: 0xc093 };
  machine.registers.write({
    cr0: 0x80050033, // PG AM WP NE ET MP PE
    cr3: TABLES,
    cr4: 0x10020, // FSGSBASE PAE
    efer: 0x901, // NXE LME SCE
    cs: { selector: 0x10, base: 0n, limit: 0xffffffff, attributes: 0xa09b },
    ss: flat,
    ds: flat,
    es: flat,
    gdtr: { base: KERNEL + BigInt(GDT), limit: 127 },
    idtr: { base: KERNEL + BigInt(IDT), limit: VECTORS * 16 - 1 },
    tr: { selector: 0x40, base: KERNEL + BigInt(TSS), limit: 0x67, attributes: 0x8b },
    ldtr: { selector: 0x50, base: KERNEL + BigInt(LDT), limit: LDT_ENTRIES * 8 - 1, attributes: 0x82 },
    rsp: KERNEL + BigInt(AREA + OUT_SIZE),
    rflags: 2,
  });
  const entryOf = (offset: number): number => table(3) + (offset >> 12) * 8;
  return { machine, entryOf, enter64: KERNEL + BigInt(ENTER_64), enter: KERNEL + BigInt(ENTER) };
}
