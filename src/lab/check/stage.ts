import type { HostCpu, HostTask } from "../../kvm/index.ts";

/** A vCPU on which events happen: a model, or one with a guest. */
export interface StageVcpu {
  readonly task: HostTask;
  /** Number of the host CPU. */
  on: number;
  /** In KVM_RUN. */
  readonly running: boolean;
  /** arch.msr_misc_features_enables */
  readonly guest: bigint;
  /** vcpu_load where it is not loaded, one entry, one exit. */
  enter(observe: (inGuest: bigint) => void): void;
  /** The guest writes 0x140; `between` the test of loaded_cpu_state and the hardware step. */
  wrmsr(value: bigint, observe: (inGuest: bigint) => void, between: () => void): void;
  /** The end of KVM_RUN. */
  put(): void;
  /** An ioctl that does not enter; a value is KVM_SET_MSRS of 0x140. */
  ioctl(value: bigint | undefined): void;
  /** A put and a load between two VMCSs. */
  switchVmcs(): void;
}

export interface StageCpu {
  readonly cpu: HostCpu;
  readonly other: HostTask;
  readonly kthread: HostTask;
  /** What 0x140 holds. */
  readonly physical: bigint;
  /** The CPU whose code runs from now on. */
  select?(): void;
}

/** Where a schedule is played. `note` is called for a write to the hardware that comes after the put. */
export interface Stage {
  readonly cpus: readonly StageCpu[];
  readonly vcpus: readonly StageVcpu[];
}

export type MakeStage = (host: number, stale: (text: string) => void) => Stage;

export const hex = (value: bigint): string => `0x${value.toString(16)}`;
export const staleText = (value: bigint): string => `the policy writes ${hex(value)} after its vCPU was put`;
