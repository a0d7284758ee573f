import { type CostModel, type CycleReport, cyclesOf, type Interval } from "../cost/index.ts";
import { threshold } from "./break-even.ts";
import type { ScenarioResult } from "./run-scenario.ts";
import { groupKey, SCENARIO_KEYS, type Scenario } from "./scenario.ts";

/** Runs of a sweep, all or a shard of them, each with its place in the whole. */
export interface SweepResults {
  readonly format: "wasm-vmx lab 1";
  readonly guest: string;
  /** Runs of the whole sweep. */
  readonly total: number;
  /** Property checks of policies of the user, as text. */
  readonly checks?: readonly { readonly policy: string; readonly text: readonly string[] }[];
  readonly cells: readonly { readonly index: number; readonly result: ScenarioResult }[];
}

export interface SweepRow {
  readonly result: ScenarioResult;
  readonly cycles: CycleReport;
  readonly verdict: Verdict;
}

/** "luck": the host's bit acted in the guest, which did not notice. */
export type Verdict = "right" | "wrong" | "luck" | "mwait leak" | "host lost";

/** Runs that differ in policy only, under one cost model. */
export interface SweepGroup {
  readonly scenario: Scenario;
  readonly rows: readonly SweepRow[];
  /** Cheapest by midpoint of the rows that are right; several when they tie. */
  readonly winners: readonly string[];
}

export function verdictOf({ right, leaks, schedule }: ScenarioResult): Verdict {
  if (!right) return "wrong";
  if (schedule.host_value_lost > 0) return "host lost";
  if (leaks.faulting > 0) return "luck";
  return leaks.ring3mwait > 0 ? "mwait leak" : "right";
}

/** In the order of the sweep. */
export function groups(results: SweepResults, model: CostModel): SweepGroup[] {
  const byKey = new Map<string, ScenarioResult[]>();
  for (const { result } of [...results.cells].sort((a, b) => a.index - b.index)) {
    const key = groupKey(result.scenario);
    byKey.set(key, [...(byKey.get(key) ?? []), result]);
  }
  return [...byKey.values()].map((members) => {
    const rows = members.map((result) => ({ result, cycles: cyclesOf(result, model), verdict: verdictOf(result) }));
    const sound = rows.filter(({ verdict }) => verdict === "right");
    const best = Math.min(...sound.map(({ cycles }) => cycles.midpoint));
    const winners = sound.filter(({ cycles }) => cycles.midpoint === best).map(({ result }) => result.scenario.policy);
    return { scenario: members[0]!.scenario, rows, winners };
  });
}

/** The two sides of the thread's argument. */
export const HARDWARE = "always-hardware";
export const EMULATION = "host-nonzero";

/** A pair of runs on a host with value 0 whose guest turns faulting on. Everything is per entering load. */
export interface BreakEvenPoint {
  readonly scenario: Scenario;
  /** CPUIDs that exited and were answered with #GP under emulation. */
  readonly cpuids: number;
  /** What hardware faulting saves and costs. */
  readonly exitsSaved: number;
  readonly wrmsr: number;
  readonly rdmsr: number;
}

export function breakEvenPoints(results: SweepResults): BreakEvenPoint[] {
  const byKey = new Map<string, Map<string, ScenarioResult>>();
  for (const { result } of results.cells) {
    if (result.scenario.host !== 0 || !result.scenario.feature) continue;
    const key = groupKey(result.scenario);
    const row = byKey.get(key) ?? new Map<string, ScenarioResult>();
    byKey.set(key, row.set(result.scenario.policy, result));
  }
  return [...byKey.values()].flatMap((row) => {
    const [emulated, hardware] = [row.get(EMULATION), row.get(HARDWARE)];
    if (emulated === undefined || hardware === undefined) return [];
    const loads = hardware.counts.entering_loads;
    const wrmsr = hardware.wrmsr.policy - emulated.wrmsr.policy;
    if (loads === 0 || wrmsr === 0) return [];
    return {
      scenario: hardware.scenario,
      cpuids: emulated.counts.emulated_cpuid_faults / loads,
      exitsSaved: (emulated.counts.exits - hardware.counts.exits) / loads,
      wrmsr: wrmsr / loads,
      rdmsr: (hardware.rdmsr.policy - emulated.rdmsr.policy) / loads,
    };
  });
}

/** Cycles a load that hardware faulting saves, negative where it costs; `low` is the least favourable to it. */
export function gain(point: BreakEvenPoint, model: CostModel): Interval {
  const cost = (end: "low" | "high"): number =>
    point.wrmsr * model.wrmsr.cycles[end] + point.rdmsr * model.rdmsr.cycles[end];
  return {
    low: point.exitsSaved * model.exit.cycles.low - cost("high"),
    high: point.exitsSaved * model.exit.cycles.high - cost("low"),
  };
}

/** Runs that differ in the rate of CPUIDs only, and where between them the gain turns. */
export interface MeasuredBreakEven {
  readonly scenario: Scenario;
  readonly points: readonly BreakEvenPoint[];
  /** Two WRMSRs and the RDMSRs of a load over the cost of an exit. */
  readonly expected: Interval;
  /** From the runs: rates between which the model cannot tell, undefined where no run lies on one of the sides. */
  readonly measured: Interval | undefined;
}

function withoutRate(scenario: Scenario): string {
  return JSON.stringify(
    SCENARIO_KEYS.filter((key) => key !== "policy" && key !== "cpuids").map((key) => scenario[key]),
  );
}

/** Rate at which a line through two runs next to the turn is 0. */
function crossing(points: readonly BreakEvenPoint[], value: (point: BreakEvenPoint) => number): number | undefined {
  for (const [i, b] of points.entries()) {
    const a = points[i - 1];
    if (a === undefined || value(a) > 0 || value(b) < 0) continue;
    const [ya, yb] = [value(a), value(b)];
    return ya === yb ? a.cpuids : a.cpuids + ((b.cpuids - a.cpuids) * -ya) / (yb - ya);
  }
  return undefined;
}

export function measuredBreakEvens(results: SweepResults, model: CostModel): MeasuredBreakEven[] {
  const families = new Map<string, BreakEvenPoint[]>();
  for (const point of breakEvenPoints(results)) {
    const key = withoutRate(point.scenario);
    families.set(key, [...(families.get(key) ?? []), point]);
  }
  return [...families.values()].map((family) => {
    const points = [...family].sort((a, b) => a.cpuids - b.cpuids);
    const low = crossing(points, (point) => gain(point, model).high);
    const high = crossing(points, (point) => gain(point, model).low);
    return {
      scenario: points[0]!.scenario,
      points,
      expected: threshold(model, points[0]!.rdmsr),
      measured: low === undefined || high === undefined ? undefined : { low, high },
    };
  });
}

export class MergeError extends Error {
  override name = "MergeError";
}

/** Joins the shards of one sweep; MergeError where they do not fit or something is missing. */
export function mergeResults(parts: readonly SweepResults[]): SweepResults {
  const [first] = parts;
  if (first === undefined) throw new MergeError("nothing to merge");
  const cells = new Map<number, ScenarioResult>();
  for (const part of parts) {
    if (part.format !== first.format) throw new MergeError(`not results of this version: ${part.format}`);
    if (part.guest !== first.guest || part.total !== first.total) {
      throw new MergeError(
        `shards of different sweeps: ${first.guest} of ${first.total} runs, ${part.guest} of ${part.total}`,
      );
    }
    for (const { index, result } of part.cells) {
      const known = cells.get(index);
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(result)) {
        throw new MergeError(`run ${index} is there twice, with different results`);
      }
      cells.set(index, result);
    }
  }
  const missing = Array.from({ length: first.total }, (_, index) => index).filter((index) => !cells.has(index));
  if (missing.length > 0) {
    const some = missing.slice(0, 5).join(", ");
    const all = missing.length > 5 ? `${some} ...` : some;
    throw new MergeError(
      `${missing.length} of ${first.total} runs are missing (${all}): a shard is not there, or was interrupted`,
    );
  }
  const sorted = [...cells].sort((a, b) => a[0] - b[0]);
  const checks = new Map(parts.flatMap((part) => part.checks ?? []).map((check) => [check.policy, check]));
  const { format, guest, total } = first;
  return {
    ...{ format, guest, total },
    ...(checks.size > 0 ? { checks: [...checks.values()] } : {}),
    cells: sorted.map(([index, result]) => ({ index, result })),
  };
}
