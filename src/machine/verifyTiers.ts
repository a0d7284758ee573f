// The same guest on the interpreter and with generated code, in lock-step: compared at exact counts, and the first
// difference found by playing it again.
import type { CodeMode, JitOptions } from "../core/index.ts";
import { disassemble } from "../disasm/index.ts";
import type { RegisterValues } from "./registers.ts";
import { yieldToHost } from "./yield.ts";

/** A guest on one of the tiers, as the comparison drives it. */
export interface VerifiedGuest<End> {
  /** Instructions and deliveries so far. */
  readonly count: bigint;
  /** Functions that were generated for it. */
  readonly functions: number;
  /** Runs so many instructions further, exactly, unless the guest ends or repeats without completing any. */
  advance(instructions: number): { readonly exit: End; readonly ended: boolean };
  /** What is compared at every stop, by name. */
  values(): Iterable<readonly [name: string, value: unknown]>;
  /** What is compared now and then, by address. */
  memory(): Iterable<{ readonly address: bigint; readonly bytes: Uint8Array }>;
  registers(): RegisterValues;
  /** Where the guest goes on; `bytes` are as many as can be read of the 15 that an instruction may have. */
  next(): { readonly rip: bigint; readonly mode: CodeMode; readonly bytes: Uint8Array };
}

export interface VerifyTiersOptions {
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

export interface VerifyResult<End> {
  /** How the guest's run ended; undefined after a difference, and when the signal came. */
  readonly exit?: End;
  /** The signal came before the end. */
  readonly aborted: boolean;
  /** Compared instructions. */
  readonly instructions: bigint;
  readonly comparisons: number;
  /** Functions that were generated. */
  readonly functions: number;
  readonly difference?: JitDifference;
}

/** MSRs that are compared at every stop. */
export const COMPARED_MSRS: readonly number[] = [
  0x10, 0x1b, 0x3a, 0x140, 0x174, 0x175, 0x176, 0x1d9, 0x277, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
  0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103,
];
/** Units of work that a stretch may take beyond its instructions: REP instructions. */
export const REP_BOUND = 50_000_000;

/** Memory is compared at every so many stops and at the end. */
const MEMORY_EVERY = 64;
const SHOWN = 12;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const text = (value: unknown): string =>
  JSON.stringify(value, (_key, v) => (typeof v === "bigint" ? hex(v) : v)).replaceAll('"', "");

interface Pair<End> {
  readonly plain: VerifiedGuest<End>;
  readonly jit: VerifiedGuest<End>;
}

interface Stop<End> {
  readonly exit: End;
  readonly ended: boolean;
  /** What generated code came back with. */
  readonly other: { readonly exit: End; readonly ended: boolean };
}

type Values = Record<string, { readonly interpreter: string; readonly generated: string }>;

function differingValues<End>({ plain, jit }: Pair<End>, stop: Stop<End>): Values {
  const out: Values = {};
  const compare = (name: string, a: unknown, b: unknown) => {
    const interpreter = text(a);
    const generated = text(b);
    if (interpreter !== generated) out[name] = { interpreter, generated };
  };
  compare("count", plain.count, jit.count);
  compare("exit", stop.exit, stop.other.exit);
  const there = new Map(jit.values());
  for (const [name, value] of plain.values()) {
    compare(name, value ?? null, there.get(name) ?? null);
    there.delete(name);
  }
  for (const [name, value] of there) compare(name, null, value);
  return out;
}

/** Index of the first byte that differs. */
function differingByte(a: Uint8Array, b: Uint8Array): number | undefined {
  const words = a.length >> 2;
  const wideA = new Uint32Array(a.buffer, a.byteOffset, words);
  const wideB = new Uint32Array(b.buffer, b.byteOffset, words);
  let at = 0;
  while (at < words && wideA[at] === wideB[at]) at++;
  let i = at * 4;
  while (i < a.length && a[i] === b[i]) i++;
  return i < a.length ? i : undefined;
}

function differingMemory<End>({ plain, jit }: Pair<End>): JitDifference["memory"] | undefined {
  const others = [...jit.memory()];
  for (const [n, { address, bytes }] of [...plain.memory()].entries()) {
    const other = others[n]!.bytes;
    const i = differingByte(bytes, other);
    if (i !== undefined) return { address: address + BigInt(i), interpreter: bytes[i]!, generated: other[i]! };
  }
  return undefined;
}

class Verifier<End> {
  readonly #make: (jit: false | JitOptions) => VerifiedGuest<End>;
  readonly #options: VerifyTiersOptions;
  #pair: Pair<End>;
  /** Instructions between the stops so far. */
  readonly #steps: number[] = [];
  #seed = 0x2545f491;

  constructor(make: (jit: false | JitOptions) => VerifiedGuest<End>, options: VerifyTiersOptions) {
    this.#make = make;
    this.#options = options;
    this.#pair = this.#fresh();
  }

  #fresh(): Pair<End> {
    return { plain: this.#make(false), jit: this.#make(this.#options.jit ?? { threshold: 1 }) };
  }

  /** Uneven steps, short and long ones, the same in every run. */
  #nextStep(): number {
    this.#seed = (Math.imul(this.#seed, 0x19660d) + 0x3c6ef35f) >>> 0;
    return Math.ceil((this.#options.step ?? 20_000) ** (this.#seed / 2 ** 32));
  }

  #advance({ plain, jit }: Pair<End>, instructions: number): Stop<End> {
    return { ...plain.advance(instructions), other: jit.advance(instructions) };
  }

  async run(): Promise<VerifyResult<End>> {
    const { maxInstructions = Number.MAX_SAFE_INTEGER, signal, progress } = this.#options;
    const { plain } = this.#pair;
    const start = plain.count;
    let yielded = performance.now();
    let remembered = 0;
    for (;;) {
      const step = Math.min(this.#nextStep(), maxInstructions - Number(plain.count - start));
      const stop = this.#advance(this.#pair, step);
      this.#steps.push(step);
      const ended = stop.ended || Number(plain.count - start) >= maxInstructions;
      const values = Object.keys(differingValues(this.#pair, stop)).length > 0;
      const look = ended || values || this.#steps.length % MEMORY_EVERY === 0;
      if (values || (look && differingMemory(this.#pair))) return this.#result(this.#closer(remembered));
      if (look) remembered = this.#steps.length;
      if (ended) return { ...this.#result(), exit: stop.exit };
      if (performance.now() - yielded < 20) continue;
      progress?.(plain.count - start);
      await yieldToHost();
      yielded = performance.now();
      if (signal?.aborted) return { ...this.#result(), aborted: true };
    }
  }

  #result(difference?: JitDifference): VerifyResult<End> {
    const { plain, jit } = this.#pair;
    return {
      aborted: false,
      instructions: difference ? difference.count - 1n : plain.count,
      comparisons: this.#steps.length,
      functions: jit.functions,
      ...(difference ? { difference } : {}),
    };
  }

  /** Two fresh guests after the first stops, the same way as before. */
  #replay(stops: number): Pair<End> {
    const pair = this.#fresh();
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
    if (!found) throw new Error("the guests that `make` gives do not behave alike: the difference did not come again");
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      const here = trial(middle);
      if (here) [high, found] = [middle, here];
      else low = middle;
    }
    const before = this.#replay(stop).plain;
    const skipped = Math.max(0, high - SHOWN);
    if (skipped) before.advance(skipped);
    const instructions: VerifiedInstruction[] = [];
    while (instructions.length < high - skipped) {
      const { count } = before;
      const { rip, mode, bytes } = before.next();
      const line = disassemble(bytes, { mode, address: rip });
      instructions.push({ count, rip, mode, bytes: bytes.slice(0, line.length), text: line.text });
      before.advance(1);
    }
    const { values, memory } = found;
    return {
      count: instructions.at(-1)!.count + 1n,
      instructions,
      values,
      ...(memory ? { memory } : {}),
      interpreter: found.pair.plain.registers(),
      generated: found.pair.jit.registers(),
    };
  }
}

/** Runs what `make` gives on both tiers. `make` is called again to look closer at a difference. */
export async function verifyTiers<End>(
  make: (jit: false | JitOptions) => VerifiedGuest<End>,
  options: VerifyTiersOptions,
): Promise<VerifyResult<End>> {
  return new Verifier(make, options).run();
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
