// Results of the suite as text, as a comparison with saved ones, and as a page with bars.
import type { Startup } from "./startup.ts";
import { type Cell, type ExitRate, MODES, type Mode, median } from "./suite.ts";

/** What --save writes and --baseline reads. */
export interface BenchRecord {
  readonly version: 1;
  readonly date: string;
  readonly node: string;
  readonly cpu: string;
  readonly cells: readonly Cell[];
  readonly exits: readonly ExitRate[];
  readonly startup?: Startup;
}

/** A figure that differs from the baseline's. */
export interface Move {
  readonly name: string;
  /** Now / then. */
  readonly ratio: number;
  /** The same over the median ratio of the run: without what the whole machine's speed did. */
  readonly relative: number;
}

/** Ratios nearer to 1 are taken for noise. */
const NOISE = 0.1;

const figure = (value: number) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const unique = <T>(values: readonly T[]): T[] => [...new Set(values)];
const modesOf = (cells: readonly Cell[]): Mode[] => MODES.filter((mode) => cells.some((cell) => cell.mode === mode));

function grid(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

export function tableLines(record: BenchRecord): string[] {
  const { cells, exits } = record;
  const modes = modesOf(cells);
  const lines = ["Million guest instructions a second of CPU time, median (spread of the rounds in %)", ""];
  const rows = [["guest", ...modes, "modules", "functions", "KB", "compile ms"]];
  for (const guest of unique(cells.map((cell) => cell.guest))) {
    const cell = (mode: Mode) => cells.find((one) => one.guest === guest && one.mode === mode);
    const shown = modes.map((mode) => {
      const one = cell(mode);
      if (!one) return "-";
      const spread = ((Math.max(...one.rounds) - Math.min(...one.rounds)) / one.mips) * 100;
      return `${figure(one.mips)} (${spread.toFixed(0)})`;
    });
    const made = cell("generated");
    const cost = [
      made?.modules,
      made?.functions,
      ((made?.generatedBytes ?? 0) / 1000).toFixed(1),
      made?.compileMs?.toFixed(1),
    ];
    rows.push([guest, ...shown, ...cost.map((value) => (made ? String(value) : "-"))]);
  }
  lines.push(...grid(rows));
  if (exits.length > 0) {
    const tiers = unique(exits.map(({ mode }) => mode));
    lines.push("", "Million VM exits a second: exit, host in TypeScript, VMRESUME, the guest's loop", "");
    const rate = (name: string, mode: string) =>
      exits.find((one) => one.name === name && one.mode === mode)?.perSecond ?? Number.NaN;
    lines.push(
      ...grid([
        ["exit", ...tiers],
        ...unique(exits.map(({ name }) => name)).map((name) => [
          name,
          ...tiers.map((tier) => figure(rate(name, tier) / 1e6)),
        ]),
      ]),
    );
  }
  return lines;
}

/** Figures that are in both records. */
export function compareRecords(now: BenchRecord, then: BenchRecord): Move[] {
  const pairs: { name: string; ratio: number }[] = [];
  for (const cell of now.cells) {
    const old = then.cells.find(({ guest, mode }) => guest === cell.guest && mode === cell.mode);
    if (old) pairs.push({ name: `${cell.guest}, ${cell.mode}`, ratio: cell.mips / old.mips });
  }
  for (const exit of now.exits) {
    const old = then.exits.find(({ name, mode }) => name === exit.name && mode === exit.mode);
    if (old) pairs.push({ name: `${exit.name} exits, ${exit.mode}`, ratio: exit.perSecond / old.perSecond });
  }
  const middle = median(pairs.map(({ ratio }) => ratio));
  return pairs.map(({ name, ratio }) => ({ name, ratio, relative: ratio / middle }));
}

export function compareLines(now: BenchRecord, then: BenchRecord): string[] {
  const moves = compareRecords(now, then);
  if (moves.length === 0) return ["the baseline has none of these figures"];
  const middle = median(moves.map(({ ratio }) => ratio));
  const lines = [
    `against ${then.date} (${then.cpu}, ${then.node}): ${moves.length} figures, median ratio ${middle.toFixed(2)}`,
  ];
  if (then.cpu !== now.cpu || then.node !== now.node)
    lines.push("another processor or Node: trust the last column only");
  const moved = moves
    .filter(({ relative }) => Math.abs(Math.log(relative)) > Math.log(1 + NOISE))
    .sort((a, b) => a.relative - b.relative);
  if (moved.length === 0) return [...lines, `nothing moved by more than ${NOISE * 100} % against the median`];
  const rows = moved.map(({ name, ratio, relative }) => [
    name,
    ratio.toFixed(2),
    relative.toFixed(2),
    relative < 1 ? "slower" : "faster",
  ]);
  return [...lines, "", ...grid([["moved", "now / then", "over median", ""], ...rows])];
}

const COLOURS: Readonly<Record<Mode, string>> = {
  interpreter: "#8da0cb",
  generated: "#1b6ca8",
  "vmx-interpreter": "#e5b98f",
  "vmx-generated": "#c8602a",
};
const markup = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function bars(cells: readonly Cell[]): string {
  const modes = modesOf(cells);
  const guests = unique(cells.map(({ guest }) => guest));
  const high = Math.ceil(Math.log10(Math.max(...cells.map(({ mips }) => mips))));
  const low = Math.min(high - 1, Math.floor(Math.log10(Math.min(...cells.map(({ mips }) => mips)))));
  const [left, width, bar] = [110, 680, 13];
  const x = (mips: number) => left + ((Math.log10(mips) - low) / (high - low)) * width;
  const group = modes.length * bar + 12;
  const height = guests.length * group + 34;
  const parts: string[] = [];
  for (let power = low; power <= high; power++) {
    const at = x(10 ** power).toFixed(1);
    parts.push(`<line x1="${at}" x2="${at}" y1="0" y2="${height - 24}" class="grid"/>`);
    parts.push(`<text x="${at}" y="${height - 8}" text-anchor="middle">${10 ** power}</text>`);
  }
  guests.forEach((guest, row) => {
    const top = row * group + 6;
    const middle = top + (modes.length * bar) / 2 + 4;
    parts.push(`<text x="${left - 8}" y="${middle}" text-anchor="end">${markup(guest)}</text>`);
    modes.forEach((mode, i) => {
      const cell = cells.find((one) => one.guest === guest && one.mode === mode);
      if (!cell) return;
      const y = top + i * bar;
      const end = x(cell.mips);
      parts.push(
        `<rect x="${left}" y="${y}" width="${(end - left).toFixed(1)}" height="${bar - 2}" fill="${COLOURS[mode]}"><title>${markup(guest)}, ${mode}: ${figure(cell.mips)}</title></rect>`,
        `<text x="${(end + 4).toFixed(1)}" y="${y + bar - 4}" class="value">${figure(cell.mips)}</text>`,
      );
    });
  });
  return `<svg viewBox="0 0 ${left + width + 60} ${height}" role="img" aria-label="Million instructions a second">${parts.join("")}</svg>`;
}

/** A page that needs nothing else. */
export function htmlPage(record: BenchRecord, then?: BenchRecord): string {
  const keys = modesOf(record.cells).map((mode) => `<span><i style="background:${COLOURS[mode]}"></i>${mode}</span>`);
  const comparison = then
    ? `<h2>Against the baseline</h2><pre>${markup(compareLines(record, then).join("\n"))}</pre>`
    : "";
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>wasm-vmx benchmark</title><style>
body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
svg{width:100%;height:auto;font-size:12px}.grid{stroke:#ddd}.value{font-size:10px;fill:#555}
pre{overflow-x:auto;background:#f5f5f5;padding:1em;font-size:13px}span{margin-right:1.2em}i{display:inline-block;width:1em;height:1em;margin-right:.4em;vertical-align:-.15em}
</style></head><body>
<h1>wasm-vmx benchmark</h1>
<p>${markup(record.cpu)}, Node ${markup(record.node)}, ${markup(record.date)}. Million guest instructions a second, logarithmic.</p>
<p>${keys.join("")}</p>
${bars(record.cells)}
<h2>Figures</h2><pre>${markup(tableLines(record).join("\n"))}</pre>
${comparison}
</body></html>
`;
}
