// Times one guest by the marks it writes itself: byte 1 and byte 2 on port 0xE9 enclose the timed part, then come the
// eight digits of the checksum and a newline; port 0xF4 (dword) gives the checksum again and ends the run.
import { readFileSync } from "node:fs";
import type { JitStatistics } from "../core/index.ts";
import { type Exit, loadImage, Machine, parseFlat } from "../machine/index.ts";

export interface GuestTiming {
  readonly checksum: string;
  /** Wall time between the marks. */
  readonly seconds: number;
  /** CPU time of the executing thread between the marks, where the system tells. */
  readonly cpu?: number;
  /** Seconds from process start to the first mark. */
  readonly start_s: number;
  /** Exact count between the marks. */
  readonly instructions: number;
  /** What generated code cost up to the end. */
  readonly jit: JitStatistics;
}

const RAM = 16 << 20;
const SLICE = 50_000_000;

/** Nanoseconds on a CPU so far. @see Linux Documentation/scheduler/sched-stats.rst */
export function cpuTime(): number | undefined {
  for (const file of ["/proc/thread-self/schedstat", "/proc/self/schedstat"]) {
    try {
      return Number.parseInt(readFileSync(file, "utf8"), 10) / 1e9;
    } catch {}
  }
  return undefined;
}

interface Mark {
  readonly wall: number;
  readonly cpu: number | undefined;
  readonly count: bigint;
}

function describe(exit: Exit, machine: Machine): string {
  const at = `at rip 0x${machine.registers.rip.toString(16)} after ${machine.instructionCount} instructions`;
  return `the guest ended with ${exit.reason} ${at}`;
}

/** Runs a flat image from `load` in protected mode at `entry`. Throws when the guest does not end by port 0xF4. */
export function timeGuest(
  bytes: Uint8Array,
  load: number,
  entry: number,
  options: { readonly jit?: boolean } = {},
): GuestTiming {
  const machine = new Machine({ memory: RAM, extraMemory: 0, jit: options.jit ?? true });
  const mark = (): Mark => ({ cpu: cpuTime(), count: machine.instructionCount, wall: performance.now() });
  let begin: Mark | undefined;
  let end: Mark | undefined;
  let digits = "";
  let result: number | undefined;
  machine.onPortOut(0xe9, (_port, value) => {
    const byte = value & 0xff;
    if (begin === undefined) {
      if (byte === 1) begin = mark();
    } else if (end === undefined) {
      if (byte === 2) end = mark();
    } else if (byte !== 10) {
      digits += String.fromCharCode(byte);
    }
  });
  machine.onPortOut(0xf4, (_port, value) => {
    result = value;
    machine.stop();
  });
  loadImage(machine, parseFlat(bytes, { mode: "protected", load, entry }));

  let exit: Exit;
  do exit = machine.run({ maxWork: SLICE });
  while (exit.reason === "slice");
  if (result === undefined) throw new Error(describe(exit, machine));
  if (begin === undefined || end === undefined) throw new Error("the guest ended without its marks on port 0xE9");
  const checksum = result.toString(16).padStart(8, "0");
  if (digits !== checksum) {
    throw new Error(`the guest printed checksum ${JSON.stringify(digits)} but ended with ${checksum}`);
  }
  return {
    checksum,
    seconds: (end.wall - begin.wall) / 1000,
    ...(begin.cpu === undefined || end.cpu === undefined ? {} : { cpu: end.cpu - begin.cpu }),
    start_s: begin.wall / 1000,
    instructions: Number(end.count - begin.count),
    jit: machine.jitStatistics,
  };
}

function address(name: string, text: string | undefined): number {
  const value = text !== undefined && /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isInteger(value) || value >= RAM) {
    throw new Error(`${name} must be an address below ${RAM}, not ${text ?? "nothing"}`);
  }
  return value;
}

/** FILE LOAD ENTRY -> one JSON line on stdout; a message on stderr and status 1 otherwise. */
export function main(args: readonly string[]): number {
  try {
    const [file, load, entry] = args;
    if (file === undefined || args.length < 3 || args.length > 4 || (args[3] ?? "--no-jit") !== "--no-jit")
      throw new Error("usage: npm run --silent bench:guest -- FILE LOAD ENTRY [--no-jit]");
    const { jit, ...timing } = timeGuest(readFileSync(file), address("LOAD", load), address("ENTRY", entry), {
      jit: args[3] === undefined,
    });
    process.stdout.write(
      `${JSON.stringify({ ...timing, modules: jit.modules, compile_s: jit.milliseconds / 1000 })}\n`,
    );
    return 0;
  } catch (error) {
    process.stderr.write(`bench:guest: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}
