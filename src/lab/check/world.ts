import { Ledger } from "../../cost/index.ts";
import { ARCH_SET_CPUID, HostCpu, HostTask } from "../../kvm/index.ts";
import { CPUID_FAULT, MSR_MISC_FEATURES_ENABLES, type Policy, type PolicyOptions } from "../../policy/index.ts";
import type { CheckEvent, Race, Schedule } from "./event.ts";
import { ModelVcpu } from "./vcpu.ts";

/** What a schedule may show of a policy. */
export type ViolationKind = "leak" | "mwait leak" | "host lost" | "stale write";

export interface Violation {
  readonly kind: ViolationKind;
  /** Number of the event after which it was seen, from 0. */
  readonly at: number;
  readonly text: string;
}

/** What is counted here is looked at by nobody. */
const LEDGER = new Ledger();
const RING3MWAIT = 2n;
const CPUS = 2;
const VCPUS = 2;
const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** One host CPU: Linux's own code on an MSR that is a variable. */
class ModelCpu {
  physical = 0n;
  readonly cpu: HostCpu;
  readonly other: HostTask;
  readonly kthread: HostTask;

  constructor(index: number, ring3mwait: boolean) {
    const hardware = {
      rdmsr: (msr: number): bigint => (msr === MSR_MISC_FEATURES_ENABLES ? this.physical : 1n << 31n),
      wrmsr: (_msr: number, value: bigint): boolean => {
        this.physical = value;
        return true;
      },
    };
    this.cpu = new HostCpu(hardware, LEDGER, `cpu${index}`);
    this.cpu.boot({ ring3mwait });
    this.other = new HostTask(`other${index}`);
    this.kthread = new HostTask(`kthread${index}`);
    this.cpu.switchTo(this.other);
  }
}

/**
 * Two host CPUs and two VMM threads, enough for every policy of 0x140 to show what it does; the calls that a policy
 * sees come in the kernel's order, as src/kvm makes them. No guest code runs, so that millions of steps a minute are possible.
 */
export class World {
  readonly violations: Violation[] = [];
  readonly #cpus: ModelCpu[];
  readonly #vcpus: ModelVcpu[];
  #at = 0;

  constructor(policy: Policy, options: Partial<PolicyOptions>, host: number) {
    this.#cpus = Array.from({ length: CPUS }, (_, i) => new ModelCpu(i, (host & 2) !== 0));
    this.#vcpus = Array.from({ length: VCPUS }, (_, i) => {
      const task = new HostTask(`vmm${i}`);
      task.tifNocpuid = (host & 1) !== 0;
      const vcpu: ModelVcpu = new ModelVcpu(task, i % CPUS, policy, options, {
        cpu: () => this.#cpus[vcpu.on]!.cpu,
        read: () => this.#cpus[vcpu.on]!.physical,
        write: (value, stale) => {
          if (stale) this.#note("stale write", `the policy writes ${hex(value)} after its vCPU was put`);
          this.#cpus[vcpu.on]!.physical = value;
        },
      });
      return vcpu;
    });
  }

  apply(event: CheckEvent, at: number): void {
    this.#at = at;
    const vcpu = this.#vcpus[event.vcpu]!;
    const inUserSpace = !vcpu.running;
    switch (event.op) {
      case "run":
        this.#enter(vcpu);
        break;
      case "wrmsr":
        this.#enter(vcpu);
        vcpu.setMsr(event.value, () => this.#race(vcpu, event.race));
        break;
      case "user":
        if (inUserSpace) return;
        this.#switchTo(vcpu);
        vcpu.put();
        this.#userSpace(vcpu.on);
        break;
      case "preempt":
        this.#away(vcpu, "other");
        break;
      case "kthread":
        this.#away(vcpu, "kthread");
        break;
      case "migrate":
        this.#migrate(vcpu);
        break;
      case "vmcs":
        if (inUserSpace) return;
        this.#switchTo(vcpu);
        vcpu.switchVmcs();
        break;
      case "ioctl":
      case "setMsrs":
        if (!inUserSpace) return;
        this.#switchTo(vcpu);
        vcpu.ioctl(event.op === "setMsrs" ? event.value : undefined);
        this.#userSpace(vcpu.on);
        break;
      case "prctl":
        if (!inUserSpace) return;
        this.#switchTo(vcpu);
        this.#cpus[vcpu.on]!.cpu.archPrctl(ARCH_SET_CPUID, event.nocpuid ? 0 : 1);
        this.#userSpace(vcpu.on);
        break;
    }
  }

  #note(kind: ViolationKind, text: string): void {
    this.violations.push({ kind, at: this.#at, text });
  }

  #enter(vcpu: ModelVcpu): void {
    this.#switchTo(vcpu);
    vcpu.enter((inGuest) => {
      if (inGuest & CPUID_FAULT && !(vcpu.guest & CPUID_FAULT)) {
        this.#note("leak", `the guest runs with ${hex(inGuest)} in 0x140, its own value is ${hex(vcpu.guest)}`);
      }
      if (inGuest & RING3MWAIT) this.#note("mwait leak", `the guest runs with ${hex(inGuest)} in 0x140: ring-3 MWAIT`);
    });
  }

  #switchTo(vcpu: ModelVcpu): void {
    const { cpu } = this.#cpus[vcpu.on]!;
    if (cpu.current === vcpu.task) return;
    cpu.switchTo(vcpu.task);
    if (!vcpu.running) this.#userSpace(vcpu.on);
  }

  #away(vcpu: ModelVcpu, to: "other" | "kthread"): void {
    const seat = this.#cpus[vcpu.on]!;
    this.#switchTo(vcpu);
    seat.cpu.switchTo(seat[to]);
    if (to === "other") this.#userSpace(vcpu.on);
  }

  #migrate(vcpu: ModelVcpu): void {
    this.#away(vcpu, "other");
    vcpu.on = (vcpu.on + 1) % CPUS;
  }

  #race(vcpu: ModelVcpu, race: Race): void {
    if (race === "none") return;
    if (race === "preempt") this.#away(vcpu, "other");
    else this.#migrate(vcpu);
    this.#switchTo(vcpu);
  }

  /** A thread of this CPU runs in user space: the hardware must hold what Linux wrote for it. */
  #userSpace(on: number): void {
    const { cpu } = this.#cpus[on]!;
    cpu.returnToUser();
    const { physical } = this.#cpus[on]!;
    const own = cpu.msrMiscFeaturesShadow;
    if (physical !== own) {
      const text = `${cpu.current.name} runs in user space with ${hex(physical)} in 0x140, its own value is ${hex(own)}`;
      this.#note("host lost", text);
    }
  }
}

/** What a schedule shows of a policy, in the order it is seen. */
export function runSchedule(policy: Policy, schedule: Schedule, options: Partial<PolicyOptions> = {}): Violation[] {
  const world = new World(policy, options, schedule.host);
  for (const [at, event] of schedule.events.entries()) world.apply(event, at);
  return world.violations;
}
