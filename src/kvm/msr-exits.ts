import { kvmInjectGp } from "./events.ts";
import { KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE, kvmMsrAllowed } from "./msr-filter.ts";
import { isKnownMsr } from "./msr-ioctl.ts";
import { vmxGetMsr, vmxSetMsr } from "./msr-vmx.ts";
import { kvmSkipEmulatedInstruction } from "./skip.ts";
import type { VcpuVmx } from "./vcpu.ts";

/** KVM_MSR_EXIT_REASON_*; also the mask of KVM_CAP_X86_USER_SPACE_MSR. */
export const KVM_MSR_EXIT_REASON_INVAL = 1;
export const KVM_MSR_EXIT_REASON_UNKNOWN = 2;
export const KVM_MSR_EXIT_REASON_FILTER = 4;
export const KVM_MSR_EXIT_REASON_VALID_MASK = 7;

const RAX = 0;
const RCX = 1;
const RDX = 2;

/** Why an access was refused. @kvm kvm_msr_reason */
function msrReason(index: number, filtered: boolean): number {
  if (filtered) return KVM_MSR_EXIT_REASON_FILTER;
  return isKnownMsr(index) ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_UNKNOWN;
}

/** #GP(0) at the instruction, or past it. @kvm complete_emulated_msr */
function completeEmulatedMsr(vcpu: VcpuVmx, failed: boolean): boolean {
  if (!failed) return kvmSkipEmulatedInstruction(vcpu);
  kvmInjectGp(vcpu, 0);
  return true;
}

function writeEdxEax(vcpu: VcpuVmx, data: bigint): void {
  vcpu.host.core.setGprLow(RAX, Number(data & 0xffff_ffffn));
  vcpu.host.core.setGprLow(RDX, Number((data >> 32n) & 0xffff_ffffn));
}

/** False: user space has not asked for accesses refused for this reason. @kvm kvm_msr_user_space */
function kvmMsrUserSpace(vcpu: VcpuVmx, read: boolean, index: number, data: bigint, filtered: boolean): boolean {
  const reason = msrReason(index, filtered);
  if (!(vcpu.vm.userSpaceMsrMask & reason)) return false;
  const { run } = vcpu;
  vcpu.userExit = {
    reason: read ? "x86Rdmsr" : "x86Wrmsr",
    msrReason: reason,
    index,
    data,
    reply: (answer) => {
      run.msrReply = answer;
    },
  };
  vcpu.arch.completeUserspaceIo = () => {
    const { error, data: answer } = run.msrReply;
    if (read && error === 0) writeEdxEax(vcpu, answer);
    return completeEmulatedMsr(vcpu, error !== 0);
  };
  return true;
}

/** @kvm handle_rdmsr, kvm_emulate_rdmsr */
export function handleRdmsr(vcpu: VcpuVmx): boolean {
  const { core, trace } = vcpu.host;
  const index = core.gprLow(RCX);
  const allowed = kvmMsrAllowed(vcpu.vm.msrFilter, index, KVM_MSR_FILTER_READ);
  const data = allowed ? vmxGetMsr(vcpu, index, false) : undefined;
  if (data === undefined && kvmMsrUserSpace(vcpu, true, index, 0n, !allowed)) return false;
  trace?.({ name: "kvm_msr", write: false, index, data: data ?? 0n, exception: data === undefined });
  if (data !== undefined) writeEdxEax(vcpu, data);
  return completeEmulatedMsr(vcpu, data === undefined);
}

/** @kvm handle_wrmsr, kvm_emulate_wrmsr */
export function handleWrmsr(vcpu: VcpuVmx): boolean {
  const { core, trace } = vcpu.host;
  const index = core.gprLow(RCX);
  const data = (BigInt(core.gprLow(RDX)) << 32n) | BigInt(core.gprLow(RAX));
  const allowed = kvmMsrAllowed(vcpu.vm.msrFilter, index, KVM_MSR_FILTER_WRITE);
  const ok = allowed && vmxSetMsr(vcpu, { index, data, hostInitiated: false });
  if (!ok && kvmMsrUserSpace(vcpu, false, index, data, !allowed)) return false;
  trace?.({ name: "kvm_msr", write: true, index, data, exception: !ok });
  return completeEmulatedMsr(vcpu, !ok);
}
