import { type CostModel, midpoint } from "../cost/index.ts";
import { SCENARIO_KEYS, type Scenario } from "./scenario.ts";
import { type BreakEvenPoint, breakEvenPoints, type SweepResults } from "./sweep.ts";

/** Prices that decide between hardware and emulated faulting. */
export const SURFACE_PRICES = ["exit", "wrmsr", "rdmsr"] as const;
export type SurfacePrice = (typeof SURFACE_PRICES)[number];
/** A part of the scenario in which the runs differ, or a price in cycles. */
export type SurfaceAxis = Exclude<keyof Scenario, "policy"> | SurfacePrice;

export interface SurfaceOptions {
  readonly x: SurfaceAxis;
  readonly y: SurfaceAxis;
  /** Values of an axis that is a price; default: fractions and multiples of the model's. */
  readonly prices?: Partial<Readonly<Record<SurfacePrice, readonly number[]>>>;
}

/** Cycles a load that hardware faulting saves, over two axes. */
export interface Surface {
  /** The rest of the scenario. */
  readonly scenario: Scenario;
  readonly x: SurfaceAxis;
  readonly y: SurfaceAxis;
  readonly columns: readonly unknown[];
  readonly rows: readonly unknown[];
  /** By row and column; undefined where no runs are. Negative: hardware faulting costs. */
  readonly gains: readonly (readonly (number | undefined)[])[];
  /** By row: where along x the gain turns, between runs by a straight line; undefined where it does not. */
  readonly breakEvens: readonly (number | undefined)[];
}

export class SurfaceError extends Error {
  override name = "SurfaceError";
}

const DEFAULT_FACTORS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4];
const isPrice = (axis: SurfaceAxis): axis is SurfacePrice => (SURFACE_PRICES as readonly string[]).includes(axis);

type Prices = Readonly<Record<SurfacePrice, number>>;

function gainAt({ exitsSaved, wrmsr, rdmsr }: BreakEvenPoint, prices: Prices): number {
  return exitsSaved * prices.exit - wrmsr * prices.wrmsr - rdmsr * prices.rdmsr;
}

/** What a point lies at on an axis. Against a price CPUIDs are those measured, a load; else those of the scenario. */
function placeOn(point: BreakEvenPoint, axis: SurfaceAxis, measured: boolean): unknown {
  return axis === "cpuids" && measured ? point.cpuids : point.scenario[axis as keyof Scenario];
}

function sorted(values: readonly unknown[]): unknown[] {
  return [...new Set(values)].sort((a, b) => Number(a) - Number(b) || String(a).localeCompare(String(b)));
}

function turn(columns: readonly unknown[], gains: readonly (number | undefined)[]): number | undefined {
  for (let i = 1; i < gains.length; i++) {
    const [a, b] = [gains[i - 1], gains[i]];
    const [xa, xb] = [Number(columns[i - 1]), Number(columns[i])];
    if (a === undefined || b === undefined || Number.isNaN(xa) || Number.isNaN(xb) || a * b > 0 || a === b) continue;
    return xa + ((xb - xa) * -a) / (b - a);
  }
  return undefined;
}

/**
 * Break-even surfaces of a sweep under a model's middle prices, one for each combination of what varies beside the axes.
 * SurfaceError where an axis has one value only.
 */
export function surfaces(results: SweepResults, model: CostModel, options: SurfaceOptions): Surface[] {
  const { x, y } = options;
  if (x === y) throw new SurfaceError(`both axes of the surface are ${x}`);
  const measured = isPrice(x) || isPrice(y);
  const points = breakEvenPoints(results);
  if (points.length === 0)
    throw new SurfaceError("no runs to compare: a host with value 0 and a guest with faulting on");
  const standard = Object.fromEntries(SURFACE_PRICES.map((kind) => [kind, midpoint(model[kind].cycles)])) as Prices;
  const values = (axis: SurfaceAxis, among: readonly BreakEvenPoint[]): unknown[] => {
    if (!isPrice(axis)) return sorted(among.map((point) => placeOn(point, axis, measured)));
    return sorted(options.prices?.[axis] ?? DEFAULT_FACTORS.map((factor) => factor * standard[axis]));
  };
  for (const axis of [x, y]) {
    if (values(axis, points).length < 2) throw new SurfaceError(`the runs have one value of ${axis} only`);
  }
  const fixed = SCENARIO_KEYS.filter((key) => key !== "policy" && key !== x && key !== y);
  const families = new Map<string, BreakEvenPoint[]>();
  for (const point of points) {
    const key = JSON.stringify(fixed.map((name) => point.scenario[name]));
    families.set(key, [...(families.get(key) ?? []), point]);
  }
  return [...families.values()].map((family): Surface => {
    const columns = values(x, family);
    const rows = values(y, family);
    const gains = rows.map((row) =>
      columns.map((column) => {
        const at = (axis: SurfaceAxis): unknown => (axis === x ? column : row);
        const point = family.find((one) =>
          [x, y].every((axis) => isPrice(axis) || placeOn(one, axis, measured) === at(axis)),
        );
        const prices = { ...standard };
        for (const axis of [x, y]) if (isPrice(axis)) prices[axis] = Number(at(axis));
        return point && gainAt(point, prices);
      }),
    );
    const breakEvens = gains.map((row) => turn(columns, row));
    return { scenario: family[0]!.scenario, x, y, columns, rows, gains, breakEvens };
  });
}
