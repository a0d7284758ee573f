import type { Ending } from "./outcome.ts";
import type { GuestRunOptions } from "./runBare.ts";
import type { TraceFilter, TraceRecord } from "./traceRecords.ts";
export interface BareTraceOptions extends GuestRunOptions {
  readonly filter: TraceFilter;
  readonly after: number;
}
export function* traceBare(_options: BareTraceOptions): Generator<TraceRecord, Ending> {
  return { kind: "halt" };
}
