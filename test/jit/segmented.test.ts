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
