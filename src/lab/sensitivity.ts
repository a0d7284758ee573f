import { COST_KINDS, type CostKind, type CostModel, midpoint, timesOf } from "../cost/index.ts";
import { SURFACE_PRICES, type SurfacePrice } from "./surface.ts";
import type { MeasuredBreakEven, SweepGroup } from "./sweep.ts";

/** How far one price must move, all others at the model's middle, for another policy to become the cheapest. */
export interface Flip {
  readonly kind: CostKind;
  /** Price at which they cost the same, in cycles. */
  readonly at: number;
  /** `at` over the model's middle price. */
  readonly factor: number;
  /** The policy that is cheaper beyond it. */
  readonly policy: string;
}

/** The nearest flip by price of a group's winner, nearest first; none for a price that decides nothing. */
export function flips(group: SweepGroup, model: CostModel): Flip[] {
  const winner = group.rows.find(({ result }) => result.scenario.policy === group.winners[0]);
  if (winner === undefined) return [];
  const mine = timesOf(winner.result);
  const found = new Map<CostKind, Flip>();
  for (const row of group.rows) {
    const { policy } = row.result.scenario;
    if (row.verdict !== "right" || group.winners.includes(policy)) continue;
    const theirs = timesOf(row.result);
    const lead = row.cycles.midpoint - winner.cycles.midpoint;
    for (const kind of COST_KINDS) {
      const more = mine[kind] - theirs[kind];
      const price = midpoint(model[kind].cycles);
      if (more === 0 || price === 0) continue;
      const at = price + lead / more;
      const factor = at / price;
      const known = found.get(kind);
      if (at <= 0 || (known && Math.abs(Math.log(known.factor)) <= Math.abs(Math.log(factor)))) continue;
      found.set(kind, { kind, at, factor, policy });
    }
  }
  return [...found.values()].sort((a, b) => Math.abs(Math.log(a.factor)) - Math.abs(Math.log(b.factor)));
}

/** Break-even in faulting CPUIDs a load with one price halved, as it is, and doubled; the others at the middle. */
export interface BreakEvenSensitivity {
  readonly kind: SurfacePrice;
  readonly halved: number;
  readonly middle: number;
  readonly doubled: number;
}

export function breakEvenSensitivity({ points }: MeasuredBreakEven, model: CostModel): BreakEvenSensitivity[] {
  const [point] = points;
  if (point === undefined) return [];
  const at = (kind: SurfacePrice, factor: number): number => {
    const price = (one: SurfacePrice): number => midpoint(model[one].cycles) * (one === kind ? factor : 1);
    return (point.wrmsr * price("wrmsr") + point.rdmsr * price("rdmsr")) / price("exit");
  };
  return SURFACE_PRICES.map((kind) => ({ kind, halved: at(kind, 0.5), middle: at(kind, 1), doubled: at(kind, 2) }));
}
