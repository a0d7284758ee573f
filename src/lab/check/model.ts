import { Ledger } from "../../cost/index.ts";
import { HostCpu, HostTask } from "../../kvm/index.ts";
import { guarded, MSR_MISC_FEATURES_ENABLES, type Policy, type PolicyOptions } from "../../policy/index.ts";
import { type MakeStage, type StageCpu, staleText } from "./stage.ts";
import { ModelVcpu } from "./vcpu.ts";

const MSR_PLATFORM_INFO = 0xce;
/** What is counted here is looked at by nobody. */
const LEDGER = new Ledger();
const CPUS = 2;
const VCPUS = 2;

/** One host CPU: Linux's own code on an MSR that is a variable. */
class ModelCpu implements StageCpu {
  physical = 0n;
  readonly cpu: HostCpu;
  readonly other: HostTask;
  readonly kthread: HostTask;

  constructor(index: number, ring3mwait: boolean) {
    const bits = ring3mwait ? 3n : 1n;
    const hardware = {
      rdmsr: (msr: number): bigint | null => {
        if (msr === MSR_MISC_FEATURES_ENABLES) return this.physical;
        return msr === MSR_PLATFORM_INFO ? 1n << 31n : null;
      },
      wrmsr: (msr: number, value: bigint): boolean => {
        if (msr !== MSR_MISC_FEATURES_ENABLES || value & ~bits) return false;
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
 * sees come in KVM's order. No guest code runs, so that millions of steps a minute are possible.
 */
export function modelStage(policy: Policy, options: Partial<PolicyOptions>): MakeStage {
  const own = guarded(policy);
  return (host, stale) => {
    const cpus = Array.from({ length: CPUS }, (_, i) => new ModelCpu(i, (host & 2) !== 0));
    const vcpus = Array.from({ length: VCPUS }, (_, i) => {
      const task = new HostTask(`vmm${i}`);
      task.tifNocpuid = (host & 1) !== 0;
      const vcpu: ModelVcpu = new ModelVcpu(task, i % CPUS, own, options, {
        cpu: () => cpus[vcpu.on]!.cpu,
        physical: () => cpus[vcpu.on]!.physical,
        load: (value) => {
          cpus[vcpu.on]!.physical = value;
        },
        stale: (value) => stale(staleText(value)),
      });
      return vcpu;
    });
    return { cpus, vcpus };
  };
}
