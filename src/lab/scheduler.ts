import { addHostCpu, type Host, type HostCpu, HostTask, selectHostCpu, vmxSwitchVmcs } from "../kvm/index.ts";
import type { GuestEnding, Vmm } from "./vmm.ts";

/** A VMM thread on its way through its guest. */
export interface VmmThread {
  readonly task: HostTask;
  readonly vmm: Vmm;
  readonly steps: Generator<void, GuestEnding, bigint | undefined>;
  preemptions: number;
  ending: GuestEnding | undefined;
}

export interface ScheduleRates {
  readonly hostCpus: number;
  /** Preemptions of a thread between two moves; 0 is never. */
  readonly migrateEvery: number;
  readonly vmcsSwitchEvery: number;
  readonly raceEvery: number;
}

/** What the scheduler did, and where it found the host's value of 0x140 lost. */
export interface ScheduleCounts {
  preemptions: number;
  migrations: number;
  vmcs_switches: number;
  /** Preemptions between the test and the write in vmx_set_msr. */
  set_msr_preemptions: number;
  /** Times a thread of the host ran in user space with another 0x140 than Linux gave it. */
  host_value_lost: number;
}

interface Seat {
  readonly cpu: HostCpu;
  /** A thread of the host that has nothing to do with KVM, and has CPUID on. */
  readonly other: HostTask;
  readonly queue: VmmThread[];
}

/**
 * VMM threads on host CPUs, round robin and deterministic. Threads change at timer interrupts only; between two of them
 * the CPU's other thread runs, in user space and for no time.
 */
export class Scheduler {
  readonly counts: ScheduleCounts = {
    preemptions: 0,
    migrations: 0,
    vmcs_switches: 0,
    set_msr_preemptions: 0,
    host_value_lost: 0,
  };
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
      return { cpu, other, queue: [] };
    });
    for (const { cpu, other } of this.#seats.slice(1)) this.#on(cpu, () => cpu.switchTo(other));
    selectHostCpu(host, cpus[0]!);
    this.#hooks();
  }

  #on(cpu: HostCpu, body: () => void): void {
    selectHostCpu(this.host, cpu);
    body();
  }

  /** A VMM thread with the host value of the host's first; `make` runs on it. */
  add(name: string, make: () => Vmm): VmmThread {
    const seat = this.#seats[this.threads.length % this.#seats.length]!;
    const task = this.host.vmm.fork(name);
    selectHostCpu(this.host, seat.cpu);
    seat.cpu.switchTo(task);
    const vmm = make();
    seat.cpu.switchTo(seat.other);
    const thread: VmmThread = { task, vmm, steps: vmm.runSteps(), preemptions: 0, ending: undefined };
    this.threads.push(thread);
    seat.queue.push(thread);
    return thread;
  }

  /** The observer's look at a thread that is in user space. */
  checkHostValue(): void {
    const { cpu } = this.host;
    if (cpu.peekMiscFeatures() !== cpu.msrMiscFeaturesShadow) this.counts.host_value_lost += 1;
  }

  /** Runs all threads to the end of their guests. */
  run(): void {
    let idle = 0;
    for (let turn = 0; idle < this.#seats.length; turn = (turn + 1) % this.#seats.length) {
      const seat = this.#seats[turn]!;
      const thread = seat.queue.shift();
      idle = thread === undefined ? idle + 1 : 0;
      if (thread !== undefined) this.#turn(seat, turn, thread);
    }
  }

  #turn(seat: Seat, index: number, thread: VmmThread): void {
    const { cpu, other } = seat;
    selectHostCpu(this.host, cpu);
    cpu.switchTo(thread.task);
    this.#running = thread;
    const step = thread.steps.next();
    this.#running = undefined;
    if (step.done) thread.ending = step.value;
    cpu.switchTo(other);
    cpu.returnToUser();
    this.checkHostValue();
    if (step.done) return;
    thread.preemptions += 1;
    this.counts.preemptions += 1;
    const { migrateEvery } = this.rates;
    const moves = migrateEvery > 0 && this.#seats.length > 1 && thread.preemptions % migrateEvery === 0;
    if (moves) this.counts.migrations += 1;
    this.#seats[(index + (moves ? 1 : 0)) % this.#seats.length]!.queue.push(thread);
  }

  #hooks(): void {
    const { vmcsSwitchEvery, raceEvery } = this.rates;
    if (vmcsSwitchEvery === 0 && raceEvery === 0) return;
    let entries = 0;
    let writes = 0;
    this.host.onSchedulePoint = (point) => {
      const vcpu = this.#running?.vmm.vcpu.vmx;
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
