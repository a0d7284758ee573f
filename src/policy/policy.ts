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
  /** The policy's switch to the guest has run since the last switch to the host; by default loaded_cpu_state. */
  readonly loaded: boolean;
  /** What 0x140 of this CPU held when KVM was loaded: the same for every thread of the CPU. */
  readonly snapshot: bigint;
  /** Identity of this CPU, the key for what a policy keeps per CPU. */
  readonly cpu: object;
  /**
   * Puts the MSR into the VM-entry and VM-exit MSR-load lists: the processor loads `guest` at each entry and `host` at
   * each exit, which the ledger counts as autoload_msrs. @kvm add_atomic_switch_msr
   */
  addAtomicSwitchMsr(index: number, guest: bigint, host: bigint): void;
  /** Takes it out of both lists. @kvm clear_atomic_switch_msr */
  clearAtomicSwitchMsr(index: number): void;
  /** Runs `notifier` once, when a thread of this CPU next returns to user space. @kvm user_return_notifier_register */
  onUserReturn(notifier: () => void): void;
}

/** The policy of one vCPU. `guest` is arch.msr_misc_features_enables. */
export interface VcpuPolicy {
  /** Body of vmx_prepare_switch_to_guest: once a load, at the first entry. */
  prepareSwitchToGuest(guest: bigint): void;
  /** vmx_set_msr(0x140) with an accepted value, before the vCPU's copy changes; only called while loaded. */
  setMsrLoaded(data: bigint): void;
  /** Body of vmx_prepare_switch_to_host: only called when prepareSwitchToGuest ran since the last one. */
  prepareSwitchToHost(): void;
  /** Before every VM entry, interrupts off. */
  beforeEntry?(guest: bigint): void;
  /** After every VM exit, before its handler. */
  afterExit?(): void;
}

/** Where the host's value is taken from at a load: the MSR, or the per-CPU shadow. */
export type HostValueSource = "rdmsr" | "shadow";

export type SwitchPoint = "prepare" | "load";

export interface PolicyOptions {
  readonly hostValue: HostValueSource;
  /** prepareSwitchToHost reads the MSR before it decides whether to restore. */
  readonly restoreReads: boolean;
  /**
   * Where the switch is made: at the first entry of a load (the default), or already in vcpu_load, where ioctls that
   * never enter the guest pay for it too.
   */
  readonly switchPoint?: SwitchPoint;
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
