import { grouped } from "../cost/index.ts";
import { describeDifference, type VerifyResult, type VerifyTiersOptions, verifyJit } from "../machine/index.ts";
import { ExitStatus } from "./command.ts";
import { describeEnding, type Ending, exitStatus } from "./outcome.ts";
import { bareMachine, type GuestRunOptions, toEnding } from "./runBare.ts";
import { ConsoleWriter, styler, withInterrupt } from "./terminal.ts";

export interface VerifiedRunOptions
  extends Pick<GuestRunOptions, "image" | "memory" | "boot" | "devices" | "cpu" | "maxInstructions"> {
  readonly json: boolean;
  /** Under VMX with this MSR policy; bare without. */
  readonly policy?: string | undefined;
}

interface Verified {
  readonly result: Omit<VerifyResult<unknown>, "aborted" | "exit">;
  /** Absent after a difference. */
  readonly ending?: Ending;
  readonly output: string;
}

const plain = (_key: string, value: unknown) =>
  typeof value === "bigint" ? `0x${value.toString(16)}` : value instanceof Uint8Array ? Array.from(value) : value;

async function verifyBare(options: VerifiedRunOptions, how: VerifyTiersOptions): Promise<Verified> {
  let ended: () => number | undefined = () => undefined;
  let output = "";
  const { exit, ...result } = await verifyJit({
    ...how,
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
  });
  return { result, output, ...(exit ? { ending: toEnding(exit, ended()) } : {}) };
}

/** The KVM layer is loaded only here. */
async function verifyVmx(options: VerifiedRunOptions, how: VerifyTiersOptions): Promise<Verified> {
  const { image, memory, boot, policy = "upstream" } = options;
  const { verifyGuestUnderVmx } = await import("../lab/index.ts");
  const { exit, aborted, output, ...result } = await verifyGuestUnderVmx({
    ...how,
    image,
    memory,
    policy,
    ...(boot === undefined ? {} : { boot }),
  });
  const ending: Ending | undefined = aborted ? { kind: "interrupted" } : exit;
  return { result, output, ...(ending ? { ending } : {}) };
}

/** `run --verify-jit`: the guest's exit status, or 70 when the tiers differ. */
export async function runVerified(options: VerifiedRunOptions): Promise<number> {
  const { maxInstructions, json, policy } = options;
  let last = performance.now();
  const progress = (instructions: bigint) => {
    if (performance.now() - last < 2000) return;
    last = performance.now();
    process.stderr.write(`${grouped(instructions)} instructions compared\n`);
  };
  const { result, ending, output } = await withInterrupt((signal) =>
    (policy === undefined ? verifyBare : verifyVmx)(options, {
      signal,
      progress,
      ...(maxInstructions === undefined ? {} : { maxInstructions }),
    }),
  );
  const { difference } = result;
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
