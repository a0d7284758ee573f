import { type Policy, type PolicyOptions, policyByName } from "../policy/index.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";
import { EptTables } from "./ept.ts";
import { KvmError } from "./errors.ts";
import { Host, type HostOptions } from "./host.ts";
import { MemorySlots, type UserMemoryRegion } from "./memory-slots.ts";
import { featureMsrIndexList, type MsrEntry, msrIndexList, systemGetMsrs } from "./msr-ioctl.ts";
import { supportedCpuid } from "./supported-cpuid.ts";
import type { VmState } from "./vcpu.ts";
import { Vcpu } from "./vcpu-api.ts";
import { type KernelRules, kernelRules } from "./version.ts";

export const KVM_API_VERSION = 12;
export const KVM_CAP_DISABLE_QUIRKS = 116;
export const KVM_CAP_MSR_PLATFORM_INFO = 159;
export const KVM_CAP_DISABLE_QUIRKS2 = 213;
const KNOWN_QUIRKS = 0x3ff;

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
    this.#policyOptions = options.policyOptions ?? {};
    this.host = options.host ?? new Host(options.hostOptions);
  }

  /** KVM_GET_API_VERSION */
  getApiVersion(): number {
    return KVM_API_VERSION;
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
    return systemGetMsrs(this.rules, indices);
  }

  /** KVM_GET_SUPPORTED_CPUID: what the processor has and KVM passes on; no VMX. */
  getSupportedCpuid(): CpuidEntry[] {
    return supportedCpuid(this.host.core);
  }
}

/** A virtual machine: memory slots and vCPUs. */
export class Vm {
  readonly #state: VmState;
  readonly #vcpus = new Map<number, Vcpu>();

  constructor(
    host: Host,
    rules: KernelRules,
    private readonly policy: Policy,
    private readonly policyOptions: Partial<PolicyOptions>,
  ) {
    this.#state = {
      host,
      rules,
      slots: new MemorySlots(host.core, host.pages),
      ept: new EptTables(host.core, host.pages),
      guestCanReadPlatformInfo: true,
      disabledQuirks: 0,
    };
  }

  /** Zeroed memory of the VMM for userspaceAddr, as mmap gives it. */
  allocMemory(bytes: bigint): bigint {
    return this.#state.slots.allocMemory(bytes);
  }

  /** The VMM's own reads and writes of what allocMemory gave. */
  readMemory(userspaceAddr: bigint, size: number): Uint8Array {
    return this.#state.slots.readUser(userspaceAddr, size);
  }

  writeMemory(userspaceAddr: bigint, bytes: Uint8Array): void {
    this.#state.slots.writeUser(userspaceAddr, bytes);
  }

  /** KVM_SET_USER_MEMORY_REGION; KvmError EINVAL or EEXIST. */
  setUserMemoryRegion(region: UserMemoryRegion): void {
    if (!this.#state.slots.setUserMemoryRegion(region)) return;
    this.#state.ept.zapAll();
    this.#state.host.vmx.inveptSingle(this.#state.ept.eptp);
  }

  /** KVM_CREATE_VCPU; KvmError EEXIST for an id in use. */
  createVcpu(id: number): Vcpu {
    if (this.#vcpus.has(id)) throw new KvmError("KVM_CREATE_VCPU", "EEXIST", `there is a vCPU ${id}`);
    const vcpu = new Vcpu(this.#state, id, this.policy, this.policyOptions);
    this.#vcpus.set(id, vcpu);
    return vcpu;
  }

  /** KVM_ENABLE_CAP on the VM. */
  enableCap(cap: number, args: readonly number[] = []): void {
    const [first = 0] = args;
    const quirks2 = cap === KVM_CAP_DISABLE_QUIRKS2 && this.#state.rules.featureMsrs;
    if (cap === KVM_CAP_MSR_PLATFORM_INFO) this.#state.guestCanReadPlatformInfo = first !== 0;
    else if (cap === KVM_CAP_DISABLE_QUIRKS || quirks2) {
      if (quirks2 && first & ~KNOWN_QUIRKS) throw new KvmError("KVM_ENABLE_CAP", "EINVAL", "unknown quirk");
      this.#state.disabledQuirks = first;
    } else throw new KvmError("KVM_ENABLE_CAP", "EINVAL", `capability ${cap} cannot be enabled`);
  }
}
