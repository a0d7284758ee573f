export { type BreakEven, breakEven, threshold } from "./break-even.ts";
export { calibratedModel, type Measurement, type Percentiles } from "./calibrated.ts";
export {
  type CheckEvent,
  type CheckOptions,
  type CheckReport,
  checkPolicy,
  checkText,
  countSchedules,
  eventText,
  type Finding,
  replaySchedule,
  runSchedule,
  type Schedule,
  type Violation,
  type ViolationKind,
} from "./check/index.ts";
export { type CompareOptions, type CompareReport, type CompareRow, compare, type Winner } from "./compare.ts";
export { compareText } from "./compare-text.ts";
export { type Answer, type CpuidOutcome, fourAnswers, fourAnswersText, SIDES, type Side } from "./four-answers.ts";
export {
  type AsyncGuestRunOptions,
  type GuestRunOptions,
  type GuestRunResult,
  runGuestUnderVmx,
  runGuestUnderVmxAsync,
} from "./guest-run.ts";
export { htmlReport, type ReportOptions, type Trip } from "./html/report.ts";
export type { TimelineEvent } from "./html/timeline.ts";
export { labTrace, perfettoTrace } from "./lab-trace.ts";
export { MIX_LOAD, MIX_MEMORY, MixRateError, type MixRates, mixImage, SMP_VCPUS } from "./mix.ts";
export { type GuestSource, type RunScenarioOptions, type ScenarioResult, ScenarioRunner } from "./run-scenario.ts";
export { type Axes, DEFAULT_SCENARIO, expand, MIX_KEYS, SCENARIO_KEYS, type Scenario, shardOf } from "./scenario.ts";
export { type ScheduleCounts, type ScheduleRates, Scheduler, type VmmThread } from "./scheduler.ts";
export { type BreakEvenSensitivity, breakEvenSensitivity, type Flip, flips } from "./sensitivity.ts";
export {
  SURFACE_PRICES,
  type Surface,
  type SurfaceAxis,
  SurfaceError,
  type SurfaceOptions,
  type SurfacePrice,
  surfaces,
} from "./surface.ts";
export { sensitivityText, surfaceText } from "./surface-text.ts";
export {
  type BreakEvenPoint,
  breakEvenPoints,
  gain,
  groups,
  type MeasuredBreakEven,
  MergeError,
  measuredBreakEvens,
  mergeResults,
  type SweepGroup,
  type SweepResults,
  type SweepRow,
  type Verdict,
  verdictOf,
} from "./sweep.ts";
export { sweepCsv } from "./sweep-csv.ts";
export { sweepText } from "./sweep-text.ts";
export { roundTrip } from "./trip.ts";
export { type VerifyGuestOptions, type VerifyGuestResult, verifyGuestUnderVmx } from "./verify-guest.ts";
export { carryOut, enterAt, type GuestEnding, toSegment, Vmm, type VmmOptions } from "./vmm.ts";
