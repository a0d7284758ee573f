export type { TraceEvent, TraceSink } from "./events.ts";
export { formatTraceEvent } from "./text.ts";
export { TRACE_HZ, type TraceContext, traceCmdLine } from "./trace-cmd.ts";
