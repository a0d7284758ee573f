import {
  MSR_MISC_FEATURES_ENABLES,
  type Policy,
  type PolicyHost,
  type PolicyOptions,
  type VcpuPolicy,
} from "./policy.ts";

class Autoload implements VcpuPolicy {
  private hostValue = 0n;

  constructor(
    private readonly host: PolicyHost,
    private readonly options: PolicyOptions,
  ) {}

  prepareSwitchToGuest(guest: bigint): void {
    this.hostValue =
      this.options.hostValue === "rdmsr" ? this.host.rdmsrl(MSR_MISC_FEATURES_ENABLES) : this.host.shadow;
    this.list(guest);
  }

  setMsrLoaded(data: bigint): void {
    this.list(data);
  }

  /** The last exit loaded the host's value already. */
  prepareSwitchToHost(): void {}

  private list(guest: bigint): void {
    if (guest === this.hostValue) this.host.clearAtomicSwitchMsr(MSR_MISC_FEATURES_ENABLES);
    else this.host.addAtomicSwitchMsr(MSR_MISC_FEATURES_ENABLES, guest, this.hostValue);
  }
}

/** Lets the processor switch at each entry and exit; nothing to race with, but every exit pays. */
export const autoload: Policy = {
  name: "autoload",
  summary: "the VM-entry and VM-exit MSR-load lists switch the value where guest and host differ",
  source: "the mechanism of add_atomic_switch_msr, applied to 0x140",
  defaults: { hostValue: "shadow", restoreReads: false },
  attach: (host, options) => new Autoload(host, options),
};
