// The guest's TSC: the host's, times a ratio where KVM_SET_TSC_KHZ asked for another frequency, plus an offset.
import { KvmError } from "./errors.ts";
import { DEFAULT_TSC_RATIO, TSC_FRACTION, TSC_KHZ } from "./tsc-ratio.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Secondary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

/** @kvm max_guest_tsc_khz */
const MAX_GUEST_TSC_KHZ = 0x7fff_ffff;
/** Frequencies that close are the host's. @kvm tsc_tolerance_ppm */
const TOLERANCE_PPM = 250;

/** @kvm kvm_scale_tsc */
function kvmScaleTsc({ arch }: VcpuVmx, tsc: bigint): bigint {
  return BigInt.asUintN(64, (tsc * arch.tscScalingRatio) >> TSC_FRACTION);
}

/** What RDTSC in the guest would give now. @kvm kvm_read_l1_tsc */
export function kvmReadTsc(vcpu: VcpuVmx): bigint {
  return BigInt.asUintN(64, kvmScaleTsc(vcpu, vcpu.host.core.tsc) + vcpu.arch.tscOffset);
}

/** The guest's TSC is `data` from now on. @kvm kvm_synchronize_tsc, kvm_vcpu_write_tsc_offset */
export function kvmWriteTsc(vcpu: VcpuVmx, data: bigint): void {
  vcpu.arch.tscOffset = BigInt.asUintN(64, data - kvmScaleTsc(vcpu, vcpu.host.core.tsc));
  vcpu.vmwrite(Field.TSC_OFFSET, vcpu.arch.tscOffset);
}

/** The host's tick at which the guest's TSC reaches `tsc`. */
export function hostTickOfTsc({ arch }: VcpuVmx, tsc: bigint): bigint {
  const scaled = BigInt.asUintN(64, tsc - arch.tscOffset) << TSC_FRACTION;
  return (scaled + arch.tscScalingRatio - 1n) / arch.tscScalingRatio;
}

/** A frequency that user space gives; 0 stands for the host's. KvmError EINVAL. */
export function checkTscKhz(khz: number): number {
  if (!Number.isInteger(khz) || khz < 0 || khz >= MAX_GUEST_TSC_KHZ) {
    throw new KvmError("KVM_SET_TSC_KHZ", "EINVAL", `${khz} kHz is not from 0 to ${MAX_GUEST_TSC_KHZ - 1}`);
  }
  return khz === 0 ? TSC_KHZ : khz;
}

/**
 * The frequency is kept and the offset stays, so that the guest's TSC jumps unless it is set anew. KvmError EINVAL where
 * the ratio needs "use TSC scaling", which the processor lacks. @kvm kvm_set_tsc_khz, set_tsc_khz
 */
export function kvmSetTscKhz(vcpu: VcpuVmx, khz: number): void {
  const { arch, host } = vcpu;
  arch.virtualTscKhz = khz;
  const tolerance = Math.trunc((TSC_KHZ * TOLERANCE_PPM) / 1e6);
  const scales = Math.abs(khz - TSC_KHZ) > tolerance;
  const has = (host.vmcsConfig.secondary & Secondary.TSC_SCALING) !== 0;
  if (scales && !has) throw new KvmError("KVM_SET_TSC_KHZ", "EINVAL", "the processor has no TSC scaling");
  arch.tscScalingRatio = scales ? (BigInt(khz) << TSC_FRACTION) / BigInt(TSC_KHZ) : DEFAULT_TSC_RATIO;
  if (has) vcpu.vmwrite(Field.TSC_MULTIPLIER, arch.tscScalingRatio);
}
