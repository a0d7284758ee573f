import type { CostModel, Counters, Interval } from "../cost/index.ts";

/** Where switching the hardware's MSR stops paying, against what this guest does. Host value 0, guest faulting. */
export interface BreakEven {
  /** CPUIDs at CPL 3 that faulted because the guest asked for it, all of them exits under emulation. */
  readonly faultingCpuids: number;
  /** Loads after which the guest was entered. */
  readonly enteringLoads: number;
  /** Faulting CPUIDs per entering load. */
  readonly rate: number;
  /** Cost of a trip's MSR accesses divided by that of an exit: hardware wins above `high`, emulation below `low`. */
  readonly threshold: Interval;
  readonly verdict: "hardware" | "emulation" | "undecided";
  /** Entering loads at which the same CPUIDs would break even. */
  readonly loadsToBreakEven: Interval;
}

/** What a run must tell. */
interface Run {
  readonly counts: Readonly<Counters>;
  /** RDMSRs of the policy. */
  readonly rdmsr: number;
}

/** Two WRMSRs and the policy's RDMSRs of a load, in exits. */
export function threshold(model: CostModel, rdmsrPerLoad: number): Interval {
  const low = 2 * model.wrmsr.cycles.low + rdmsrPerLoad * model.rdmsr.cycles.low;
  const high = 2 * model.wrmsr.cycles.high + rdmsrPerLoad * model.rdmsr.cycles.high;
  return { low: low / model.exit.cycles.high, high: high / model.exit.cycles.low };
}

/**
 * Break-even of `hardware` against `emulated`, two runs of one guest on a host with value 0.
 * undefined when the guest never faults: then nothing is to be gained.
 */
export function breakEven(model: CostModel, emulated: Run, hardware: Run): BreakEven | undefined {
  const faultingCpuids = emulated.counts.emulated_cpuid_faults;
  const enteringLoads = hardware.counts.entering_loads;
  if (faultingCpuids === 0 || enteringLoads === 0) return undefined;
  const limit = threshold(model, hardware.rdmsr / enteringLoads);
  const rate = faultingCpuids / enteringLoads;
  return {
    faultingCpuids,
    enteringLoads,
    rate,
    threshold: limit,
    verdict: rate > limit.high ? "hardware" : rate < limit.low ? "emulation" : "undecided",
    loadsToBreakEven: { low: faultingCpuids / limit.high, high: faultingCpuids / limit.low },
  };
}
