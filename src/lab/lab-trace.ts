import type { CostModel } from "../cost/index.ts";
import type { Host } from "../kvm/index.ts";
import { type TraceSink, traceCmdLine } from "../trace/index.ts";

const FIRST_PID = 1000;

/** Lines of trace-cmd for everything a host does; the time is the model's cycles so far, at 1 GHz. */
export function labTrace(host: Host, model: CostModel, emit: (line: string) => void): TraceSink {
  const pids = new Map<string, number>();
  return (event) => {
    const { cpu, ledger, core } = host;
    const task = cpu.current.name;
    const pid = pids.get(task) ?? FIRST_PID + pids.size;
    pids.set(task, pid);
    // instructions are booked at the end of a KVM_RUN: the processor's own count is further
    const running = Number(core.count) - ledger.counts.instructions;
    const cycles = ledger.cycles(model).midpoint + Math.max(0, running) * model.instruction.cycles.low;
    emit(traceCmdLine(event, { task, pid, cpu: host.cpus.indexOf(cpu), cycles }));
  };
}
