// What random programs with segments run in: descriptor tables, a handler for every exception that goes on with the next
// piece of the program, a second code segment, paging. One flat image from address 0, whose entry starts the program.
import { assemble } from "../../web/assembler/index.ts";
import type { Random } from "./programs.ts";

/** Real-address mode, virtual-8086 mode, protected mode with 16- and with 32-bit code segments. */
export type World = "real" | "vm86" | "protected16" | "protected32";

export const MEMORY = 320 << 10;
export const ENTRY = 0x1000;
/** The system segment: far pointer to the next piece, passes that are left, far pointers to call through. */
export const NEXT = 0;
export const COUNTER = 8;
export const POINTERS = 16;
/** Interrupts with a handler of the program, and the one that ends it. */
export const SERVICE = 0x20;
export const END = 0x21;

const IMAGE = 0x40000;
const SYSTEM = 0x1800;
const KERNEL_STACK = 0x3000;
const GDT = 0x500;
const IDT = 0x700;
const TSS = 0x900;
const PAGES = 0x44000;
/** Handlers of the program: where vm86 leaves for, which has no interrupts of its own. */
const STOP = 0x1400;

export interface Segment {
  readonly selector: number;
  readonly base: number;
}

export interface SegmentedWorld {
  readonly kind: World;
  readonly code: Segment;
  /** Another code segment, for far calls. */
  readonly far: Segment;
  readonly system: Segment;
  readonly stack: Segment;
  /** Bits of the stack pointer. */
  readonly stackBits: 16 | 32;
  /** What DS, ES and FS may hold: the first ones are plain data. */
  readonly data: readonly Segment[];
  /** Data at the base of the code segment. */
  readonly alias: Segment;
  /** Interrupt gates push 4 bytes each time. */
  readonly wideGates: boolean;
  readonly paged: boolean;
}

interface Descriptor {
  readonly base: number;
  readonly limit: number;
  /** Present, DPL, S and type. */
  readonly access: number;
  readonly big?: boolean;
  readonly pages?: boolean;
}

const CODE = 0x9b;
const DATA = 0x93;
const READ_ONLY = 0x91;
const DOWN = 0x97;

function descriptorBytes({ base, limit, access, big = false, pages = false }: Descriptor): number[] {
  const flags = (pages ? 8 : 0) | (big ? 4 : 0);
  return [
    ...[limit & 255, (limit >> 8) & 255, base & 255, (base >> 8) & 255, (base >> 16) & 255, access],
    ...[((limit >> 16) & 15) | (flags << 4), (base >>> 24) & 255],
  ];
}

const isReal = (kind: World): boolean => kind === "real" || kind === "vm86";

export interface Choices {
  readonly kind: World;
  readonly paged: boolean;
  /** The code lies on both sides of offset 64K. */
  readonly wraps: boolean;
}

/** Bases at any address in protected mode, at multiples of 16 elsewhere. */
export function chooseWorld(
  random: Random,
  { kind, paged, wraps }: Choices,
): SegmentedWorld & { descriptors: number[] } {
  const real = isReal(kind);
  const near = (base: number): number => base + random(0x100) * (real ? 16 : 1);
  const stackBits = !real && random(2) ? 32 : 16;
  const code = wraps ? near(0x8000) : near(0x9000);
  const bases = { code, far: near(0x5000), stack: near(0x2e000), data: near(0x20000), other: near(0x24000) };
  if (real) {
    const at = (base: number): Segment => ({ selector: base >> 4, base });
    return {
      kind,
      code: at(bases.code),
      far: at(bases.far),
      system: at(SYSTEM),
      stack: at(bases.stack),
      stackBits,
      data: [at(bases.data), at(bases.other), at(near(0x28000)), at(bases.stack), at(0xffff0)],
      alias: at(bases.code),
      wideGates: false,
      paged,
      descriptors: [],
    };
  }
  const wide = kind === "protected32";
  const descriptors: Descriptor[] = [
    { base: 0, limit: 0, access: 0 },
    { base: 0, limit: 0xfffff, access: CODE, big: true, pages: true },
    { base: 0, limit: 0xfffff, access: DATA, big: true, pages: true },
  ];
  const add = (descriptor: Descriptor): Segment => {
    descriptors.push(descriptor);
    return { selector: (descriptors.length - 1) * 8, base: descriptor.base };
  };
  const limit = 0xffff;
  const world: SegmentedWorld = {
    kind,
    code: add({ base: bases.code, limit, access: CODE, big: wide }),
    far: add({ base: bases.far, limit: 0xfff, access: CODE, big: wide }),
    system: add({ base: SYSTEM, limit: 0xff, access: DATA }),
    stack: add({ base: bases.stack, limit, access: DATA, big: stackBits === 32 }),
    stackBits,
    data: [
      add({ base: bases.data, limit, access: DATA }),
      add({ base: bases.other, limit: 0x1fff + random(16), access: DATA }),
      add({ base: near(0x20000), limit: 0xfff + random(0x1000), access: DOWN, big: random(2) === 1 }),
      add({ base: bases.data, limit, access: READ_ONLY }),
      add({ base: bases.code, limit, access: CODE }),
      add({ base: bases.data, limit: 0xfffff, access: DATA, big: true, pages: true }),
      { selector: 0, base: 0 },
    ],
    alias: add({ base: bases.code, limit, access: DATA }),
    wideGates: random(2) === 1,
    paged,
  };
  return { ...world, descriptors: descriptors.flatMap(descriptorBytes) };
}

/** Bytes of a source, or an error with its lines. */
export function assembled(source: string): Uint8Array {
  const { bytes, errors } = assemble(source);
  if (errors.length === 0) return bytes;
  const lines = source.split("\n");
  throw new Error(errors.map(({ line, message }) => `${lines[line - 1]}: ${message}`).join("\n"));
}

/** Sets every segment and the stack, then goes to the next piece. */
function handler(world: SegmentedWorld, sp: number): string {
  const { kind, system, stack, data, code, paged } = world;
  const [ds, es, fs] = [data[0]!, data[1]!, data[2]!];
  const word = (selector: number, register: string): string => `mov ax, ${selector}\nmov ${register}, ax`;
  if (kind === "real") {
    return `bits 16
org ${ENTRY}
${word(stack.selector, "ss")}
mov sp, ${sp}
${word(system.selector, "gs")}
${word(fs.selector, "fs")}
${word(es.selector, "es")}
${word(ds.selector, "ds")}
jmp far [gs:${NEXT}]`;
  }
  const start = `bits 32
org ${ENTRY}
lgdt [gdtr]
lidt [idtr]
jmp 8:flat
flat:
mov ax, 16
mov ds, ax
mov es, ax
mov ss, ax
mov esp, ${KERNEL_STACK}
mov eax, ${TSS_SELECTOR}
ltr ax
${paged ? `mov eax, ${PAGES}\nmov cr3, eax\nmov eax, cr0\nor eax, 0x80010000\nmov cr0, eax` : ""}
jmp handler
gdtr: dw 0x1ff
dd ${GDT}
idtr: dw ${(END + 1) * 8 - 1}
dd ${IDT}`;
  if (kind === "vm86") {
    return `${start}
handler:
${word(16, "ds")}
mov esp, ${KERNEL_STACK}
push dword ${system.selector}
push dword ${fs.selector}
push dword ${ds.selector}
push dword ${es.selector}
push dword ${stack.selector}
push dword ${sp}
push dword 0x23002
push dword ${code.selector}
push dword [${SYSTEM + NEXT}]
iretd`;
  }
  return `${start}
handler:
${word(stack.selector, "ss")}
mov esp, ${sp}
${word(system.selector, "gs")}
${word(fs.selector, "fs")}
${word(es.selector, "es")}
${word(ds.selector, "ds")}
jmp far [gs:${NEXT}]`;
}

const TSS_SELECTOR = 0x1f8;

export interface Parts {
  /** The program, from `origin` in its segment on; what lies past 64K comes round to its start. */
  readonly code: Uint8Array;
  readonly origin: number;
  /** Functions in the second code segment, from offset 0 on. */
  readonly far: Uint8Array;
  /** Offset of the first piece, of the handler of interrupt SERVICE. */
  readonly first: number;
  readonly service: number;
  /** Offsets of far functions that POINTERS names. */
  readonly pointers: readonly number[];
  readonly rounds: number;
  readonly sp: number;
}

/** The whole image from address 0 on. */
export function image(world: SegmentedWorld & { descriptors: readonly number[] }, parts: Parts): Uint8Array {
  const memory = new Uint8Array(world.paged ? MEMORY : IMAGE);
  const view = new DataView(memory.buffer);
  const { kind, code, far, descriptors, wideGates } = world;
  const wide = kind !== "real";
  for (const [i, byte] of parts.code.entries()) memory[code.base + ((parts.origin + i) & 0xffff)] = byte;
  memory.set(parts.far, far.base);
  const source = handler(world, parts.sp);
  const begin = assembled(source);
  memory.set(begin, ENTRY);
  memory.set([0xf4], STOP);
  const handlerAt = kind === "real" ? ENTRY : ENTRY + labelOf(source, "handler");

  const pointer = (at: number, offset: number, selector: number, bytes: 2 | 4): void => {
    if (bytes === 2) view.setUint16(SYSTEM + at, offset, true);
    else view.setUint32(SYSTEM + at, offset, true);
    view.setUint16(SYSTEM + at + bytes, selector, true);
  };
  // the handler's jump takes 4 bytes of offset where it is 32-bit code
  pointer(NEXT, parts.first, code.selector, wide ? 4 : 2);
  view.setUint16(SYSTEM + COUNTER, parts.rounds, true);
  parts.pointers.forEach((offset, i) => {
    pointer(POINTERS + 8 * i, offset, far.selector, kind === "protected32" ? 4 : 2);
  });

  if (kind === "real") {
    for (let vector = 0; vector <= END; vector++) view.setUint16(vector * 4, vector === END ? STOP : handlerAt, true);
    view.setUint16(SERVICE * 4, parts.service, true);
    view.setUint16(SERVICE * 4 + 2, code.selector, true);
    return memory;
  }
  memory.set(descriptors, GDT);
  memory.set(descriptorBytes({ base: 0, limit: 0xfffff, access: CODE, big: true, pages: true }), GDT + 8);
  memory.set(descriptorBytes({ base: 0, limit: 0xfffff, access: DATA, big: true, pages: true }), GDT + 16);
  memory.set(descriptorBytes({ base: TSS, limit: 0x67, access: 0x89 }), GDT + TSS_SELECTOR);
  view.setUint32(TSS + 4, KERNEL_STACK, true);
  view.setUint16(TSS + 8, 16, true);
  const gate = (vector: number, offset: number, selector: number, type: number): void => {
    view.setUint16(IDT + vector * 8, offset, true);
    view.setUint16(IDT + vector * 8 + 2, selector, true);
    view.setUint16(IDT + vector * 8 + 4, 0xe000 | (type << 8), true);
  };
  for (let vector = 0; vector <= END; vector++) gate(vector, vector === END ? STOP : handlerAt, 8, 14);
  if (kind !== "vm86") gate(SERVICE, parts.service, code.selector, wideGates ? 14 : 6);
  if (world.paged) {
    view.setUint32(PAGES, (PAGES + 0x1000) | 7, true);
    for (let n = 0; n < MEMORY >> 12; n++) {
      // one page of data is not there, one can only be read
      const flags = n === 0x21 ? 6 : n === 0x22 ? 5 : 7;
      view.setUint32(PAGES + 0x1000 + n * 4, (n << 12) | flags, true);
    }
  }
  return memory;
}

/** Offset of a label in the bytes of a source. */
export function labelOf(source: string, name: string): number {
  const { labels, origin } = assemble(source);
  const at = labels.get(name);
  if (at === undefined) throw new Error(`no label ${name}`);
  return Number(at) - origin;
}
