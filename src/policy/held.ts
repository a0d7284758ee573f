import { MSR_MISC_FEATURES_ENABLES, type PolicyHost, type PolicyOptions, type VcpuPolicy } from "./policy.ts";

/**
 * What every policy that writes has in common: the host value of this load, the value the hardware is known to hold,
 * and a restore that writes only when the two differ.
 */
export abstract class HeldPolicy implements VcpuPolicy {
  /** Host value of this load. */
  protected hostValue = 0n;
  /** Value the hardware holds: the host's at the prepare, then what was written last. */
  protected held = 0n;

  constructor(
    protected readonly host: PolicyHost,
    protected readonly options: PolicyOptions,
  ) {}

  prepareSwitchToGuest(guest: bigint): void {
    this.hostValue = this.options.hostValue === "rdmsr" ? this.read() : this.host.shadow;
    this.held = this.hostValue;
    this.enter(guest);
  }

  setMsrLoaded(_data: bigint): void {}

  prepareSwitchToHost(): void {
    if (this.options.restoreReads) this.held = this.read();
    if (this.held !== this.hostValue) this.write(this.hostValue);
  }

  /** Puts the guest's value into the hardware where the policy wants it there. */
  protected abstract enter(guest: bigint): void;

  protected read(): bigint {
    return this.host.rdmsrl(MSR_MISC_FEATURES_ENABLES);
  }

  protected write(value: bigint): void {
    this.host.wrmsrl(MSR_MISC_FEATURES_ENABLES, value);
    this.held = value;
  }
}
