import { COST_MODELS, type CostModel } from "../cost/index.ts";
import { type Host, kernelRules } from "../kvm/index.ts";
import {
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
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP } from "./guestFile.ts";
import { runCalibrate } from "./labCalibrate.ts";
import { runCheck } from "./labCheck.ts";
import { writeHtml } from "./labHtml.ts";
import { mergeFiles } from "./labMerge.ts";
import { AXIS_HELP, AXIS_OPTIONS, axesFrom, shardFrom, sourceFrom } from "./labOptions.ts";
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
       wasm-vmx lab merge FILE... [--cost LIST] [--json | --csv]
       wasm-vmx lab check [--policy LIST] [--policy-file FILE] [options]
       wasm-vmx lab calibrate [FILE]

The laboratory: runs a guest under every policy for MSR 0x140 and every
combination of the values below, and prints which policies are right, what each
costs by cause, which is cheapest, and where the break-even between hardware and
emulated CPUID faulting lies, by prices and as measured by the runs.

Without GUEST it runs a guest of its own, a real binary whose rates are patched
in memory. A GUEST of yours runs as it is.

${AXIS_HELP}

${POLICY_OPTIONS_HELP}
                     here --cost takes a list; tables are under the first
${GUEST_OPTIONS_HELP}
  --max-instructions N
                     stop each vCPU after exactly N instructions
  --workers N        threads to run in (default: the processors); the results
                     are the same with any number
  --shard I/N        run the I-th of N parts only; prints JSON for lab merge
  --json             all counts as one JSON object, which lab merge reads too
  --csv              one line a run
${SURFACE_HELP}
  --trace            kvm tracepoints of every run on stderr, as trace-cmd prints
                     them; runs in one thread
  --html FILE        a page with plots, in one file: cycles by cause, break-even
                     surface, the steps of one round trip under each policy
  --help             this text

lab check tries every short schedule of a vCPU thread (entries, guest WRMSRs,
preemptions, moves, ioctls, arch_prctl) and random longer ones of two, and
prints the shortest under which a policy leaks, loses the host's value, or
writes after the put. Status 1 when a policy of --policy-file does.
  --schedules N      random schedules a policy (default 5000)
  --seed N           of the random schedules (default 1)

lab calibrate times CPUID exits and KVM_RUN round trips on this machine's /dev/kvm
with a small VMM in C (needs gcc) and writes a cost model for --cost.

Policies:
${POLICY_LIST}

Exit status 0, 2 for bad input, 130 when interrupted.

Examples:
  wasm-vmx lab --html report.html
  wasm-vmx lab --surface cpuids,wrmsr --sensitivity
  wasm-vmx lab check --policy all
  wasm-vmx lab --shard 1/4 --json > part1.json`;

function models(args: ParsedArgs): CostModel[] {
  const text = args.strings.get("cost");
  return text === undefined ? [...COST_MODELS.slice(0, 5)] : list(text).map(readCostModel);
}

/** Prints results in the form asked for. */
function print(results: SweepResults, args: ParsedArgs, path: { readonly partial: boolean }): void {
  const { flags } = args;
  const chosen = models(args);
  if (flags.has("csv") && flags.has("json")) throw new UsageError("--json and --csv exclude each other");
  if (flags.has("csv")) process.stdout.write(sweepCsv(results, chosen));
  else if (flags.has("json") || path.partial) process.stdout.write(`${JSON.stringify(results)}\n`);
  else {
    const [first, ...rest] = [...sweepText(results, chosen), ...surfaceLines(args, results, chosen)];
    process.stdout.write(`${[styler(process.stdout)("bold", first!), ...rest].join("\n")}\n`);
  }
}

function reportOptions(args: ParsedArgs): ReportOptions {
  const surface = surfaceOptions(args);
  return surface === undefined ? {} : { surface };
}

/** Property checks of the policies that are not built in. */
function checksOf(policies: readonly Policy[]): SweepResults["checks"] {
  const own = policies.filter((policy) => !ALL_POLICIES.includes(policy));
  return own.map((policy) => ({ policy: policy.name, text: checkText(checkPolicy(policy)) }));
}

/** Every run's events on stderr, its scenario before them. */
function traceTo(model: CostModel) {
  return (host: Host, { kernel }: Scenario) =>
    labTrace(host, model, (line) => process.stderr.write(`${line}\n`), kernelRules(kernel).version);
}

async function sweep(args: ParsedArgs): Promise<number> {
  models(args);
  surfaceOptions(args);
  const { run, known } = await policiesFrom(args);
  const { name, source } = sourceFrom(args);
  const scenarios = expand(
    axesFrom(
      args,
      run.map((policy) => policy.name),
      source.kind === "image",
    ),
  );
  const shard = shardFrom(args);
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
    process.stderr.write(`wasm-vmx: interrupted after ${results.cells.length} of ${places.length} runs\n`);
    return ExitStatus.Interrupted;
  }
  const checks = shard.index === 1 ? (checksOf(run) ?? []) : [];
  const reported: SweepResults = checks.length > 0 ? { ...results, checks } : results;
  print(reported, args, { partial: shard.count > 1 });
  const html = args.strings.get("html");
  if (html !== undefined && shard.count === 1)
    writeHtml(html, reported, models(args), source, known, reportOptions(args));
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
    json: { type: "boolean" },
    csv: { type: "boolean" },
    html: { type: "string" },
    trace: { type: "boolean" },
  },
  async run(args: ParsedArgs) {
    const [first, ...rest] = args.positionals;
    if (first === "merge") {
      const merged = mergeFiles(rest);
      print(merged, args, { partial: false });
      const html = args.strings.get("html");
      if (html !== undefined) writeHtml(html, merged, models(args), undefined, [], reportOptions(args));
      return ExitStatus.Ok;
    }
    if (first === "calibrate") return runCalibrate(rest);
    if (first === "check" && rest.length === 0) return runCheck(args);
    return sweep(args);
  },
};
