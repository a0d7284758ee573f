// Cycles a load of the two sides against the rate of faulting CPUIDs, with this guest's own rate.
import type { LabReport } from "../session/lab-protocol.ts";
import { range, short, svg } from "./dom.ts";

const WIDTH = 640;
const HEIGHT = 250;
const LEFT = 64;
const RIGHT = 16;
const TOP = 30;
const BOTTOM = 44;

const log = Math.log10;

/** Both axes are logarithmic: rates and costs of guests differ by powers of ten. */
export function breakEvenPlot(
  { breakEven, exit, wrmsr, rdmsr }: LabReport,
  rdmsrPerLoad: number,
): SVGElement | undefined {
  if (!breakEven) return undefined;
  const { rate, threshold } = breakEven;
  const from = Math.floor(log(Math.min(rate, threshold.low) / 3));
  const to = Math.ceil(log(Math.max(rate, threshold.high) * 3));
  const hardware = { low: 2 * wrmsr.low + rdmsrPerLoad * rdmsr.low, high: 2 * wrmsr.high + rdmsrPerLoad * rdmsr.high };
  const costs = [10 ** from * exit.low, 10 ** to * exit.high, hardware.low, hardware.high].filter((value) => value > 0);
  const bottom = Math.floor(log(Math.min(...costs)));
  const top = Math.ceil(log(Math.max(...costs)));
  const x = (value: number): number => LEFT + ((log(value) - from) / (to - from)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number): number => TOP + (1 - (log(value) - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const [right, low] = [WIDTH - RIGHT, HEIGHT - BOTTOM];
  const parts: SVGElement[] = [];
  const text = (
    at: readonly [number, number],
    what: string,
    attributes: Readonly<Record<string, string | number>> = {},
  ): void => {
    parts.push(svg("text", { x: at[0], y: at[1], ...attributes }, what));
  };
  for (let power = from; power <= to; power++) {
    parts.push(svg("line", { class: "grid", x1: x(10 ** power), x2: x(10 ** power), y1: TOP, y2: low }));
    text([x(10 ** power), low + 16], power < 0 ? (10 ** power).toFixed(-power) : short(10 ** power), {
      "text-anchor": "middle",
    });
  }
  for (let power = bottom; power <= top; power++) {
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: right, y1: y(10 ** power), y2: y(10 ** power) }));
    text([LEFT - 8, y(10 ** power) + 4], power < 0 ? (10 ** power).toFixed(-power) : short(10 ** power), {
      "text-anchor": "end",
    });
  }
  const band = (points: readonly (readonly [number, number])[], kind: string): void => {
    parts.push(
      svg("polygon", { class: kind, points: points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ") }),
    );
  };
  const ends = [10 ** from, 10 ** to] as const;
  const emulated = (value: number, cost: number): [number, number] => [x(value), y(value * cost)];
  band(
    [
      emulated(ends[0], exit.low),
      emulated(ends[1], exit.low),
      emulated(ends[1], exit.high),
      emulated(ends[0], exit.high),
    ],
    "band exit",
  );
  band(
    [
      [LEFT, y(hardware.low)],
      [right, y(hardware.low)],
      [right, y(hardware.high)],
      [LEFT, y(hardware.high)],
    ],
    "band wrmsr",
  );
  parts.push(
    svg("rect", {
      class: "threshold",
      x: x(threshold.low),
      y: TOP,
      width: Math.max(1, x(threshold.high) - x(threshold.low)),
      height: low - TOP,
    }),
  );
  parts.push(svg("line", { class: "guest-rate", x1: x(rate), x2: x(rate), y1: TOP - 6, y2: low }));
  const anchor = x(rate) > WIDTH * 0.7 ? "end" : x(rate) < WIDTH * 0.3 ? "start" : "middle";
  text([x(rate), TOP - 12], `this guest: ${rate.toPrecision(3)} a load`, { "text-anchor": anchor, class: "strong" });
  text([(LEFT + right) / 2, HEIGHT - 8], "faulting CPUIDs a load that enters the guest", { "text-anchor": "middle" });
  const label = `Break-even plot: this guest makes ${rate.toPrecision(3)} faulting CPUIDs a load, the costs are equal at ${range(threshold.low, threshold.high)}`;
  return svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, ...parts);
}
