import type { VcpuVmx } from "./vcpu.ts";

export const MSR_IA32_APICBASE_BSP = 0x100n;
const X2APIC_ENABLE = 0x400n;
const APIC_ENABLE = 0x800n;
/** Bits that no mode has, below the address. */
const APICBASE_RESERVED = 0x2ffn;
/** CPUID.1:ECX.x2APIC */
const CPUID_X2APIC = 1 << 21;

export const KVM_MP_STATE_RUNNABLE = 0;
export const KVM_MP_STATE_UNINITIALIZED = 1;
export const KVM_MP_STATE_INIT_RECEIVED = 2;
export const KVM_MP_STATE_HALTED = 3;
export const KVM_MP_STATE_SIPI_RECEIVED = 4;

/** @kvm kvm_get_cr8 */
export function kvmGetCr8({ apic, arch }: VcpuVmx): bigint {
  return apic === undefined ? arch.cr8 : BigInt(apic.device.cr8);
}

/** False: #GP(0). @kvm kvm_set_cr8 */
export function kvmSetCr8({ apic, arch }: VcpuVmx, value: bigint): boolean {
  if (value & ~0xfn) return false;
  if (apic === undefined) arch.cr8 = value;
  else apic.device.taskPriority = Number(value) << 4;
  return true;
}

/** False: refused, #GP(0) for the guest. @kvm kvm_set_apic_base */
export function kvmSetApicBase(vcpu: VcpuVmx, data: bigint, hostInitiated: boolean): boolean {
  const leaf1 = vcpu.arch.cpuid.find((entry) => entry.function === 1);
  const x2apic = leaf1 !== undefined && (leaf1.ecx & CPUID_X2APIC) !== 0;
  const reserved = APICBASE_RESERVED | (x2apic ? 0n : X2APIC_ENABLE);
  const mode = (value: bigint): bigint => value & (X2APIC_ENABLE | APIC_ENABLE);
  const [before, after] = [mode(vcpu.arch.apicBase), mode(data)];
  if (data & reserved || data >> 52n || after === X2APIC_ENABLE) return false;
  if (!hostInitiated) {
    if (before === (X2APIC_ENABLE | APIC_ENABLE) && after === APIC_ENABLE) return false;
    if (before === 0n && after === (X2APIC_ENABLE | APIC_ENABLE)) return false;
  }
  vcpu.arch.apicBase = data;
  vcpu.apic?.device.setBase(data);
  return true;
}

/** An interrupt of the 8259s, or of user space's, for this vCPU? @kvm kvm_cpu_has_extint */
function kvmCpuHasExtint({ apic, vm }: VcpuVmx): boolean {
  if (apic === undefined || !apic.device.extInt) return false;
  return vm.irqchip?.pic === undefined ? apic.externalVector >= 0 : vm.irqchip.pic.output;
}

/** @kvm kvm_cpu_has_interrupt, kvm_cpu_has_injectable_intr */
export function kvmCpuHasInterrupt(vcpu: VcpuVmx): boolean {
  const { apic } = vcpu;
  if (apic === undefined) return vcpu.arch.interrupt.injected;
  return kvmCpuHasExtint(vcpu) || apic.device.pending() >= 0;
}

/** The vector, now in service. @kvm kvm_cpu_get_interrupt */
export function kvmCpuGetInterrupt(vcpu: VcpuVmx): number {
  const { apic, vm } = vcpu;
  if (apic === undefined) return vcpu.arch.interrupt.nr;
  if (!kvmCpuHasExtint(vcpu)) return apic.device.acknowledge();
  if (vm.irqchip?.pic !== undefined) return vm.irqchip.pic.acknowledge();
  const vector = apic.externalVector;
  apic.externalVector = -1;
  return vector;
}
