import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { type BenchRecord, compareLines, compareRecords, htmlPage, tableLines } from "../bench/report.ts";
import { measureStartup, startupLines } from "../bench/startup.ts";
import { MODES, type Mode, readGuests, runSuite } from "../bench/suite.ts";
import { type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { packageRoot } from "./packageRoot.ts";
import { progressOn, withInterrupt } from "./terminal.ts";

const help = `\
Usage: wasm-vmx bench [GUEST...] [options]

Times guests on the interpreter and with generated code, bare and under VMX, VM
exits and start-up. Rounds are interleaved and medians shown, so ratios hold
although the machine's speed drifts. GUEST is a name or a part of one.

  --mode MODE      only this one: ${MODES.join(", ")}
  --rounds N       rounds (default 5)
  --time MS        CPU time a run should last, in milliseconds (default 250)
  --no-exits       leave out VM exits
  --no-startup     leave out sizes and start-up
  --save FILE      keep the results for a later --baseline
  --baseline FILE  compare with saved results: ratios, and what moved
  --html FILE      write a page with bars
  --json           results as one JSON object on stdout
  --list           names of the guests
  --help           this text

Ctrl-C ends the rounds and shows what there is.

Exit status 0, 2 for bad input, 130 when interrupted.

Examples:
  wasm-vmx bench --save before.json
  wasm-vmx bench jump call --mode generated --baseline before.json`;

function readRecord(path: string): BenchRecord {
  let record: BenchRecord;
  try {
    record = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new UsageError(`cannot read the baseline ${path}: ${(error as Error).message}`);
  }
  if (record?.version !== 1 || !Array.isArray(record.cells) || !Array.isArray(record.exits)) {
    throw new UsageError(`${path} is no file that wasm-vmx bench --save wrote`);
  }
  return record;
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new UsageError(`cannot write ${path}: ${(error as Error).message}`);
  }
}

function modesFrom(name: string | undefined): readonly Mode[] {
  if (name === undefined) return MODES;
  if (MODES.includes(name as Mode)) return [name as Mode];
  throw new UsageError(`unknown mode "${name}": ${MODES.join(", ")}${suggestion(name, MODES)}`);
}

async function run(args: ParsedArgs): Promise<number> {
  const all = readGuests(new URL("fixtures/bench/", packageRoot()));
  const names = all.map(({ name }) => name);
  if (args.flags.has("list")) {
    const width = Math.max(...names.map((name) => name.length));
    for (const { name, what } of all) process.stdout.write(`${name.padEnd(width)}  ${what}\n`);
    return ExitStatus.Ok;
  }
  for (const part of args.positionals) {
    if (!names.some((name) => name.includes(part))) {
      throw new UsageError(`no guest is named "${part}": ${names.join(", ")}${suggestion(part, names)}`);
    }
  }
  const guests = all.filter(
    ({ name }) => args.positionals.length === 0 || args.positionals.some((part) => name.includes(part)),
  );
  const text = (name: string) => args.strings.get(name);
  const number = (name: string, fallback: number) => {
    const value = parseNumber(`--${name}`, text(name) ?? String(fallback), 100_000);
    if (value < 1) throw new UsageError(`--${name} must be at least 1`);
    return value;
  };
  const baseline = text("baseline") === undefined ? undefined : readRecord(text("baseline")!);
  const modes = modesFrom(text("mode"));
  const rounds = number("rounds", 5);
  const progress = progressOn(process.stderr, "bench", guests.length * modes.length * (rounds + 1), "runs");
  let interrupted = false;
  const suite = await withInterrupt(async (signal) => {
    const result = await runSuite({
      guests,
      modes,
      rounds,
      seconds: number("time", 250) / 1000,
      exits: !args.flags.has("no-exits"),
      signal,
      progress: progress.show,
    });
    interrupted = signal.aborted;
    return result;
  });
  progress.end();
  const record: BenchRecord = {
    version: 1,
    date: new Date().toISOString().slice(0, 16).replace("T", " "),
    node: process.version,
    cpu: cpus()[0]?.model ?? "unknown processor",
    ...suite,
    ...(args.flags.has("no-startup") || interrupted ? {} : { startup: measureStartup(packageRoot()) }),
  };
  if (record.cells.length === 0) {
    process.stderr.write("interrupted before the first round ended\n");
    return ExitStatus.Interrupted;
  }
  if (args.flags.has("json")) {
    const moves = baseline ? { comparison: compareRecords(record, baseline) } : {};
    process.stdout.write(`${JSON.stringify({ ...record, ...moves })}\n`);
  } else {
    const lines = tableLines(record);
    if (record.startup) lines.push("", ...startupLines(record.startup));
    if (baseline) lines.push("", ...compareLines(record, baseline));
    process.stdout.write(`${lines.join("\n")}\n`);
  }
  const save = text("save");
  if (save !== undefined) write(save, `${JSON.stringify(record)}\n`);
  const html = text("html");
  if (html !== undefined) write(html, htmlPage(record, baseline));
  return interrupted ? ExitStatus.Interrupted : ExitStatus.Ok;
}

export const benchCommand: Command = {
  summary: "time guests on both tiers, VM exits and start-up",
  help,
  options: {
    mode: { type: "string" },
    rounds: { type: "string" },
    time: { type: "string" },
    "no-exits": { type: "boolean" },
    "no-startup": { type: "boolean" },
    save: { type: "string" },
    baseline: { type: "string" },
    html: { type: "string" },
    json: { type: "boolean" },
    list: { type: "boolean" },
  },
  run,
};
