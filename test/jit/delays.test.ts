import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadImage, Machine, parseFlat, parseImage } from "../../src/index.ts";
import { generator, lockstepDelayed } from "./lockstep.ts";
import { LOAD, program } from "./programs.ts";

const file = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../../fixtures/guests/bin/${name}`, import.meta.url)));

describe("modules compiled in the background", () => {
  it.each([
    ["sha256-64.elf", "long"],
    ["sha256-32.elf", "protected"],
    ["cpuid-fault-64.bin", "long"],
  ] as const)("change nothing whenever they arrive: %s", async (name, mode) => {
    const random = generator(5);
    const image = parseImage(file(name), { mode });
    const arrived = await lockstepDelayed({ image, random, step: 4000, limit: 400_000, memory: 16 << 20 });
    expect(arrived).toBeGreaterThan(0);
  });

  it.each(["protected", "long"] as const)("change nothing whenever they arrive: random programs, %s", async (mode) => {
    let arrived = 0;
    for (let i = 0; i < 12; i++) {
      const random = generator(77 + i);
      const image = parseFlat(program(random, { bits: mode === "long" ? 64 : 32, selfModifying: true, rounds: 400 }), {
        mode,
        load: LOAD,
        entry: LOAD,
      });
      arrived += await lockstepDelayed({ image, random, step: 800, limit: 30_000, memory: 4 << 20 });
    }
    expect(arrived).toBeGreaterThan(0);
  });

  it("come into use in runAsync by themselves", async () => {
    // mov ecx, 20000000; l: add eax, ecx; dec ecx; jnz l; hlt
    const loop = Uint8Array.of(0xb9, 0x00, 0x2d, 0x31, 0x01, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);
    const machine = new Machine({ memory: 1 << 20, jit: { threshold: 500, async: true } });
    loadImage(machine, parseFlat(loop, { mode: "protected", load: 0x8000, entry: 0x8000 }));
    expect((await machine.runAsync()).reason).toBe("halt");
    expect(machine.registers.rax).toBe(((20_000_000n * 20_000_001n) / 2n) & 0xffff_ffffn);
    expect(machine.jitStatistics.modules).toBeGreaterThan(0);
  });
});
