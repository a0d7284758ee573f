import { type Policy, type PolicyOptions, policyByName } from "../policy/index.ts";
import { checkEach, checkUint } from "./args.ts";
import { checkExtension } from "./capabilities.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";
import { Host, type HostOptions } from "./host.ts";
import { featureMsrIndexList, type MsrEntry, msrIndexList, systemGetMsrs } from "./msr-ioctl.ts";
import { VCPU_MMAP_SIZE } from "./run-page.ts";
import { supportedCpuid } from "./supported-cpuid.ts";
import { type KernelRules, kernelRules } from "./version.ts";
import { Vm } from "./vm.ts";

export const KVM_API_VERSION = 12;

export interface KvmOptions {
  /** Kernel whose rules hold: "5.0", "6.19" (default) or "7.1". */
  readonly kernel?: string;
  /** What to do with the hardware's 0x140: a name or a policy. Default "upstream". */
  readonly policy?: string | Policy;
  /** Overrides of the policy's own parameters. */
  readonly policyOptions?: Partial<PolicyOptions>;
  /** The machine below; made from `hostOptions` when absent. */
  readonly host?: Host;
  readonly hostOptions?: HostOptions;
}

/**
 * /dev/kvm of an emulated host.
 *
 * ```ts
 * const vm = new Kvm().createVm();
 * const userspaceAddr = vm.allocMemory(0x10000n);
 * vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: 0x10000n, userspaceAddr });
 * const vcpu = vm.createVcpu(0);
 * ```
 */
export class Kvm {
  readonly host: Host;
  readonly rules: KernelRules;
  readonly policy: Policy;
  readonly #policyOptions: Partial<PolicyOptions>;

  constructor(options: KvmOptions = {}) {
    this.rules = kernelRules(options.kernel ?? "6.19");
    const { policy = "upstream" } = options;
    this.policy = typeof policy === "string" ? policyByName(policy) : policy;
    if (typeof this.policy?.attach !== "function") {
      throw new TypeError("policy is neither the name of one nor an object with attach()");
    }
    this.#policyOptions = options.policyOptions ?? {};
    this.host = options.host ?? new Host(options.hostOptions);
  }

  /** KVM_GET_API_VERSION */
  getApiVersion(): number {
    return KVM_API_VERSION;
  }

  /** KVM_CHECK_EXTENSION: 0 for what is not built; capabilities.ts has one row for each that is. */
  checkExtension(capability: number): number {
    return checkExtension(this.rules, capability);
  }

  /** KVM_GET_VCPU_MMAP_SIZE: bytes of Vcpu.runPage. */
  getVcpuMmapSize(): number {
    return VCPU_MMAP_SIZE;
  }

  /** KVM_CREATE_VM */
  createVm(): Vm {
    return new Vm(this.host, this.rules, this.policy, this.#policyOptions);
  }

  /** KVM_GET_MSR_INDEX_LIST */
  getMsrIndexList(): number[] {
    return msrIndexList();
  }

  /** KVM_GET_MSR_FEATURE_INDEX_LIST */
  getMsrFeatureIndexList(): number[] {
    return featureMsrIndexList(this.rules);
  }

  /** KVM_GET_MSRS on the /dev/kvm fd: feature MSRs. */
  getMsrs(indices: readonly number[]): MsrEntry[] {
    checkEach("KVM_GET_MSRS", "indices", indices, (name, one) => checkUint("KVM_GET_MSRS", name, one, 32));
    return systemGetMsrs(this.rules, indices);
  }

  /** KVM_GET_SUPPORTED_CPUID: what the processor has and KVM passes on, no VMX; KVM's signature at 0x40000000. */
  getSupportedCpuid(): CpuidEntry[] {
    return supportedCpuid(this.host.core, this.rules);
  }
}
