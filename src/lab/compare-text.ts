import { grouped } from "../cost/index.ts";
import type { CompareReport, CompareRow } from "./compare.ts";
import { shortCycles, wrap } from "./wrap.ts";

const COLUMNS: readonly {
  readonly title: string;
  readonly value: (row: CompareRow) => string;
  readonly left?: boolean;
}[] = [
  { title: "host", value: (row) => String(row.host) },
  { title: "policy", value: (row) => row.policy, left: true },
  { title: "result", value: verdict, left: true },
  { title: "exits", value: (row) => grouped(row.exits) },
  { title: "CPUID", value: (row) => grouped(row.cpuidExits) },
  { title: "WRMSR", value: (row) => grouped(row.wrmsr) },
  { title: "RDMSR", value: (row) => grouped(row.rdmsr) },
  { title: "hw #GP", value: (row) => grouped(row.hardwareFaults) },
  { title: "cycles", value: ({ cycles: { total } }) => shortCycles(total.low, total.high) },
];

function verdict(row: CompareRow): string {
  if (!row.right) return "WRONG";
  if (!row.hostKept) return "host lost";
  if (row.leaks.faulting > 0) return "by luck";
  return row.leaks.ring3mwait > 0 ? "mwait leak" : "right";
}

function table(rows: readonly CompareRow[], winners: ReadonlySet<string>): string[] {
  const cells = rows.map((row) => COLUMNS.map((column) => column.value(row)));
  const widths = COLUMNS.map((column, i) => Math.max(column.title.length, ...cells.map((line) => line[i]!.length)));
  const line = (texts: readonly string[], mark: string): string =>
    `${mark} ${texts.map((text, i) => (COLUMNS[i]!.left ? ` ${text.padEnd(widths[i]!)}` : text.padStart(widths[i]!))).join(" ")}`.trimEnd();
  return [
    line(
      COLUMNS.map((column) => column.title),
      " ",
    ),
    ...rows.map((row, i) => line(cells[i]!, winners.has(`${row.host} ${row.policy}`) ? "*" : " ")),
  ];
}

function breakEvenLines(report: CompareReport): string[] {
  const { breakEven, model } = report;
  if (breakEven === undefined) {
    return report.rows.some((row) => row.host === 0)
      ? ["Break-even: this guest's CPUIDs never fault, so hardware faulting has nothing to win."]
      : [];
  }
  const two = (value: number): string => value.toPrecision(3);
  const { threshold, loadsToBreakEven: loads } = breakEven;
  const side = {
    hardware: "hardware faulting is cheaper",
    emulation: "emulation is cheaper",
    undecided: "the model cannot tell",
  }[breakEven.verdict];
  return [
    `Break-even (host value 0): ${grouped(breakEven.faultingCpuids)} faulting CPUIDs in ${grouped(breakEven.enteringLoads)} entering loads, ` +
      `${two(breakEven.rate)} a load; ${model.name} breaks even at ${two(threshold.low)}-${two(threshold.high)}: ${side}.`,
    `These CPUIDs would break even at ${grouped(Math.floor(loads.low))}-${grouped(Math.ceil(loads.high))} entering loads.`,
  ];
}

/** The report as lines for a terminal of 80 columns. */
export function compareText(report: CompareReport): string[] {
  const winners = new Set(
    report.winners.flatMap(({ host, policies }) => policies.map((policy) => `${host} ${policy}`)),
  );
  const wrong = report.rows.filter((row) => !row.right);
  const lucky = report.rows.filter((row) => row.right && row.leaks.faulting > 0);
  const mwait = report.rows.filter((row) => row.leaks.ring3mwait > 0);
  return [
    ...wrap(`Kernel rules ${report.kernel}; cost model ${report.model.name}: ${report.model.summary}.`),
    "",
    ...table(report.rows, winners),
    "",
    ...[
      ...report.winners.map(({ host, policies }) =>
        policies.length === 0
          ? `Host value ${host}: no policy gives the right result without a leak.`
          : `Host value ${host}: cheapest without a leak (*): ${policies.join(", ")}.`,
      ),
      ...lucky.map(
        (row) =>
          `Host value ${row.host}, ${row.policy}: the host's faulting bit was on in the guest, which did not notice.`,
      ),
      ...wrong.map((row) => `Host value ${row.host}, ${row.policy}: ${row.wrong}${leakNote(row)}.`),
      ...mwait.map((row) => `Host value ${row.host}, ${row.policy}: the host's ring-3 MWAIT bit acted in the guest.`),
      ...breakEvenLines(report),
    ].flatMap((line) => wrap(line)),
  ];
}

function leakNote(row: CompareRow): string {
  return row.leaks.faulting > 0 ? "; the host's CPUID faulting acted in the guest (the leak)" : "";
}
