/** Kernels whose rules differ where they matter here. */
export const KERNEL_VERSIONS = ["5.0", "6.19", "7.1"] as const;
export type KernelVersion = (typeof KERNEL_VERSIONS)[number];

/** What changed between the kernels. */
export interface KernelRules {
  readonly version: KernelVersion;
  /** Clearing 0xCE[31] is refused while faulting is on; removed in Aug 2024. */
  readonly platformInfoOrder: boolean;
  /** 0xCE is a feature MSR: readable on the /dev/kvm fd and frozen by the first KVM_RUN. */
  readonly featureMsrs: boolean;
  /** User-space MSR exits, MSR filter, DISABLE_QUIRKS2 and the like exist. */
  readonly userSpaceMsr: boolean;
  /** KVM_EXIT_INTERNAL_ERROR carries the instruction, the exit's fields and the CPU. */
  readonly internalErrorData: boolean;
  /** CPUID faulting does not act in SMM (690dc03859e7). */
  readonly smmExempt: boolean;
  /** OUT and IN advance RIP before the exit to user space; from 5.1 on when it is completed. */
  readonly pioSkipsFirst: boolean;
  /** KVM_EXIT_DEBUG has RTM in dr6 for every #DB, and the RIP after a step that KVM completed (5.8). */
  readonly debugExitRtm: boolean;
  /** CPUID above the highest leaf follows AMD's rule on an AMD guest, and hypervisor leaves are a class of their own (5.7). */
  readonly cpuidVendorRule: boolean;
  /** KVM_GET_SUPPORTED_CPUID has leaf 1 HYPERVISOR and TSC_DEADLINE_TIMER by itself: recorded on 6.18. */
  readonly cpuidHypervisor: boolean;
  /** kvm_inj_exception is traced again when an exception is injected again (5.19). */
  readonly tracesReinjection: boolean;
}

const RULES: Readonly<Record<KernelVersion, KernelRules>> = {
  "5.0": {
    version: "5.0",
    platformInfoOrder: true,
    featureMsrs: false,
    userSpaceMsr: false,
    internalErrorData: false,
    smmExempt: false,
    pioSkipsFirst: true,
    debugExitRtm: false,
    cpuidVendorRule: false,
    cpuidHypervisor: false,
    tracesReinjection: false,
  },
  "6.19": {
    version: "6.19",
    platformInfoOrder: false,
    featureMsrs: true,
    userSpaceMsr: true,
    internalErrorData: true,
    smmExempt: false,
    pioSkipsFirst: false,
    debugExitRtm: true,
    cpuidVendorRule: true,
    cpuidHypervisor: true,
    tracesReinjection: true,
  },
  "7.1": {
    version: "7.1",
    platformInfoOrder: false,
    featureMsrs: true,
    userSpaceMsr: true,
    internalErrorData: true,
    smmExempt: true,
    pioSkipsFirst: false,
    debugExitRtm: true,
    cpuidVendorRule: true,
    cpuidHypervisor: true,
    tracesReinjection: true,
  },
};

/** The rules of a version given by a user; the error lists the versions there are. */
export function kernelRules(version: string): KernelRules {
  const rules = Object.hasOwn(RULES, version) ? RULES[version as KernelVersion] : undefined;
  if (rules === undefined) {
    throw new RangeError(`unknown kernel version "${version}"; there are: ${KERNEL_VERSIONS.join(", ")}`);
  }
  return rules;
}
