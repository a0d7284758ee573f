import { describeDifference, verifyJit } from "../machine/index.ts";
import { ExitStatus } from "./command.ts";
import { describeEnding, exitStatus } from "./outcome.ts";
import { bareMachine, type GuestRunOptions, toEnding } from "./runBare.ts";
import { ConsoleWriter, styler, withInterrupt } from "./terminal.ts";

export interface VerifiedRunOptions
  extends Pick<GuestRunOptions, "image" | "memory" | "boot" | "devices" | "cpu" | "maxInstructions"> {
  readonly json: boolean;
}

const grouped = (value: bigint | number) => value.toLocaleString("en-US");
const plain = (_key: string, value: unknown) =>
  typeof value === "bigint" ? `0x${value.toString(16)}` : value instanceof Uint8Array ? Array.from(value) : value;

/** `run --verify-jit`: the guest's exit status, or 70 when the tiers differ. */
export async function runVerified(options: VerifiedRunOptions): Promise<number> {
  const { maxInstructions, json } = options;
  let last = performance.now();
  let ended: () => number | undefined = () => undefined;
  let output = "";
  const result = await withInterrupt((signal) =>
    verifyJit({
      signal,
      ...(maxInstructions === undefined ? {} : { maxInstructions }),
      make: (jit) => {
        const console = new ConsoleWriter();
        const { machine, status } = bareMachine({ ...options, console: console.put }, jit);
        if (jit === false) ended = status;
        const text = () => {
          if (jit === false) output = console.text;
          return console.text;
        };
        return { machine, output: text };
      },
      progress: (instructions) => {
        if (performance.now() - last < 2000) return;
        last = performance.now();
        process.stderr.write(`${grouped(instructions)} instructions compared\n`);
      },
    }),
  );
  const { difference } = result;
  const ending = result.exit && toEnding(result.exit, ended());
  if (json) {
    process.stdout.write(`${JSON.stringify({ ...result, ...(ending ? { ending } : {}), console: output }, plain)}\n`);
  } else {
    process.stdout.write(output);
    const style = styler(process.stderr);
    const summary =
      `${grouped(result.instructions)} instructions compared at ${grouped(result.comparisons)} points, ` +
      `${grouped(result.functions)} generated functions`;
    if (difference) {
      const [first, ...rest] = describeDifference(difference);
      process.stderr.write(`${style("red", first!)}\n${rest.map((line) => `${line}\n`).join("")}`);
      process.stderr.write(`${style("dim", `${summary}; please report this difference with the guest`)}\n`);
    } else {
      process.stderr.write(`${style("bold", "interpreter and generated code agree")}\n`);
      process.stderr.write(`${style("dim", `${summary}; ${describeEnding(ending!)}`)}\n`);
    }
  }
  return difference ? ExitStatus.Internal : exitStatus(ending!);
}
