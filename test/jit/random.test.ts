// Random programs on both tiers, at long and at very short distances between two comparisons.
import { describe, expect, it } from "vitest";
import { loadImage, Machine, type MachineOptions, parseFlat, type StartMode, skylakeModel } from "../../src/index.ts";
import type { Bits } from "./code.ts";
import { generator } from "./lockstep.ts";
import { LOAD, PAGE_DIRECTORIES, program } from "./programs.ts";
import { compareTiers, nothingSeen, type Seen } from "./tiers.ts";

const MODES: Readonly<Record<Bits, StartMode>> = { 16: "real", 32: "protected", 64: "long" };
const BITS: readonly Bits[] = [16, 32, 64];
/** Programs of each kind; RANDOM_PROGRAMS=n for more, RANDOM_SEED for others. */
const PROGRAMS = Number(process.env.RANDOM_PROGRAMS ?? 8);
const SEED = Number(process.env.RANDOM_SEED ?? 1);
const MEMORY = 256 << 10;

interface Kind {
  readonly bits: Bits;
  readonly selfModifying?: boolean;
  readonly faults?: boolean;
  /** 32-bit paging, and system instructions that change its address space. */
  readonly paged?: boolean;
}

/** Two address spaces: the data pages are others in the second one; the stack and the code are the same. */
function page(machine: Machine): void {
  const tables = new DataView(new ArrayBuffer(0x4000));
  for (const space of [0, 1]) {
    const table = 0x2000 + space * 0x1000;
    tables.setUint32(space * 0x1000, (PAGE_DIRECTORIES[0] + table) | 7, true);
    for (let n = 0; n < 64; n++) {
      const frame = space && (n === 0xa || n === 0xb) ? n + 0x26 : n;
      tables.setUint32(table + n * 4, (frame << 12) | 7, true);
    }
  }
  machine.writeMemory(PAGE_DIRECTORIES[0], new Uint8Array(tables.buffer));
  machine.registers.write({
    cr3: BigInt(PAGE_DIRECTORIES[0]),
    cr0: machine.registers.read().cr0 | 0x8001_0000n,
    cr4: 0x40000,
  });
}

async function check(kind: Kind, seed: number, seen: Seen): Promise<void> {
  const { bits, selfModifying = false, faults = false, paged = false } = kind;
  const code = program(generator(seed), { bits, selfModifying, faults, system: paged, rounds: 200 });
  const image = parseFlat(code, { mode: MODES[bits], load: LOAD, entry: LOAD });
  const make = (jit: MachineOptions["jit"]): Machine => {
    const machine = new Machine({ memory: MEMORY, extraMemory: 0, jit, ...(paged ? { cpu: skylakeModel() } : {}) });
    loadImage(machine, image);
    if (paged) page(machine);
    return machine;
  };
  await compareTiers(`seed ${seed}, ${bits} bits`, make, seen);
}

describe.each(BITS)("random %i-bit programs on both tiers", (bits) => {
  it.each<[string, Omit<Kind, "bits">]>([
    ["plain", {}],
    ["that change themselves", { selfModifying: true }],
    ["with faults", { faults: true }],
    ["with both", { selfModifying: true, faults: true }],
  ])("%s", async (_name, kind) => {
    const seen = nothingSeen();
    for (let i = 0; i < PROGRAMS; i++) {
      await check({ bits, ...kind }, SEED * 100_003 + i * 17 + bits, seen);
    }
    expect(seen.instructions).toBeGreaterThan(PROGRAMS * 5000);
    expect(seen.halts).toBeGreaterThan(PROGRAMS / 4);
    expect(seen.functions).toBeGreaterThan(PROGRAMS);
  });
});

describe("random 32-bit programs with paging on both tiers", () => {
  it.each<[string, Omit<Kind, "bits">]>([
    ["plain", { paged: true }],
    ["that change themselves, with faults", { paged: true, selfModifying: true, faults: true }],
  ])("%s", async (_name, kind) => {
    const seen = nothingSeen();
    for (let i = 0; i < PROGRAMS; i++) await check({ bits: 32, ...kind }, SEED * 100_003 + i * 17 + 5, seen);
    expect(seen.instructions).toBeGreaterThan(PROGRAMS * 5000);
    expect(seen.functions).toBeGreaterThan(PROGRAMS);
  });
});
