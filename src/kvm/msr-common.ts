import { CPUID_FAULT, MSR_MISC_FEATURES_ENABLES } from "../policy/index.ts";
import { kvmSetEfer } from "./control-registers.ts";
import { cpuidFaultEnabled, supportsCpuidFault } from "./cpuid.ts";
import { MSR_PLATFORM_INFO, PLATFORM_INFO_CPUID_FAULT } from "./host-cpu.ts";
import { kvmSetApicBase } from "./lapic.ts";
import { kvmReadTsc, kvmWriteTsc } from "./tsc.ts";
import type { VcpuVmx } from "./vcpu.ts";

export const MSR_IA32_TSC = 0x10;
const MSR_IA32_APICBASE = 0x1b;
export const MSR_IA32_UCODE_REV = 0x8b;
export const MSR_IA32_TSC_DEADLINE = 0x6e0;
const MSR_MTRRCAP = 0xfe;
const MSR_IA32_MISC_ENABLE = 0x1a0;
export const MSR_EFER = 0xc000_0080;

const isX2apicMsr = (index: number): boolean => index >= 0x800 && index <= 0x8ff;

/** struct msr_data. */
export interface MsrData {
  readonly index: number;
  readonly data: bigint;
  readonly hostInitiated: boolean;
}

/** Written by firmware and kernels, and only stored. */
const MTRR_FIXED = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
const MTRR_VARIABLE = Array.from({ length: 16 }, (_, i) => 0x200 + i);
const MTRR_DEF_TYPE = 0x2ff;
const TSC_ADJUST = 0x3b;
export const STORED_MSRS: readonly number[] = [...MTRR_VARIABLE, ...MTRR_FIXED, MTRR_DEF_TYPE, TSC_ADJUST];
/** Read as 0, writes ignored: MSRs that kernels probe. */
const ZERO_MSRS: readonly number[] = [0x0, 0x1, 0x17, 0x2a, 0x79, 0x1d9, 0x1db, 0x1dc, 0x1dd, 0x1de, 0xc001_0010];

/** MSRs that the functions below know, and the index list does not name. */
export const COMMON_MSRS: readonly number[] = [MSR_IA32_APICBASE, MSR_MTRRCAP, MSR_IA32_MISC_ENABLE, ...ZERO_MSRS];

/** kvm_supported_msr_misc_features_enables of the thread; inline in every kernel. */
function miscFeaturesAllowed(vcpu: VcpuVmx, data: bigint): boolean {
  return (data & ~CPUID_FAULT) === 0n && ((data & CPUID_FAULT) === 0n || supportsCpuidFault(vcpu));
}

/**
 * May 0x140 take this value? The test that kvm_set_msr_common makes; vmx_set_msr makes it before it touches hardware.
 */
export function validMiscFeatures(vcpu: VcpuVmx, data: bigint): boolean {
  return miscFeaturesAllowed(vcpu, data);
}

function setPlatformInfo(vcpu: VcpuVmx, msr: MsrData): boolean {
  if (!msr.hostInitiated) return false;
  const clears = (msr.data & PLATFORM_INFO_CPUID_FAULT) === 0n;
  if (vcpu.vm.rules.platformInfoOrder && clears && cpuidFaultEnabled(vcpu)) return false;
  vcpu.arch.msrPlatformInfo = msr.data;
  return true;
}

/** False: refused; #GP(0) for the guest. @kvm kvm_set_msr_common */
export function kvmSetMsrCommon(vcpu: VcpuVmx, msr: MsrData): boolean {
  const { index, data, hostInitiated } = msr;
  const { arch } = vcpu;
  switch (index) {
    case MSR_PLATFORM_INFO:
      return setPlatformInfo(vcpu, msr);
    case MSR_MISC_FEATURES_ENABLES:
      if (!miscFeaturesAllowed(vcpu, data)) return false;
      arch.msrMiscFeaturesEnables = data;
      return true;
    case MSR_EFER:
      return kvmSetEfer(vcpu, data, hostInitiated);
    case MSR_IA32_TSC:
      kvmWriteTsc(vcpu, data);
      return true;
    case MSR_IA32_APICBASE:
      return kvmSetApicBase(vcpu, data, hostInitiated);
    case MSR_IA32_TSC_DEADLINE:
      if (vcpu.apic === undefined) return hostInitiated;
      vcpu.apic.device.tscDeadline = data;
      return true;
    case MSR_IA32_MISC_ENABLE:
      arch.miscEnable = data;
      return true;
    case MSR_IA32_UCODE_REV:
      if (hostInitiated) arch.microcodeVersion = data;
      return true;
  }
  if (isX2apicMsr(index)) return vcpu.apic?.device.writeMsr(index, data) ?? false;
  if (STORED_MSRS.includes(index)) {
    arch.stored.set(index, data);
    return true;
  }
  return ZERO_MSRS.includes(index);
}

/** undefined: refused; #GP(0) for the guest. @kvm kvm_get_msr_common */
export function kvmGetMsrCommon(vcpu: VcpuVmx, index: number, hostInitiated: boolean): bigint | undefined {
  const { arch } = vcpu;
  switch (index) {
    case MSR_PLATFORM_INFO:
      return hostInitiated || vcpu.vm.guestCanReadPlatformInfo ? arch.msrPlatformInfo : undefined;
    case MSR_MISC_FEATURES_ENABLES:
      return arch.msrMiscFeaturesEnables;
    case MSR_EFER:
      return arch.efer;
    case MSR_IA32_TSC:
      return kvmReadTsc(vcpu);
    case MSR_IA32_TSC_DEADLINE:
      return vcpu.apic?.device.tscDeadline ?? 0n;
    case MSR_IA32_APICBASE:
      return arch.apicBase;
    case MSR_IA32_MISC_ENABLE:
      return arch.miscEnable;
    case MSR_IA32_UCODE_REV:
      return arch.microcodeVersion;
    case MSR_MTRRCAP:
      return 0x508n;
  }
  if (isX2apicMsr(index)) return vcpu.apic?.device.readMsr(index);
  if (STORED_MSRS.includes(index)) return arch.stored.get(index) ?? 0n;
  return ZERO_MSRS.includes(index) ? 0n : undefined;
}
