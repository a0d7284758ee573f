import { MSR_KERNEL_GS_BASE as KERNEL_GS_BASE_SLOT } from "../../assembly/abi/state.ts";
import { MSR_MISC_FEATURES_ENABLES } from "../policy/index.ts";
import { EFER_LMA, EFER_SCE } from "./cr-bits.ts";
import { kvmGetMsrCommon, kvmSetMsrCommon, type MsrData, validMiscFeatures } from "./msr-common.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { EntryControl } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

export const MSR_STAR = 0xc000_0081;
export const MSR_LSTAR = 0xc000_0082;
export const MSR_CSTAR = 0xc000_0083;
export const MSR_SYSCALL_MASK = 0xc000_0084;
const MSR_FS_BASE = 0xc000_0100;
const MSR_GS_BASE = 0xc000_0101;
const MSR_KERNEL_GS_BASE = 0xc000_0102;
const MSR_IA32_FEATURE_CONTROL = 0x3a;
const MSR_IA32_SYSENTER_CS = 0x174;
const MSR_IA32_SYSENTER_ESP = 0x175;
const MSR_IA32_SYSENTER_EIP = 0x176;
const MSR_IA32_CR_PAT = 0x277;

/** Syscall MSRs that host and guest share. @kvm vmx_msr_index */
export const SHARED_MSRS: readonly number[] = [MSR_SYSCALL_MASK, MSR_LSTAR, MSR_CSTAR, MSR_STAR];

/** MSRs that vmx_set_msr itself knows, for the index list. */
export const VMX_MSRS: readonly number[] = [
  ...SHARED_MSRS,
  MSR_FS_BASE,
  MSR_GS_BASE,
  MSR_KERNEL_GS_BASE,
  MSR_IA32_FEATURE_CONTROL,
  MSR_IA32_SYSENTER_CS,
  MSR_IA32_SYSENTER_ESP,
  MSR_IA32_SYSENTER_EIP,
  MSR_IA32_CR_PAT,
];

/** Fields of the VMCS that hold an MSR. */
const VMCS_MSRS = new Map<number, number>([
  [MSR_FS_BASE, Field.GUEST_FS_BASE],
  [MSR_GS_BASE, Field.GUEST_GS_BASE],
  [MSR_IA32_SYSENTER_CS, Field.GUEST_SYSENTER_CS],
  [MSR_IA32_SYSENTER_ESP, Field.GUEST_SYSENTER_ESP],
  [MSR_IA32_SYSENTER_EIP, Field.GUEST_SYSENTER_EIP],
]);
const CANONICAL = new Set([MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_CSTAR]);

function isCanonical(value: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, value)) === value;
}

function validPat(value: bigint): boolean {
  for (let i = 0n; i < 8n; i++) {
    if (![0n, 1n, 4n, 5n, 6n, 7n].includes((value >> (i * 8n)) & 0xffn)) return false;
  }
  return true;
}

/**
 * 0x140: validated first, then the hardware step of the policy if the guest's state is loaded, then the vCPU's copy.
 * Between the test and the write the thread may be preempted; nothing disables it.
 */
function setMiscFeatures(vcpu: VcpuVmx, msr: MsrData): boolean {
  if (!validMiscFeatures(vcpu, msr.data)) return false;
  vcpu.switching.setMsr(msr.data, () => vcpu.host.schedulePoint("vmx_set_msr", vcpu));
  return kvmSetMsrCommon(vcpu, msr);
}

/** False: refused; #GP(0) for the guest. @kvm vmx_set_msr, kvm_set_msr */
export function vmxSetMsr(vcpu: VcpuVmx, msr: MsrData): boolean {
  const { index, data } = msr;
  if (CANONICAL.has(index) && !isCanonical(data)) return false;
  const field = VMCS_MSRS.get(index);
  if (field !== undefined) {
    vcpu.vmwrite(field, index === MSR_IA32_SYSENTER_CS ? data & 0xffff_ffffn : data);
    return true;
  }
  switch (index) {
    case MSR_MISC_FEATURES_ENABLES:
      return setMiscFeatures(vcpu, msr);
    case MSR_KERNEL_GS_BASE:
      vcpu.host.core.write64(KERNEL_GS_BASE_SLOT, data);
      return true;
    case MSR_IA32_FEATURE_CONTROL:
      if (!msr.hostInitiated) return false;
      vcpu.arch.featureControl = data;
      return true;
    case MSR_IA32_CR_PAT:
      if (!validPat(data)) return false;
      vcpu.arch.pat = data;
      if (vcpu.host.vmcsConfig.entry & EntryControl.LOAD_IA32_PAT) vcpu.vmwrite(Field.GUEST_IA32_PAT, data);
      return true;
  }
  if (SHARED_MSRS.includes(index)) {
    vcpu.guestMsrs.set(index, data);
    vcpu.guestMsrsDirty = true;
    return true;
  }
  return kvmSetMsrCommon(vcpu, msr);
}

/** undefined: refused; #GP(0) for the guest. @kvm vmx_get_msr */
export function vmxGetMsr(vcpu: VcpuVmx, index: number, hostInitiated: boolean): bigint | undefined {
  const field = VMCS_MSRS.get(index);
  if (field !== undefined) return vcpu.vmread(field);
  switch (index) {
    case MSR_KERNEL_GS_BASE:
      return vcpu.host.core.read64(KERNEL_GS_BASE_SLOT);
    case MSR_IA32_FEATURE_CONTROL:
      return vcpu.arch.featureControl;
    case MSR_IA32_CR_PAT:
      return vcpu.arch.pat;
  }
  if (SHARED_MSRS.includes(index)) return vcpu.guestMsrs.get(index) ?? 0n;
  return kvmGetMsrCommon(vcpu, index, hostInitiated);
}

/** Shared MSRs that must be in the hardware while the guest runs: only with SYSCALL on in long mode. @kvm setup_msrs */
export function sharedMsrsInUse(vcpu: VcpuVmx): readonly number[] {
  const active = EFER_LMA | EFER_SCE;
  return (vcpu.arch.efer & active) === active ? [MSR_STAR, MSR_LSTAR, MSR_SYSCALL_MASK] : [];
}
