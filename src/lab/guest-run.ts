import type { Counters, Ledger } from "../cost/index.ts";
import { exitReasonName, type Host, type Regs, type Sregs } from "../kvm/index.ts";
import { FIRST_SLICE, nextSlice, SLICE_MS, yieldToHost } from "../machine/yield.ts";
import { formatTraceEvent, type TraceSink } from "../trace/index.ts";
import { type GuestEnding, Vmm, type VmmOptions } from "./vmm.ts";

export interface GuestRunOptions extends VmmOptions {
  /** One line a trace event. */
  readonly trace?: (line: string) => void;
  /** Takes the events themselves, in place of `trace`. */
  readonly sink?: (host: Host) => TraceSink;
}

export interface AsyncGuestRunOptions extends GuestRunOptions {
  readonly signal?: AbortSignal;
}

/** One guest run under VMX, from its start to its end. */
export interface GuestRunResult {
  readonly ending: GuestEnding;
  readonly instructions: number;
  readonly policy: string;
  readonly regs: Regs;
  readonly sregs: Sregs;
  /** DR0-DR3, DR6, DR7. */
  readonly debugRegs: readonly bigint[];
  /** VM exits by the kernel's names, most frequent first. */
  readonly exits: Readonly<Record<string, number>>;
  readonly ledger: Ledger;
  /** Counts from the first KVM_RUN to the last put: without what setting up and reading registers cost. */
  readonly counts: Readonly<Counters>;
  /** Entries at which a host bit of 0x140 acted in the guest against the guest's own value. */
  readonly leaks: { readonly faulting: number; readonly ring3mwait: number };
  /** 0x140 of the hardware before the first and after the last put. */
  readonly hostBefore: bigint;
  readonly hostAfter: bigint;
}

function start(options: GuestRunOptions): { vmm: Vmm; hostBefore: bigint } {
  const vmm = new Vmm(options);
  vmm.kvm.host.ledger.restart();
  const { trace } = options;
  if (options.sink) vmm.kvm.host.trace = options.sink(vmm.kvm.host);
  else if (trace) vmm.kvm.host.trace = (event) => trace(formatTraceEvent(event, vmm.kvm.rules.version));
  return { vmm, hostBefore: vmm.kvm.host.cpu.peekMiscFeatures() };
}

function result(vmm: Vmm, hostBefore: bigint, ending: GuestEnding): GuestRunResult {
  const { host, policy } = vmm.kvm;
  const { ledger } = host;
  const counts = { ...ledger.counts };
  host.trace = undefined;
  const byCount = [...ledger.exitsByReason].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  return {
    ending,
    instructions: counts.instructions,
    policy: policy.name,
    regs: vmm.vcpu.getRegs(),
    sregs: vmm.vcpu.getSregs(),
    debugRegs: vmm.vcpu.getDebugRegs(),
    exits: Object.fromEntries(byCount.map(([reason, count]) => [exitReasonName(reason), count])),
    ledger,
    counts,
    leaks: { ...vmm.vcpu.vmx.leaks },
    hostBefore,
    hostAfter: host.cpu.peekMiscFeatures(),
  };
}

/** Runs a guest under VMX and KVM's paths to its end or its instruction limit. */
export function runGuestUnderVmx(options: GuestRunOptions): GuestRunResult {
  const { vmm, hostBefore } = start(options);
  return result(vmm, hostBefore, vmm.run());
}

/** The same in slices of at most about 10 ms; an abort ends it with "interrupted". Slices change no count. */
export async function runGuestUnderVmxAsync(options: AsyncGuestRunOptions): Promise<GuestRunResult> {
  const { vmm, hostBefore } = start({ ...options, yieldInUserSpace: true });
  let work = FIRST_SLICE;
  const steps = vmm.runSteps(BigInt(work));
  let begun = performance.now();
  let step = steps.next();
  while (!step.done) {
    const elapsed = performance.now() - begun;
    // short of a slice: the guest's exits to user space come more often than that
    if (elapsed < SLICE_MS / 4 && !options.signal?.aborted) {
      step = steps.next();
      continue;
    }
    work = nextSlice(work, elapsed);
    await yieldToHost();
    begun = performance.now();
    step = steps.next(options.signal?.aborted ? 0n : BigInt(work));
  }
  return result(vmm, hostBefore, step.value);
}
