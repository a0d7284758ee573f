/** MSR_MISC_FEATURES_ENABLES. */
export const MSR_MISC_FEATURES_ENABLES = 0x140;
/** Bit 0: CPUID faults at CPL > 0. */
export const CPUID_FAULT = 1n;

/**
 * All that a policy sees of the host: the CPU its thread runs on now. Both MSR accesses are counted.
 * A policy must not keep it in mind that two calls reach the same CPU; between a put and a load the thread may move.
 */
export interface PolicyHost {
  rdmsrl(index: number): bigint;
  wrmsrl(index: number, value: bigint): void;
  /** This CPU's msr_misc_features_shadow: what Linux last wrote to 0x140. */
  readonly shadow: bigint;
  /** loaded_cpu_state is non-null: the host's state is saved and the guest's is in the processor. */
  readonly loaded: boolean;
}

/** The policy of one vCPU. `guest` is arch.msr_misc_features_enables. */
export interface VcpuPolicy {
  /** Body of vmx_prepare_switch_to_guest: once a load, at the first entry. */
  prepareSwitchToGuest(guest: bigint): void;
  /** vmx_set_msr(0x140) with an accepted value, before the vCPU's copy changes; only called while loaded. */
  setMsrLoaded(data: bigint): void;
  /** Body of vmx_prepare_switch_to_host: only called when prepareSwitchToGuest ran since the last one. */
  prepareSwitchToHost(): void;
}

/** Where the host's value is taken from at a load: the MSR, or the per-CPU shadow. */
export type HostValueSource = "rdmsr" | "shadow";

export interface PolicyOptions {
  readonly hostValue: HostValueSource;
  /** prepareSwitchToHost reads the MSR before it decides whether to restore. */
  readonly restoreReads: boolean;
}

/** What to do with the hardware's 0x140 around a guest. */
export interface Policy {
  readonly name: string;
  readonly summary: string;
  /** The kernel or patch that does it. */
  readonly source: string;
  /** Used where the caller gives none. */
  readonly defaults: PolicyOptions;
  attach(host: PolicyHost, options: PolicyOptions): VcpuPolicy;
}
