import { type Cost, costModel, interval } from "../cost/index.ts";

/** 5th, 50th and 95th percentile in TSC cycles. */
export type Percentiles = readonly [low: number, middle: number, high: number];

/** What the C VMM prints. */
export interface Measurement {
  /** KVM_RUN from user space to user space with one OUT in it. */
  readonly trip: Percentiles;
  /** One CPUID exit, its handling and the entry after it. */
  readonly cpuid: Percentiles;
}

/** A cost model as JSON, [5th, 95th percentile] where measured; what user space cannot time keeps its source. */
export function calibratedModel({ trip, cpuid }: Measurement, where: string): Record<string, unknown> {
  const base = costModel("kernel-2024");
  const measured = (low: number, high: number, what: string): object => ({
    low: Math.max(0, Math.round(low)),
    high: Math.max(0, Math.round(low), Math.round(high)),
    source: `${what}, ${where}`,
  });
  const kept = ({ cycles, source }: Cost): object => ({ ...interval(cycles.low, cycles.high), source });
  return {
    name: "calibrated",
    summary: `measured on ${where}`,
    instruction: kept(base.instruction),
    exit: measured(cpuid[0], cpuid[2], "CPUID exit round trip"),
    userspace: measured(trip[0] - cpuid[1], trip[2] - cpuid[1], "KVM_RUN round trip with one OUT, without an exit"),
    wrmsr: kept(base.wrmsr),
    rdmsr: kept(base.rdmsr),
    fault: kept(base.fault),
  };
}
