import { type CostModel, midpoint } from "../cost/index.ts";
import type { Host } from "../kvm/index.ts";
import { PerfettoTrace, type TraceKernel, type TraceSink, traceCmdLine } from "../trace/index.ts";

const FIRST_PID = 1000;

/** Cycles of the model that a host has used so far. */
function hostCycles({ ledger, core }: Host, model: CostModel): number {
  // instructions are booked at the end of a KVM_RUN: the processor's own count is further
  const running = Number(core.count) - ledger.counts.instructions;
  return ledger.cycles(model).midpoint + Math.max(0, running) * model.instruction.cycles.low;
}

/** Lines of trace-cmd for everything a host does; the time is the model's cycles so far, at 1 GHz. */
export function labTrace(
  host: Host,
  model: CostModel,
  emit: (line: string) => void,
  kernel: TraceKernel = "6.19",
): TraceSink {
  const pids = new Map<string, number>();
  return (event) => {
    const { cpu } = host;
    const task = cpu.current.name;
    const pid = pids.get(task) ?? FIRST_PID + pids.size;
    pids.set(task, pid);
    emit(traceCmdLine(event, { task, pid, cpu: host.cpus.indexOf(cpu), cycles: hostCycles(host, model) }, kernel));
  };
}

/** The same as a file for Perfetto or chrome://tracing: set `host.trace` to its sink. */
export function perfettoTrace(host: Host, model: CostModel): PerfettoTrace {
  const [exit, wrmsr, rdmsr, userspace] = (["exit", "wrmsr", "rdmsr", "userspace"] as const).map((kind) =>
    midpoint(model[kind].cycles),
  ) as [number, number, number, number];
  return new PerfettoTrace({
    now: () => hostCycles(host, model),
    roundTrips: () => host.ledger.counts.userspace_round_trips,
    cpu: () => host.cpus.indexOf(host.cpu),
    cost: { exit, wrmsr, rdmsr, userspace },
  });
}
