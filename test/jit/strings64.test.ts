// String instructions whose source segment has a base, in 64-bit mode: generated code must add it.
import { describe, expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";

const LOAD = 0x8000;
const SOURCE = 0xa000;
const TARGET = 0xb000;
const BASE = 0x400;

/** FS or GS has the base; ten passes of the instruction on bytes that count up. */
function copy(jit: boolean, prefix: number, instruction: readonly number[], bytes: number): Uint8Array {
  const code = [0xb9, 10, 0, 0, 0]; // mov ecx, 10
  const top = code.length;
  code.push(prefix, ...instruction);
  if (instruction[0] === 0xac) code.push(0xaa); // lodsb, then stosb
  code.push(0xff, 0xc9, 0x75, (top - (code.length + 4)) & 255, 0xf4); // dec ecx; jnz top; hlt
  const machine = new Machine({ memory: 0x20000, extraMemory: 0, jit: jit ? { threshold: 1 } : false });
  loadImage(machine, parseFlat(Uint8Array.from(code), { mode: "long", load: LOAD, entry: LOAD }));
  machine.writeMemory(
    SOURCE,
    Uint8Array.from({ length: 0x800 }, (_, i) => (i >> 8) * 16 + (i & 15)),
  );
  machine.registers.write({
    rsi: BigInt(SOURCE),
    rdi: BigInt(TARGET),
    fs: { base: BigInt(BASE) },
    gs: { base: BigInt(BASE) },
  });
  // code is generated between two runs
  while (machine.run({ maxInstructions: 6 }).reason !== "halt") expect(machine.instructionCount).toBeLessThan(100n);
  return machine.readMemory(TARGET, bytes * 10);
}

/** @sdm 1 "Segment Registers": FS and GS add their base in 64-bit mode. */
const EXPECTED = (n: number): number => (BASE >> 8) * 16 + (n & 15);

describe.each([false, true])("string instructions through FS and GS in 64-bit mode, generated code: %s", (jit) => {
  it.each<[string, number, readonly number[], number]>([
    ["fs movsb", 0x64, [0xa4], 1],
    ["gs movsb", 0x65, [0xa4], 1],
    ["fs movsd", 0x64, [0xa5], 4],
    ["gs lodsb", 0x65, [0xac], 1],
  ])("%s", (_name, prefix, instruction, bytes) => {
    expect([...copy(jit, prefix, instruction, bytes)]).toEqual(
      Array.from({ length: bytes * 10 }, (_, i) => EXPECTED(i)),
    );
  });
});
