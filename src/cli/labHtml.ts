import { accessSync, constants, statSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { CostModel } from "../cost/index.ts";
import {
  type GuestSource,
  htmlReport,
  type ReportOptions,
  roundTrip,
  type Scenario,
  type SweepResults,
  type Trip,
} from "../lab/index.ts";
import type { Policy } from "../policy/index.ts";
import { UsageError } from "./args.ts";

/** Rounds that are enough to have a trip in the middle of a run. */
const ROUNDS = 12;

/** A round trip under every policy and host value of the sweep, with a CPUID in it. */
function trips(results: SweepResults, source: GuestSource, policies: readonly Policy[]): Trip[] {
  const seen = new Map<string, Scenario>();
  for (const { result } of results.cells) {
    const { policy, host, feature } = result.scenario;
    // a policy that failed has no trip, one that is not here cannot be run
    if (result.counts.exits === 0 || !policies.some(({ name }) => name === policy)) continue;
    const key = `${policy}, host value ${host}${feature ? "" : ", no feature"}`;
    if (!seen.has(key)) seen.set(key, { ...result.scenario, rounds: ROUNDS, cpuids: 1 });
  }
  return [...seen].map(([title, scenario]) => ({ title, events: roundTrip(source, scenario, policies) }));
}

/** UsageError where the file could not be written: asked before the work is done. */
export function checkWritable(file: string): void {
  try {
    const there = statSync(file, { throwIfNoEntry: false });
    if (there?.isDirectory()) throw new UsageError(`cannot write ${file}: it is a directory`);
    accessSync(there === undefined ? dirname(resolve(file)) : file, constants.W_OK);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new UsageError(`cannot write ${file}: ${missing ? "there is no such directory" : (error as Error).message}`);
  }
}

export function writeHtml(
  file: string,
  results: SweepResults,
  models: readonly CostModel[],
  source: GuestSource | undefined,
  policies: readonly Policy[],
  options: ReportOptions,
): void {
  const html = htmlReport(results, models, source === undefined ? [] : trips(results, source, policies), options);
  try {
    writeFileSync(file, html);
  } catch (error) {
    throw new UsageError(`cannot write ${file}: ${(error as Error).message}`);
  }
  process.stderr.write(`wasm-vmx: wrote ${file}\n`);
}
