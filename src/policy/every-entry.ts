import { HeldPolicy } from "./held.ts";
import type { Policy } from "./policy.ts";

class EveryEntry extends HeldPolicy {
  override prepareSwitchToGuest(): void {}

  override prepareSwitchToHost(): void {}

  protected enter(): void {}

  beforeEntry(guest: bigint): void {
    this.hostValue = this.options.hostValue === "rdmsr" ? this.read() : this.host.shadow;
    this.held = this.hostValue;
    if (guest !== this.hostValue) this.write(guest);
  }

  afterExit(): void {
    if (this.options.restoreReads) this.held = this.read();
    if (this.held !== this.hostValue) this.write(this.hostValue);
  }
}

/** The first version of the patch: save, write and restore around each VM entry, with no load/put to hide behind. */
export const everyEntry: Policy = {
  name: "every-entry",
  summary: "save the host's value and write the guest's at each VM entry, restore after each exit",
  source: "v1, Mar 2019: the guest's value at every VM entry; the restore at the exit is this package's reading",
  defaults: { hostValue: "rdmsr", restoreReads: false },
  attach: (host, options) => new EveryEntry(host, options),
};
