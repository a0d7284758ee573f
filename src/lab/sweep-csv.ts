import { COST_KINDS, type CostModel, cyclesOf, MSR_CAUSES } from "../cost/index.ts";
import { SCENARIO_KEYS } from "./scenario.ts";
import { type SweepResults, verdictOf } from "./sweep.ts";

function field(value: unknown): string {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** One line a run, the first one names the columns; cycles under every model. */
export function sweepCsv(results: SweepResults, models: readonly CostModel[]): string {
  const lines: string[][] = [];
  for (const { index, result } of results.cells) {
    const { scenario, counts, schedule, leaks } = result;
    const columns: [string, unknown][] = [
      ["run", index],
      ...SCENARIO_KEYS.map((key): [string, unknown] => [key, scenario[key]]),
      ["verdict", verdictOf(result)],
      ["leaks_faulting", leaks.faulting],
      ["leaks_ring3mwait", leaks.ring3mwait],
      ...Object.entries(schedule),
      ...Object.entries(counts),
      ...MSR_CAUSES.map((cause): [string, unknown] => [`rdmsr_${cause}`, result.rdmsr[cause]]),
      ...MSR_CAUSES.map((cause): [string, unknown] => [`wrmsr_${cause}`, result.wrmsr[cause]]),
    ];
    for (const model of models) {
      const { byCause, total } = cyclesOf(result, model);
      for (const kind of COST_KINDS) {
        columns.push(
          [`${model.name}_${kind}_low`, byCause[kind].low],
          [`${model.name}_${kind}_high`, byCause[kind].high],
        );
      }
      columns.push([`${model.name}_low`, total.low], [`${model.name}_high`, total.high]);
    }
    if (lines.length === 0) lines.push(columns.map(([name]) => field(name)));
    lines.push(columns.map(([, value]) => field(value)));
  }
  return `${lines.map((line) => line.join(",")).join("\n")}\n`;
}
