import { COST_MODELS, type CostModel } from "../cost/index.ts";
import { type Host, kernelRules } from "../kvm/index.ts";
import {
  type CheckOptions,
  checkPolicy,
  checkText,
  expand,
  labTrace,
  type ReportOptions,
  type Scenario,
  type SweepResults,
  shardOf,
  sweepCsv,
  sweepText,
} from "../lab/index.ts";
import { ALL_POLICIES, type Policy } from "../policy/index.ts";
import { type ParsedArgs, parseNumber, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { columnsOf } from "./fit.ts";
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP } from "./guestFile.ts";
import { runCalibrate } from "./labCalibrate.ts";
import { checkOptions, runCheck } from "./labCheck.ts";
import { checkWritable, writeHtml } from "./labHtml.ts";
import { mergeFiles } from "./labMerge.ts";
import { AXIS_HELP, AXIS_OPTIONS, axesFrom, mixSource, shardFrom, sourceFrom } from "./labOptions.ts";
import { runSweep } from "./labRun.ts";
import { SURFACE_HELP, SURFACE_OPTIONS, surfaceLines, surfaceOptions } from "./labSurface.ts";
import {
  list,
  POLICY_LIST,
  POLICY_OPTIONS,
  POLICY_OPTIONS_HELP,
  policiesFrom,
  readCostModel,
} from "./policyOptions.ts";
import { progressOn, styler, withInterrupt } from "./terminal.ts";

const help = `\
Usage: wasm-vmx lab [GUEST] [options]
       wasm-vmx lab merge FILE... [--cost LIST] [--json | --csv] [--html FILE]
       wasm-vmx lab check [--policy LIST] [--policy-file FILE] [options]
       wasm-vmx lab calibrate [FILE]

The laboratory: runs a guest under every policy for MSR 0x140 and every
combination of the values below, and prints which policies are right, what each
costs by cause, which is cheapest, and where the break-even between hardware and
emulated CPUID faulting lies, by prices and as measured by the runs.

Without GUEST it runs a guest of its own, a real binary whose rates are patched
in memory. A GUEST of yours runs as it is.

${AXIS_HELP}

${POLICY_OPTIONS_HELP}; here
                     --cost takes a list, and tables are under its first
${GUEST_OPTIONS_HELP}
  --max-instructions N
                     stop each vCPU after exactly N instructions
  --workers N        threads to run in (default: the processors); the results
                     are the same with any number
  --shard I/N        run the I-th of N parts only; prints JSON for lab merge,
                     on one machine or many
  --json             all counts as one JSON object, which lab merge reads too
  --csv              one line a run
${SURFACE_HELP}
  --trace            kvm tracepoints of every run on stderr, as trace-cmd prints
                     them; runs in one thread
  --html FILE        a page with plots, in one file: cycles by cause, break-even
                     surface, the steps of one round trip under each policy
  --help             this text

lab check tries every short schedule of two vCPU threads (entries, guest WRMSRs,
preemptions, moves, ioctls, arch_prctl) and random longer ones, and prints the
shortest under which a policy leaks, loses the host's value, writes after the
put, or fails. Status 1 when a policy of --policy-file does. With --policy-file
a sweep checks these policies too.
  --schedules N      random schedules a policy (default 5000)
  --seed N           of the random schedules (default 1)
  --exhaustive N     every schedule of up to N steps (default 3; 4 takes minutes)

lab calibrate times CPUID exits and KVM_RUN round trips on this machine's
/dev/kvm with a small VMM in C (needs gcc) and writes a cost model for --cost.

Ctrl-C ends a sweep and prints what is done; a second one ends at once.

Policies:
${POLICY_LIST}

Exit status 0, 1 from lab check, 2 for bad input, 130 when interrupted.

Examples:
  wasm-vmx lab --html report.html
  wasm-vmx lab --surface cpuids,wrmsr --sensitivity
  wasm-vmx lab check --policy all
  wasm-vmx lab --shard 1/4 --json > part1.json`;

function models(args: ParsedArgs): CostModel[] {
  const text = args.strings.get("cost");
  return text === undefined ? [...COST_MODELS.slice(0, 5)] : list(text).map(readCostModel);
}

/** What cannot be asked for together or cannot be written, before the work is done. */
function checkOutput(args: ParsedArgs, shards: number): void {
  const { flags, strings } = args;
  if (flags.has("csv") && flags.has("json")) throw new UsageError("--json and --csv exclude each other");
  const html = strings.get("html");
  if (shards > 1 && (html !== undefined || flags.has("csv"))) {
    throw new UsageError(`--shard prints JSON: ${html === undefined ? "--csv" : "--html"} goes with lab merge`);
  }
  if (html !== undefined) checkWritable(html);
}

/** UsageError for options that another form of the command has. */
function onlyOptions(args: ParsedArgs, form: string, known: readonly string[]): void {
  const odd = [...args.strings.keys(), ...args.flags].find((name) => !known.includes(name));
  if (odd !== undefined) throw new UsageError(`--${odd} has no effect with ${form}`);
}

/** Prints results in the form asked for. */
function print(
  results: SweepResults,
  args: ParsedArgs,
  path: { readonly partial: boolean; readonly interrupted?: boolean },
): void {
  const { flags } = args;
  const chosen = models(args);
  if (flags.has("csv")) process.stdout.write(sweepCsv(results, chosen));
  else if (flags.has("json") || path.partial) process.stdout.write(`${JSON.stringify(results)}\n`);
  else {
    const [first, ...rest] = [
      ...sweepText(results, chosen, columnsOf(process.stdout)),
      // a surface wants a whole sweep
      ...(path.interrupted ? [] : surfaceLines(args, results, chosen)),
    ];
    process.stdout.write(`${[styler(process.stdout)("bold", first!), ...rest].join("\n")}\n`);
  }
}

function reportOptions(args: ParsedArgs): ReportOptions {
  const surface = surfaceOptions(args);
  return surface === undefined ? {} : { surface };
}

/** Property checks of the policies that are not built in. */
function checksOf(policies: readonly Policy[], options: CheckOptions): SweepResults["checks"] {
  const own = policies.filter((policy) => !ALL_POLICIES.includes(policy));
  return own.map((policy) => ({ policy: policy.name, text: checkText(checkPolicy(policy, options)) }));
}

/** Every run's events on stderr, its scenario before them. */
function traceTo(model: CostModel) {
  return (host: Host, { kernel }: Scenario) =>
    labTrace(host, model, (line) => process.stderr.write(`${line}\n`), kernelRules(kernel).version);
}

async function sweep(args: ParsedArgs): Promise<number> {
  models(args);
  surfaceOptions(args);
  const shard = shardFrom(args);
  checkOutput(args, shard.count);
  const check = checkOptions(args);
  if (!args.strings.has("policy-file")) {
    const idle = ["schedules", "seed", "exhaustive"].find((name) => args.strings.has(name));
    if (idle !== undefined) throw new UsageError(`--${idle} is for lab check, or a sweep with --policy-file`);
  }
  const { run, known } = await policiesFrom(args);
  const { name, source } = sourceFrom(args);
  const scenarios = expand(
    axesFrom(
      args,
      run.map((policy) => policy.name),
      source.kind === "image",
    ),
  );
  const places = shardOf(scenarios.length, shard.index, shard.count);
  const workers = args.strings.get("workers");
  const progress = progressOn(process.stderr, "lab", places.length, "runs");
  const { results, interrupted } = await withInterrupt(async (signal) => ({
    results: await runSweep({
      guest: name,
      source,
      scenarios,
      places,
      policies: known,
      policyFile: args.strings.get("policy-file"),
      workers: workers === undefined ? 0 : parseNumber("--workers", workers, 256),
      signal,
      progress: args.flags.has("trace") ? () => {} : progress.show,
      ...(args.flags.has("trace") ? { trace: traceTo(models(args)[0]!) } : {}),
    }),
    interrupted: signal.aborted,
  }));
  progress.end();
  if (interrupted) {
    if (results.cells.length > 0) print(results, args, { partial: shard.count > 1, interrupted });
    process.stderr.write(`wasm-vmx: interrupted after ${results.cells.length} of ${places.length} runs\n`);
    return ExitStatus.Interrupted;
  }
  const checks = shard.index === 1 ? (checksOf(run, check) ?? []) : [];
  const reported: SweepResults = checks.length > 0 ? { ...results, checks } : results;
  print(reported, args, { partial: shard.count > 1 });
  const html = args.strings.get("html");
  if (html !== undefined) writeHtml(html, reported, models(args), source, known, reportOptions(args));
  return ExitStatus.Ok;
}

/** `lab merge`: the report of a whole sweep. Policies of the user are run again for the page's round trips. */
async function merge(args: ParsedArgs, files: readonly string[]): Promise<number> {
  const shown = ["cost", "json", "csv", "html", "policy-file", ...Object.keys(SURFACE_OPTIONS)];
  onlyOptions(args, "lab merge", shown);
  checkOutput(args, 1);
  models(args);
  surfaceOptions(args);
  const { known } = await policiesFrom(args);
  const merged = mergeFiles(files);
  print(merged, args, { partial: false });
  const html = args.strings.get("html");
  const source = merged.guest === "mix" ? mixSource().source : undefined;
  if (html !== undefined) writeHtml(html, merged, models(args), source, known, reportOptions(args));
  return ExitStatus.Ok;
}

export const labCommand: Command = {
  summary: "sweep workloads, policies, host values and cost models",
  help,
  options: {
    ...GUEST_OPTIONS,
    ...POLICY_OPTIONS,
    ...AXIS_OPTIONS,
    ...SURFACE_OPTIONS,
    "max-instructions": { type: "string" },
    workers: { type: "string" },
    shard: { type: "string" },
    schedules: { type: "string" },
    seed: { type: "string" },
    exhaustive: { type: "string" },
    json: { type: "boolean" },
    csv: { type: "boolean" },
    html: { type: "string" },
    trace: { type: "boolean" },
  },
  async run(args: ParsedArgs) {
    const [first, ...rest] = args.positionals;
    if (first === "merge") return merge(args, rest);
    if (first === "calibrate") {
      onlyOptions(args, "lab calibrate", []);
      return runCalibrate(rest);
    }
    if (first === "check") {
      if (rest.length > 0) throw new UsageError(`lab check runs no guest of yours: "${rest[0]}" is too much`);
      onlyOptions(args, "lab check", ["policy", "policy-file", "host", "schedules", "seed", "exhaustive", "json"]);
      return runCheck(args);
    }
    return sweep(args);
  },
};
