export type { TraceEvent, TraceSink } from "./events.ts";
export { formatTraceEvent } from "./text.ts";
