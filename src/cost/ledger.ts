import { add, type Interval, midpoint, scale, ZERO } from "./interval.ts";
import type { CostKind, CostModel } from "./model.ts";

/** Who executed a host MSR access: the policy under test, Linux's own switches, or KVM's syscall MSRs. */
export const MSR_CAUSES = ["policy", "switch_to_xtra", "arch_prctl", "boot", "shared_msrs"] as const;
export type MsrCause = (typeof MSR_CAUSES)[number];

/** Plain counts, kvm_stat's names where it has one. */
export interface Counters {
  instructions: number;
  exits: number;
  io_exits: number;
  mmio_exits: number;
  irq_exits: number;
  irq_window_exits: number;
  request_irq_exits: number;
  irq_injections: number;
  nmi_injections: number;
  nmi_window_exits: number;
  halt_exits: number;
  halt_wakeup: number;
  signal_exits: number;
  host_state_reload: number;
  insn_emulation: number;
  /** Pages put into the EPT. */
  pf_fixed: number;
  /** Returns to user space and back: KVM_RUN calls. */
  userspace_round_trips: number;
  loads: number;
  /** Loads after which the guest was entered. */
  entering_loads: number;
  puts: number;
  /** Exceptions that the processor raised and delivered itself. */
  hardware_faults: number;
  /** CPUIDs that exited and that KVM answered with #GP(0). */
  emulated_cpuid_faults: number;
  /** Exceptions that KVM injected. */
  injected_faults: number;
  /** MSRs that VM entries and exits loaded from their lists. */
  autoload_msrs: number;
}

type Stat = keyof Counters;

const STATS: readonly Stat[] = [
  "instructions",
  "exits",
  "io_exits",
  "mmio_exits",
  "irq_exits",
  "irq_window_exits",
  "request_irq_exits",
  "irq_injections",
  "nmi_injections",
  "nmi_window_exits",
  "halt_exits",
  "halt_wakeup",
  "signal_exits",
  "host_state_reload",
  "insn_emulation",
  "pf_fixed",
  "userspace_round_trips",
  "loads",
  "entering_loads",
  "puts",
  "emulated_cpuid_faults",
  "hardware_faults",
  "injected_faults",
  "autoload_msrs",
];

/** Everything that has a price, counted. Exact: the same run gives the same ledger. */
export class Ledger {
  readonly counts: Counters = Object.fromEntries(STATS.map((stat) => [stat, 0])) as unknown as Counters;
  /** VM exits by basic reason. */
  readonly exitsByReason = new Map<number, number>();
  readonly rdmsr: Record<MsrCause, number> = zeroCauses();
  readonly wrmsr: Record<MsrCause, number> = zeroCauses();

  /** Zeroes everything but the accesses of boot and arch_prctl, which come before any guest. */
  restart(): void {
    for (const stat of STATS) this.counts[stat] = 0;
    this.exitsByReason.clear();
    for (const cause of ["policy", "switch_to_xtra", "shared_msrs"] as const) {
      this.rdmsr[cause] = 0;
      this.wrmsr[cause] = 0;
    }
  }

  count(stat: Stat, times = 1): void {
    this.counts[stat] += times;
  }

  exit(reason: number): void {
    this.counts.exits += 1;
    this.exitsByReason.set(reason, (this.exitsByReason.get(reason) ?? 0) + 1);
  }

  exitsOf(reason: number): number {
    return this.exitsByReason.get(reason) ?? 0;
  }

  /** Sum over all causes. */
  total(access: "rdmsr" | "wrmsr"): number {
    return MSR_CAUSES.reduce((sum, cause) => sum + this[access][cause], 0);
  }

  /** Cycles under `model`; boot and arch_prctl happen before the guest and are left out. */
  cycles(model: CostModel): CycleReport {
    return cyclesOf(this, model);
  }

  toJSON(): object {
    return {
      ...this.counts,
      exits_by_reason: Object.fromEntries([...this.exitsByReason].sort((a, b) => a[0] - b[0])),
      rdmsr: { ...this.rdmsr },
      wrmsr: { ...this.wrmsr },
    };
  }
}

export interface CycleReport {
  readonly model: string;
  readonly byCause: Readonly<Record<CostKind, Interval>>;
  readonly total: Interval;
  readonly midpoint: number;
}

/** What cycles are reckoned from. */
export interface Priced {
  readonly counts: Readonly<Counters>;
  readonly rdmsr: Readonly<Record<MsrCause, number>>;
  readonly wrmsr: Readonly<Record<MsrCause, number>>;
}

/** How often each kind that has a price happened; boot and arch_prctl are left out. */
export function timesOf({ counts, rdmsr, wrmsr }: Priced): Record<CostKind, number> {
  const running = (access: Readonly<Record<MsrCause, number>>): number =>
    access.policy + access.switch_to_xtra + access.shared_msrs;
  return {
    instruction: counts.instructions,
    exit: counts.exits,
    wrmsr: running(wrmsr),
    rdmsr: running(rdmsr),
    userspace: counts.userspace_round_trips,
    fault: counts.hardware_faults + counts.injected_faults,
    autoload: counts.autoload_msrs,
  };
}

/** Cycles of recorded counts under a model. */
/** Cycles of several runs under one model together; at least one. */
export function addCycles(reports: readonly CycleReport[]): CycleReport {
  return reports.reduce((sum, { byCause, total }) => {
    const both = add(sum.total, total);
    const kinds = Object.keys(byCause) as CostKind[];
    const causes = Object.fromEntries(kinds.map((kind) => [kind, add(sum.byCause[kind], byCause[kind])]));
    return { model: sum.model, byCause: causes as CycleReport["byCause"], total: both, midpoint: midpoint(both) };
  });
}

export function cyclesOf(priced: Priced, model: CostModel): CycleReport {
  const times = timesOf(priced);
  const byCause = {} as Record<CostKind, Interval>;
  let total = ZERO;
  for (const kind of Object.keys(times) as CostKind[]) {
    byCause[kind] = scale(model[kind].cycles, times[kind]);
    total = add(total, byCause[kind]);
  }
  return { model: model.name, byCause, total, midpoint: midpoint(total) };
}

function zeroCauses(): Record<MsrCause, number> {
  return Object.fromEntries(MSR_CAUSES.map((cause) => [cause, 0])) as Record<MsrCause, number>;
}
