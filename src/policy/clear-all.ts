import { HeldPolicy } from "./held.ts";
import type { Policy } from "./policy.ts";

class ClearAll extends HeldPolicy {
  protected enter(): void {
    if (this.hostValue !== 0n) this.write(0n);
  }
}

/** Takes every host bit away for the guest, ring-3 MWAIT included; guest faulting is always emulated. */
export const clearAll: Policy = {
  name: "clear-all",
  summary: "clear the whole MSR for the guest when any host bit is on, emulate the guest's faulting",
  source: "v3/v4 1/2 alone: Switch MSR_MISC_FEATURES_ENABLES between host and guest",
  defaults: { hostValue: "shadow", restoreReads: false },
  attach: (host, options) => new ClearAll(host, options),
};
