import type { CostModel } from "../../cost/index.ts";
import { varying } from "../scenario.ts";
import { SurfaceError, type SurfaceOptions, surfaces } from "../surface.ts";
import { sensitivityText } from "../surface-text.ts";
import { groups, type SweepResults } from "../sweep.ts";
import { describeScenario, sweepText } from "../sweep-text.ts";
import { heatMap } from "./heat-map.ts";
import { legend, stackedCycles } from "./stacked.ts";
import { escapeText } from "./svg.ts";
import { type TimelineEvent, timeline } from "./timeline.ts";

/** One round trip of a policy, for the timeline. */
export interface Trip {
  readonly title: string;
  readonly events: readonly TimelineEvent[];
}

/** Bars of more groups than this make no page that is read. */
const MAX_GROUPS = 24;

const STYLE = `
:root { color-scheme: light dark; --ink: #212121; --paper: #fff; --quiet: #f5f5f5; --grid: #e0e0e0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c; --quiet: #22252b; --grid: #3c4048 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
svg { max-width: 100%; height: auto; display: block; fill: currentColor } svg text { font: 12px system-ui, sans-serif }
.plot { overflow-x: auto } @media (max-width: 700px) { .plot svg { max-width: none; width: 46rem } }
pre { background: var(--quiet); padding: 1rem; overflow-x: auto; font-size: 13px; line-height: 1.35 }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: 13px }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: .4rem }
.legend .whisker { height: 2px; background: var(--ink); vertical-align: middle; width: 18px }`;

function section(title: string, text: string, body: string): string {
  return `<section><h2>${escapeText(title)}</h2><p>${escapeText(text)}</p>${body}</section>`;
}

/** The heat maps; none where the sweep has nothing to compare. */
function surfaceMaps(results: SweepResults, model: CostModel, options: SurfaceOptions): string {
  try {
    const all = surfaces(results, model, options);
    const where = varying(all.map(({ scenario }) => scenario)).filter((key) => key !== options.x && key !== options.y);
    return all
      .map((surface) => `<h3>${escapeText(describeScenario(surface.scenario, where))}</h3>${heatMap(surface)}`)
      .join("");
  } catch (error) {
    if (error instanceof SurfaceError) return "";
    throw error;
  }
}

export interface ReportOptions {
  /** Axes of the break-even surface. Default: CPUIDs against the price of a WRMSR. */
  readonly surface?: SurfaceOptions;
}

/** A page that needs no other file and no network. Bars and surface are under the first model. */
export function htmlReport(
  results: SweepResults,
  models: readonly CostModel[],
  trips: readonly Trip[] = [],
  options: ReportOptions = {},
): string {
  const [model] = models;
  if (model === undefined) throw new RangeError("no cost model");
  const list = groups(results, model);
  const keys = varying(list.map(({ scenario }) => scenario));
  const bars = list
    .slice(0, MAX_GROUPS)
    .map((group) => `<h3>${escapeText(describeScenario(group.scenario, keys))}</h3>${stackedCycles(group)}`);
  const more = list.length > MAX_GROUPS ? `<p>${list.length - MAX_GROUPS} more groups are in the table.</p>` : "";
  const maps = surfaceMaps(results, model, options.surface ?? { x: "cpuids", y: "wrmsr" });
  const sections = [
    section(
      "Cycles by cause",
      `Cost model ${model.name}: ${model.summary}. Pale bars belong to policies that are not right there.`,
      legend(list) + bars.join("") + more,
    ),
    maps === ""
      ? ""
      : section(
          "Break-even surface",
          "Cycles a load that hardware faulting saves (blue) or costs (red) on a host with value 0, from the counts of " +
            "the runs. The orange line is the break-even.",
          maps,
        ),
    trips.length === 0
      ? ""
      : section(
          "One round trip",
          "What happens between two visits of user space: each access to 0x140, each entry, each exit.",
          trips.map(({ title, events }) => timeline(title, events)).join(""),
        ),
    `<section><h2>Table</h2><pre>${escapeText([...sweepText(results, models), ...sensitivityText(results, models)].join("\n"))}</pre></section>`,
  ];
  return (
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>wasm-vmx lab: ${escapeText(results.guest)}</title>` +
    `<meta name="viewport" content="width=device-width"><style>${STYLE}</style></head><body>` +
    `<h1>Policies for MSR 0x140: ${escapeText(results.guest)}</h1>${sections.join("\n")}</body></html>\n`
  );
}
