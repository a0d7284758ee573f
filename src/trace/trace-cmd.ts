import type { TraceEvent } from "./events.ts";
import { formatTraceEvent, type TraceKernel } from "./text.ts";

/** Who and when, for the columns that trace-cmd prints before an event. */
export interface TraceContext {
  readonly task: string;
  readonly pid: number;
  readonly cpu: number;
  /** Cycles since the start. */
  readonly cycles: number;
}

/** Cycles a second that make the time column. */
export const TRACE_HZ = 1e9;

/** One line of `trace-cmd report -N` (the kernel's own texts): task-pid, CPU, seconds, event. */
export function traceCmdLine(
  event: TraceEvent,
  { task, pid, cpu, cycles }: TraceContext,
  kernel: TraceKernel = "6.19",
): string {
  const who = `${task}-${pid}`.padStart(16);
  const time = (cycles / TRACE_HZ).toFixed(6).padStart(12);
  return `${who} [${String(cpu).padStart(3, "0")}] ${time}: ${formatTraceEvent(event, kernel)}`;
}
