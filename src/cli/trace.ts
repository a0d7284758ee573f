import { createWriteStream } from "node:fs";
import { elfCode, SymbolNames } from "../disasm/index.ts";
import { checkImage, isElf, yieldToHost } from "../machine/index.ts";
import { POLICIES } from "../policy/index.ts";
import type { PerfettoTrace } from "../trace/index.ts";
import { type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP, guestFrom, readFileOf } from "./guestFile.ts";
import { writeLines } from "./lines.ts";
import { describeEnding, type Ending, exitStatus } from "./outcome.ts";
import { readCostModel } from "./policyOptions.ts";
import { MODELS, modelFrom } from "./run.ts";
import { ConsoleWriter, styler, withInterrupt } from "./terminal.ts";
import { traceBare } from "./traceBare.ts";
import {
  kindsFrom,
  rangesFrom,
  recordJson,
  recordText,
  TRACE_KINDS,
  type TraceFilter,
  type TraceKind,
  type TraceRecord,
} from "./traceRecords.ts";
import { traceVmx } from "./traceVmx.ts";

const help = `\
Usage: wasm-vmx trace GUEST [options]

Runs a guest and prints what happens, a line each: the instructions completed
before, the linear address, and an instruction with the registers it changed, an
exception or interrupt, a VM exit or entry. The guest's console goes to stderr.
It runs no further than what is read: pipe it to head as you like.

  --bare             on the bare processor (default)
  --vmx              as a guest in VMX non-root operation, under KVM's paths
  --policy POLICY    what KVM does with MSR 0x140 at a switch (implies --vmx)
  --kinds LIST       of instruction, fault (an exception), interrupt, exit and
                     entry (VMX), msr (the host's accesses to 0x140) and kvm
                     (its other tracepoints)
                     default: instruction, fault, interrupt, exit
  --range LIST       only at these linear addresses: A, A-B or several with
                     commas, both ends included
  --after N          begin after N instructions
  --count N          end after N lines
  --json             a JSON object a line
  --perfetto FILE    write the run as a Chrome trace for ui.perfetto.dev or
                     chrome://tracing: time in the guest, in KVM and in user
                     space, exits, switches of MSR 0x140, in cycles of a cost
                     model; alone it prints no lines (implies --vmx)
  --cost MODEL       cost model of --perfetto, or a JSON file with one (default
                     thread-trip)
${GUEST_OPTIONS_HELP}
  --cpu MODEL        generic (default), or vmx: a hypervisor can run (bare)
  --max-instructions N
                     stop after exactly N instructions
  --help             this text

Exit status: as that of wasm-vmx run; 0 when --count ended it.

Examples:
  wasm-vmx trace boot.bin | head -n 40
  wasm-vmx trace guest.elf --kinds fault --json
  wasm-vmx trace guest.elf --range 0x100020-0x100080 --after 1000 --count 50
  wasm-vmx trace guest.bin --mode long --vmx --kinds exit,msr
  wasm-vmx trace guest.bin --mode long --perfetto trace.json`;

const TURN_MS = 20;
const DEFAULT_KINDS: readonly TraceKind[] = ["instruction", "fault", "interrupt", "exit"];

/** Names of an ELF guest's addresses; a flat one has none. */
function namesOf(path: string): (address: bigint) => string | undefined {
  const bytes = readFileOf("guest", path);
  if (!isElf(bytes)) return () => undefined;
  const names = new SymbolNames(elfCode(bytes).symbols);
  return (address) => names.near(address);
}

async function writePerfetto(path: string, trace: PerfettoTrace, about: Record<string, string>): Promise<void> {
  const file = createWriteStream(path);
  try {
    await new Promise((resolve, reject) => file.once("open", resolve).once("error", reject));
  } catch (error) {
    throw new UsageError(`cannot write ${path}: ${(error as Error).message}`);
  }
  await writeLines(file, trace.lines(about));
  await new Promise((resolve) => file.end(resolve));
}

/** The policy that --policy names. */
export function policyFrom(args: ParsedArgs): string | undefined {
  const policy = args.strings.get("policy");
  const names = POLICIES.map(({ name }) => name);
  if (policy === undefined || names.includes(policy)) return policy;
  throw new UsageError(`unknown policy "${policy}"${suggestion(policy, names)}; there are ${names.join(", ")}`);
}

interface Traced {
  readonly records: Generator<TraceRecord | undefined, Ending>;
  readonly perfetto?: PerfettoTrace | undefined;
}

function traced(args: ParsedArgs, console: (byte: number) => void, signal: AbortSignal): Traced & { path: string } {
  const { image, memory, path } = guestFrom(args, "trace");
  checkImage(image, memory);
  const policy = policyFrom(args);
  const perfetto = args.strings.has("perfetto");
  const vmx = args.flags.has("vmx") || policy !== undefined || perfetto;
  if (vmx && args.flags.has("bare")) throw new UsageError("--bare excludes --vmx, --policy and --perfetto");
  if (vmx && args.strings.has("cpu")) throw new UsageError("--cpu is for --bare: KVM gives its guests their own CPUID");
  if (args.strings.has("cost") && !perfetto) throw new UsageError("--cost is for --perfetto");
  const filter: TraceFilter = {
    kinds: kindsFrom(args.strings.get("kinds"), perfetto ? [] : DEFAULT_KINDS),
    ranges: rangesFrom(args.strings.get("range")),
  };
  const number = (option: string): number | undefined => {
    const text = args.strings.get(option);
    return text === undefined ? undefined : parseNumber(`--${option}`, text);
  };
  const common = {
    ...{ image, memory, console, signal, filter },
    after: number("after") ?? 0,
    maxInstructions: number("max-instructions"),
  };
  const cost = perfetto ? readCostModel(args.strings.get("cost") ?? "thread-trip") : undefined;
  if (vmx) return { path, ...traceVmx({ ...common, policy, perfetto: cost }) };
  return { path, records: traceBare({ ...common, cpu: modelFrom(args.strings.get("cpu")) }) };
}

export const traceCommand: Command = {
  summary: "instructions, VM exits and faults of a run",
  help,
  options: {
    ...GUEST_OPTIONS,
    bare: { type: "boolean" },
    vmx: { type: "boolean" },
    policy: { type: "string", values: POLICIES.map(({ name }) => name) },
    kinds: { type: "string", values: TRACE_KINDS },
    range: { type: "string" },
    after: { type: "string" },
    count: { type: "string" },
    json: { type: "boolean" },
    perfetto: { type: "string", file: true },
    cost: { type: "string" },
    cpu: { type: "string", values: Object.keys(MODELS) },
    "max-instructions": { type: "string" },
  },
  async run(args) {
    const count = args.strings.get("count");
    let left = count === undefined ? Number.POSITIVE_INFINITY : parseNumber("--count", count);
    const guestConsole = new ConsoleWriter(process.stderr);
    const json = args.flags.has("json");
    const style = styler(process.stdout);
    let ending: Ending | undefined;

    const { perfetto, path } = await withInterrupt(async (signal) => {
      const trace = traced(args, guestConsole.put, signal);
      const name = namesOf(trace.path);
      const options = { name, dim: (text: string) => style("dim", text) };
      let turned = performance.now();
      async function* lines(): AsyncGenerator<string> {
        while (left > 0) {
          const next = trace.records.next();
          if (next.done) {
            ending = next.value;
            return;
          }
          if (next.value === undefined) {
            // Ctrl-C is seen between turns of the event loop
            if (performance.now() - turned < TURN_MS) continue;
            await yieldToHost();
            turned = performance.now();
            continue;
          }
          left--;
          yield json ? recordJson(next.value, name) : recordText(next.value, options);
        }
      }
      await writeLines(process.stdout, lines());
      return trace;
    });
    guestConsole.flush();
    const file = args.strings.get("perfetto");
    if (file !== undefined && perfetto !== undefined) {
      perfetto.finish();
      await writePerfetto(file, perfetto, { guest: path, "cost model": args.strings.get("cost") ?? "thread-trip" });
      process.stderr.write(`wasm-vmx: ${perfetto.size} events in ${file}; open it at ui.perfetto.dev\n`);
    }
    if (ending === undefined) return ExitStatus.Ok;
    process.stderr.write(`wasm-vmx: ${describeEnding(ending)}\n`);
    return exitStatus(ending);
  },
};
