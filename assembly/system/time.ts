// The time-stamp counter is a function of the instruction count (docs/architecture.md, "Counts, time, determinism").
import { COUNT, MSR_TSC_ADJUST, TSC_BASE, TSC_RATIO } from "../abi/state";

/** ahead: completed instructions that COUNT does not hold yet (R_INDEX of the running record). */
export function readTsc(ahead: u32): u64 {
  return load<u64>(TSC_BASE) + (load<u64>(COUNT) + <u64>ahead) * <u64>load<u32>(TSC_RATIO);
}

/** WRMSR to the TSC moves IA32_TSC_ADJUST by as much. @sdm 3B "IA32_TSC_ADJUST Register and TSC Offset" */
export function writeTsc(value: u64, ahead: u32): void {
  const delta = value - readTsc(ahead);
  store<u64>(TSC_BASE, load<u64>(TSC_BASE) + delta);
  store<u64>(MSR_TSC_ADJUST, load<u64>(MSR_TSC_ADJUST) + delta);
}

export function writeTscAdjust(value: u64): void {
  store<u64>(TSC_BASE, load<u64>(TSC_BASE) + (value - load<u64>(MSR_TSC_ADJUST)));
  store<u64>(MSR_TSC_ADJUST, value);
}
