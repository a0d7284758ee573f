import {
  addHostCpu,
  Host,
  type HostCpu,
  HostTask,
  Kvm,
  type KvmExit,
  type SchedulePoint,
  selectHostCpu,
  type Vcpu,
  type Vm,
  vmxSwitchVmcs,
} from "../../kvm/index.ts";
import {
  guarded,
  MSR_MISC_FEATURES_ENABLES,
  type Policy,
  type PolicyHost,
  type PolicyOptions,
} from "../../policy/index.ts";
import type { Schedule } from "./event.ts";
import { type MakeStage, type StageCpu, type StageVcpu, staleText } from "./stage.ts";
import { playSchedule, type Violation } from "./world.ts";

const MEMORY = 0x1_0000;
const CODE = 0x1000;
/** Word that tells the guest what to write to 0x140: bit 8 says that there is something, bit 0 the value. */
const MAILBOX = 0x2000n;
const HAS_VALUE = 0x100n;
/**
 * Real mode: MOV ECX, 140h; L: MOV EAX, [2000h]; TEST AH, 1; JZ M; AND EAX, 1; CDQ; MOV [2000h], EDX; WRMSR; JMP L;
 * M: NOP four times; JMP L. Both ways round are of 8 instructions.
 */
const GUEST = Uint8Array.of(
  ...[0x66, 0xb9, 0x40, 0x01, 0x00, 0x00, 0x66, 0xa1, 0x00, 0x20, 0xf6, 0xc4, 0x01, 0x74, 0x0f],
  ...[0x66, 0x83, 0xe0, 0x01, 0x66, 0x99, 0x66, 0x89, 0x16, 0x00, 0x20, 0x0f, 0x30, 0xeb, 0xe8],
  ...[0x90, 0x90, 0x90, 0x90, 0xeb, 0xe2],
);
/** Instructions between two timer interrupts. With the first MOV each ends right after the WRMSR, or the last NOP. */
const SLICE = 8n;

/** Tells of writes to the hardware that come after the vCPU was put. */
function watched(given: Policy, stale: (text: string) => void): Policy {
  const policy = guarded(given);
  return {
    ...policy,
    attach: (host, options) => {
      let setting = false;
      const face: PolicyHost = Object.create(host, {
        wrmsrl: {
          value: (index: number, value: bigint) => {
            if (setting && !host.loaded) stale(staleText(value));
            host.wrmsrl(index, value);
          },
        },
      });
      const vcpu = policy.attach(face, options);
      const setMsrLoaded = vcpu.setMsrLoaded.bind(vcpu);
      vcpu.setMsrLoaded = (value) => {
        setting = true;
        setMsrLoaded(value);
        setting = false;
      };
      return vcpu;
    },
  };
}

/** A host CPU of the emulated machine: 0x140 is the processor's. */
class RealCpu implements StageCpu {
  readonly other: HostTask;
  readonly kthread: HostTask;

  constructor(
    readonly host: Host,
    readonly cpu: HostCpu,
  ) {
    const number = host.cpus.indexOf(cpu);
    this.other = new HostTask(`other${number}`);
    this.kthread = new HostTask(`kthread${number}`);
    this.select();
    cpu.switchTo(this.other);
  }

  get physical(): bigint {
    return this.cpu.peekMiscFeatures();
  }

  select(): void {
    selectHostCpu(this.host, this.cpu);
  }
}

/** A vCPU with a guest on the processor. KVM_RUN goes on from timer interrupt to timer interrupt. */
class RealVcpu implements StageVcpu {
  #steps: Generator<void, KvmExit, bigint | undefined> | undefined;
  readonly #vm: Vm;
  readonly #memory: bigint;
  readonly #vcpu: Vcpu;

  constructor(
    kvm: Kvm,
    readonly task: HostTask,
    public on: number,
  ) {
    this.#vm = kvm.createVm();
    this.#memory = this.#vm.allocMemory(BigInt(MEMORY));
    const region = { slot: 0, guestPhysAddr: 0n, memorySize: BigInt(MEMORY), userspaceAddr: this.#memory };
    this.#vm.setUserMemoryRegion(region);
    this.#vm.writeMemory(this.#memory + BigInt(CODE), GUEST);
    this.#vcpu = this.#vm.createVcpu(0);
    const sregs = this.#vcpu.getSregs();
    this.#vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
    this.#vcpu.setRegs({ ...this.#vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n });
  }

  get running(): boolean {
    return this.#steps !== undefined;
  }

  get guest(): bigint {
    return this.#vcpu.vmx.arch.msrMiscFeaturesEnables;
  }

  enter(observe: (inGuest: bigint) => void, between: () => void = () => {}): void {
    const { leaks, host } = this.#vcpu.vmx;
    const before = { ...leaks };
    let seen = false;
    host.onSchedulePoint = (point: SchedulePoint) => {
      if (point === "vmx_set_msr") between();
      // the entry has been counted and what the guest did has no effect yet
      if (point !== "handle_exit" || seen) return;
      const bits = (leaks.faulting > before.faulting ? 1n : 0n) | (leaks.ring3mwait > before.ring3mwait ? 2n : 0n);
      seen = bits !== 0n;
      if (seen) observe(bits);
    };
    try {
      this.#steps ??= this.#vcpu.runSteps({ preemptEvery: SLICE });
      const step = this.#steps.next();
      if (step.done) throw new Error(`the guest of the schedule ended with ${step.value.reason}`);
    } finally {
      host.onSchedulePoint = undefined;
    }
  }

  wrmsr(value: bigint, observe: (inGuest: bigint) => void, between: () => void): void {
    const command = new Uint8Array(BigUint64Array.of(HAS_VALUE | value).buffer);
    this.#vm.writeMemory(this.#memory + MAILBOX, command.subarray(0, 4));
    this.enter(observe, between);
  }

  put(): void {
    const step = this.#steps?.next(0n);
    this.#steps = undefined;
    if (step !== undefined && !step.done) throw new Error("KVM_RUN goes on after a signal");
  }

  ioctl(value: bigint | undefined): void {
    if (value === undefined) this.#vcpu.getRegs();
    else this.#vcpu.setMsrs([{ index: MSR_MISC_FEATURES_ENABLES, data: value }]);
  }

  switchVmcs(): void {
    vmxSwitchVmcs(this.#vcpu.vmx);
  }
}

const CPUS = 2;
const VCPUS = 2;

function realStage(policy: Policy, options: Partial<PolicyOptions>): MakeStage {
  return (value, stale) => {
    // bit 0 is the VMM threads', which are not there yet
    const host = new Host({ memory: 2 * VCPUS * MEMORY, hostValue: value & 2 });
    for (let i = 1; i < CPUS; i++) addHostCpu(host, `cpu${i}`);
    const cpus = host.cpus.map((cpu) => new RealCpu(host, cpu));
    const kvm = new Kvm({ host, kernel: "5.0", policy: watched(policy, stale), policyOptions: options });
    const vcpus = Array.from({ length: VCPUS }, (_, i) => {
      const on = i % CPUS;
      cpus[on]!.select();
      const task = new HostTask(`vmm${i}`);
      task.tifNocpuid = (value & 1) !== 0;
      host.cpu.switchTo(task);
      const vcpu = new RealVcpu(kvm, task, on);
      host.cpu.switchTo(cpus[on]!.other);
      return vcpu;
    });
    return { cpus, vcpus };
  };
}

/** The same schedule on the emulated processor: Host, Kvm and guests that execute the WRMSRs. */
export function replaySchedule(policy: Policy, schedule: Schedule, options: Partial<PolicyOptions> = {}): Violation[] {
  return playSchedule(realStage(policy, options), schedule);
}
