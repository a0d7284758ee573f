import {
  EV_DELIVERED,
  EV_ERROR,
  EV_FAULTS,
  EV_HAS_ERROR,
  EV_PAYLOAD,
  EV_TYPE,
  EV_VECTOR,
  SEG_CS,
} from "../../assembly/abi/state.ts";
import type { Core } from "../core/index.ts";
import type { CostModel } from "../cost/index.ts";
import { kvmGetLinearRip } from "../kvm/guest-debug.ts";
import type { VcpuVmx } from "../kvm/index.ts";
import { kvmGvaToGpa } from "../kvm/mmu.ts";
import { Field } from "../kvm/vmcs-fields.ts";
import { type GuestEnding, perfettoTrace, Vmm } from "../lab/index.ts";
import { GPR_NAMES } from "../machine/index.ts";
import { formatTraceEvent, type PerfettoTrace, type TraceEvent, type TraceKernel } from "../trace/index.ts";
import type { GuestRunOptions } from "./runBare.ts";
import { inRanges, type TraceFilter, type TraceRecord } from "./traceRecords.ts";

export interface VmxTraceOptions extends GuestRunOptions {
  readonly policy?: string | undefined;
  readonly filter: TraceFilter;
  /** Instructions that pass before the trace begins. */
  readonly after: number;
  /** Collects the run for Perfetto, priced by this model. */
  readonly perfetto?: CostModel | undefined;
}

export interface VmxTrace {
  readonly records: Generator<TraceRecord | undefined, GuestEnding>;
  readonly perfetto: PerfettoTrace | undefined;
}

const PAGE_FAULT = 14;
/** EV_TYPE of software interrupts and exceptions. @sdm 3C "VM-Entry Controls for Event Injection" */
const SOFTWARE: ReadonlySet<number> = new Set([4, 5, 6]);
const CS_L = 1 << 13;
const CS_DB = 1 << 14;
const EFER_LMA = 1n << 10n;
/** Work between two looks at what KVM reported, when no instruction is wanted. */
const SLICE = 10_000n;
const NEVER = 1n << 62n;
const LONGEST = 15;

/** Linear address of the next instruction. */
function linearRip(core: Core): bigint {
  return core.in64BitMode ? core.rip : (core.segment(SEG_CS).base + core.rip) & 0xffff_ffffn;
}

/** Bytes of the instruction at a linear address, as far as they are mapped. */
function codeAt(core: Core, linear: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < LONGEST; i++) {
    const physical = core.translate(linear + BigInt(i), 2);
    if (physical === undefined || core.physToHost(physical) === 0) break;
    bytes.push(core.u8[core.physToHost(physical)]!);
  }
  return Uint8Array.from(bytes);
}

/** The same before the entry, by the VMCS and the guest's own tables. */
function codeAtEntry(vcpu: VcpuVmx, linear: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < LONGEST; i++) {
    const walk = kvmGvaToGpa(vcpu, linear + BigInt(i));
    const byte = "gpa" in walk ? vcpu.vm.slots.read(walk.gpa, 1) : undefined;
    if (byte === undefined) break;
    bytes.push(byte[0]!);
  }
  return Uint8Array.from(bytes);
}

/** The instruction that comes next, with what is needed to tell what it did. */
interface Pending {
  readonly count: bigint;
  readonly address: bigint;
  readonly mode: 16 | 32 | 64;
  readonly bytes: Uint8Array;
  readonly gprs: readonly bigint[];
}

/** Counts of deliveries, by which one is noticed. */
const deliveries = (core: Core) => ({ all: core.read64(EV_DELIVERED), faults: core.read64(EV_FAULTS) });

function pendingAt(core: Core, filter: TraceFilter): Pending {
  const address = linearRip(core);
  const wanted = filter.kinds.has("instruction") && inRanges(filter, address);
  return {
    count: core.count,
    address,
    mode: core.codeMode,
    bytes: wanted ? codeAt(core, address) : new Uint8Array(),
    gprs: wanted ? GPR_NAMES.map((_, i) => core.gpr(i)) : [],
  };
}

function pendingAtEntry(vcpu: VcpuVmx, filter: TraceFilter): Pending {
  const address = kvmGetLinearRip(vcpu);
  const wanted = filter.kinds.has("instruction") && inRanges(filter, address);
  const access = vcpu.vmread32(Field.GUEST_CS_AR_BYTES);
  const long = (vcpu.arch.efer & EFER_LMA) !== 0n && (access & CS_L) !== 0;
  return {
    count: vcpu.host.core.count,
    address,
    mode: long ? 64 : access & CS_DB ? 32 : 16,
    bytes: wanted ? codeAtEntry(vcpu, address) : new Uint8Array(),
    gprs: wanted ? GPR_NAMES.map((_, i) => vcpu.gpr(i)) : [],
  };
}

function delivery(core: Core, kind: "fault" | "interrupt", count: bigint, address: bigint): TraceRecord {
  const vector = core.read32(EV_VECTOR);
  return {
    kind,
    count,
    address,
    vector,
    ...(core.read32(EV_HAS_ERROR) ? { errorCode: core.read32(EV_ERROR) } : {}),
    ...(kind === "fault" && vector === PAGE_FAULT ? { linear: core.read64(EV_PAYLOAD) } : {}),
    handler: linearRip(core),
  };
}

/** RSP of the guest is in the VMCS once it has left. */
const RSP = 4;

function executed(core: Core, { count, address, mode, bytes, gprs }: Pending, inGuest: boolean): TraceRecord {
  const changed: Record<string, bigint> = {};
  GPR_NAMES.forEach((name, i) => {
    if ((inGuest || i !== RSP) && core.gpr(i) !== gprs[i]) changed[name] = core.gpr(i);
  });
  return { kind: "instruction", count, address, mode, bytes, changed };
}

function fromKvm(event: TraceEvent, count: bigint, address: bigint, kernel: TraceKernel): TraceRecord {
  switch (event.name) {
    case "kvm_entry":
      return { kind: "entry", count, address };
    case "kvm_exit": {
      const { reasonName, qualification, intrInfo } = event;
      const interruption = BigInt(intrInfo >>> 0);
      return { kind: "exit", count, address, reason: reasonName, qualification, interruption };
    }
    default: {
      const kind = event.name === "host_msr" ? "msr" : "kvm";
      return { kind, count, address, text: formatTraceEvent(event, kernel).replace(/\s+/g, " ") };
    }
  }
}

/** A guest under VMX, traced. The generator goes on only while it is read, and gives how the guest ended. */
export function traceVmx(options: VmxTraceOptions): VmxTrace {
  const { image, memory, console, policy = "upstream", maxInstructions, filter, after, signal } = options;
  const limit = maxInstructions === undefined ? {} : { maxInstructions };
  let pauseAt = NEVER;
  const vmm = new Vmm({
    ...{ image, memory, console, policy, ...limit },
    yieldInUserSpace: true,
    pauseAt: () => pauseAt,
  });
  const { host } = vmm.kvm;
  host.ledger.restart();
  const perfetto = options.perfetto === undefined ? undefined : perfettoTrace(host, options.perfetto);
  const stepping = ["instruction", "fault", "interrupt"].some((kind) => filter.kinds.has(kind as TraceRecord["kind"]));

  function* records(): Generator<TraceRecord | undefined, GuestEnding> {
    const { core } = host;
    const waiting: TraceRecord[] = [];
    const start = core.count;
    let address = 0n;
    let inGuest = false;
    let pending: Pending | undefined;
    let before = deliveries(core);
    /** What happened since the last look: at most one instruction or delivery while stepping. */
    const settle = (): void => {
      const now = deliveries(core);
      const was = before;
      before = now;
      const last = pending;
      // it did not come to anything yet: KVM may still complete it
      pending = last !== undefined && last.count === core.count && now.all === was.all ? last : undefined;
      const at = last?.address ?? address;
      const count = (last?.count ?? core.count - 1n) - start;
      if (count < BigInt(after) || !inRanges(filter, at)) return;
      // INT n, INT1, INT3 and INTO are instructions
      if (now.all !== was.all && !SOFTWARE.has(core.read32(EV_TYPE))) {
        const kind = now.faults === was.faults ? "interrupt" : "fault";
        if (stepping && filter.kinds.has(kind)) waiting.push(delivery(core, kind, count, at));
      } else if (last !== undefined && core.count !== last.count && filter.kinds.has("instruction")) {
        waiting.push({ ...executed(core, last, inGuest), count });
      }
    };
    host.trace = (event) => {
      perfetto?.sink(event);
      // what KVM completed is out before the entry
      if (event.name === "kvm_entry") settle();
      if (event.name === "kvm_entry" || event.name === "kvm_exit") {
        address = kvmGetLinearRip(vmm.vcpu.vmx);
        inGuest = event.name === "kvm_entry";
      }
      if (event.name === "kvm_entry" && stepping) pending = pendingAtEntry(vmm.vcpu.vmx, filter);
      if (core.count - start < BigInt(after)) return;
      const record = fromKvm(event, core.count - start, address, vmm.kvm.rules.version);
      if (filter.kinds.has(record.kind) && inRanges(filter, address)) waiting.push(record);
    };
    /** Sets the next pause: the beginning of the trace, then each instruction. */
    const slice = (): bigint => {
      const begin = start + BigInt(after);
      pauseAt = core.count < begin ? begin : stepping ? core.count + 1n : NEVER;
      return signal?.aborted ? 0n : SLICE;
    };
    const steps = vmm.runSteps(slice());
    let step = steps.next();
    while (!step.done) {
      settle();
      if (waiting.length === 0) yield undefined;
      yield* waiting.splice(0);
      if (stepping && inGuest && core.count - start >= BigInt(after)) pending = pendingAt(core, filter);
      step = steps.next(slice());
    }
    settle();
    yield* waiting.splice(0);
    perfetto?.finish();
    host.trace = undefined;
    return step.value;
  }
  return { records: records(), perfetto };
}
