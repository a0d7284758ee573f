import {
  addHostCpu,
  type Host,
  type HostCpu,
  HostTask,
  kvmMayWake,
  nextTimerOf,
  selectHostCpu,
  type Vcpu,
  vmxSwitchVmcs,
} from "../kvm/index.ts";
import type { GuestEnding, Vmm } from "./vmm.ts";

/** A thread of a VMM that runs one vCPU. */
export interface VmmThread {
  readonly task: HostTask;
  readonly vmm: Vmm;
  readonly vcpu: Vcpu;
  readonly steps: Generator<void, GuestEnding, bigint | undefined>;
  started: boolean;
  preemptions: number;
  ending: GuestEnding | undefined;
}

export interface ScheduleRates {
  readonly hostCpus: number;
  /** Instructions of a vCPU between two timer interrupts of its host CPU, at which the CPUs take turns; 0 is none. */
  readonly tickEvery: number;
  /** Instructions of a vCPU between two preemptions; 0 is never. */
  readonly preemptEvery: number;
  /** Preemptions of a thread between two moves; 0 is never. */
  readonly migrateEvery: number;
  readonly vmcsSwitchEvery: number;
  readonly raceEvery: number;
}

/** What the scheduler did, and where it found the host's value of 0x140 lost. */
export interface ScheduleCounts {
  preemptions: number;
  migrations: number;
  /** Times a thread slept because its vCPU waited. */
  sleeps: number;
  vmcs_switches: number;
  /** Preemptions between the test and the write in vmx_set_msr. */
  set_msr_preemptions: number;
  /** Times a thread of the host ran in user space with another 0x140 than Linux gave it. */
  host_value_lost: number;
}

export function noScheduleCounts(): ScheduleCounts {
  const none = { preemptions: 0, migrations: 0, sleeps: 0 };
  return { ...none, vmcs_switches: 0, set_msr_preemptions: 0, host_value_lost: 0 };
}

interface Seat {
  readonly cpu: HostCpu;
  /** A thread of the host that has nothing to do with KVM, and has CPUID on. */
  readonly other: HostTask;
  /** The CPU's idle task, of the kernel. */
  readonly idle: HostTask;
  readonly queue: VmmThread[];
  /** Has the CPU between two turns, its vCPU loaded. */
  running: VmmThread | undefined;
  /** Instructions of `running` since it got the CPU. */
  since: bigint;
}

/** Expiries of timers that may pass without waking anybody before the VMs count as dead. */
const SILENT_EXPIRIES = 10_000;

/**
 * VMM threads on host CPUs, round robin and deterministic. The CPUs take turns: at timer interrupts of the host, and where a
 * thread sleeps because its vCPU waits. A thread keeps its CPU, its vCPU loaded, until it sleeps or is preempted: after
 * `preemptEvery` instructions, or at a tick when another thread waits for the CPU. Then the CPU's other thread runs, in user
 * space and for no time.
 */
export class Scheduler {
  readonly counts: ScheduleCounts = noScheduleCounts();
  readonly threads: VmmThread[] = [];
  readonly #seats: Seat[];
  #running: VmmThread | undefined;

  constructor(
    readonly host: Host,
    private readonly rates: ScheduleRates,
  ) {
    const cpus = [host.cpu];
    host.cpu.switchTo(new HostTask("other0"));
    for (let i = 1; i < rates.hostCpus; i++) cpus.push(addHostCpu(host, `cpu${i}`));
    this.#seats = cpus.map((cpu, i) => {
      const other = i === 0 ? cpu.current : new HostTask(`other${i}`);
      return { cpu, other, idle: new HostTask(`idle${i}`), queue: [], running: undefined, since: 0n };
    });
    for (const { cpu, other } of this.#seats.slice(1)) this.#on(cpu, () => cpu.switchTo(other));
    selectHostCpu(host, cpus[0]!);
    this.#hooks();
  }

  #on(cpu: HostCpu, body: () => void): void {
    selectHostCpu(this.host, cpu);
    body();
  }

  /** The threads of a VMM with the host value of the host's first, a vCPU each; `make` runs on the first of them. */
  add(name: string, make: () => Vmm): readonly VmmThread[] {
    const place = this.threads.length;
    const seat = this.#seats[place % this.#seats.length]!;
    const first = this.host.vmm.fork(name);
    selectHostCpu(this.host, seat.cpu);
    seat.cpu.switchTo(first);
    const vmm = make();
    seat.cpu.switchTo(seat.other);
    const added = vmm.vcpus.map((vcpu, i): VmmThread => {
      const task = i === 0 ? first : first.fork(`${name}.${i}`);
      return {
        task,
        vmm,
        vcpu,
        steps: vmm.runSteps(undefined, vcpu),
        started: false,
        preemptions: 0,
        ending: undefined,
      };
    });
    for (const [i, thread] of added.entries()) {
      this.threads.push(thread);
      this.#seats[(place + i) % this.#seats.length]!.queue.push(thread);
    }
    return added;
  }

  /** The observer's look at a thread that is in user space. */
  checkHostValue(): void {
    const { cpu } = this.host;
    if (cpu.peekMiscFeatures() !== cpu.msrMiscFeaturesShadow) this.counts.host_value_lost += 1;
  }

  /** Runs all threads to the end of their guests. */
  run(): void {
    let idle = 0;
    for (let turn = 0, silent = 0; ; turn = (turn + 1) % this.#seats.length) {
      const worked = this.#turn(this.#seats[turn]!, turn);
      idle = worked ? 0 : idle + 1;
      if (worked) silent = 0;
      if (idle < this.#seats.length) continue;
      // every CPU is idle: time passes to the next timer of a VM that is still there
      const live = this.threads.filter(({ ending }) => ending === undefined);
      silent += 1;
      if (live.length === 0) return;
      if (silent > SILENT_EXPIRIES || !this.#skipTime(live)) {
        this.#end(live, { kind: "halt" });
        return;
      }
      idle = 0;
    }
  }

  /** False: no timer is set. */
  #skipTime(live: readonly VmmThread[]): boolean {
    const states = live.map(({ vcpu }) => vcpu.vmx.vm);
    const ticks = states.map(nextTimerOf).filter((tick) => tick !== undefined);
    if (ticks.length === 0) return false;
    const next = ticks.reduce((a, b) => (a < b ? a : b));
    for (const { irqchip } of new Set(states)) irqchip?.skipTo(next);
    return true;
  }

  /** A turn of one CPU. False: nothing could run on it. */
  #turn(seat: Seat, index: number): boolean {
    const { cpu } = seat;
    let thread = seat.running;
    if (thread === undefined) {
      const at = seat.queue.findIndex(({ vcpu: { vmx } }) => !vmx.waiting || kvmMayWake(vmx));
      if (at < 0) return false;
      [thread] = seat.queue.splice(at, 1);
    }
    const { vmx } = thread!.vcpu;
    selectHostCpu(this.host, cpu);
    cpu.switchTo(thread!.task);
    const step = this.#step(thread!);
    seat.running = undefined;
    if (step.done) {
      this.#leave(seat, seat.other);
      thread!.ending = step.value;
      this.#end(
        this.threads.filter(({ vmm, ending }) => vmm === thread!.vmm && ending === undefined),
        step.value,
      );
      return true;
    }
    if (vmx.waiting) {
      this.#leave(seat, seat.idle);
      seat.since = 0n;
      seat.queue.push(thread!);
      if (step.slept) this.counts.sleeps += 1;
      return step.slept;
    }
    this.#tick(seat, index, thread!);
    return true;
  }

  /** Lets a thread go on. `slept`: it was not woken for nothing. */
  #step(thread: VmmThread): IteratorResult<void, GuestEnding> & { readonly slept: boolean } {
    const wasWaiting = thread.vcpu.vmx.waiting;
    const before = this.host.core.count;
    this.#running = thread;
    thread.started = true;
    const step = thread.steps.next();
    this.#running = undefined;
    return { ...step, slept: !wasWaiting || this.host.core.count !== before };
  }

  /** The thread on the CPU gives it to another. */
  #leave({ cpu, other }: Seat, to: HostTask): void {
    cpu.switchTo(to);
    if (to !== other) return;
    cpu.returnToUser();
    this.checkHostValue();
  }

  #tick(seat: Seat, index: number, thread: VmmThread): void {
    const { tickEvery, preemptEvery, migrateEvery } = this.rates;
    seat.since += BigInt(tickEvery);
    const used = preemptEvery > 0 && seat.since >= BigInt(preemptEvery);
    const wanted = seat.queue.some(({ vcpu: { vmx } }) => !vmx.waiting || kvmMayWake(vmx));
    if (tickEvery > 0 && !used && !(preemptEvery === 0 && wanted)) {
      seat.running = thread;
      return;
    }
    seat.since = 0n;
    this.#leave(seat, seat.other);
    thread.preemptions += 1;
    this.counts.preemptions += 1;
    const moves = migrateEvery > 0 && this.#seats.length > 1 && thread.preemptions % migrateEvery === 0;
    if (moves) this.counts.migrations += 1;
    this.#seats[(index + (moves ? 1 : 0)) % this.#seats.length]!.queue.push(thread);
  }

  /** Threads whose VM has ended come out of KVM_RUN as by a signal. */
  #end(threads: readonly VmmThread[], ending: GuestEnding): void {
    for (const thread of threads) {
      thread.ending = ending;
      const seat = this.#seats.find(({ running, queue }) => running === thread || queue.includes(thread))!;
      const had = seat.running;
      if (thread.started) {
        selectHostCpu(this.host, seat.cpu);
        seat.cpu.switchTo(thread.task);
        if (!thread.steps.next(0n).done) throw new Error(`${thread.task.name} goes on after a signal`);
        this.#leave(seat, seat.other);
      }
      seat.queue.splice(0, seat.queue.length, ...seat.queue.filter((other) => other !== thread));
      seat.running = had === thread ? undefined : had;
    }
  }

  #hooks(): void {
    const { vmcsSwitchEvery, raceEvery } = this.rates;
    if (vmcsSwitchEvery === 0 && raceEvery === 0) return;
    let entries = 0;
    let writes = 0;
    this.host.onSchedulePoint = (point) => {
      const vcpu = this.#running?.vcpu.vmx;
      if (vcpu === undefined) return;
      if (point === "vcpu_enter_guest" && vmcsSwitchEvery > 0 && vcpu.switching.loadedCpuState) {
        entries += 1;
        if (entries % vmcsSwitchEvery !== 0) return;
        this.counts.vmcs_switches += 1;
        vmxSwitchVmcs(vcpu);
      } else if (point === "vmx_set_msr" && raceEvery > 0) {
        writes += 1;
        if (writes % raceEvery !== 0) return;
        this.counts.set_msr_preemptions += 1;
        this.host.preempt(this.#seats.find(({ cpu }) => cpu === this.host.cpu)!.other);
      }
    };
  }
}
