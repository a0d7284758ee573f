import type { Surface } from "../surface.ts";
import { axisValue } from "../surface-text.ts";
import { label, line, rect, svg } from "./svg.ts";

const LEFT = 90;
const TOP = 10;
const CELL_WIDTH = 62;
const CELL_HEIGHT = 24;
/** Seen on red, on blue, and on what is almost white. */
const EDGE = "#ff9100";
/** Cycles at which a colour is full. */
const FULL = 400;
const WORDS: Readonly<Record<string, string>> = {
  cpuids: "faulting CPUIDs a load that enters the guest",
  exit: "cycles of an exit",
  wrmsr: "cycles of a WRMSR",
  rdmsr: "cycles of an RDMSR",
};

/** Blue where hardware faulting saves cycles, red where it costs some. */
function colour(gain: number): string {
  const share = Math.min(1, Math.abs(gain) / FULL);
  const fade = (from: number): number => Math.round(255 - (255 - from) * share);
  return gain >= 0 ? `rgb(${fade(21)},${fade(101)},${fade(192)})` : `rgb(${fade(198)},${fade(40)},${fade(40)})`;
}

/** Cycles a load that hardware faulting saves, from the counts of the runs; a line where the sign changes. */
export function heatMap({ x, y, columns, rows, gains }: Surface): string {
  const left = (i: number): number => LEFT + i * CELL_WIDTH;
  // the largest value of a number on top
  const top = (row: number): number => TOP + (rows.length - 1 - row) * CELL_HEIGHT;
  const cells = gains.flatMap((row, j) =>
    row.map((gain, i) => {
      if (gain === undefined) return "";
      const ink = Math.abs(gain) > FULL * 0.6 ? "#fff" : "#212121";
      return (
        rect(left(i), top(j), CELL_WIDTH - 1, CELL_HEIGHT - 1, colour(gain), `${gain.toFixed(0)} cycles a load`) +
        label(left(i) + CELL_WIDTH / 2, top(j) + 16, gain.toFixed(0), "middle", { fill: ink })
      );
    }),
  );
  const edge = (x1: number, y1: number, x2: number, y2: number): string =>
    line(x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5, EDGE, { "stroke-width": 3 });
  const turns = (a: number | undefined, b: number | undefined): boolean =>
    a !== undefined && b !== undefined && a >= 0 !== b >= 0;
  const edges = gains.flatMap((row, j) =>
    row.map((gain, i) => {
      const [at, under] = [left(i), top(j)];
      return (
        (turns(gain, row[i + 1]) ? edge(at + CELL_WIDTH, under, at + CELL_WIDTH, under + CELL_HEIGHT) : "") +
        (turns(gain, gains[j + 1]?.[i]) ? edge(at, under, at + CELL_WIDTH, under) : "")
      );
    }),
  );
  const bottom = TOP + rows.length * CELL_HEIGHT;
  const right = left(columns.length);
  const texts = [
    ...rows.map((value, j) => label(LEFT - 8, top(j) + 16, axisValue(value), "end")),
    ...columns.map((value, i) => label(left(i) + CELL_WIDTH / 2, bottom + 16, axisValue(value), "middle")),
    label(right + 10, TOP + 16, `rows: ${WORDS[y] ?? y}`),
    label(LEFT, bottom + 36, WORDS[x] ?? x),
  ];
  return svg(right + 170, bottom + 46, "break-even surface", [...cells, ...edges, ...texts].join(""));
}
