import { type CostKind, midpoint } from "../../cost/index.ts";
import type { SweepGroup } from "../sweep.ts";
import { CAUSE_NAMES, CAUSE_ORDER } from "../sweep-text.ts";
import { element, GRID, INK, label, line, rect, short, svg, tick } from "./svg.ts";

/** Distinct in hue and in lightness, so that they stay apart in grey. */
export const CAUSE_COLOURS: Readonly<Record<CostKind, string>> = {
  instruction: "#cfd8dc",
  userspace: "#90a4ae",
  fault: "#6d4c41",
  exit: "#1e88e5",
  rdmsr: "#fdd835",
  wrmsr: "#d81b60",
  autoload: "#8e24aa",
};

const NAME = 150;
const BAR = 18;
const GAP = 6;
const PLOT = 600;
const RIGHT = 120;

/** One bar a policy, cycles stacked by cause; dimmed where the policy is not right. */
export function stackedCycles(group: SweepGroup): string {
  const most = Math.max(1, ...group.rows.map(({ cycles }) => cycles.total.high));
  const x = (cycles: number): number => NAME + (cycles / most) * PLOT;
  const height = group.rows.length * (BAR + GAP) + 28;
  const step = tick(most, 6);
  const axis = Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step).map(
    (at) => line(x(at), 0, x(at), height - 20, GRID) + label(x(at), height - 6, short(at), "middle"),
  );
  const bars = group.rows.map(({ result, cycles, verdict }, i) => {
    const y = i * (BAR + GAP) + 2;
    let sum = 0;
    const parts = CAUSE_ORDER.map((kind) => {
      const from = sum;
      sum += midpoint(cycles.byCause[kind]);
      const title = `${CAUSE_NAMES[kind]}: ${short(midpoint(cycles.byCause[kind]))} cycles`;
      return sum === from ? "" : rect(x(from), y, x(sum) - x(from), BAR, CAUSE_COLOURS[kind], title);
    });
    const { low, high } = cycles.total;
    const whisker = low === high ? "" : line(x(low), y + BAR / 2, x(high), y + BAR / 2, INK, { "stroke-width": 2 });
    const { policy } = result.scenario;
    const best = group.winners.includes(policy);
    return (
      label(NAME - 8, y + 13, policy, "end", best ? { "font-weight": "bold" } : {}) +
      element("g", verdict === "right" ? {} : { opacity: 0.45 }, parts.join("") + whisker) +
      label(x(high) + 8, y + 13, verdict === "right" ? (best ? "cheapest" : "") : verdict)
    );
  });
  return svg(NAME + PLOT + RIGHT, height, "cycles by cause and policy", axis.join("") + bars.join(""));
}

export function legend(groups: readonly SweepGroup[]): string {
  const used = CAUSE_ORDER.filter((kind) =>
    groups.some(({ rows }) => rows.some(({ cycles }) => cycles.byCause[kind].high > 0)),
  );
  const items = used.map((kind) => `<li><i style="background:${CAUSE_COLOURS[kind]}"></i>${CAUSE_NAMES[kind]}</li>`);
  return `<ul class="legend">${items.join("")}<li><i class="whisker"></i>from the low to the high end of the model</li></ul>`;
}
