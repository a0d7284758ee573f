// The benchmark for users: guests on both tiers, bare and under VMX, in interleaved rounds, so that ratios between cells
// hold although the machine's speed drifts.
import { readFileSync } from "node:fs";
import { setCoreDefaults } from "../core/index.ts";
import { runGuestUnderVmx } from "../lab/index.ts";
import { parseFlat } from "../machine/index.ts";
import { EXIT_CASES, ExitBench } from "./exits.ts";
import { cpuTime, timeGuest } from "./guest.ts";

/** A guest of fixtures/bench. */
export interface BenchGuest {
  readonly name: string;
  readonly what: string;
  /** Checksum at 1,000 units of count. */
  readonly checksum: string;
  readonly bytes: Uint8Array;
}

export const MODES = ["interpreter", "generated", "vmx-interpreter", "vmx-generated"] as const;
export type Mode = (typeof MODES)[number];

export interface Cell {
  readonly guest: string;
  readonly mode: Mode;
  /** Units of count in a run; instructions between the marks. */
  readonly count: number;
  readonly instructions: number;
  /** Million instructions a second of CPU time: median, and all rounds. */
  readonly mips: number;
  readonly rounds: readonly number[];
  /** Generated modules, functions, their bytes and the time of the calling thread for them, in one run (bare). */
  readonly modules?: number;
  readonly functions?: number;
  readonly generatedBytes?: number;
  readonly compileMs?: number;
}

export interface ExitRate {
  readonly name: string;
  readonly mode: "interpreter" | "generated";
  readonly perSecond: number;
}

export interface SuiteOptions {
  readonly guests: readonly BenchGuest[];
  readonly modes?: readonly Mode[];
  readonly rounds?: number;
  /** CPU seconds a run should last. */
  readonly seconds?: number;
  /** Measure VM exits too. */
  readonly exits?: boolean;
  readonly signal?: AbortSignal;
  readonly progress?: (done: number, total: number) => void;
}

export interface SuiteResult {
  readonly cells: readonly Cell[];
  readonly exits: readonly ExitRate[];
}

const LOAD = 0x10000;
const ENTRY = LOAD + 0x80;
const COUNT_AT = 0x40;
const RAM = 16 << 20;
const MOST = 0xe000_0000;
const EXITS = 100_000;

export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** The guests in a folder with a meta.json. */
export function readGuests(folder: URL): BenchGuest[] {
  const meta = JSON.parse(readFileSync(new URL("meta.json", folder), "utf8")) as Record<
    string,
    { readonly what: string; readonly checksum: string }
  >;
  return Object.entries(meta)
    .filter(([name]) => !name.startsWith("_"))
    .map(([name, { what, checksum }]) => ({
      name,
      what,
      checksum,
      bytes: readFileSync(new URL(`bin/${name}.bin`, folder)),
    }));
}

interface Run {
  readonly seconds: number;
  readonly instructions: number;
  readonly checksum: string;
  readonly jit?: Pick<Cell, "modules" | "functions" | "generatedBytes" | "compileMs">;
}

function withCount(guest: BenchGuest, count: number): Uint8Array {
  const image = Uint8Array.from(guest.bytes);
  new DataView(image.buffer).setUint32(COUNT_AT, count, true);
  return image;
}

function runBare(image: Uint8Array, jit: boolean): Run {
  const { cpu, seconds, instructions, checksum, jit: made } = timeGuest(image, LOAD, ENTRY, { jit });
  const { modules, functions, bytes: generatedBytes, milliseconds: compileMs } = made;
  return { seconds: cpu || seconds, instructions, checksum, jit: { modules, functions, generatedBytes, compileMs } };
}

/** Instructions are those of the same guest on the bare processor: counts agree. */
function runVmx(image: Uint8Array, jit: boolean, instructions: number): Run {
  let begin: number | undefined;
  let end: number | undefined;
  let text = "";
  const now = () => cpuTime() ?? performance.now() / 1000;
  setCoreDefaults(jit ? {} : { jit: { threshold: 0 } });
  try {
    runGuestUnderVmx({
      image: parseFlat(image, { mode: "protected", load: LOAD, entry: ENTRY }),
      memory: RAM,
      console: (byte) => {
        if (begin === undefined) begin = now();
        else if (end === undefined) end = now();
        else if (byte !== 10) text += String.fromCharCode(byte);
      },
    });
  } finally {
    setCoreDefaults({});
  }
  if (begin === undefined || end === undefined) throw new Error("the guest ended without its marks on port 0xE9");
  return { seconds: end - begin, instructions, checksum: text };
}

interface Plan {
  readonly guest: BenchGuest;
  readonly mode: Mode;
  readonly image: Uint8Array;
  readonly count: number;
  readonly instructions: number;
  readonly mips: number[];
  last?: Run;
}

const isGenerated = (mode: Mode) => mode.endsWith("generated");
const once = (mode: Mode, image: Uint8Array, instructions: number): Run =>
  mode.startsWith("vmx") ? runVmx(image, isGenerated(mode), instructions) : runBare(image, isGenerated(mode));

/** A count for which one run lasts about as long as asked. */
function calibrate(guest: BenchGuest, mode: Mode, seconds: number): Plan {
  let count = 1000;
  const bare = (n: number) => runBare(withCount(guest, n), true);
  const first = bare(count);
  if (first.checksum !== guest.checksum) {
    throw new Error(`${guest.name} gives checksum ${first.checksum}, other processors ${guest.checksum}`);
  }
  const each = (bare(2 * count).instructions - first.instructions) / count;
  const instructions = (n: number) => Math.round(first.instructions + each * (n - 1000));
  for (let i = 0; i < 6; i++) {
    const took = once(mode, withCount(guest, count), instructions(count)).seconds;
    if (took >= seconds * 0.7 || count >= MOST) break;
    count = Math.min(MOST, Math.ceil(count * Math.min(20, (seconds / Math.max(took, 1e-4)) * 1.05)));
  }
  return { guest, mode, count, instructions: instructions(count), image: withCount(guest, count), mips: [] };
}

/** Runs the benchmark; an abort ends it after the run at hand with what there is. */
export async function runSuite(options: SuiteOptions): Promise<SuiteResult> {
  const { guests, modes = MODES, rounds = 5, seconds = 0.25, signal, progress } = options;
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const total = guests.length * modes.length * (rounds + 1);
  let done = 0;
  const step = async () => {
    progress?.(++done, total);
    await turn();
  };
  const plans: Plan[] = [];
  for (const guest of guests) {
    for (const mode of modes) {
      if (signal?.aborted) break;
      plans.push(calibrate(guest, mode, seconds));
      await step();
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const plan of plans) {
      if (signal?.aborted) break;
      const run = once(plan.mode, plan.image, plan.instructions);
      plan.mips.push(run.instructions / run.seconds / 1e6);
      plan.last = run;
      await step();
    }
  }
  const cells = plans
    .filter(({ mips }) => mips.length > 0)
    .map(({ guest, mode, count, instructions, mips, last }) => ({
      guest: guest.name,
      mode,
      count,
      instructions,
      mips: median(mips),
      rounds: mips,
      ...last?.jit,
    }));
  return { cells, exits: options.exits && !signal?.aborted ? exitRates(modes, rounds) : [] };
}

function exitRates(modes: readonly Mode[], rounds: number): ExitRate[] {
  const tiers = (["interpreter", "generated"] as const).filter((tier) => modes.some((mode) => mode.endsWith(tier)));
  const benches = tiers.map((mode) => {
    setCoreDefaults(mode === "generated" ? {} : { jit: { threshold: 0 } });
    return { mode, bench: new ExitBench() };
  });
  setCoreDefaults({});
  return EXIT_CASES.flatMap((test) => {
    const all = benches.map(() => [] as number[]);
    for (let round = 0; round < rounds; round++) {
      for (const [i, { bench }] of benches.entries()) all[i]!.push(bench.time(test, EXITS).exitsPerSecond);
    }
    return benches.map(({ mode }, i) => ({ name: test.name, mode, perSecond: median(all[i]!) }));
  });
}
