import { HeldPolicy } from "./held.ts";
import { CPUID_FAULT, type Policy } from "./policy.ts";

class AlwaysHardware extends HeldPolicy {
  protected enter(guest: bigint): void {
    if ((this.hostValue ^ guest) & CPUID_FAULT) this.write(this.hostValue ^ CPUID_FAULT);
  }

  /** The raw guest value, even if unchanged: the host's upper bits are off until the restore. */
  override setMsrLoaded(data: bigint): void {
    this.write(data);
  }
}

/** The patch of the thread: whatever the guest's bit is, the hardware does it. */
export const alwaysHardware: Policy = {
  name: "always-hardware",
  summary: "the guest's faulting bit is in the hardware whenever it differs from the host's",
  source: "v2 2/2, Mar 2019: using hardware cpuid faulting to avoid emulation overhead",
  defaults: { hostValue: "rdmsr", restoreReads: false },
  attach: (host, options) => new AlwaysHardware(host, options),
};
