import { MSR_MISC_FEATURES_ENABLES } from "../policy/index.ts";
import { KvmError } from "./errors.ts";
import { MSR_PLATFORM_INFO, PLATFORM_INFO_CPUID_FAULT } from "./host-cpu.ts";
import { COMMON_MSRS, MSR_EFER, MSR_IA32_TSC, MSR_IA32_UCODE_REV, STORED_MSRS } from "./msr-common.ts";
import { VMX_MSRS, vmxGetMsr, vmxSetMsr } from "./msr-vmx.ts";
import type { VcpuVmx } from "./vcpu.ts";
import type { KernelRules } from "./version.ts";

/** struct kvm_msr_entry. */
export interface MsrEntry {
  readonly index: number;
  readonly data: bigint;
}

/** MAX_IO_MSRS */
const MAX_IO_MSRS = 256;
const FIRST_VMX_MSR = 0x480;
const LAST_VMX_MSR = 0x491;
const MSR_IA32_ARCH_CAPABILITIES = 0x10a;
const MSR_IA32_PERF_CAPABILITIES = 0x345;

/** @kvm kvm_is_immutable_feature_msr */
function isImmutableFeatureMsr(index: number): boolean {
  if (index >= FIRST_VMX_MSR && index <= LAST_VMX_MSR) return true;
  return [MSR_PLATFORM_INFO, MSR_IA32_ARCH_CAPABILITIES, MSR_IA32_PERF_CAPABILITIES].includes(index);
}

/** A set from user space. After the first run a feature MSR takes only its own value. @kvm do_set_msr */
function doSetMsr(vcpu: VcpuVmx, index: number, data: bigint): boolean {
  if (vcpu.vm.rules.featureMsrs && vcpu.arch.hasRun && isImmutableFeatureMsr(index)) {
    return vmxGetMsr(vcpu, index, true) === data;
  }
  return vmxSetMsr(vcpu, { index, data, hostInitiated: true });
}

function checkCount(call: string, count: number): void {
  if (count >= MAX_IO_MSRS) throw new KvmError(call, "E2BIG", `${count} MSRs, at most ${MAX_IO_MSRS - 1}`);
}

/** Number of MSRs set; it stops at the first refusal. @kvm msr_io, __msr_io */
export function ioctlSetMsrs(vcpu: VcpuVmx, entries: readonly MsrEntry[]): number {
  checkCount("KVM_SET_MSRS", entries.length);
  const refused = entries.findIndex(({ index, data }) => !doSetMsr(vcpu, index, data));
  return refused < 0 ? entries.length : refused;
}

/** Values up to the first refusal. @kvm msr_io, do_get_msr */
export function ioctlGetMsrs(vcpu: VcpuVmx, indices: readonly number[]): MsrEntry[] {
  checkCount("KVM_GET_MSRS", indices.length);
  const out: MsrEntry[] = [];
  for (const index of indices) {
    const data = vmxGetMsr(vcpu, index, true);
    if (data === undefined) break;
    out.push({ index, data });
  }
  return out;
}

/** KVM_GET_MSR_INDEX_LIST. */
export function msrIndexList(): number[] {
  return [
    MSR_IA32_TSC,
    MSR_EFER,
    ...VMX_MSRS,
    MSR_IA32_UCODE_REV,
    MSR_PLATFORM_INFO,
    MSR_MISC_FEATURES_ENABLES,
    ...STORED_MSRS,
  ];
}

/** False: KVM has no such MSR, whatever the value. @kvm KVM_MSR_RET_UNSUPPORTED */
export function isKnownMsr(index: number): boolean {
  return KNOWN_MSRS.has(index);
}

const KNOWN_MSRS: ReadonlySet<number> = new Set([...msrIndexList(), ...COMMON_MSRS]);

/** KVM_GET_MSR_FEATURE_INDEX_LIST: 0xCE is one from 6.x on. */
export function featureMsrIndexList(rules: KernelRules): number[] {
  return rules.featureMsrs ? [MSR_IA32_UCODE_REV, MSR_PLATFORM_INFO] : [MSR_IA32_UCODE_REV];
}

/** KVM_GET_MSRS on the /dev/kvm fd: feature MSRs only, up to the first that is none. */
export function systemGetMsrs(rules: KernelRules, indices: readonly number[]): MsrEntry[] {
  checkCount("KVM_GET_MSRS", indices.length);
  const known = featureMsrIndexList(rules);
  const out: MsrEntry[] = [];
  for (const index of indices) {
    if (!known.includes(index)) break;
    out.push({ index, data: index === MSR_PLATFORM_INFO ? PLATFORM_INFO_CPUID_FAULT : 0x1_0000_0000n });
  }
  return out;
}
