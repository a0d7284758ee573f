import { CR2, DR0, DR6, MSR_KERNEL_GS_BASE, MSR_TSC_AUX, XCR0 } from "../../assembly/abi/state.ts";
import type { PreemptNotifier } from "./host-task.ts";
import { sharedMsrsInUse } from "./msr-vmx.ts";
import type { VcpuVmx } from "./vcpu.ts";

/** Words of the state block that belong to a vCPU and are in no VMCS. 0x140 is not among them. */
const REST = [CR2, DR0, DR0 + 8, DR0 + 16, DR0 + 24, DR6, XCR0, MSR_KERNEL_GS_BASE, MSR_TSC_AUX];
const RSP = 4;

/** Brings the registers that no VMCS holds into the core, and another vCPU's out of it. */
function makeResident(vcpu: VcpuVmx): void {
  const { host } = vcpu;
  const { core } = host;
  const previous = host.resident;
  if (previous === vcpu) return;
  if (previous !== undefined) {
    const gpr = Array.from({ length: 16 }, (_, i) => (i === RSP ? 0n : core.gpr(i)));
    previous.saved = { gpr, rest: REST.map((address) => core.read64(address)) };
  }
  const { saved } = vcpu;
  if (saved !== undefined) {
    saved.gpr.forEach((value, i) => {
      if (i !== RSP) core.setGpr(i, value);
    });
    saved.rest.forEach((value, i) => {
      core.write64(REST[i]!, value);
    });
    vcpu.saved = undefined;
  }
  host.resident = vcpu;
}

/** The core has this vCPU's VMCS and registers. */
function bringIn(vcpu: VcpuVmx): void {
  const { host } = vcpu;
  if (host.currentVmcs !== vcpu.loadedVmcs.address) {
    host.vmx.vmptrld(vcpu.loadedVmcs.address);
    host.currentVmcs = vcpu.loadedVmcs.address;
  }
  makeResident(vcpu);
}

/** @kvm vmx_vcpu_load, kvm_arch_vcpu_load */
function kvmArchVcpuLoad(vcpu: VcpuVmx): void {
  const { host } = vcpu;
  host.ledger.count("loads");
  bringIn(vcpu);
  host.cpu.loaded = () => bringIn(vcpu);
  vcpu.switching.load(vcpu.arch.msrMiscFeaturesEnables);
}

/** @kvm kvm_arch_vcpu_put, vmx_vcpu_put */
function kvmArchVcpuPut(vcpu: VcpuVmx): void {
  const { ledger } = vcpu.host;
  ledger.count("puts");
  vcpu.host.cpu.loaded = undefined;
  if (vcpu.switching.put()) ledger.count("host_state_reload");
}

const notifiers = new WeakMap<VcpuVmx, PreemptNotifier>();

/** @kvm kvm_preempt_ops */
function notifierOf(vcpu: VcpuVmx): PreemptNotifier {
  let notifier = notifiers.get(vcpu);
  if (notifier === undefined) {
    notifier = { schedOut: () => kvmSchedOut(vcpu), schedIn: () => kvmSchedIn(vcpu) };
    notifiers.set(vcpu, notifier);
  }
  return notifier;
}

/** @kvm kvm_sched_in */
export function kvmSchedIn(vcpu: VcpuVmx): void {
  kvmArchVcpuLoad(vcpu);
}

/** @kvm kvm_sched_out */
export function kvmSchedOut(vcpu: VcpuVmx): void {
  kvmArchVcpuPut(vcpu);
}

/** @kvm vcpu_load */
export function vcpuLoad(vcpu: VcpuVmx): void {
  vcpu.host.cpu.current.registerPreemptNotifier(notifierOf(vcpu));
  kvmArchVcpuLoad(vcpu);
  vcpu.host.schedulePoint("vcpu_load", vcpu);
}

/** @kvm vcpu_put */
export function vcpuPut(vcpu: VcpuVmx): void {
  vcpu.host.schedulePoint("vcpu_put", vcpu);
  kvmArchVcpuPut(vcpu);
  vcpu.host.cpu.current.unregisterPreemptNotifier(notifierOf(vcpu));
}

/** Value of a syscall MSR that is in the hardware; written only where it differs. @kvm kvm_set_shared_msr */
function kvmSetSharedMsr(vcpu: VcpuVmx, index: number, value: bigint): void {
  const { cpu, core } = vcpu.host;
  if (core.rdmsr(index) !== value) cpu.wrmsrl(index, value, "shared_msrs");
}

/** Before every entry; the body once a load. @kvm vmx_prepare_switch_to_guest */
export function vmxPrepareSwitchToGuest(vcpu: VcpuVmx): void {
  if (!vcpu.switching.loadedCpuState || vcpu.guestMsrsDirty) {
    vcpu.guestMsrsDirty = false;
    for (const index of sharedMsrsInUse(vcpu)) kvmSetSharedMsr(vcpu, index, vcpu.guestMsrs.get(index) ?? 0n);
  }
  if (vcpu.switching.prepareSwitchToGuest(vcpu.arch.msrMiscFeaturesEnables)) vcpu.host.ledger.count("entering_loads");
}

/** The put and the load with which 5.0 goes from one VMCS to another, here without another. @kvm vmx_switch_vmcs */
export function vmxSwitchVmcs(vcpu: VcpuVmx): void {
  kvmArchVcpuPut(vcpu);
  kvmArchVcpuLoad(vcpu);
}

/** The host's syscall MSRs come back on the way to user space. @kvm kvm_on_user_return */
export function kvmOnUserReturn(vcpu: VcpuVmx): void {
  for (const index of sharedMsrsInUse(vcpu)) kvmSetSharedMsr(vcpu, index, 0n);
  vcpu.guestMsrsDirty = true;
  vcpu.host.cpu.returnToUser();
}
