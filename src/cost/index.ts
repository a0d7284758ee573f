export { grouped } from "./grouped.ts";
export { formatInterval, type Interval, interval, midpoint } from "./interval.ts";
export {
  addCycles,
  type Counters,
  type CycleReport,
  cyclesOf,
  Ledger,
  MSR_CAUSES,
  type MsrCause,
  type Priced,
  timesOf,
} from "./ledger.ts";
export { COST_KINDS, type Cost, type CostKind, type CostModel, CostModelError, parseCostModel } from "./model.ts";
export { COST_MODELS, costModel } from "./models.ts";
