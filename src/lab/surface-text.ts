import { type CostModel, midpoint } from "../cost/index.ts";
import { varying } from "./scenario.ts";
import { breakEvenSensitivity, flips } from "./sensitivity.ts";
import type { Surface } from "./surface.ts";
import { groups, measuredBreakEvens, type SweepResults } from "./sweep.ts";
import { describeScenario } from "./sweep-text.ts";
import { wrap } from "./wrap.ts";

const round = (value: number): string => String(Number(value.toPrecision(3)));
export const axisValue = (value: unknown): string =>
  typeof value === "number" ? round(value) : value === true ? "on" : value === false ? "off" : String(value);

function grid(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines.map((line) => `  ${line.map((text, i) => text.padStart(widths[i]!)).join("  ")}`.trimEnd());
}

/** Cycles saved a load as a table; the break-even is where the sign changes. */
export function surfaceText(all: readonly Surface[], model: CostModel): string[] {
  const keys = varying(all.map(({ scenario }) => scenario)).filter((key) => key !== all[0]?.x && key !== all[0]?.y);
  return all.flatMap((surface) => {
    const { x, y, columns, rows, gains, breakEvens, scenario } = surface;
    const where = keys.length > 0 ? ` (${describeScenario(scenario, keys)})` : "";
    return [
      "",
      ...wrap(`Cycles a load that hardware faulting saves, by ${y} (down) and ${x} (across)${where}, ${model.name}:`),
      ...grid([
        ["", ...columns.map(axisValue), "break-even"],
        ...rows.map((row, i) => [
          axisValue(row),
          ...gains[i]!.map((gain) => (gain === undefined ? "." : gain.toFixed(0))),
          breakEvens[i] === undefined ? "-" : round(breakEvens[i]),
        ]),
      ]),
    ];
  });
}

/** What the answers hang on: break-evens with one price halved or doubled, and the prices at which winners change. */
export function sensitivityText(results: SweepResults, models: readonly CostModel[]): string[] {
  const [model] = models;
  if (model === undefined) return [];
  const evens = models.flatMap((one) => {
    const [first] = measuredBreakEvens(results, one);
    return first === undefined ? [] : breakEvenSensitivity(first, one).map((row) => ({ one, row }));
  });
  const table = evens.map(({ one, row: { kind, halved, middle, doubled } }) => [
    one.name,
    kind,
    round(midpoint(one[kind].cycles)),
    round(halved),
    round(middle),
    round(doubled),
  ]);
  const list = groups(results, model);
  const keys = varying(list.map(({ scenario }) => scenario));
  const changes = list.flatMap((group) => {
    const [nearest] = flips(group, model);
    if (nearest === undefined) return [];
    const { kind, factor, at, policy } = nearest;
    const text = `${describeScenario(group.scenario, keys)}: ${group.winners.join(", ")}, until ${kind} is ${round(at)} cycles (x ${round(factor)}): then ${policy}`;
    return wrap(`  ${text}`, 80, "    ");
  });
  return [
    ...(table.length === 0
      ? []
      : [
          "",
          ...wrap("Break-even, in faulting CPUIDs a load, with one price halved, as it is, and doubled:"),
          ...grid([["cost model", "price", "cycles", "halved", "as it is", "doubled"], ...table]),
        ]),
    ...(changes.length === 0
      ? []
      : ["", ...wrap(`How far the nearest price must move for the winner to change (${model.name}):`), ...changes]),
  ];
}
