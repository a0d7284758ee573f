import { expect } from "vitest";
import { type GuestImage, type JitOptions, loadImage, Machine } from "../../src/index.ts";

interface Tier {
  readonly machine: Machine;
  readonly console: number[];
}

function tier(image: GuestImage, jit: number | JitOptions, memory: number): Tier {
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

/** Runs both tiers to the same count and compares; memory too when asked. True: the guest goes on. */
function advance(plain: Tier, jit: Tier, maxInstructions: number, memory: number): boolean {
  const a = plain.machine.run({ maxInstructions });
  const b = jit.machine.run({ maxInstructions });
  const at = `after ${plain.machine.instructionCount} instructions`;
  expect(jit.machine.instructionCount, at).toBe(plain.machine.instructionCount);
  expect(b, at).toEqual(a);
  expect(jit.machine.registers.read(), at).toEqual(plain.machine.registers.read());
  if (memory) expect(sameMemory(jit.machine, plain.machine, memory), `memory ${at}`).toBe(true);
  return a.reason === "instructions";
}

function finish(plain: Tier, jit: Tier, memory: number): void {
  expect(sameMemory(jit.machine, plain.machine, memory), "memory at the end").toBe(true);
  expect(jit.console).toEqual(plain.console);
}

/**
 * Runs one guest on the interpreter and with code generated from a block's first run on, stopping both after the same
 * numbers of instructions (drawn from `next`), and compares registers and counts at each stop, memory at some and at the end.
 */
export function lockstep(image: GuestImage, next: () => number, limit: number, memory: number): number {
  const plain = tier(image, 0, memory);
  const jit = tier(image, 1, memory);
  let stops = 0;
  while (plain.machine.instructionCount < limit) {
    if (!advance(plain, jit, next(), stops++ % 32 === 0 ? memory : 0)) break;
  }
  finish(plain, jit, memory);
  return stops;
}

export interface Delays {
  readonly image: GuestImage;
  readonly random: (below: number) => number;
  /** Largest number of instructions between two stops. */
  readonly step: number;
  readonly limit: number;
  readonly memory: number;
}

/** As lockstep(), with modules compiled in the background that arrive some stops later, in any order. Answers how many did. */
export async function lockstepDelayed({ image, random, step, limit, memory }: Delays): Promise<number> {
  const waiting: (() => void)[] = [];
  let arrived = 0;
  const compile = async (bytes: Uint8Array<ArrayBuffer>) => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    arrived++;
    return new WebAssembly.Module(bytes);
  };
  const plain = tier(image, 0, memory);
  const jit = tier(image, { threshold: 1, async: true, compile }, memory);
  let stops = 0;
  while (plain.machine.instructionCount < limit) {
    if (!advance(plain, jit, 1 + random(step), stops++ % 32 === 0 ? memory : 0)) break;
    while (waiting.length > 0 && random(3) === 0) waiting.splice(random(waiting.length), 1)[0]!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  finish(plain, jit, memory);
  for (const resolve of waiting) resolve();
  return arrived;
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
