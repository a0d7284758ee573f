// Interpreter and generated code in lock-step: the same guest on two machines, compared at exact instruction counts.
import { type CodeMode, checkInteger, type JitOptions } from "../core/index.ts";
import { disassemble } from "../disasm/index.ts";
import type { Exit } from "./exits.ts";
import type { Machine } from "./machine.ts";
import type { RegisterValues } from "./registers.ts";
import { yieldToHost } from "./yield.ts";

/** One of the two machines, with what else is to be compared. */
export interface VerifiedMachine {
  readonly machine: Machine;
  /** What the guest put out so far. */
  readonly output?: () => string;
}

export interface VerifyJitOptions {
  /**
   * Makes a machine with the guest loaded and hooks set, to be given the option `jit` as it is. Called twice, and again
   * to look closer at a difference: what it makes must behave alike each time.
   */
  readonly make: (jit: false | JitOptions) => Machine | VerifiedMachine;
  /** How to generate code; default: blocks are hot from their first run on. */
  readonly jit?: JitOptions;
  /** Stop after so many instructions. Default: run to the guest's end. */
  readonly maxInstructions?: number;
  /** Most instructions between two comparisons; lengths are spread evenly by their logarithm. Default 20,000. */
  readonly step?: number;
  readonly signal?: AbortSignal;
  /** Called now and then with the instructions done. */
  readonly progress?: (instructions: bigint) => void;
}

/** An instruction that the interpreter completed. */
export interface VerifiedInstruction {
  /** Instructions and deliveries before it. */
  readonly count: bigint;
  readonly rip: bigint;
  readonly mode: CodeMode;
  readonly bytes: Uint8Array;
  readonly text: string;
}

export interface JitDifference {
  /** Both agree after `count - 1` instructions and not after `count`. */
  readonly count: bigint;
  /** What the interpreter ran last, oldest first; generated code ran one or more of these wrongly. */
  readonly instructions: readonly VerifiedInstruction[];
  /** Register (or MSR, exit, output) by name: what differs. */
  readonly values: Readonly<Record<string, { readonly interpreter: string; readonly generated: string }>>;
  /** First byte of physical memory that differs. */
  readonly memory?: { readonly address: bigint; readonly interpreter: number; readonly generated: number };
  readonly interpreter: RegisterValues;
  readonly generated: RegisterValues;
}

export interface VerifyJitResult {
  /** How the guest's run ended; undefined after a difference. */
  readonly exit?: Exit;
  /** Compared instructions. */
  readonly instructions: bigint;
  readonly comparisons: number;
  /** Functions that were generated. */
  readonly functions: number;
  readonly difference?: JitDifference;
}

const MSRS = [
  0x10, 0x1b, 0x3a, 0x140, 0x174, 0x175, 0x176, 0x1d9, 0x277, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
  0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103,
];
/** Memory is compared at every so many stops and at the end. */
const MEMORY_EVERY = 64;
const SHOWN = 12;
const REP_BOUND = 50_000_000;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const text = (value: unknown): string =>
  JSON.stringify(value, (_key, v) => (typeof v === "bigint" ? hex(v) : v)).replaceAll('"', "");

interface Pair {
  readonly plain: VerifiedMachine;
  readonly jit: VerifiedMachine;
}

interface Stop {
  readonly plain: Exit;
  readonly jit: Exit;
}

type Values = Record<string, { readonly interpreter: string; readonly generated: string }>;

function differingValues({ plain, jit }: Pair, exits: Stop): Values {
  const out: Values = {};
  const compare = (name: string, a: unknown, b: unknown) => {
    const interpreter = text(a);
    const generated = text(b);
    if (interpreter !== generated) out[name] = { interpreter, generated };
  };
  const a = plain.machine.registers.read();
  const b = jit.machine.registers.read();
  compare("count", plain.machine.instructionCount, jit.machine.instructionCount);
  compare("exit", exits.plain, exits.jit);
  for (const name of Object.keys(a) as (keyof RegisterValues)[]) compare(name, a[name], b[name]);
  for (const msr of MSRS) compare(`msr ${hex(msr)}`, plain.machine.readMsr(msr) ?? 0, jit.machine.readMsr(msr) ?? 0);
  compare("output", plain.output?.() ?? "", jit.output?.() ?? "");
  return out;
}

function differingMemory({ plain, jit }: Pair): JitDifference["memory"] | undefined {
  for (const region of plain.machine.regions) {
    if (region.kind !== "ram") continue;
    const a = plain.machine.readMemory(region.address, region.size);
    const b = jit.machine.readMemory(region.address, region.size);
    const wideA = new BigUint64Array(a.buffer);
    const wideB = new BigUint64Array(b.buffer);
    const at = wideA.findIndex((value, i) => value !== wideB[i]);
    if (at < 0) continue;
    let i = at * 8;
    while (a[i] === b[i]) i++;
    return { address: BigInt(region.address) + BigInt(i), interpreter: a[i]!, generated: b[i]! };
  }
  return undefined;
}

function codeBytes(machine: Machine): Uint8Array {
  const { registers } = machine;
  const mask = machine.codeMode === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
  const bytes: number[] = [];
  for (let i = 0n; i < 15n; i++) {
    const physical = machine.translate((registers.cs.base + registers.rip + i) & mask, "execute");
    if (physical === undefined) break;
    try {
      bytes.push(machine.readMemory(physical, 1)[0]!);
    } catch {
      break;
    }
  }
  return Uint8Array.from(bytes);
}

class Verifier {
  readonly #options: VerifyJitOptions;
  #pair: Pair;
  /** Instructions between the stops so far. */
  readonly #steps: number[] = [];
  #seed = 0x2545f491;

  constructor(options: VerifyJitOptions) {
    this.#options = options;
    this.#pair = this.#make();
  }

  #make(): Pair {
    const { make, jit = { threshold: 1 } } = this.#options;
    const whole = (made: Machine | VerifiedMachine): VerifiedMachine => ("machine" in made ? made : { machine: made });
    return { plain: whole(make(false)), jit: whole(make(jit)) };
  }

  /** Uneven steps, short and long ones, the same in every run. */
  #nextStep(): number {
    this.#seed = (Math.imul(this.#seed, 0x19660d) + 0x3c6ef35f) >>> 0;
    return Math.ceil((this.#options.step ?? 20_000) ** (this.#seed / 2 ** 32));
  }

  #run({ machine }: VerifiedMachine, maxInstructions: number): Exit {
    return machine.run({ maxInstructions, maxWork: 2 * maxInstructions + REP_BOUND });
  }

  #advance(pair: Pair, instructions: number): Stop {
    return { plain: this.#run(pair.plain, instructions), jit: this.#run(pair.jit, instructions) };
  }

  async run(): Promise<VerifyJitResult> {
    const { maxInstructions = Number.MAX_SAFE_INTEGER, signal, progress } = this.#options;
    const { plain } = this.#pair;
    let yielded = performance.now();
    let remembered = 0;
    for (;;) {
      const done = Number(plain.machine.instructionCount);
      const step = Math.min(this.#nextStep(), maxInstructions - done);
      const exits = this.#advance(this.#pair, step);
      this.#steps.push(step);
      const goesOn = exits.plain.reason === "instructions" || exits.plain.reason === "slice";
      const ended = !goesOn || Number(plain.machine.instructionCount) >= maxInstructions;
      const values = Object.keys(differingValues(this.#pair, exits)).length > 0;
      const look = ended || values || this.#steps.length % MEMORY_EVERY === 0;
      if (values || (look && differingMemory(this.#pair))) return this.#result(this.#closer(remembered));
      if (look) remembered = this.#steps.length;
      if (ended) return { ...this.#result(), exit: exits.plain };
      if (performance.now() - yielded < 20) continue;
      progress?.(plain.machine.instructionCount);
      await yieldToHost();
      yielded = performance.now();
      if (signal?.aborted) return { ...this.#result(), exit: { reason: "aborted", instructions: done } };
    }
  }

  #result(difference?: JitDifference): VerifyJitResult {
    const { plain, jit } = this.#pair;
    return {
      instructions: difference ? difference.count - 1n : plain.machine.instructionCount,
      comparisons: this.#steps.length,
      functions: jit.machine.jitStatistics.functions,
      ...(difference ? { difference } : {}),
    };
  }

  /** Two fresh machines after the first stops, the same way as before. */
  #replay(stops: number): Pair {
    const pair = this.#make();
    for (const step of this.#steps.slice(0, stops)) this.#advance(pair, step);
    return pair;
  }

  /** Finds the first count with a difference; all is well after the stop `good`. */
  #closer(good: number): JitDifference {
    let pair = this.#replay(good);
    let stop = good;
    for (; stop < this.#steps.length - 1; stop++) {
      const exits = this.#advance(pair, this.#steps[stop]!);
      if (Object.keys(differingValues(pair, exits)).length > 0 || differingMemory(pair)) break;
    }
    const trial = (instructions: number) => {
      pair = this.#replay(stop);
      const exits = this.#advance(pair, instructions);
      const values = differingValues(pair, exits);
      const memory = differingMemory(pair);
      return Object.keys(values).length > 0 || memory ? { values, memory, pair } : undefined;
    };
    let [low, high] = [0, this.#steps[stop]!];
    let found = trial(high);
    if (!found)
      throw new Error("the machines that `make` gives do not behave alike: the difference did not come again");
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      const here = trial(middle);
      if (here) [high, found] = [middle, here];
      else low = middle;
    }
    const before = this.#replay(stop).plain.machine;
    const skipped = Math.max(0, high - SHOWN);
    if (skipped) before.run({ maxInstructions: skipped, maxWork: 2 * skipped + REP_BOUND });
    const instructions: VerifiedInstruction[] = [];
    while (instructions.length < high - skipped) {
      const bytes = codeBytes(before);
      const { instructionCount: count, codeMode: mode } = before;
      const { rip } = before.registers;
      const line = disassemble(bytes, { mode, address: rip });
      instructions.push({ count, rip, mode, bytes: bytes.slice(0, line.length), text: line.text });
      before.step();
    }
    const { values, memory } = found;
    return {
      count: instructions.at(-1)!.count + 1n,
      instructions,
      values,
      ...(memory ? { memory } : {}),
      interpreter: found.pair.plain.machine.registers.read(),
      generated: found.pair.jit.machine.registers.read(),
    };
  }
}

/**
 * Runs a guest on the interpreter and with generated code in lock-step, compares registers, MSRs, exits and now and then
 * memory, and finds the first difference. There is none unless this package is broken.
 *
 * ```ts
 * const { difference } = await verifyJit({
 *   make: (jit) => {
 *     const machine = new Machine({ jit });
 *     loadImage(machine, parseFlat(Uint8Array.of(0xb0, 0x2a, 0xf4))); // mov al, 42; hlt
 *     return machine;
 *   },
 * });
 * difference; // undefined
 * ```
 */
export async function verifyJit(options: VerifyJitOptions): Promise<VerifyJitResult> {
  if (options.maxInstructions !== undefined) {
    checkInteger("maxInstructions", options.maxInstructions, 1, Number.MAX_SAFE_INTEGER);
  }
  if (options.step !== undefined) checkInteger("step", options.step, 1, 2 ** 30);
  return new Verifier(options).run();
}

/** The difference as lines of text. */
export function describeDifference(difference: JitDifference): string[] {
  const { count, instructions, values, memory } = difference;
  const lines = [`the tiers agree after ${count - 1n} instructions and differ after ${count}`];
  const shown = instructions.map((i) => ({
    ...i,
    code: Array.from(i.bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" "),
  }));
  const width = Math.max(...shown.map(({ code }) => code.length));
  for (const { count: at, rip, code, text: line } of shown) {
    lines.push(`  ${String(at).padStart(10)}  ${hex(rip)}  ${code.padEnd(width)}  ${line}`);
  }
  for (const [name, { interpreter, generated }] of Object.entries(values)) {
    lines.push(`  ${name}: interpreter ${interpreter}, generated code ${generated}`);
  }
  if (memory) {
    const { address, interpreter, generated } = memory;
    lines.push(`  memory at ${hex(address)}: interpreter ${hex(interpreter)}, generated code ${hex(generated)}`);
  }
  return lines;
}
