import { ARCH_SET_CPUID } from "../../kvm/index.ts";
import { CPUID_FAULT, type Policy, PolicyError, type PolicyOptions } from "../../policy/index.ts";
import type { CheckEvent, Race, Schedule } from "./event.ts";
import { modelStage } from "./model.ts";
import { hex, type MakeStage, type Stage, type StageVcpu } from "./stage.ts";

/** What a schedule may show of a policy; "error": it threw, or made the processor raise #GP(0). */
export type ViolationKind = "leak" | "mwait leak" | "host lost" | "stale write" | "error";

export interface Violation {
  readonly kind: ViolationKind;
  /** Number of the event after which it was seen, from 0. */
  readonly at: number;
  readonly text: string;
}

const RING3MWAIT = 2n;

/** Plays events on a stage and sees what they show. */
class World {
  readonly violations: Violation[] = [];
  readonly #stage: Stage;
  #at = 0;

  constructor(make: MakeStage, host: number) {
    this.#stage = make(host, (text) => this.#note("stale write", text));
  }

  apply(event: CheckEvent, at: number): void {
    this.#at = at;
    const vcpu = this.#stage.vcpus[event.vcpu]!;
    const inUserSpace = !vcpu.running;
    switch (event.op) {
      case "run":
        this.#enter(vcpu);
        break;
      case "wrmsr":
        this.#switchTo(vcpu);
        vcpu.wrmsr(event.value, this.#observer(vcpu), () => this.#race(vcpu, event.race));
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
        this.#cpu(vcpu.on).cpu.archPrctl(ARCH_SET_CPUID, event.nocpuid ? 0 : 1);
        this.#userSpace(vcpu.on);
        break;
    }
  }

  #note(kind: ViolationKind, text: string): void {
    this.violations.push({ kind, at: this.#at, text });
  }

  #enter(vcpu: StageVcpu): void {
    this.#switchTo(vcpu);
    vcpu.enter(this.#observer(vcpu));
  }

  #observer(vcpu: StageVcpu): (inGuest: bigint) => void {
    return (inGuest) => {
      if (inGuest & CPUID_FAULT && !(vcpu.guest & CPUID_FAULT)) {
        this.#note("leak", `the guest runs with ${hex(inGuest)} in 0x140, its own value is ${hex(vcpu.guest)}`);
      }
      if (inGuest & RING3MWAIT) this.#note("mwait leak", `the guest runs with ${hex(inGuest)} in 0x140: ring-3 MWAIT`);
    };
  }

  #cpu(on: number): Stage["cpus"][number] {
    const cpu = this.#stage.cpus[on]!;
    cpu.select?.();
    return cpu;
  }

  #switchTo(vcpu: StageVcpu): void {
    const { cpu } = this.#cpu(vcpu.on);
    if (cpu.current === vcpu.task) return;
    cpu.switchTo(vcpu.task);
    if (!vcpu.running) this.#userSpace(vcpu.on);
  }

  #away(vcpu: StageVcpu, to: "other" | "kthread"): void {
    const seat = this.#cpu(vcpu.on);
    this.#switchTo(vcpu);
    seat.cpu.switchTo(seat[to]);
    if (to === "other") this.#userSpace(vcpu.on);
  }

  #migrate(vcpu: StageVcpu): void {
    this.#away(vcpu, "other");
    vcpu.on = (vcpu.on + 1) % this.#stage.cpus.length;
  }

  #race(vcpu: StageVcpu, race: Race): void {
    if (race === "none") return;
    if (race === "preempt") this.#away(vcpu, "other");
    else this.#migrate(vcpu);
    this.#switchTo(vcpu);
  }

  /** A thread of this CPU runs in user space: the hardware must hold what Linux wrote for it. */
  #userSpace(on: number): void {
    const { cpu } = this.#cpu(on);
    cpu.returnToUser();
    const { physical } = this.#cpu(on);
    const own = cpu.msrMiscFeaturesShadow;
    if (physical !== own) {
      const text = `${cpu.current.name} runs in user space with ${hex(physical)} in 0x140, its own value is ${hex(own)}`;
      this.#note("host lost", text);
    }
  }
}

/** What a schedule shows on a stage, in the order it is seen. */
export function playSchedule(make: MakeStage, schedule: Schedule): Violation[] {
  let world: World | undefined;
  let at = 0;
  try {
    world = new World(make, schedule.host);
    for (; at < schedule.events.length; at++) world.apply(schedule.events[at]!, at);
    return world.violations;
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return [...(world?.violations ?? []), { kind: "error", at, text: error.message }];
  }
}

/** What a schedule shows of a policy without a guest, in the order it is seen. */
export function runSchedule(policy: Policy, schedule: Schedule, options: Partial<PolicyOptions> = {}): Violation[] {
  return playSchedule(modelStage(policy, options), schedule);
}
