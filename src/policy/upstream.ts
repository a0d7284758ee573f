import type { Policy } from "./policy.ts";

/** Released kernels: 0x140 is never touched, so the host's faulting acts inside the guest. */
export const upstream: Policy = {
  name: "upstream",
  summary: "never touch the hardware MSR; host faulting leaks into the guest",
  source: "every released kernel to Linux 7.1",
  defaults: { hostValue: "rdmsr", restoreReads: false },
  attach: () => ({ prepareSwitchToGuest() {}, setMsrLoaded() {}, prepareSwitchToHost() {} }),
};
