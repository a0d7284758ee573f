import { expect } from "vitest";
import { type GuestImage, loadImage, Machine } from "../../src/index.ts";

function machine(image: GuestImage, jit: number, memory: number): { machine: Machine; console: number[] } {
  const m = new Machine({ memory, extraMemory: 0, jit });
  const console: number[] = [];
  m.onPortOut([0xe9, 0xe9], (_port, value) => {
    console.push(value & 0xff);
    return true;
  });
  m.onPortOut([0xf4, 0xf4], () => {
    m.stop();
    return true;
  });
  loadImage(m, image);
  return { machine: m, console };
}

function sameMemory(a: Machine, b: Machine, bytes: number): boolean {
  return Buffer.from(a.readMemory(0, bytes)).equals(b.readMemory(0, bytes));
}

/**
 * Runs one guest on the interpreter and with code generated from a block's first run on, stopping both after the same
 * numbers of instructions (drawn from `next`), and compares registers and counts at each stop, memory at some and at the end.
 */
export function lockstep(image: GuestImage, next: () => number, limit: number, memory: number): number {
  const plain = machine(image, 0, memory);
  const jit = machine(image, 1, memory);
  let stops = 0;
  while (plain.machine.instructionCount < limit) {
    const maxInstructions = next();
    const a = plain.machine.run({ maxInstructions });
    const b = jit.machine.run({ maxInstructions });
    const at = `after ${plain.machine.instructionCount} instructions`;
    expect(jit.machine.instructionCount, at).toBe(plain.machine.instructionCount);
    expect(b, at).toEqual(a);
    expect(jit.machine.registers.read(), at).toEqual(plain.machine.registers.read());
    if (stops++ % 32 === 0) expect(sameMemory(jit.machine, plain.machine, memory), `memory ${at}`).toBe(true);
    if (a.reason !== "instructions") break;
  }
  expect(sameMemory(jit.machine, plain.machine, memory), "memory at the end").toBe(true);
  expect(jit.console).toEqual(plain.console);
  return stops;
}

/** xorshift32: the same numbers in every run. */
export function generator(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
