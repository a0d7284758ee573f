import { HeldPolicy } from "./held.ts";
import { CPUID_FAULT, type Policy } from "./policy.ts";

class ClearHost extends HeldPolicy {
  protected enter(): void {
    if (this.hostValue & CPUID_FAULT) this.write(this.hostValue & ~CPUID_FAULT);
  }
}

/** Takes the host's faulting away for the guest; guest faulting is always emulated. */
export const clearHost: Policy = {
  name: "clear-host",
  summary: "clear the host's faulting bit for the guest, emulate the guest's",
  source: "v2 1/2, Mar 2019: avoid CPUID faulting leaking to guest",
  defaults: { hostValue: "rdmsr", restoreReads: false },
  attach: (host, options) => new ClearHost(host, options),
};
