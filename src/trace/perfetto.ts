// A KVM run as Chrome's Trace Event Format, which Perfetto and chrome://tracing show.
// "Trace Event Format" (the JSON object form): X complete, i instant, C counter, M metadata; times in microseconds.
import type { TraceEvent, TraceSink } from "./events.ts";
import { formatTraceEvent } from "./text.ts";
import { TRACE_HZ } from "./trace-cmd.ts";

/** One record of the file. */
export interface ChromeTraceEvent {
  readonly name: string;
  readonly ph: "X" | "i" | "C" | "M";
  /** Microseconds. */
  readonly ts: number;
  readonly dur?: number;
  readonly pid: number;
  readonly tid: number;
  readonly cat?: string;
  /** Of an instant: it belongs to its thread. */
  readonly s?: "t";
  readonly args?: Readonly<Record<string, string | number>>;
}

/** What the sink needs of the host it listens to. */
export interface PerfettoSource {
  /** Cycles of the cost model so far. */
  readonly now: () => number;
  /** KVM_RUN calls so far. */
  readonly roundTrips: () => number;
  /** Number of the CPU that runs. */
  readonly cpu: () => number;
  /** Cycles of the model for one of each. */
  readonly cost: { readonly exit: number; readonly wrmsr: number; readonly rdmsr: number; readonly userspace: number };
}

export const PERFETTO_TRACKS = { guest: 1, kvm: 2, user: 3, msr: 4 } as const;
const NAMES: Readonly<Record<keyof typeof PERFETTO_TRACKS, string>> = {
  guest: "guest (VMX non-root)",
  kvm: "KVM",
  user: "user space (VMM)",
  msr: "MSR 0x140 of the host",
};

/**
 * Microseconds in steps of 1/1024: sums of such numbers are exact, so that a slice ends where the next one begins for every
 * reader, whether it adds or rounds.
 */
const micros = (cycles: number): number => Math.round((cycles / TRACE_HZ) * 1e6 * 1024) / 1024;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Collects what a host does. Each instant is cycles of the cost model, shown at 1 GHz: a cycle is a nanosecond. */
export class PerfettoTrace {
  readonly #source: PerfettoSource;
  readonly #events: ChromeTraceEvent[] = [];
  readonly #cpus = new Set<number>();
  /** Cycles of the last entry, while the guest runs. */
  #entered: { readonly at: number; readonly rip: bigint } | undefined;
  /** What KVM does since when, outside the guest. */
  #open: { readonly at: number; readonly name: string; readonly args: Readonly<Record<string, string>> } | undefined;
  #trips = 0;

  constructor(source: PerfettoSource) {
    this.#source = source;
  }

  get size(): number {
    return this.#events.length;
  }

  readonly sink: TraceSink = (event) => {
    const { now, cost } = this.#source;
    const time = now();
    // a read is told after it is booked, a write before
    const from = event.name === "host_msr" && !event.write ? time - cost.rdmsr : time;
    if (event.name !== "kvm_exit") this.#cameBack(from);
    switch (event.name) {
      case "kvm_entry":
        this.#close(time);
        this.#entered = { at: time, rip: event.rip };
        return;
      case "kvm_exit":
        this.#left(event, time);
        return;
      case "host_msr": {
        const to = event.write ? time + cost.wrmsr : time;
        this.#slice("msr", event.write ? "WRMSR" : "RDMSR", from, to, { value: hex(event.value), cause: event.cause });
        if (!event.write) return;
        this.#put({ name: "0x140", ph: "C", ...this.#at("msr", to), args: { value: Number(event.value) } });
        return;
      }
      default:
        this.#put({
          name: event.name,
          ph: "i",
          ...this.#at("kvm", time),
          s: "t",
          args: { text: formatTraceEvent(event) },
        });
    }
  };

  /** Ends what is open, at the end of the run. */
  finish(): void {
    const time = this.#source.now();
    this.#close(time);
    if (this.#entered !== undefined) this.#guest(time, {});
  }

  #left(event: TraceEvent & { name: "kvm_exit" }, time: number): void {
    // the ledger has the exit already: what it costs is KVM's
    const at = Math.max(time - this.#source.cost.exit, this.#entered?.at ?? 0);
    this.#guest(at, { until: hex(event.rip) });
    const args = {
      rip: hex(event.rip),
      qualification: hex(event.qualification),
      interruption: hex(event.intrInfo >>> 0),
    };
    this.#open = { at, name: event.reasonName, args };
    this.#trips = this.#source.roundTrips();
  }

  /** KVM_RUN was called again since the last event: the time in user space lies just before this one. */
  #cameBack(time: number): void {
    const trips = this.#source.roundTrips();
    const spent = (trips - this.#trips) * this.#source.cost.userspace;
    this.#trips = trips;
    const open = this.#open;
    if (spent === 0 || open === undefined) return;
    const since = Math.max(time - spent, open.at);
    this.#slice("kvm", open.name, open.at, since, open.args);
    this.#slice("user", "user space", since, time, { exit: open.name });
    this.#open = { at: time, name: "KVM_RUN", args: {} };
  }

  #close(time: number): void {
    const open = this.#open;
    this.#open = undefined;
    if (open !== undefined) this.#slice("kvm", open.name, open.at, time, open.args);
  }

  #guest(time: number, args: Readonly<Record<string, string>>): void {
    const entered = this.#entered;
    this.#entered = undefined;
    if (entered !== undefined) this.#slice("guest", "guest", entered.at, time, { rip: hex(entered.rip), ...args });
  }

  #at(track: keyof typeof PERFETTO_TRACKS, cycles: number): { ts: number; pid: number; tid: number } {
    const cpu = this.#source.cpu();
    this.#cpus.add(cpu);
    return { ts: micros(cycles), pid: cpu + 1, tid: PERFETTO_TRACKS[track] };
  }

  #slice(
    track: keyof typeof PERFETTO_TRACKS,
    name: string,
    from: number,
    to: number,
    args: Readonly<Record<string, string>>,
  ): void {
    const at = this.#at(track, from);
    const dur = Math.max(micros(to) - at.ts, 0);
    this.#put({ name, ph: "X", ...at, dur, cat: track, args });
  }

  #put(event: ChromeTraceEvent): void {
    this.#events.push(event);
  }

  /** All records, in order of time. */
  events(): ChromeTraceEvent[] {
    const metadata = [...this.#cpus].flatMap((cpu): ChromeTraceEvent[] => [
      { name: "process_name", ph: "M", ts: 0, pid: cpu + 1, tid: 0, args: { name: `host CPU ${cpu}` } },
      ...(Object.keys(NAMES) as (keyof typeof NAMES)[]).map(
        (track): ChromeTraceEvent => ({
          name: "thread_name",
          ph: "M",
          ts: 0,
          pid: cpu + 1,
          tid: PERFETTO_TRACKS[track],
          args: { name: NAMES[track] },
        }),
      ),
    ]);
    return [...metadata, ...[...this.#events].sort((a, b) => a.ts - b.ts)];
  }

  /** The file, line by line: one JSON object. */
  *lines(about: Readonly<Record<string, string | number>> = {}): Generator<string> {
    const otherData = { "time unit": "1 ns is one cycle of the cost model", ...about };
    yield `{"displayTimeUnit":"ns","otherData":${JSON.stringify(otherData)},"traceEvents":[`;
    const all = this.events();
    for (const [i, event] of all.entries()) yield JSON.stringify(event) + (i + 1 < all.length ? "," : "");
    yield "]}";
  }
}
