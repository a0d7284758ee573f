import { HeldPolicy } from "./held.ts";
import type { Policy } from "./policy.ts";

class HostNonzero extends HeldPolicy {
  protected enter(guest: bigint): void {
    if (this.hostValue !== 0n && guest !== this.hostValue) this.write(guest);
  }

  override setMsrLoaded(data: bigint): void {
    if (this.hostValue !== 0n && data !== this.held) this.write(data);
  }
}

/** The reply in the thread: write only if the host's value is non-zero and the guest's differs. */
export const hostNonzero: Policy = {
  name: "host-nonzero",
  summary: "the guest's value is in the hardware only where the host's is non-zero and differs",
  source: "Sean Christopherson's reply, 19 Mar 2019; v3/v4 complete, by their changelogs",
  defaults: { hostValue: "shadow", restoreReads: false },
  attach: (host, options) => new HostNonzero(host, options),
};
