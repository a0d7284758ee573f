import {
  addCycles,
  COST_KINDS,
  type CostKind,
  type CostModel,
  formatInterval,
  grouped,
  midpoint,
} from "../cost/index.ts";
import { DEFAULT_SCENARIO, MIX_KEYS, SCENARIO_KEYS, type Scenario, varying } from "./scenario.ts";
import {
  groups,
  measuredBreakEvens,
  type SweepGroup,
  type SweepResults,
  type SweepRow,
  type Verdict,
} from "./sweep.ts";
import { COLUMNS, shortCycles, wrap } from "./wrap.ts";

/** One letter a cause, in the order of a bar. */
export const CAUSE_MARKS: Readonly<Record<CostKind, string>> = {
  instruction: "·",
  userspace: "░",
  fault: "f",
  exit: "▒",
  rdmsr: "r",
  wrmsr: "█",
  autoload: "a",
};
export const CAUSE_NAMES: Readonly<Record<CostKind, string>> = {
  instruction: "instructions",
  userspace: "user-space round trips",
  fault: "fault delivery",
  exit: "VM exits",
  rdmsr: "RDMSR",
  wrmsr: "WRMSR",
  autoload: "MSR lists",
};
export const CAUSE_ORDER: readonly CostKind[] = [
  "instruction",
  "userspace",
  "fault",
  "exit",
  "rdmsr",
  "wrmsr",
  "autoload",
];
/** Cells of a bar in 80 columns, and the fewest. */
const BAR = 28;
const SHORTEST_BAR = 8;
/** Above this many groups each gets one line instead of a table with bars. */
const MAX_TABLES = 6;

/** Columns that a list of winners has at least. */
const MIN_WINNERS = 20;
const ALWAYS_SHOWN: readonly (keyof Scenario)[] = ["kernel", "faulting", "rounds", "cpuids", "exits", "steps", "host"];

/** Rates that a guest of the user does not have. */
function foreign(results: SweepResults, key: keyof Scenario): boolean {
  return results.guest !== "mix" && (MIX_KEYS as readonly string[]).includes(key);
}

const show = (value: unknown): string => (value === true ? "on" : value === false ? "off" : String(value));

export function describeScenario(scenario: Scenario, keys: readonly (keyof Scenario)[]): string {
  return keys
    .filter((key) => key !== "policy")
    .map((key) => `${key} ${show(scenario[key])}`)
    .join(", ");
}

/** Stacked by cause; `scale` cycles fill the bar. The marks always add up to the rounded whole. */
export function bar(row: SweepRow, scale: number, width = BAR): string {
  let text = "";
  let sum = 0;
  for (const kind of CAUSE_ORDER) {
    sum += midpoint(row.cycles.byCause[kind]);
    const end = scale === 0 ? 0 : Math.round((sum / scale) * width);
    text += CAUSE_MARKS[kind].repeat(Math.max(0, end - text.length));
  }
  return text;
}

function tableOf(group: SweepGroup, columns: number): string[] {
  const width = Math.max(SHORTEST_BAR, BAR - Math.max(0, COLUMNS - columns));
  const scale = Math.max(...group.rows.map(({ cycles }) => cycles.midpoint));
  const name = Math.max(15, ...group.rows.map(({ result }) => result.scenario.policy.length));
  return group.rows.map((row) => {
    const { policy } = row.result.scenario;
    const mark = group.winners.includes(policy) ? "*" : " ";
    const { low, high } = row.cycles.total;
    const cycles = shortCycles(low, high).padStart(14);
    return `${mark} ${policy.padEnd(name)} ${row.verdict.padEnd(10)} ${cycles} ${bar(row, scale, width)}`.trimEnd();
  });
}

function legend(results: readonly SweepGroup[]): string {
  const used = COST_KINDS.filter((kind) =>
    results.some(({ rows }) => rows.some(({ cycles }) => cycles.byCause[kind].high > 0)),
  );
  return `Bars: ${CAUSE_ORDER.filter((kind) => used.includes(kind))
    .map((kind) => `${CAUSE_MARKS[kind]} ${CAUSE_NAMES[kind]}`)
    .join(", ")}.`;
}

function tables(list: readonly SweepGroup[], keys: readonly (keyof Scenario)[], columns: number): string[] {
  const title = (group: SweepGroup): string[] =>
    keys.length === 0 ? [] : wrap(`${describeScenario(group.scenario, keys)}:`, columns);
  return [
    ...list.flatMap((group) => [...title(group), ...tableOf(group, columns), ""]),
    ...wrap(legend(list), columns),
  ];
}

const BADNESS: readonly Verdict[] = ["right", "mwait leak", "luck", "host lost", "wrong"];

/** All groups of a host value as one: cycles added up, the worst verdict of each policy. */
function sums(list: readonly SweepGroup[]): SweepGroup[] {
  const hosts = [...new Set(list.map(({ scenario }) => scenario.host))];
  return hosts.map((host) => {
    const groups = list.filter(({ scenario }) => scenario.host === host);
    const names = [...new Set(groups.flatMap(({ rows }) => rows.map(({ result }) => result.scenario.policy)))];
    const rows = names.map((policy): SweepRow => {
      const own = groups.flatMap((group) => group.rows.filter(({ result }) => result.scenario.policy === policy));
      const verdict = own.reduce((worst: Verdict, row) => {
        return BADNESS.indexOf(row.verdict) > BADNESS.indexOf(worst) ? row.verdict : worst;
      }, "right");
      return { result: own[0]!.result, cycles: addCycles(own.map(({ cycles }) => cycles)), verdict };
    });
    const sound = rows.filter(({ verdict }) => verdict === "right");
    const best = Math.min(...sound.map(({ cycles }) => cycles.midpoint));
    const winners = sound.filter(({ cycles }) => cycles.midpoint === best).map(({ result }) => result.scenario.policy);
    return { scenario: groups[0]!.scenario, rows, winners };
  });
}

/** What many groups cost together, with bars. */
function sumTables(list: readonly SweepGroup[], columns: number): string[] {
  return sums(list).flatMap((group) => {
    const count = list.filter(({ scenario }) => scenario.host === group.scenario.host).length;
    const title = `host ${group.scenario.host}, the ${count} combinations together:`;
    return ["", ...wrap(title, columns), ...tableOf(group, columns)];
  });
}

/** One line a group: what varies, the winner, and what every other policy costs more, or does wrong. */
function lines(list: readonly SweepGroup[], keys: readonly (keyof Scenario)[], columns: number): string[] {
  const titles = [...keys, "winner"];
  const cells = list.map((group) => [...keys.map((key) => show(group.scenario[key])), winnersOf(group)]);
  const widths = titles.slice(0, -1).map((title, i) => Math.max(title.length, ...cells.map((line) => line[i]!.length)));
  const line = (texts: readonly string[]): string[] => {
    const left = widths.map((width, i) => `  ${texts[i]!.padEnd(width)}`).join("");
    const [first, ...more] = wrap(texts.at(-1)!, Math.max(columns - left.length - 2, MIN_WINNERS), "");
    return [`${left}  ${first}`, ...more.map((text) => `${" ".repeat(left.length)}  ${text}`)];
  };
  const shown = [titles, ...cells].flatMap(line);
  return [...shown, ...sumTables(list, columns), "", ...wrap(legend(list), columns)];
}

function winnersOf(group: SweepGroup): string {
  if (group.winners.length === 0) return "none is right";
  const bad = group.rows.filter(({ verdict }) => verdict !== "right");
  const most = group.winners.length === group.rows.length - bad.length && group.winners.length > 1;
  const text = most ? "all that are right" : group.winners.join(", ");
  return bad.length === 0
    ? text
    : `${text}; not ${bad.map((row) => `${row.result.scenario.policy} (${row.verdict})`).join(", ")}`;
}

function breakEvenLines(results: SweepResults, models: readonly CostModel[], columns: number): string[] {
  const rows = models.flatMap((model) => measuredBreakEvens(results, model).map((found) => ({ model, found })));
  if (rows.length === 0) return [];
  const scenarios = rows.map(({ found }) => found.scenario);
  const keys = varying(scenarios).filter((key) => key !== "cpuids" && key !== "policy");
  const round = (value: number): number => Number(value.toPrecision(3));
  const texts = rows.map(({ model, found: { scenario, expected, measured, points } }) => {
    const range = `${round(points[0]!.cpuids)}-${round(points.at(-1)!.cpuids)}`;
    const seen = measured && formatInterval({ low: round(measured.low), high: round(measured.high) });
    return [
      model.name,
      describeScenario(scenario, keys),
      formatInterval({ low: round(expected.low), high: round(expected.high) }),
      seen ?? `outside ${range}`,
    ];
  });
  const titles = ["cost model", keys.length > 0 ? "where" : "", "by prices", "by these runs"];
  const widths = titles.map((title, i) => Math.max(title.length, ...texts.map((line) => line[i]!.length)));
  const line = (cells: readonly string[]): string =>
    `  ${cells
      .map((cell, i) => cell.padEnd(widths[i]!))
      .filter((_, i) => widths[i]! > 0)
      .join("  ")}`.trimEnd();
  return [
    "",
    ...wrap(
      "Break-even on a host with value 0, in faulting CPUIDs a load that enters the guest: above it hardware faulting " +
        "(always-hardware) is cheaper than emulation (host-nonzero), below it dearer.",
      columns,
    ),
    line(titles),
    ...texts.map(line),
  ];
}

function wrongLines(list: readonly SweepGroup[], columns: number): string[] {
  const reasons = new Map<string, number>();
  for (const { rows } of list) {
    for (const { result, verdict } of rows) {
      if (verdict === "right") continue;
      const { leaks, schedule, scenario } = result;
      const what = [
        result.wrong,
        leaks.faulting > 0 ? "the host's faulting bit acted in the guest" : "",
        leaks.ring3mwait > 0 ? "the host's ring-3 MWAIT bit acted in the guest" : "",
        schedule.host_value_lost > 0 ? "a host thread ran with another value than its own" : "",
      ].filter((text) => text !== "");
      const text = `${scenario.policy}, host ${scenario.host}: ${what.join("; ")}`;
      reasons.set(text, (reasons.get(text) ?? 0) + 1);
    }
  }
  if (reasons.size === 0) return [];
  return ["", ...[...reasons].flatMap(([text, times]) => wrap(`${text} (${runs(times)}).`, columns))];
}

const runs = (count: number): string => `${grouped(count)} ${count === 1 ? "run" : "runs"}`;

/** The report for a terminal of so many columns, at most 80. Tables are under the first model, break-evens under each. */
export function sweepText(results: SweepResults, models: readonly CostModel[], terminal = COLUMNS): string[] {
  const columns = Math.min(terminal, COLUMNS);
  const [model] = models;
  if (model === undefined) throw new RangeError("no cost model");
  const list = groups(results, model);
  const scenarios = list.map(({ scenario }) => scenario);
  const keys = varying(scenarios);
  const plain = (key: keyof Scenario): boolean => scenarios[0]?.[key] === DEFAULT_SCENARIO[key];
  const hidden = (key: keyof Scenario): boolean =>
    keys.includes(key) || key === "policy" || (plain(key) && !ALWAYS_SHOWN.includes(key)) || foreign(results, key);
  const fixed = SCENARIO_KEYS.filter((key) => !hidden(key));
  const part = results.cells.length < results.total ? `, ${results.cells.length} of them here` : "";
  return [
    ...wrap(`${results.guest}: ${runs(results.total)}${part}; cost model ${model.name}: ${model.summary}.`, columns),
    ...(scenarios[0] ? wrap(`Fixed: ${describeScenario(scenarios[0], fixed)}.`, columns) : []),
    "",
    ...(list.length <= MAX_TABLES ? tables(list, keys, columns) : lines(list, keys, columns)),
    ...wrongLines(list, columns),
    ...breakEvenLines(results, models, columns),
    ...(results.checks ?? []).flatMap(({ text }) => ["", "Property check (lab check) of", ...text]),
  ];
}
