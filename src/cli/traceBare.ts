import type { CodeMode } from "../core/index.ts";
import { exitReasonName } from "../kvm/index.ts";
import { type Exit, GPR_NAMES, type GuestEvent, type Machine } from "../machine/index.ts";
import type { Ending } from "./outcome.ts";
import { bareMachine, type GuestRunOptions, toEnding } from "./runBare.ts";
import { inRanges, type TraceFilter, type TraceRecord } from "./traceRecords.ts";

export interface BareTraceOptions extends GuestRunOptions {
  readonly filter: TraceFilter;
  /** Instructions that pass before the trace begins. */
  readonly after: number;
}

/** Instructions between two looks at the signal. */
const CHUNK = 20_000;
const LONGEST = 15;
const PAGE = 4096n;

/** Exceptions that INT n, INT1, INT3 and INTO make are the instruction's own. */
const DELIVERIES: ReadonlySet<GuestEvent["kind"]> = new Set(["external", "nmi", "exception"]);

const linearRip = (machine: Machine): bigint => {
  const { rip, cs } = machine.registers;
  return machine.codeMode === 64 ? rip : (cs.base + rip) & 0xffff_ffffn;
};

/** Bytes of the instruction at a linear address, as far as there is memory. */
function codeAt(machine: Machine, linear: bigint): Uint8Array {
  const bytes: number[] = [];
  while (bytes.length < LONGEST) {
    const at = BigInt.asUintN(64, linear + BigInt(bytes.length));
    const physical = machine.translate(at, "execute");
    const n = Math.min(LONGEST - bytes.length, Number(PAGE - (at & (PAGE - 1n))));
    const region = machine.regions.find(
      (r) => physical !== undefined && physical >= r.address && physical < r.address + BigInt(r.size),
    );
    if (physical === undefined || region === undefined || region.kind === "mmio") break;
    bytes.push(...machine.readMemory(physical, n));
  }
  return Uint8Array.from(bytes);
}

interface Before {
  readonly count: bigint;
  readonly address: bigint;
  readonly mode: CodeMode;
  readonly bytes: Uint8Array;
  readonly gprs: readonly bigint[];
}

const gprsOf = (machine: Machine): bigint[] => GPR_NAMES.map((name) => machine.registers[name]);

/** undefined: the guest goes on. */
function ended(exit: Exit, status: number | undefined, limit: number): Ending | undefined {
  if (status !== undefined) return { kind: "exit", status };
  switch (exit.reason) {
    case "instructions":
    case "slice":
    case "stopped":
      return limit === 0 ? { kind: "limit" } : undefined;
    default:
      return toEnding(exit, status);
  }
}

/**
 * A guest on the bare processor, traced. The generator goes on only while it is read, gives undefined where nothing was to
 * be told for a while, and ends with how the guest ended.
 */
export function* traceBare(options: BareTraceOptions): Generator<TraceRecord | undefined, Ending> {
  const { filter, after, signal } = options;
  const { machine, status } = bareMachine(options);
  const wants = (kind: TraceRecord["kind"]): boolean => filter.kinds.has(kind);
  let waiting: TraceRecord[] = [];
  let tracing = false;
  let stopping = false;
  let step: Before | undefined;

  const place = () => ({
    count: step?.count ?? machine.instructionCount,
    address: step?.address ?? linearRip(machine),
  });
  const tell = (record: TraceRecord): void => {
    if (tracing && wants(record.kind) && inRanges(filter, record.address)) waiting.push(record);
  };
  let delivery: { readonly event: GuestEvent; readonly count: bigint; readonly address: bigint } | undefined;
  const delivered = (): void => {
    if (delivery === undefined) return;
    const { event, count, address } = delivery;
    delivery = undefined;
    const kind = event.kind === "exception" ? "fault" : "interrupt";
    tell({
      kind,
      count,
      address,
      vector: event.vector,
      ...(event.errorCode === undefined ? {} : { errorCode: event.errorCode }),
      ...(event.address === undefined ? {} : { linear: event.address }),
      handler: linearRip(machine),
    });
  };

  if (wants("fault") || wants("interrupt")) {
    machine.onEvent([0, 255], (event) => {
      if (!DELIVERIES.has(event.kind)) return;
      delivered();
      delivery = { event, count: machine.instructionCount, address: linearRip(machine) };
      // the handler's address is known once it is delivered
      if (tracing && step === undefined) machine.stop();
    });
  }
  machine.onVmExit(({ reason, qualification }) => {
    const name = exitReasonName(reason & 0xffff);
    tell({ kind: "exit", ...place(), reason: name, qualification, interruption: 0n });
  });
  machine.onVmEntry(() => tell({ kind: "entry", ...place() }));

  const stepping = wants("instruction");
  if (stepping && filter.ranges.length > 0) {
    for (const [first, last] of filter.ranges) {
      const size = Number(last - first > 0x1_0000_0000n ? 0x1_0000_0000n : last - first) + 1;
      machine.onCode({ address: first, size }, () => (stopping ? "stop" : undefined));
    }
  }

  let left = options.maxInstructions ?? Number.MAX_SAFE_INTEGER;
  let skip = after;
  for (;;) {
    if (signal?.aborted) return { kind: "interrupted" };
    tracing = skip === 0;
    const inside = stepping && inRanges(filter, linearRip(machine));
    const single = tracing && inside;
    stopping = tracing && stepping && !inside;
    if (single) {
      const gprs = gprsOf(machine);
      const address = linearRip(machine);
      const bytes = codeAt(machine, address);
      step = { count: machine.instructionCount, address, mode: machine.codeMode, bytes, gprs };
    }
    const most = Math.min(left, tracing ? (single ? 1 : CHUNK) : Math.min(skip, CHUNK));
    const exit = machine.run({ maxInstructions: most });
    left -= exit.instructions;
    if (!tracing) skip -= exit.instructions;
    const event = delivery !== undefined;
    delivered();
    if (step !== undefined && !event && exit.instructions > 0) {
      const changed: Record<string, bigint> = {};
      gprsOf(machine).forEach((value, i) => {
        if (value !== step!.gprs[i]) changed[GPR_NAMES[i]!] = value;
      });
      // before what it caused: its exits and entries
      const { count, address, mode, bytes } = step;
      waiting.unshift({ kind: "instruction", count, address, mode, bytes, changed });
    }
    step = undefined;
    const out = waiting;
    waiting = [];
    if (out.length === 0) yield undefined;
    yield* out;
    const ending = ended(exit, status(), left);
    if (ending !== undefined) return ending;
  }
}
