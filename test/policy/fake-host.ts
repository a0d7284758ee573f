import { MSR_MISC_FEATURES_ENABLES, type Policy, type PolicyHost, type PolicyOptions } from "../../src/policy/index.ts";

/** The least a policy can run on: one MSR, a shadow, and the call rules of vmx.c. */
export class FakeVcpu implements PolicyHost {
  physical: bigint;
  shadow: bigint;
  loaded = false;
  readonly snapshot = 0n;
  readonly cpu = this;
  reads = 0;
  writes = 0;
  private readonly policy;

  constructor(
    policy: Policy,
    host: bigint,
    public guest: bigint,
    options: Partial<PolicyOptions> = {},
  ) {
    this.physical = host;
    this.shadow = host;
    this.policy = policy.attach(this, { ...policy.defaults, ...options });
  }

  rdmsrl(index: number): bigint {
    if (index !== MSR_MISC_FEATURES_ENABLES) throw new Error("wrong MSR");
    this.reads += 1;
    return this.physical;
  }

  wrmsrl(index: number, value: bigint): void {
    if (index !== MSR_MISC_FEATURES_ENABLES) throw new Error("wrong MSR");
    this.writes += 1;
    this.physical = value;
  }

  addAtomicSwitchMsr(): void {}
  clearAtomicSwitchMsr(): void {}
  onUserReturn(): void {}

  enter(): void {
    if (this.loaded) return;
    this.loaded = true;
    this.policy.prepareSwitchToGuest(this.guest);
  }

  set(data: bigint, betweenTestAndWrite: () => void = () => {}): void {
    if (this.loaded) {
      betweenTestAndWrite();
      this.policy.setMsrLoaded(data);
    }
    this.guest = data;
  }

  put(): void {
    if (!this.loaded) return;
    this.loaded = false;
    this.policy.prepareSwitchToHost();
  }

  /** What a CPUID at CPL 3 does now: exit and completion, exit and injection, hardware #GP right or wrong. */
  cpuid(): "C" | "K" | "H" | "L" {
    if (this.physical & 1n) return this.guest & 1n ? "H" : "L";
    return this.guest & 1n ? "K" : "C";
  }
}
