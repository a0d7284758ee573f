import { type CompareReport, compare, compareText } from "../lab/index.ts";
import { checkImage } from "../machine/index.ts";
import { type ParsedArgs, parseNumber } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP, guestFrom } from "./guestFile.ts";
import {
  hostsFrom,
  kernelFrom,
  POLICY_LIST,
  POLICY_OPTIONS,
  POLICY_OPTIONS_HELP,
  policiesFrom,
  readCostModel,
} from "./policyOptions.ts";
import { styler } from "./terminal.ts";

const help = `\
Usage: wasm-vmx compare GUEST [options]

Runs one guest under every policy for MSR 0x140 and on hosts with several values
of it, and prints who gave the right result, what it cost, and where the
break-even between emulated and hardware CPUID faulting lies for this guest.

${POLICY_OPTIONS_HELP}
${GUEST_OPTIONS_HELP}
  --max-instructions N
                     stop each run after exactly N instructions
  --trace            kvm tracepoints of every run on stderr, as trace-cmd prints
                     them
  --json             one JSON object
  --help             this text

Policies:
${POLICY_LIST}

A result is right when the guest prints and ends as it does on a host without
CPUID faulting. Exit status 0, or 2 for bad input.

Examples:
  wasm-vmx compare guest.bin --mode long
  wasm-vmx compare guest.elf --json
  wasm-vmx compare guest.bin --mode long --policy-file mine.ts`;

function toJson(report: CompareReport, guest: string): string {
  return JSON.stringify({ guest, ...report }, (_key, value) =>
    typeof value === "bigint" ? `0x${value.toString(16)}` : value,
  );
}

export const compareCommand: Command = {
  summary: "run a guest under every policy for MSR 0x140 and compare",
  help,
  options: {
    ...GUEST_OPTIONS,
    ...POLICY_OPTIONS,
    "max-instructions": { type: "string" },
    json: { type: "boolean" },
    trace: { type: "boolean" },
  },
  async run(args: ParsedArgs) {
    const { path, image, memory } = guestFrom(args, "compare");
    checkImage(image, memory);
    const limit = args.strings.get("max-instructions");
    const report = compare({
      image,
      memory,
      kernel: kernelFrom(args),
      cost: readCostModel(args.strings.get("cost") ?? "thread-trip"),
      hosts: hostsFrom(args, [0, 1]),
      policies: (await policiesFrom(args)).run,
      ...(args.flags.has("trace") ? { trace: (line: string) => void process.stderr.write(`${line}\n`) } : {}),
      ...(args.flags.has("trace")
        ? { progress: (policy: string, host: number) => void process.stderr.write(`# ${policy}, host ${host}\n`) }
        : {}),
      ...(limit === undefined ? {} : { maxInstructions: parseNumber("--max-instructions", limit) }),
    });
    if (args.flags.has("json")) {
      process.stdout.write(`${toJson(report, path)}\n`);
    } else {
      const style = styler(process.stdout);
      const [first, ...rest] = compareText(report);
      process.stdout.write(`${[style("bold", `${path}`), first, ...rest].join("\n")}\n`);
    }
    return ExitStatus.Ok;
  },
};
