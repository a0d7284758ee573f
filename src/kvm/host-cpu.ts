import type { Ledger, MsrCause } from "../cost/index.ts";
import { CPUID_FAULT, MSR_MISC_FEATURES_ENABLES } from "../policy/index.ts";
import { HostTask } from "./host-task.ts";

export const MSR_PLATFORM_INFO = 0xce;
/** 0xCE bit 31: the processor has CPUID faulting. */
export const PLATFORM_INFO_CPUID_FAULT = 1n << 31n;
/** 0x140 bit 1: MONITOR/MWAIT at CPL 3 (Xeon Phi). */
export const RING3MWAIT = 2n;

export const ARCH_GET_CPUID = 0x1011;
export const ARCH_SET_CPUID = 0x1012;
export const ENODEV = 19;
export const EINVAL = 22;

/** Physical MSRs of one processor. */
export interface MsrHardware {
  /** null: #GP(0). */
  rdmsr(index: number): bigint | null;
  /** false: #GP(0). */
  wrmsr(index: number, value: bigint): boolean;
}

/** rdmsrl/wrmsrl on an MSR that raised #GP(0); a kernel would print a warning and go on. */
export class UncheckedMsrAccessError extends Error {
  override name = "UncheckedMsrAccessError";
  constructor(
    readonly access: "rdmsr" | "wrmsr",
    readonly index: number,
    readonly value: bigint,
  ) {
    super(`unchecked MSR access: ${access} of 0x${index.toString(16)} (value 0x${value.toString(16)}) raised #GP(0)`);
  }
}

/** Linux on one physical CPU, as far as CPUID faulting goes. */
export class HostCpu {
  /** boot_cpu_has(X86_FEATURE_CPUID_FAULT). */
  cpuidFault = false;
  /** this_cpu_read(msr_misc_features_shadow). */
  msrMiscFeaturesShadow = 0n;
  /** What 0x140 held when KVM was loaded, after boot. */
  snapshot = 0n;
  current = new HostTask("swapper");
  /** The vCPU that is loaded here: brings its VMCS and registers back when the core plays this CPU again. */
  loaded: (() => void) | undefined;
  private userReturnNotifiers: (() => void)[] = [];

  constructor(
    readonly hardware: MsrHardware,
    readonly ledger: Ledger,
    readonly name = "cpu0",
  ) {}

  rdmsrl(index: number, cause: MsrCause): bigint {
    this.ledger.rdmsr[cause] += 1;
    const value = this.hardware.rdmsr(index);
    if (value === null) throw new UncheckedMsrAccessError("rdmsr", index, 0n);
    return value;
  }

  wrmsrl(index: number, value: bigint, cause: MsrCause): void {
    this.ledger.wrmsr[cause] += 1;
    if (!this.hardware.wrmsr(index, value)) throw new UncheckedMsrAccessError("wrmsr", index, value);
  }

  /** What 0x140 holds; the observer's look, not counted. */
  peekMiscFeatures(): bigint {
    return this.hardware.rdmsr(MSR_MISC_FEATURES_ENABLES) ?? 0n;
  }

  /**
   * Boot: the feature bit from 0xCE, and one write of the shadow that loses every other bit of 0x140.
   * `ring3mwait`: the CPU is a Xeon Phi, whose kernels set bit 1. @kvm init_intel_misc_features
   */
  boot(options: { ring3mwait?: boolean } = {}): void {
    this.ledger.rdmsr.boot += 1;
    if (this.hardware.rdmsr(MSR_MISC_FEATURES_ENABLES) === null) return;
    this.msrMiscFeaturesShadow = 0n;
    this.ledger.rdmsr.boot += 1;
    const platformInfo = this.hardware.rdmsr(MSR_PLATFORM_INFO) ?? 0n;
    this.cpuidFault = (platformInfo & PLATFORM_INFO_CPUID_FAULT) !== 0n;
    if (options.ring3mwait) this.msrMiscFeaturesShadow |= RING3MWAIT;
    this.wrmsrl(MSR_MISC_FEATURES_ENABLES, this.msrMiscFeaturesShadow, "boot");
    this.snapshot = this.msrMiscFeaturesShadow;
  }

  /** Changes bit 0 of the shadow and writes all of it; the MSR is never read. @kvm set_cpuid_faulting */
  private setCpuidFaulting(on: boolean, cause: MsrCause): void {
    this.msrMiscFeaturesShadow = (this.msrMiscFeaturesShadow & ~CPUID_FAULT) | (on ? CPUID_FAULT : 0n);
    this.wrmsrl(MSR_MISC_FEATURES_ENABLES, this.msrMiscFeaturesShadow, cause);
  }

  /** arch_prctl of the current thread: a value, 0, or a negative errno. @kvm do_arch_prctl_common */
  archPrctl(code: number, argument = 0): number {
    if (code === ARCH_GET_CPUID) return this.current.tifNocpuid ? 0 : 1;
    if (code !== ARCH_SET_CPUID) return -EINVAL;
    if (!this.cpuidFault) return -ENODEV;
    const nocpuid = argument === 0;
    if (this.current.tifNocpuid !== nocpuid) {
      this.current.tifNocpuid = nocpuid;
      this.setCpuidFaulting(nocpuid, "arch_prctl");
    }
    return 0;
  }

  /** execve of the current thread turns CPUID on again. @kvm arch_setup_new_exec */
  exec(): void {
    if (!this.current.tifNocpuid) return;
    this.current.tifNocpuid = false;
    this.setCpuidFaulting(false, "arch_prctl");
  }

  /** @kvm user_return_notifier_register */
  onUserReturn(notifier: () => void): void {
    this.userReturnNotifiers.push(notifier);
  }

  /** The current thread goes back to user space. @kvm fire_user_return_notifiers */
  returnToUser(): void {
    const notifiers = this.userReturnNotifiers;
    if (notifiers.length === 0) return;
    this.userReturnNotifiers = [];
    for (const notifier of notifiers) notifier();
  }

  /**
   * Context switch: sched_out notifiers, then the MSR if TIF_NOCPUID differs, then sched_in notifiers.
   * @kvm prepare_task_switch, __switch_to_xtra, finish_task_switch
   */
  switchTo(next: HostTask): void {
    const prev = this.current;
    if (prev === next) return;
    for (const notifier of [...prev.preemptNotifiers]) notifier.schedOut();
    this.current = next;
    if (prev.tifNocpuid !== next.tifNocpuid) this.setCpuidFaulting(next.tifNocpuid, "switch_to_xtra");
    for (const notifier of [...next.preemptNotifiers]) notifier.schedIn();
  }
}
