import type { CostModel } from "../cost/index.ts";
import {
  SCENARIO_KEYS,
  SURFACE_PRICES,
  type SurfaceAxis,
  SurfaceError,
  type SurfaceOptions,
  type SweepResults,
  sensitivityText,
  surfaces,
  surfaceText,
} from "../lab/index.ts";
import { type OptionSpec, type ParsedArgs, UsageError } from "./args.ts";
import { list } from "./policyOptions.ts";

export const SURFACE_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  surface: { type: "string" },
  sensitivity: { type: "boolean" },
  ...Object.fromEntries(SURFACE_PRICES.map((kind) => [`${kind}-price`, { type: "string" } as const])),
};

export const SURFACE_HELP = `\
  --surface X,Y      break-even surface over two axes: options above that have
                     several values (cpuids, exits, vcpus ...), or the prices
                     exit, wrmsr, rdmsr; --html has cpuids,wrmsr by default
  --exit-price LIST  values of an axis that is a price, in cycles; also
                     --wrmsr-price, --rdmsr-price
  --sensitivity      break-evens with each price halved and doubled, and how far
                     a price must move for the winner to change`;

/** An option's name is its part of the scenario with dashes. */
function axis(name: string): SurfaceAxis {
  const key = name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const known = [...SCENARIO_KEYS.filter((one) => one !== "policy"), ...SURFACE_PRICES] as string[];
  if (!known.includes(key)) throw new UsageError(`--surface: no axis "${name}"; there are: ${known.join(", ")}`);
  return key as SurfaceAxis;
}

/** --surface and its prices; undefined when it is not asked for. */
export function surfaceOptions(args: ParsedArgs): SurfaceOptions | undefined {
  const text = args.strings.get("surface");
  const prices = Object.fromEntries(
    SURFACE_PRICES.flatMap((kind) => {
      const values = args.strings.get(`${kind}-price`);
      if (values === undefined) return [];
      const numbers = list(values).map(Number);
      if (numbers.length === 0 || numbers.some((value) => !(value >= 0))) {
        throw new UsageError(`--${kind}-price needs a list of cycles, not "${values}"`);
      }
      return [[kind, numbers]];
    }),
  );
  if (text === undefined) {
    if (Object.keys(prices).length > 0)
      throw new UsageError("--exit-price, --wrmsr-price and --rdmsr-price go with --surface");
    return undefined;
  }
  const names = list(text);
  if (names.length !== 2) throw new UsageError(`--surface needs two axes, such as cpuids,wrmsr, not "${text}"`);
  return { x: axis(names[0]!), y: axis(names[1]!), prices };
}

/** What --surface and --sensitivity add to the report. */
export function surfaceLines(args: ParsedArgs, results: SweepResults, models: readonly CostModel[]): string[] {
  const options = surfaceOptions(args);
  const [model] = models;
  const lines: string[] = [];
  if (options !== undefined && model !== undefined) {
    try {
      lines.push(...surfaceText(surfaces(results, model, options), model));
    } catch (error) {
      if (error instanceof SurfaceError) throw new UsageError(`--surface: ${error.message}`);
      throw error;
    }
  }
  if (args.flags.has("sensitivity")) lines.push(...sensitivityText(results, models));
  return lines;
}
