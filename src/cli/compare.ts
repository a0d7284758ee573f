import { readFileSync } from "node:fs";
import { COST_MODELS, type CostModel, costModel, parseCostModel } from "../cost/index.ts";
import { KERNEL_VERSIONS } from "../kvm/index.ts";
import { type CompareReport, compare, compareText } from "../lab/index.ts";
import { checkImage } from "../machine/index.ts";
import { POLICIES } from "../policy/index.ts";
import { type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP, guestFrom } from "./guestFile.ts";
import { styler } from "./terminal.ts";

const help = `\
Usage: wasm-vmx compare GUEST [options]

Runs one guest under every policy for MSR 0x140 and on hosts with several values
of it, and prints who gave the right result, what it cost, and where the
break-even between emulated and hardware CPUID faulting lies for this guest.

  --kernel VERSION   whose rules for the guest's MSRs: ${KERNEL_VERSIONS.join(", ")} (default 5.0)
  --cost MODEL       cost model, or a JSON file with one (default ${COST_MODELS[0]!.name}):
                     ${COST_MODELS.map(({ name }) => name)
                       .slice(0, 5)
                       .join(", ")},
                     ${COST_MODELS.map(({ name }) => name)
                       .slice(5)
                       .join(", ")}
  --host LIST        values of 0x140 of the VMM's thread, 0 to 3 (default 0,1)
${GUEST_OPTIONS_HELP}
  --max-instructions N
                     stop each run after exactly N instructions
  --json             one JSON object
  --help             this text

Policies:
${POLICIES.map(({ name, summary }) => `  ${name.padEnd(16)} ${summary}`).join("\n")}

A result is right when the guest prints and ends as it does on a host without
CPUID faulting. Exit status 0, or 2 for bad input.`;

const MAX_HOST_VALUE = 3;

function hosts(text: string | undefined): number[] {
  if (text === undefined) return [0, 1];
  const values = text.split(",").map((part) => parseNumber("--host", part.trim()));
  const bad = values.find((value) => value > MAX_HOST_VALUE);
  if (bad !== undefined) throw new UsageError(`--host ${bad}: 0x140 of a host is 0, 1, 2 or 3`);
  return [...new Set(values)];
}

function cost(text: string | undefined): CostModel {
  if (text === undefined) return COST_MODELS[0]!;
  if (COST_MODELS.some(({ name }) => name === text)) return costModel(text);
  if (!text.endsWith(".json")) {
    const names = COST_MODELS.map(({ name }) => name);
    throw new UsageError(`unknown cost model "${text}"${suggestion(text, names)}; there are ${names.join(", ")}`);
  }
  try {
    return parseCostModel(JSON.parse(readFileSync(text, "utf8")));
  } catch (error) {
    throw new UsageError(`cannot use cost model ${text}: ${(error as Error).message}`);
  }
}

function kernel(text: string | undefined): string {
  if (text === undefined) return "5.0";
  if (!(KERNEL_VERSIONS as readonly string[]).includes(text)) {
    throw new UsageError(
      `unknown kernel "${text}"${suggestion(text, KERNEL_VERSIONS)}; there are ${KERNEL_VERSIONS.join(", ")}`,
    );
  }
  return text;
}

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
    kernel: { type: "string" },
    cost: { type: "string" },
    host: { type: "string" },
    "max-instructions": { type: "string" },
    json: { type: "boolean" },
  },
  async run(args: ParsedArgs) {
    const { path, image, memory } = guestFrom(args, "compare");
    checkImage(image, memory);
    const limit = args.strings.get("max-instructions");
    const report = compare({
      image,
      memory,
      kernel: kernel(args.strings.get("kernel")),
      cost: cost(args.strings.get("cost")),
      hosts: hosts(args.strings.get("host")),
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
