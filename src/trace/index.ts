export type { TraceEvent, TraceSink } from "./events.ts";
export { type ChromeTraceEvent, PERFETTO_TRACKS, type PerfettoSource, PerfettoTrace } from "./perfetto.ts";
export { formatTraceEvent, type TraceKernel } from "./text.ts";
export { TRACE_HZ, type TraceContext, traceCmdLine } from "./trace-cmd.ts";
