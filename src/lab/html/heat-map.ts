import type { CostModel } from "../../cost/index.ts";
import type { BreakEvenPoint } from "../sweep.ts";
import { label, line, rect, svg } from "./svg.ts";

const LEFT = 90;
const TOP = 10;
const CELL_WIDTH = 62;
const CELL_HEIGHT = 24;
/** Cost of the two WRMSRs of a trip, from the top down. */
const TRIPS = [1200, 1000, 800, 600, 500, 400, 300, 250, 200, 100, 50];
const FULL = 400;

/** Blue where hardware faulting saves cycles, red where it costs some. */
function colour(gain: number): string {
  const share = Math.min(1, Math.abs(gain) / FULL);
  const fade = (from: number): number => Math.round(255 - (255 - from) * share);
  return gain >= 0 ? `rgb(${fade(21)},${fade(101)},${fade(192)})` : `rgb(${fade(198)},${fade(40)},${fade(40)})`;
}

/**
 * Cycles a load that hardware faulting saves, from the counts of the runs: faulting CPUIDs a load against the price of a
 * trip's two WRMSRs. The exit costs what `model` says (middle), the RDMSR too.
 */
export function heatMap(points: readonly BreakEvenPoint[], model: CostModel): string {
  const exit = (model.exit.cycles.low + model.exit.cycles.high) / 2;
  const rdmsr = (model.rdmsr.cycles.low + model.rdmsr.cycles.high) / 2;
  const columns = [...points].sort((a, b) => a.cpuids - b.cpuids);
  const x = (i: number): number => LEFT + i * CELL_WIDTH;
  const cells = TRIPS.flatMap((trip, row) =>
    columns.map((point, i) => {
      const gain = point.exitsSaved * exit - (point.wrmsr / 2) * trip - point.rdmsr * rdmsr;
      const y = TOP + row * CELL_HEIGHT;
      const ink = Math.abs(gain) > FULL * 0.6 ? "#fff" : "#212121";
      return (
        rect(x(i), y, CELL_WIDTH - 1, CELL_HEIGHT - 1, colour(gain), `${gain.toFixed(0)} cycles a load`) +
        label(x(i) + CELL_WIDTH / 2, y + 16, gain.toFixed(0), "middle", { fill: ink })
      );
    }),
  );
  const bottom = TOP + TRIPS.length * CELL_HEIGHT;
  const rows = TRIPS.map((trip, row) => label(LEFT - 8, TOP + row * CELL_HEIGHT + 16, String(trip), "end"));
  const rates = columns.map(({ cpuids }, i) =>
    label(x(i) + CELL_WIDTH / 2, bottom + 16, cpuids.toPrecision(3), "middle"),
  );
  const edge = columns.map((point, i) => {
    const limit = (2 * (point.exitsSaved * exit - point.rdmsr * rdmsr)) / point.wrmsr;
    const above = TRIPS.filter((trip) => trip > limit).length;
    const y = TOP + above * CELL_HEIGHT - 0.5;
    return line(x(i) - 0.5, y, x(i + 1) - 0.5, y, "#000", { "stroke-width": 2 });
  });
  const right = x(columns.length);
  const texts = [
    label(right + 10, TOP + 16, "cycles of a trip's"),
    label(right + 10, TOP + 32, "two WRMSRs: rows"),
    label(LEFT, bottom + 36, "faulting CPUIDs a load that enters the guest"),
  ];
  const content = [...cells, ...edge, ...rows, ...rates, ...texts].join("");
  return svg(right + 140, bottom + 46, "break-even surface", content);
}
