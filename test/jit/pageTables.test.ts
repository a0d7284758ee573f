// Guest code that edits the page tables it runs on, against a model that looks at the tables in memory at every access: a
// processor may cache nothing. @sdm 3A "Hierarchical Paging Structures: an Overview", "Accessed and Dirty Flags"
import { afterEach, describe, expect, it } from "vitest";
import { setCoreDefaults } from "../../src/core/index.ts";
import { type JitOptions, loadImage, Machine, parseFlat } from "../../src/index.ts";
import { assembled, putTables } from "./assembled.ts";
import { generator } from "./lockstep.ts";

const MEMORY = 8 << 20;
const CODE = 0x8000;
const HANDLER = 0x9000;
const GDT = 0xa000;
const IDT = 0xa100;
const LIST = 0x100000;
const LOG = 0x160000;
const POINTERS = 0x180000; // PAE: a table of one directory
const DIRECTORY = 0x181000;
const OTHER_DIRECTORY = 0x182000;
const LOW_TABLE = 0x183000; // maps the bytes from 0 on to themselves
const TABLES = [0x184000, 0x185000];
const OTHER_POINTERS = 0x186000;
const LOW_DIRECTORY = 0x187000; // where DIRECTORY lies higher up
const FRAMES = Array.from({ length: 6 }, (_, i) => 0x190000 + i * 0x1000);
const LARGE = 0x400000;
const PAGES = 8;
const OPERATIONS = 6000;

const P = 1;
const W = 2;
const A = 0x20;
const D = 0x40;
const PS = 0x80;

type Bytes = DataView;

interface Paging {
  readonly name: string;
  /** Bytes of an entry. */
  readonly entry: 4 | 8;
  /** Address bits that a page table covers. */
  readonly span: 21 | 22;
  /** First address that DIRECTORY maps. */
  readonly base: 0 | 0x40000000;
}

const PAGINGS: readonly Paging[] = [
  { name: "32-bit paging", entry: 4, span: 22, base: 0 },
  { name: "PAE paging", entry: 8, span: 21, base: 0 },
  { name: "PAE paging, second directory", entry: 8, span: 21, base: 0x40000000 },
];

enum Operation {
  Read,
  Write,
  And,
  Exchange,
  Invlpg,
  Directory,
  End,
}

interface Step {
  readonly operation: Operation;
  readonly address: number;
  readonly value: number;
}

function program({ entry }: Paging): Uint8Array {
  return assembled(`bits 32
org ${CODE}
  lgdt [${GDT + 0x80}]
  lidt [${GDT + 0x88}]
  mov esp, 0x7000
  mov eax, cr4
  or eax, ${entry === 8 ? 0x20 : 0x10}
  mov cr4, eax
  mov eax, ${entry === 8 ? POINTERS : DIRECTORY}
  mov cr3, eax
  mov eax, cr0
  or eax, 0x80010000
  mov cr0, eax
  mov esi, ${LIST}
  mov ebp, ${LOG}
next:
  xor ecx, ecx
  mov eax, [esi]
  mov edi, [esi+4]
  mov ebx, [esi+8]
  add esi, 12
  cmp eax, ${Operation.Write}
  je write
  jb read
  cmp eax, ${Operation.Exchange}
  je exchange
  jb and_
  cmp eax, ${Operation.Directory}
  jb invalidate
  je directory
  hlt
read:
  mov ebx, [edi]
  jmp done
write:
  mov [edi], ebx
  jmp done
and_:
  and [edi], ebx
  jmp done
exchange:
  xchg [edi], ebx
  jmp done
invalidate:
  invlpg [edi]
  jmp done
directory:
  mov cr3, ebx
  jmp done
  times ${HANDLER - 0x100 - CODE}-($-$$) nop
done:
  mov [ebp], ebx
  mov [ebp+4], ecx
  add ebp, 8
  jmp next
`);
}

/** #PF: ECX gets the error code + 0x100, and the operation is over. */
function handler(): Uint8Array {
  return assembled(`bits 32
org ${HANDLER}
  pop ecx
  add ecx, 0x100
  mov dword [esp], ${HANDLER - 0x100}
  iret
`);
}

function put(memory: Bytes, entry: number, address: number, value: number): void {
  memory.setUint32(address, value, true);
  if (entry === 8) memory.setUint32(address + 4, 0, true);
}

/** Memory at the start. */
function world(paging: Paging, steps: readonly Step[]): Uint8Array {
  const bytes = new Uint8Array(MEMORY);
  const memory = new DataView(bytes.buffer);
  bytes.set(program(paging), CODE);
  bytes.set(handler(), HANDLER);
  putTables(memory, GDT, IDT);
  memory.setBigUint64(IDT + 14 * 8, 0x00008e0000080000n | BigInt(HANDLER), true);
  steps.forEach(({ operation, address, value }, i) => {
    memory.setUint32(LIST + i * 12, operation, true);
    memory.setUint32(LIST + i * 12 + 4, address, true);
    memory.setUint32(LIST + i * 12 + 8, value, true);
  });
  const { entry, span, base } = paging;
  const last = 2 ** 12 / entry - 1;
  for (const pointers of [POINTERS, OTHER_POINTERS]) put(memory, entry, pointers, LOW_DIRECTORY | P);
  put(memory, entry, LOW_DIRECTORY, LOW_TABLE | P | W | A);
  put(memory, entry, POINTERS + (base >>> 27), DIRECTORY | P);
  put(memory, entry, OTHER_POINTERS + (base >>> 27), OTHER_DIRECTORY | P);
  for (let i = 0; i < 2 ** (span - 12); i++) put(memory, entry, LOW_TABLE + i * entry, (i << 12) | P | W | A | D);
  for (const directory of [DIRECTORY, OTHER_DIRECTORY]) {
    put(memory, entry, directory, LOW_TABLE | P | W | A);
    put(memory, entry, directory + entry, TABLES[0]! | P | W);
    put(memory, entry, directory + last * entry, directory | P | W); // the directory maps itself
  }
  // the same table at a second place
  put(memory, entry, OTHER_DIRECTORY + 2 * entry, TABLES[0]! | P | W);
  FRAMES.forEach((frame, i) => {
    for (let at = 0; at < 64; at += 4) memory.setUint32(frame + at, (i + 1) * 0x1010101 + at, true);
  });
  return bytes;
}

/** What a processor without a TLB does. */
class Model {
  readonly memory: Bytes;
  readonly log: number[] = [];
  directory = DIRECTORY;

  constructor(
    readonly paging: Paging,
    start: Uint8Array,
  ) {
    this.memory = new DataView(start.slice().buffer);
  }

  #or(address: number, bits: number): void {
    this.memory.setUint32(address, (this.memory.getUint32(address, true) | bits) >>> 0, true);
  }

  /** Physical address, or the error code + 0x100. */
  translate(linear: number, write: boolean): { at: number } | { error: number } {
    const { entry, span, base } = this.paging;
    const error = 0x100 + (write ? 2 : 0);
    const directory = linear < base ? LOW_DIRECTORY : this.directory + ((linear - base) >>> span) * entry;
    const pde = this.memory.getUint32(directory, true);
    if (!(pde & P)) return { error };
    const large = (pde & PS) !== 0;
    const table = ((pde & 0xfffff000) >>> 0) + ((linear >>> 12) & (2 ** (span - 12) - 1)) * entry;
    const leaf = large ? directory : table;
    const pte = this.memory.getUint32(leaf, true);
    if (!(pte & P)) return { error };
    if (write && !(pde & pte & W)) return { error: error | 1 };
    this.#or(directory, A);
    this.#or(leaf, write ? A | D : A);
    const inside = large ? 2 ** span - 1 : 0xfff;
    return { at: ((pte & 0xfffff000 & ~inside) >>> 0) + (linear & inside) };
  }

  run({ operation, address, value }: Step): void {
    if (operation === Operation.Directory) {
      this.directory = value === OTHER_POINTERS || value === OTHER_DIRECTORY ? OTHER_DIRECTORY : DIRECTORY;
    }
    let result = value;
    let fault = 0;
    if (operation <= Operation.Exchange) {
      const place = this.translate(address, operation !== Operation.Read);
      if ("error" in place) fault = place.error;
      else {
        const old = this.memory.getUint32(place.at, true);
        const next = [old, value, (old & value) >>> 0, value][operation]!;
        if (operation !== Operation.Read) this.memory.setUint32(place.at, next, true);
        if (operation === Operation.Read || operation === Operation.Exchange) result = old;
      }
    }
    this.log.push(result >>> 0, fault);
  }
}

function script({ entry, span, base }: Paging, seed: number): Step[] {
  const random = generator(seed);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  const self = base + (2 ** 12 / entry - 1) * 2 ** span;
  const window = (n: number) => (base + n * 2 ** span + random(PAGES) * 0x1000 + random(16) * 4) >>> 0;
  const flags = () => (random(6) ? P : 0) | (random(4) ? W : 0) | pick([0, 0, A, A | D]);
  // where entry i of a table, or of the directory, can be written
  const tableEntry = () => pick([TABLES[0]!, TABLES[0]!, TABLES[1]!, (self + 0x1000) >>> 0]) + random(PAGES) * entry;
  const directoryEntry = () => pick([DIRECTORY, (self + (2 ** 12 / entry - 1) * 0x1000) >>> 0]) + entry;
  const steps: Step[] = [];
  for (let i = 0; i < OPERATIONS; i++) {
    const kind = random(100);
    const data = random(16) ? window(1) : window(2);
    const access = pick([Operation.Read, Operation.Read, Operation.Write, Operation.Exchange]);
    if (kind < 55) steps.push({ operation: access, address: data, value: random(1 << 30) });
    else if (kind < 80) {
      steps.push({
        operation: pick([Operation.Write, Operation.Exchange]),
        address: tableEntry(),
        value: pick(FRAMES) | flags(),
      });
    } else if (kind < 84) {
      steps.push({ operation: Operation.And, address: tableEntry(), value: pick([~P, ~W, ~A, ~D, ~(A | D)]) >>> 0 });
    } else if (kind < 88) {
      const value = random(3) ? pick(TABLES) | P | W : random(2) ? LARGE | PS | P | W : 0;
      steps.push({ operation: Operation.Write, address: directoryEntry(), value });
    } else if (kind < 92) steps.push({ operation: Operation.Read, address: tableEntry(), value: 0 });
    else if (kind < 96) steps.push({ operation: Operation.Invlpg, address: data, value: 0 });
    else {
      const value =
        entry === 8 ? pick([POINTERS, POINTERS, OTHER_POINTERS]) : pick([DIRECTORY, DIRECTORY, OTHER_DIRECTORY]);
      steps.push({ operation: Operation.Directory, address: 0, value });
    }
  }
  steps.push({ operation: Operation.End, address: 0, value: 0 });
  return steps;
}

const TIERS: readonly (readonly [string, false | JitOptions])[] = [
  ["interpreter", false],
  ["generated code", { threshold: 2 }],
  ["generated code, late", { threshold: 60 }],
];

const PAGING_ON = `bits 32
org ${CODE}
  mov eax, ${DIRECTORY}
  mov cr3, eax
  mov eax, cr0
  or eax, 0x80010000
  mov cr0, eax
`;

/** Two frames take turns at the page of a function; each adds another number to EDX. */
function remapper(): Uint8Array {
  return assembled(`${PAGING_ON}  mov esp, 0x7000
  mov ecx, 3000
  xor edx, edx
next:
  mov ebx, ecx
  and ebx, 1
  shl ebx, 12
  add ebx, ${FRAMES[0]! | P | W}
  mov [${TABLES[0]!}], ebx
  call 0x400000
  dec ecx
  jnz next
  hlt
`);
}

it.each(TIERS)("fetches from where a table says that code is: %s", (_, jit) => {
  const image = world(PAGINGS[0]!, []);
  image.set(remapper(), CODE);
  image.set([0x42, 0xc3], FRAMES[0]!); // inc edx; ret
  image.set([0x83, 0xc2, 0x10, 0xc3], FRAMES[1]!); // add edx, 16; ret
  const machine = new Machine({ memory: MEMORY, jit });
  loadImage(machine, parseFlat(image.subarray(0x1000), { mode: "protected", load: 0x1000, entry: CODE }));
  expect(machine.run({ maxInstructions: 100_000 }).reason).toBe("halt");
  expect(machine.registers.rdx).toBe(1500n * 17n);
});

/** Turns a page, or all that a directory entry maps, to another frame between two reads of it. */
function between(store: string, first: number, second: number, address: number): Uint8Array {
  return assembled(`${PAGING_ON}  mov ecx, 8000
  xor ebp, ebp
  mov esi, ${address}
next:
  mov edx, ${first | P | W}
  test ecx, 1
  jz even
  mov edx, ${second | P | W}
even:
  mov eax, [esi]
  ${store}
  mov ebx, [esi+4]
  add ebp, ebx
  dec ecx
  jnz next
  hlt
`);
}

describe.each([
  ["page table", `mov [${TABLES[0]!}], edx`, [FRAMES[0]!, FRAMES[1]!]],
  ["directory", `mov [${DIRECTORY + 4}], edx`, TABLES],
] as const)("a store to a %s between two reads", (_, store, values) => {
  it.each(TIERS)("is seen by the second: %s", (_tier, jit) => {
    const image = world(PAGINGS[0]!, []);
    const memory = new DataView(image.buffer);
    image.set(between(store, values[0]!, values[1]!, 1 << 22), CODE);
    TABLES.forEach((table, i) => {
      memory.setUint32(table, FRAMES[i]! | P | W, true);
    });
    memory.setUint32(FRAMES[0]! + 4, 1, true);
    memory.setUint32(FRAMES[1]! + 4, 100, true);
    const machine = new Machine({ memory: MEMORY, jit });
    loadImage(machine, parseFlat(image.subarray(0x1000), { mode: "protected", load: 0x1000, entry: CODE }));
    expect(machine.run({ maxInstructions: 200_000 }).reason).toBe("halt");
    expect(machine.registers.rbp).toBe(4000n * 101n);
  });
});

describe.each(PAGINGS)("$name", (paging) => {
  afterEach(() => setCoreDefaults({ tlbEntries: 4096 }));

  describe.each(TIERS)("%s", (_, jit) => {
    it.each([4096, 8, 1])("sees each store to a table at once, TLB of %i", (tlbEntries) => {
      setCoreDefaults({ tlbEntries });
      for (const seed of [1, 2, 3]) {
        const steps = script(paging, seed);
        const start = world(paging, steps);
        const model = new Model(paging, start);
        for (const step of steps.slice(0, -1)) model.run(step);
        const machine = new Machine({ memory: MEMORY, jit });
        loadImage(machine, parseFlat(start.subarray(0x1000), { mode: "protected", load: 0x1000, entry: CODE }));
        expect(machine.run({ maxInstructions: OPERATIONS * 60 }).reason).toBe("halt");
        const log = new DataView(machine.readMemory(LOG, model.log.length * 4).slice().buffer);
        for (let i = 0; i < model.log.length; i += 2) {
          const got = [log.getUint32(i * 4, true), log.getUint32(i * 4 + 4, true)];
          const step = steps[i / 2]!;
          const text = `seed ${seed}, step ${i / 2}: ${step.operation} ${step.address.toString(16)} ${step.value.toString(16)}`;
          expect(got, text).toEqual([model.log[i], model.log[i + 1]]);
        }
        for (const frame of [DIRECTORY, OTHER_DIRECTORY, ...TABLES, ...FRAMES]) {
          const got = Buffer.from(machine.readMemory(frame, 4096));
          expect(got.equals(Buffer.from(model.memory.buffer, frame, 4096)), `frame ${frame.toString(16)}`).toBe(true);
        }
      }
    });
  });
});
