import { RunCode, VmxResult } from "../../assembly/abi/run.ts";
import { EV_FAULTS, WORK } from "../../assembly/abi/state.ts";
import { CPUID_FAULT } from "../policy/index.ts";
import { prepareEventVectoringExit } from "./emulate.ts";
import { KvmError } from "./errors.ts";
import { injectPendingEvent, kvmQueueException, UD_VECTOR, vmxInterruptAllowed } from "./events.ts";
import { KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON } from "./exit.ts";
import { kvmGetRflags } from "./guest-debug.ts";
import { kvmApicAcceptEvents, kvmVcpuHasEvents, timerCount, vcpuBlock } from "./halt.ts";
import { EXIT_HANDLERS } from "./handlers.ts";
import { RING3MWAIT } from "./host-cpu.ts";
import { KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, kvmGetCr8 } from "./lapic.ts";
import {
  failEntry,
  forceExit,
  internalError,
  LAST_VMENTRY_CPU,
  LOCAL_TIMER_VECTOR,
  readExitFields,
} from "./leave-guest.ts";
import { kvmOnUserReturn, vcpuLoad, vcpuPut, vmxPrepareSwitchToGuest } from "./switch.ts";
import { KVM_SYNC_X86_VALID_FIELDS, storeRegs, syncRegs } from "./sync-regs.ts";
import { entryEvent, exitEvent } from "./trace-events.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { ENTRY_FAILURE, ExitReason, exitReasonName, INTR_VALID, Primary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

/** What one KVM_RUN may use. */
export interface RunBounds {
  /** Stops when this many instructions have completed, exactly. */
  readonly maxInstructions?: bigint;
  /** Instructions, deliveries and exits that one call may take. Default 2^62. */
  readonly work?: bigint;
  /** Finishes the last exit to user space and comes back at once. */
  readonly immediateExit?: boolean;
  /** Work between two yields of the generator form. The guest does not notice them. */
  readonly slice?: bigint;
  /**
   * COUNT of the processor at which the generator form yields next, exactly and without an exit; asked anew after each
   * yield. For debuggers: the guest does not notice.
   */
  readonly pauseAt?: () => bigint;
  /**
   * A timer interrupt takes the guest out after every so many of its instructions, and the generator form yields
   * there, out of the guest, so that the caller may switch the host CPU to another thread and back.
   */
  readonly preemptEvery?: bigint;
  /**
   * The generator form yields where the vCPU waits and nothing wakes it yet, and its `waiting` is on until something does,
   * so that another vCPU of the host may run. Without it time passes to the next timer, and with none it is "idle".
   */
  readonly yieldWhenWaiting?: boolean;
}

interface Limits {
  count: bigint;
  work: bigint;
  slice: bigint;
  /** Work at which to yield next. */
  nextYield: bigint;
  exits: bigint;
  /** Count of the core at which the next timer interrupt comes. */
  preemptAt: bigint;
  readonly preemptEvery: bigint;
  readonly pauseAt: () => bigint;
  readonly yieldWhenWaiting: boolean;
  /** What the core completed for others while this run waited. */
  foreign: bigint;
  foreignWork: bigint;
  /** Count at which the next timer in the kernel is due. */
  timerAt: bigint;
  /** The guest has been entered and has not left; what the ledger needs of the entry. */
  inGuest: Entered | undefined;
}

interface Entered {
  /** Faults that the processor had delivered by itself before. */
  readonly faults: bigint;
  /** KVM injected an exception. */
  readonly injected: boolean;
  readonly source: "kvm" | "hardware";
}

/** A run in slices: what is sent is the size of the next slice, and 0 stops it as a signal would. */
export type RunSteps<T> = Generator<void, T, bigint | undefined>;

const UNBOUNDED = 1n << 62n;
const X86_EFLAGS_IF = 0x200n;

function workDone(vcpu: VcpuVmx, limits: Limits): bigint {
  return vcpu.host.core.read64(WORK) + limits.exits;
}

function sliceUsed(vcpu: VcpuVmx, limits: Limits): boolean {
  const done = workDone(vcpu, limits);
  const due = done >= limits.nextYield || vcpu.host.core.count >= limits.pauseAt();
  return due && done < limits.work;
}

/** The end of a slice. A caller that ends the generator there finds the processor out of the guest. */
function* pause(vcpu: VcpuVmx, limits: Limits): RunSteps<void> {
  const done = workDone(vcpu, limits);
  let resumed = false;
  try {
    limits.slice = (yield) ?? limits.slice;
    resumed = true;
  } finally {
    if (!resumed && limits.inGuest !== undefined) forceExit(vcpu);
  }
  if (limits.slice === 0n) limits.work = 0n;
  limits.nextYield = done + limits.slice;
}

/** Out of the guest: yields where the timer interrupt came. */
function* preempted(vcpu: VcpuVmx, limits: Limits): RunSteps<void> {
  limits.preemptAt += limits.preemptEvery;
  yield* away(vcpu, limits);
}

/** A vCPU without an event: yields until one has come. False: a slice of 0 ended it. @kvm kvm_vcpu_block, schedule */
function* waits(vcpu: VcpuVmx, limits: Limits): RunSteps<boolean> {
  while (!kvmVcpuHasEvents(vcpu)) {
    vcpu.waiting = true;
    yield* away(vcpu, limits);
    vcpu.waiting = false;
    if (limits.slice === 0n) {
      vcpu.userExit = { reason: "intr", why: "signal" };
      return false;
    }
  }
  return true;
}

/** Yields out of the guest. What others run meanwhile is not this run's. */
function* away(vcpu: VcpuVmx, limits: Limits): RunSteps<void> {
  const { core } = vcpu.host;
  const count = core.count;
  const work = core.read64(WORK);
  limits.slice = (yield) ?? limits.slice;
  if (limits.slice === 0n) limits.work = 0n;
  const foreign = core.count - count;
  const foreignWork = core.read64(WORK) - work;
  limits.foreign += foreign;
  limits.foreignWork += foreignWork;
  limits.count += foreign;
  limits.preemptAt += foreign;
  limits.work += foreignWork;
  limits.nextYield += foreignWork;
}

/** Host bits of 0x140 that act in the guest against its own value: what the observer sees at an entry. */
function noteLeaks(vcpu: VcpuVmx): void {
  const physical = vcpu.atomicSwitch?.guest ?? vcpu.host.cpu.peekMiscFeatures();
  const guest = vcpu.arch.msrMiscFeaturesEnables;
  if (physical & CPUID_FAULT && !(guest & CPUID_FAULT)) vcpu.leaks.faulting += 1;
  if (physical & RING3MWAIT) vcpu.leaks.ring3mwait += 1;
}

/** VMLAUNCH or VMRESUME. False: the entry failed with an error of the instruction. @kvm vmx_vcpu_run */
function vmxVcpuEnter(vcpu: VcpuVmx, limits: Limits): boolean {
  const { core, vmx, trace } = vcpu.host;
  if (trace !== undefined) trace(entryEvent(vcpu));
  const { exception } = vcpu.arch;
  const faults = core.read64(EV_FAULTS);
  const source = exception.injected ? exception.source : "hardware";
  const result = vcpu.loadedVmcs.launched ? core.exports.vmresume() : core.exports.vmlaunch();
  if (result !== VmxResult.Succeed) {
    vcpu.userExit = failEntry(vcpu, BigInt(vmx.instructionError()));
    return false;
  }
  limits.inGuest = { faults, source, injected: exception.injected && source === "kvm" };
  return true;
}

/** After the guest has left: the fields of the exit, and the exceptions that were delivered. @kvm vmx_vcpu_run */
function vmxVcpuLeft(vcpu: VcpuVmx, { faults, source, injected }: Entered): void {
  const { core, ledger } = vcpu.host;
  const { exception } = vcpu.arch;
  readExitFields(vcpu);
  // an event whose delivery exited is delivered again and counted then
  const delivered = injected && !exception.injected ? 1 : 0;
  if (exception.injected) exception.source = source;
  ledger.count("injected_faults", delivered);
  ledger.count("hardware_faults", Number(core.read64(EV_FAULTS) - faults) - delivered);
}

/** True when a VM exit came; a bound ends in one too, by a physical interrupt at that count. False: the slice is used up. */
function runGuest(vcpu: VcpuVmx, limits: Limits): boolean {
  const { core } = vcpu.host;
  for (;;) {
    const { count, preemptAt, timerAt } = limits;
    const bound = count < preemptAt ? count : preemptAt;
    const instructions = (timerAt < bound ? timerAt : bound) - core.count;
    const toPause = limits.pauseAt() - core.count;
    const done = workDone(vcpu, limits);
    const end = limits.work < limits.nextYield ? limits.work : limits.nextYield;
    const work = end - done;
    const stop = instructions <= 0n || done >= limits.work;
    if (stop) core.exports.raiseInterrupt(LOCAL_TIMER_VECTOR);
    const code = stop ? core.run(0n, 1n) : core.run(toPause < instructions ? toPause : instructions, work);
    if (stop && code === RunCode.VmExit) core.exports.raiseInterrupt(-1);
    if (code === RunCode.VmExit) return true;
    // somebody who looks on has set it in the processor; nothing of the guest has changed
    if (code === RunCode.Breakpoint || code === RunCode.Watchpoint) return false;
    if (code !== RunCode.Instructions && code !== RunCode.Slice) {
      forceExit(vcpu);
      const message = `the processor stopped in the guest with run code ${code}`;
      internalError(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, [BigInt(code)], message);
      return true;
    }
    if (stop) return forceExit(vcpu);
    if (sliceUsed(vcpu, limits)) return false;
  }
}

/** Exits that may come while an event is being delivered. */
const MAY_VECTOR: readonly number[] = [ExitReason.EXCEPTION_NMI, ExitReason.EPT_VIOLATION, ExitReason.TASK_SWITCH];

/** @kvm vmx_handle_exit */
function vmxHandleExit(vcpu: VcpuVmx): boolean {
  const reason = vcpu.exitReason & 0xffff;
  const { host } = vcpu;
  if (vcpu.exitReason & ENTRY_FAILURE) {
    vcpu.userExit = failEntry(vcpu, BigInt(vcpu.exitReason >>> 0));
    return false;
  }
  const vectoring = (vcpu.idtVectoringInfo & INTR_VALID) !== 0;
  if (vectoring && !MAY_VECTOR.includes(reason)) {
    const invalidGpa = 0xffff_ffff_ffff_ffffn;
    return prepareEventVectoringExit(
      vcpu,
      invalidGpa,
      `exit ${exitReasonName(reason)} while an event was being delivered`,
    );
  }
  const handler = EXIT_HANDLERS.get(reason);
  if (handler === undefined) {
    // before 5.4 the guest got the blame
    if (!vcpu.vm.rules.internalErrorData) {
      kvmQueueException(vcpu, UD_VECTOR);
      return true;
    }
    const data = [BigInt(vcpu.exitReason >>> 0), LAST_VMENTRY_CPU];
    const message = `no handler for exit ${exitReasonName(reason)}`;
    return internalError(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data, message);
  }
  host.schedulePoint("handle_exit", vcpu);
  const again = handler(vcpu);
  host.schedulePoint("handle_exit_done", vcpu);
  return again;
}

/** To the entry and into the guest. False: it was not entered, `userExit` says why. @kvm vcpu_enter_guest */
function vcpuEnterGuest(vcpu: VcpuVmx, limits: Limits): boolean {
  const { host } = vcpu;
  if (vcpu.arch.tripleFault) {
    vcpu.arch.tripleFault = false;
    vcpu.userExit = { reason: "shutdown" };
    return false;
  }
  injectPendingEvent(vcpu);
  limits.timerAt = timerCount(vcpu);
  if (dmRequestForIrqInjection(vcpu) && kvmCpuAcceptDmIntr(vcpu)) {
    host.vmx.setBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.VIRTUAL_INTR_PENDING);
  }
  host.schedulePoint("vcpu_enter_guest", vcpu);
  vmxPrepareSwitchToGuest(vcpu);
  vcpu.switching.policy.beforeEntry?.(vcpu.arch.msrMiscFeaturesEnables);
  noteLeaks(vcpu);
  if (vmxVcpuEnter(vcpu, limits)) return true;
  vcpu.switching.policy.afterExit?.();
  return false;
}

/** The other half of vcpu_enter_guest: what the exit was, and its handler. False: `userExit` says why not again. */
function vcpuLeftGuest(vcpu: VcpuVmx, limits: Limits, entered: Entered): boolean {
  const { host } = vcpu;
  limits.inGuest = undefined;
  vmxVcpuLeft(vcpu, entered);
  if (vcpu.atomicSwitch?.guest !== undefined) host.ledger.count("autoload_msrs", 2);
  vcpu.switching.policy.afterExit?.();
  const reason = vcpu.exitReason & 0xffff;
  limits.exits += 1n;
  host.ledger.exit(reason);
  if (host.trace !== undefined) host.trace(exitEvent(vcpu));
  return vcpu.userExit === undefined && vmxHandleExit(vcpu);
}

/** @kvm kvm_event_needs_reinjection */
function eventNeedsReinjection({ arch }: VcpuVmx): boolean {
  return arch.exception.injected || arch.interrupt.injected || arch.nmiInjected;
}

/** @kvm kvm_cpu_accept_dm_intr */
function kvmCpuAcceptDmIntr(vcpu: VcpuVmx): boolean {
  if (eventNeedsReinjection(vcpu) || vcpu.arch.exception.pending) return false;
  return vcpu.apic === undefined || vcpu.apic.device.extInt;
}

/** User space waits to inject. @kvm dm_request_for_irq_injection */
function dmRequestForIrqInjection(vcpu: VcpuVmx): boolean {
  return vcpu.run.requestInterruptWindow && vcpu.vm.irqchip?.pic === undefined;
}

/** @kvm kvm_vcpu_ready_for_interrupt_injection */
export function readyForInterruptInjection(vcpu: VcpuVmx): boolean {
  return kvmCpuAcceptDmIntr(vcpu) && vmxInterruptAllowed(vcpu);
}

/** A bound is reached: as if a signal were pending. */
function atLimit(vcpu: VcpuVmx, limits: Limits): boolean {
  if (vcpu.host.core.count < limits.count && workDone(vcpu, limits) < limits.work) return false;
  vcpu.userExit = { reason: "intr", why: limits.slice === 0n ? "signal" : "bound" };
  vcpu.host.ledger.count("signal_exits");
  return true;
}

/** Waits for an event. False: back to user space, as nothing will come. */
function blocked(vcpu: VcpuVmx, limits: Limits): boolean {
  limits.exits += 1n;
  if (vcpuBlock(vcpu)) return true;
  vcpu.userExit = { reason: "intr", why: "idle" };
  return false;
}

/** A level interrupt of user space's I/O APIC has ended. @kvm KVM_REQ_IOAPIC_EOI_EXIT */
function ioapicEoiExit(vcpu: VcpuVmx): boolean {
  const chip = vcpu.vm.irqchip;
  if (chip?.ioapicEoi === undefined) return false;
  vcpu.userExit = { reason: "ioapicEoi", vector: chip.ioapicEoi };
  chip.ioapicEoi = undefined;
  return true;
}

/** @kvm vcpu_run */
function* vcpuRun(vcpu: VcpuVmx, limits: Limits): RunSteps<void> {
  const { core } = vcpu.host;
  while (!atLimit(vcpu, limits)) {
    vcpu.vm.irqchip?.sync();
    kvmApicAcceptEvents(vcpu);
    if (ioapicEoiExit(vcpu)) return;
    if (vcpu.exitPending) {
      vcpu.exitPending = false;
      if (!vmxHandleExit(vcpu)) return;
    } else if (vcpu.arch.mpState !== KVM_MP_STATE_RUNNABLE) {
      if (limits.yieldWhenWaiting && !(yield* waits(vcpu, limits))) return;
      if (!blocked(vcpu, limits)) return;
    } else {
      if (!vcpuEnterGuest(vcpu, limits)) return;
      while (!runGuest(vcpu, limits)) yield* pause(vcpu, limits);
      if (!vcpuLeftGuest(vcpu, limits, limits.inGuest!)) return;
    }
    if (dmRequestForIrqInjection(vcpu) && readyForInterruptInjection(vcpu)) {
      vcpu.userExit = { reason: "irqWindowOpen" };
      vcpu.host.ledger.count("request_irq_exits");
      return;
    }
    if (core.count >= limits.preemptAt) yield* preempted(vcpu, limits);
    if (sliceUsed(vcpu, limits)) yield* pause(vcpu, limits);
  }
}

/** What user space put into struct kvm_run. @kvm kvm_arch_vcpu_ioctl_run */
function acceptRunPage(vcpu: VcpuVmx): void {
  const { run, arch } = vcpu;
  if ((run.validRegs | run.dirtyRegs) & ~KVM_SYNC_X86_VALID_FIELDS) {
    throw new KvmError("KVM_RUN", "EINVAL", "unknown bits in kvm_valid_regs or kvm_dirty_regs");
  }
  syncRegs(vcpu);
  if (run.cr8 & ~0xfn) throw new KvmError("KVM_RUN", "EINVAL", `kvm_run.cr8 is 0x${run.cr8.toString(16)}`);
  if (vcpu.apic === undefined) arch.cr8 = run.cr8;
}

/** @kvm post_kvm_run_save */
function postKvmRunSave(vcpu: VcpuVmx): void {
  vcpu.run.save({
    ready: vcpu.vm.irqchip?.pic !== undefined || readyForInterruptInjection(vcpu),
    ifFlag: (kvmGetRflags(vcpu) & X86_EFLAGS_IF) !== 0n,
    cr8: kvmGetCr8(vcpu),
    apicBase: vcpu.arch.apicBase,
  });
}

/** A processor that has had no INIT and start-up IPI. KvmError EAGAIN after they have come. */
function* waitForInit(vcpu: VcpuVmx, bounds: RunBounds, limits: Limits): RunSteps<void> {
  const immediate = bounds.immediateExit || vcpu.run.immediateExit;
  if (!immediate && limits.yieldWhenWaiting && !(yield* waits(vcpu, limits))) return;
  if (immediate || !kvmVcpuHasEvents(vcpu)) {
    vcpu.userExit = { reason: "intr", why: immediate ? "immediateExit" : "idle" };
    return;
  }
  kvmApicAcceptEvents(vcpu);
  throw new KvmError("KVM_RUN", "EAGAIN", `vCPU ${vcpu.id} has taken its INIT; call again`);
}

/** KVM_RUN: `userExit` of the vCPU says how it ended. @kvm kvm_arch_vcpu_ioctl_run */
export function* ioctlRun(vcpu: VcpuVmx, bounds: RunBounds): RunSteps<void> {
  const { core, ledger } = vcpu.host;
  const before = core.count;
  ledger.count("userspace_round_trips");
  vcpu.userExit = undefined;
  let limits: Limits | undefined;
  const workBefore = core.read64(WORK);
  vcpuLoad(vcpu);
  try {
    acceptRunPage(vcpu);
    vcpu.arch.hasRun = true;
    const start = core.read64(WORK);
    const slice = bounds.slice ?? UNBOUNDED;
    const preemptEvery = bounds.preemptEvery ?? UNBOUNDED;
    limits = {
      count: before + (bounds.maxInstructions ?? UNBOUNDED),
      preemptAt: before + preemptEvery - (vcpu.instructions % preemptEvery),
      preemptEvery,
      pauseAt: bounds.pauseAt ?? (() => UNBOUNDED),
      yieldWhenWaiting: bounds.yieldWhenWaiting ?? false,
      foreign: 0n,
      foreignWork: 0n,
      work: start + (bounds.work ?? UNBOUNDED),
      slice,
      nextYield: start + slice,
      exits: 0n,
      inGuest: undefined,
      timerAt: UNBOUNDED,
    };
    if (vcpu.arch.mpState === KVM_MP_STATE_UNINITIALIZED) {
      yield* waitForInit(vcpu, bounds, limits);
      return;
    }
    const complete = vcpu.arch.completeUserspaceIo;
    vcpu.arch.completeUserspaceIo = undefined;
    if (complete !== undefined && !complete()) return;
    if (bounds.immediateExit || vcpu.run.immediateExit) {
      vcpu.userExit = { reason: "intr", why: "immediateExit" };
      return;
    }
    yield* vcpuRun(vcpu, limits);
  } finally {
    storeRegs(vcpu);
    postKvmRunSave(vcpu);
    vcpuPut(vcpu);
    kvmOnUserReturn(vcpu);
    const own = core.count - before - (limits?.foreign ?? 0n);
    vcpu.instructions += own;
    vcpu.work += core.read64(WORK) - workBefore - (limits?.foreignWork ?? 0n);
    ledger.count("instructions", Number(own));
  }
}
