import { Ledger } from "../../cost/index.ts";
import { HostCpu, HostTask } from "../../kvm/index.ts";
import { MSR_MISC_FEATURES_ENABLES, type Policy, type PolicyOptions } from "../../policy/index.ts";
import { type MakeStage, type StageCpu, staleText } from "./stage.ts";
import { ModelVcpu } from "./vcpu.ts";

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
 * sees come in KVM's order. No guest code runs, so that millions of steps a minute are possible.
 */
export function modelStage(policy: Policy, options: Partial<PolicyOptions>): MakeStage {
  return (host, stale) => {
    const cpus = Array.from({ length: CPUS }, (_, i) => new ModelCpu(i, (host & 2) !== 0));
    const vcpus = Array.from({ length: VCPUS }, (_, i) => {
      const task = new HostTask(`vmm${i}`);
      task.tifNocpuid = (host & 1) !== 0;
      const vcpu: ModelVcpu = new ModelVcpu(task, i % CPUS, policy, options, {
        cpu: () => cpus[vcpu.on]!.cpu,
        read: () => cpus[vcpu.on]!.physical,
        write: (value, late) => {
          if (late) stale(staleText(value));
          cpus[vcpu.on]!.physical = value;
        },
      });
      return vcpu;
    });
    return { cpus, vcpus };
  };
}
