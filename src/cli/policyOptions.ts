import { readFileSync } from "node:fs";
import { COST_MODELS, type CostModel, costModel, parseCostModel } from "../cost/index.ts";
import { KERNEL_VERSIONS } from "../kvm/index.ts";
import { ALL_POLICIES, POLICIES, type Policy } from "../policy/index.ts";
import { type OptionSpec, type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { helpRow } from "./fit.ts";
import { loadPolicyFile } from "./policyFile.ts";

/** Options of every command that runs guests under policies. */
export const POLICY_OPTIONS = {
  kernel: { type: "string" },
  cost: { type: "string" },
  host: { type: "string" },
  policy: { type: "string" },
  "policy-file": { type: "string" },
} as const satisfies Record<string, OptionSpec>;

const MODEL_NAMES = COST_MODELS.map(({ name }) => name);
const KERNELS = KERNEL_VERSIONS.join(", ");

export const POLICY_OPTIONS_HELP = `\
  --kernel VERSION   whose rules for the guest's MSRs: ${KERNELS} (default 5.0)
  --cost MODEL       cost model, or a JSON file with one (default ${MODEL_NAMES[0]}):
                     ${MODEL_NAMES.slice(0, 5).join(", ")},
                     ${MODEL_NAMES.slice(5).join(", ")}
  --host LIST        values of 0x140 of the VMM's thread, 0 to 3 (default 0,1)
  --policy LIST      policies by name, "thread" for the five of the thread (the
                     default), "all"
  --policy-file FILE
                     a TypeScript or JavaScript file whose default export is a
                     policy, or a list of them; they run beside the others`;

export const POLICY_LIST = ALL_POLICIES.map(({ name, summary }) => helpRow(name, summary)).join("\n");

/** Items of a list with commas. */
export function list(text: string): string[] {
  const items = text.split(",").map((part) => part.trim());
  return [...new Set(items)].filter((part) => part !== "");
}

const MAX_HOST_VALUE = 3;

export function hostsFrom(args: ParsedArgs, otherwise: readonly number[]): readonly number[] {
  const text = args.strings.get("host");
  if (text === undefined) return otherwise;
  const values = text.split(",").map((part) => parseNumber("--host", part.trim()));
  const bad = values.find((value) => value > MAX_HOST_VALUE);
  if (bad !== undefined) throw new UsageError(`--host ${bad}: 0x140 of a host is 0, 1, 2 or 3`);
  return [...new Set(values)];
}

export function readCostModel(text: string): CostModel {
  if (MODEL_NAMES.includes(text)) return costModel(text);
  if (!text.endsWith(".json")) {
    throw new UsageError(
      `unknown cost model "${text}"${suggestion(text, MODEL_NAMES)}; there are ${MODEL_NAMES.join(", ")}`,
    );
  }
  try {
    return parseCostModel(JSON.parse(readFileSync(text, "utf8")));
  } catch (error) {
    throw new UsageError(`cannot use cost model ${text}: ${(error as Error).message}`);
  }
}

export function kernelFrom(args: ParsedArgs): string {
  const text = args.strings.get("kernel");
  if (text === undefined) return "5.0";
  if (!(KERNEL_VERSIONS as readonly string[]).includes(text)) {
    throw new UsageError(`unknown kernel "${text}"${suggestion(text, KERNEL_VERSIONS)}; there are ${KERNELS}`);
  }
  return text;
}

/** The policies to run, and all that names may refer to. */
export interface ChosenPolicies {
  readonly run: readonly Policy[];
  readonly known: readonly Policy[];
}

export async function policiesFrom(args: ParsedArgs): Promise<ChosenPolicies> {
  const file = args.strings.get("policy-file");
  const own = file === undefined ? [] : await loadPolicyFile(file);
  const known = [...ALL_POLICIES, ...own];
  const names = known.map(({ name }) => name);
  const run = list(args.strings.get("policy") ?? "thread").flatMap((name) => {
    if (name === "thread") return POLICIES;
    if (name === "all") return known;
    const policy = known.find((one) => one.name === name);
    if (policy === undefined) {
      const all = ["thread", "all", ...names];
      throw new UsageError(`unknown policy "${name}"${suggestion(name, all)}; there are: ${all.join(", ")}`);
    }
    return policy;
  });
  return { run: [...new Set([...run, ...own])], known };
}
