// Random programs in segments with bases and limits on both tiers, at long and at very short distances between two comparisons.
import { describe, expect, it } from "vitest";
import { loadImage, Machine, type MachineOptions, parseFlat } from "../../src/index.ts";
import { generator } from "./lockstep.ts";
import { type SegmentedTraits, segmentedProgram } from "./segmentedPrograms.ts";
import { ENTRY, MEMORY } from "./segmentedWorld.ts";
import { compareTiers, nothingSeen, type Seen } from "./tiers.ts";

/** Programs of each kind; RANDOM_PROGRAMS=n for more, RANDOM_SEED for others. */
const PROGRAMS = Number(process.env.RANDOM_PROGRAMS ?? 4);
const SEED = Number(process.env.RANDOM_SEED ?? 1);

async function check(traits: SegmentedTraits, seed: number, seen: Seen): Promise<void> {
  const code = segmentedProgram(generator(seed), traits);
  const image = parseFlat(code, { mode: traits.kind === "real" ? "real" : "protected", load: 0, entry: ENTRY });
  const make = (jit: MachineOptions["jit"]): Machine => {
    const machine = new Machine({ memory: MEMORY, extraMemory: 0, jit });
    loadImage(machine, image);
    return machine;
  };
  await compareTiers(`seed ${seed}, ${traits.kind}`, make, seen);
}

const KINDS: readonly (readonly [string, Omit<SegmentedTraits, "rounds">])[] = [
  ["real-address mode", { kind: "real" }],
  ["real-address mode, code around 64K", { kind: "real", wraps: true }],
  ["real-address mode, that change themselves", { kind: "real", selfModifying: true }],
  ["virtual-8086 mode", { kind: "vm86" }],
  [
    "virtual-8086 mode, paged, around 64K, that change themselves",
    { kind: "vm86", paged: true, wraps: true, selfModifying: true },
  ],
  ["16-bit protected mode", { kind: "protected16" }],
  ["16-bit protected mode, paged", { kind: "protected16", paged: true }],
  ["16-bit protected mode, code around 64K", { kind: "protected16", wraps: true }],
  ["16-bit protected mode, that change themselves", { kind: "protected16", selfModifying: true }],
  ["32-bit protected mode", { kind: "protected32" }],
  ["32-bit protected mode, paged", { kind: "protected32", paged: true }],
  ["32-bit protected mode, that change themselves", { kind: "protected32", selfModifying: true }],
];

describe("random programs in segments, on both tiers", () => {
  it.each(KINDS.map(([name, traits], n) => [name, traits, n] as const))("%s", async (_name, traits, n) => {
    const seen = nothingSeen();
    for (let i = 0; i < PROGRAMS; i++) {
      await check({ ...traits, rounds: 150 }, SEED * 100_003 + n * 10_007 + i * 17, seen);
    }
    expect(seen.instructions).toBeGreaterThan(PROGRAMS * 5000);
    expect(seen.functions).toBeGreaterThan(PROGRAMS);
    expect(seen.halts).toBeGreaterThan(PROGRAMS / 4);
  });
});

describe("a data segment", () => {
  it.each([
    ["of another base", 0x18],
    ["that is null", 0],
  ])("%s is seen by code that runs already", async (_name, selector) => {
    // an outer loop loads DS with 10h (flat) and the other one in turns, an inner one reads [A000h]; #GP and the like shut down
    const code = [
      ...[0x0f, 0x01, 0x15, 0, 0x90, 0, 0], // lgdt [9000h]
      ...[0xba, 8, 0, 0, 0], // mov edx, 8
      ...[0xb9, 200, 0, 0, 0], // outer: mov ecx, 200
      ...[0x03, 0x05, 0, 0xa0, 0, 0, 0xc1, 0xc0, 3, 0x49, 0x75, 0xf4], // inner: add eax, [A000h]; rol eax, 3; dec ecx; jnz
      ...[0xbb, 0x10, 0, 0, 0, 0xf6, 0xc2, 1, 0x74, 5], // mov ebx, 10h; test dl, 1; jz
      ...[0xbb, selector, 0, 0, 0], // mov ebx, selector
      ...[0x8e, 0xdb, 0x4a, 0x75, 0xdb, 0xf4], // mov ds, ebx; dec edx; jnz outer; hlt
    ];
    const flat = (base: number) => [0xff, 0xff, 0, base, 0, 0x93, 0xcf, 0];
    const table = [0x1f, 0, 0x08, 0x90, 0, 0, 0, 0, ...Array<number>(8).fill(0), ...flat(0).fill(0x9b, 5, 6)];
    const make = (jit: MachineOptions["jit"]): Machine => {
      const machine = new Machine({ memory: MEMORY, extraMemory: 0, jit });
      loadImage(machine, parseFlat(Uint8Array.from(code), { mode: "protected", load: 0x8000, entry: 0x8000 }));
      machine.writeMemory(0x9000, Uint8Array.from([...table, ...flat(0), ...flat(0x10)]));
      machine.writeMemory(0xa000, Uint8Array.from([1, 2, 3, 4]));
      machine.writeMemory(0xb000, Uint8Array.from([5, 6, 7, 8]));
      return machine;
    };
    const seen = nothingSeen();
    await compareTiers(`DS ${selector}`, make, seen);
    expect(seen.instructions).toBeGreaterThan(1500n);
    expect(seen.halts).toBe(selector === 0 ? 0 : 1);
  });
});
