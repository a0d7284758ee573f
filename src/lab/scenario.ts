import type { HostValueSource, SwitchPoint } from "../policy/index.ts";
import type { MixRates } from "./mix.ts";

/** One cell of a sweep: all that decides its counts. Costs are applied to the counts afterwards. */
export interface Scenario extends MixRates {
  readonly policy: string;
  readonly kernel: string;
  /** 0x140 of the VMM's threads: 0 to 3. */
  readonly host: number;
  /** The host CPU has CPUID faulting. */
  readonly feature: boolean;
  readonly switchPoint: SwitchPoint;
  /** "policy": as the policy has it. */
  readonly hostValueFrom: HostValueSource | "policy";
  /** Instructions of a vCPU between two timer interrupts of its host CPU; 0 is none, but see tickOf. */
  readonly tickEvery: number;
  /** Instructions of a vCPU between two preemptions; 0 is never. */
  readonly preemptEvery: number;
  /** Preemptions of a thread between two moves to the next host CPU; 0 is never. */
  readonly migrateEvery: number;
  /** Entries between two puts and loads such as nested transitions make; 0 is never. */
  readonly vmcsSwitchEvery: number;
  /** Guest WRMSRs of 0x140 between two preemptions in the middle of vmx_set_msr; 0 is never. */
  readonly raceEvery: number;
  /** Ioctls that do not enter the guest, after each exit to user space. */
  readonly ioctls: number;
  /** vCPUs of all VMs, a thread each; at least those of one VM, and rounded up to whole VMs. */
  readonly vcpus: number;
  /** vCPUs of a VM, which share its memory. */
  readonly vcpusPerVm: number;
  readonly hostCpus: number;
  /** Stops a guest that does not end. */
  readonly maxInstructions: number;
}

export const DEFAULT_SCENARIO: Scenario = {
  policy: "upstream",
  kernel: "5.0",
  faulting: true,
  rounds: 400,
  cpuids: 0.25,
  exits: 1,
  writes: 0,
  steps: 50,
  host: 0,
  feature: true,
  switchPoint: "prepare",
  hostValueFrom: "policy",
  tickEvery: 0,
  preemptEvery: 0,
  migrateEvery: 0,
  vmcsSwitchEvery: 0,
  raceEvery: 0,
  ioctls: 0,
  vcpus: 1,
  vcpusPerVm: 1,
  hostCpus: 1,
  maxInstructions: 100_000_000,
};

/** Rates of the laboratory's guest; a user's own guest has its own. */
export const MIX_KEYS = ["faulting", "rounds", "cpuids", "exits", "writes", "steps"] as const;
export const SCENARIO_KEYS = Object.keys(DEFAULT_SCENARIO) as readonly (keyof Scenario)[];

/** vCPUs that wait for each other need CPUs that take turns. */
const SMP_TICK = 5000;

/** Instructions between two ticks: 5,000 where a VM has several vCPUs and nothing was asked for. */
export function tickOf({ tickEvery, vcpusPerVm }: Scenario): number {
  return tickEvery === 0 && vcpusPerVm > 1 ? SMP_TICK : tickEvery;
}

/** VMs of a scenario. */
export function vmsOf({ vcpus, vcpusPerVm }: Scenario): number {
  return Math.max(1, Math.ceil(vcpus / vcpusPerVm));
}

/** Values to try, for each part of a scenario. */
export type Axes = { readonly [K in keyof Scenario]?: readonly Scenario[K][] };

/** Policies vary fastest, so that the runs of one group lie together; the rest in the order of SCENARIO_KEYS. */
const ORDER: readonly (keyof Scenario)[] = [...SCENARIO_KEYS.filter((key) => key !== "policy"), "policy"];

/** Every combination, in an order that depends on the axes alone. */
export function expand(axes: Axes): Scenario[] {
  let cells: Scenario[] = [DEFAULT_SCENARIO];
  for (const key of ORDER) {
    const values = axes[key];
    if (values === undefined) continue;
    cells = cells.flatMap((cell) => values.map((value) => ({ ...cell, [key]: value })));
  }
  return cells.filter(possible);
}

/** A CPU without the feature cannot hold bit 0. */
function possible({ feature, host }: Scenario): boolean {
  return feature || (host & 1) === 0;
}

/** The cells of shard `index` of `count`, 1-based, as positions in the whole sweep: dealt out like cards. */
export function shardOf(total: number, index: number, count: number): number[] {
  if (!(count >= 1) || !(index >= 1) || index > count) throw new RangeError(`no shard ${index}/${count}`);
  return Array.from({ length: total }, (_, i) => i).filter((i) => i % count === index - 1);
}

/** The parts of a scenario in which a sweep varies. */
export function varying(scenarios: readonly Scenario[]): (keyof Scenario)[] {
  return SCENARIO_KEYS.filter((key) => new Set(scenarios.map((one) => one[key])).size > 1);
}

/** Identifies the scenarios that differ in policy only. */
export function groupKey(scenario: Scenario): string {
  return JSON.stringify(SCENARIO_KEYS.filter((key) => key !== "policy").map((key) => scenario[key]));
}
