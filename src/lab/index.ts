export { type BreakEven, breakEven, threshold } from "./break-even.ts";
export { type CompareOptions, type CompareReport, type CompareRow, compare, type Winner } from "./compare.ts";
export { compareText } from "./compare-text.ts";
export { type Answer, fourAnswers, fourAnswersText, SIDES, type Side } from "./four-answers.ts";
export {
  type AsyncGuestRunOptions,
  type GuestRunOptions,
  type GuestRunResult,
  runGuestUnderVmx,
  runGuestUnderVmxAsync,
} from "./guest-run.ts";
export { type GuestEnding, Vmm, type VmmOptions } from "./vmm.ts";
