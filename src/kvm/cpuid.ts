import { CPUID_FAULT } from "../policy/index.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";
import { kvmRequireCpl } from "./events.ts";
import { PLATFORM_INFO_CPUID_FAULT } from "./host-cpu.ts";
import { kvmSkipEmulatedInstruction } from "./skip.ts";
import type { VcpuVmx } from "./vcpu.ts";

const APIC_ENABLE = 0x800n;
/** CPUID.1:EDX.APIC */
const CPUID_APIC = 1 << 9;

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;

/** @kvm supports_cpuid_fault */
export function supportsCpuidFault(vcpu: VcpuVmx): boolean {
  return (vcpu.arch.msrPlatformInfo & PLATFORM_INFO_CPUID_FAULT) !== 0n;
}

/** @kvm cpuid_fault_enabled */
export function cpuidFaultEnabled(vcpu: VcpuVmx): boolean {
  return (vcpu.arch.msrMiscFeaturesEnables & CPUID_FAULT) !== 0n;
}

/** @kvm kvm_find_cpuid_entry */
function kvmFindCpuidEntry(vcpu: VcpuVmx, fn: number, index: number): CpuidEntry | undefined {
  return vcpu.arch.cpuid.find((e) => e.function === fn && (!e.significantIndex || e.index === index));
}

/** "AuthenticAMD" or "HygonGenuine" in leaf 0. */
function isAmdCompatible(vcpu: VcpuVmx): boolean {
  const leaf0 = kvmFindCpuidEntry(vcpu, 0, 0);
  return leaf0 !== undefined && (leaf0.ebx === 0x6874_7541 || leaf0.ebx === 0x6f67_7948);
}

/** Where the highest leaf of a leaf's class is said. */
function classOf(fn: number): number {
  if (fn >= 0x4000_0000 && fn <= 0x4fff_ffff) return fn & 0xffff_ff00;
  return fn >= 0xc000_0000 ? 0xc000_0000 : (fn & 0x8000_0000) >>> 0;
}

/** A leaf above the highest answers as the highest basic one. @kvm get_out_of_range_cpuid_entry, check_cpuid_limit */
function outOfRangeEntry(vcpu: VcpuVmx, fn: number, index: number): CpuidEntry | undefined {
  const modern = vcpu.vm.rules.cpuidVendorRule;
  const basic = kvmFindCpuidEntry(vcpu, 0, 0);
  if (basic === undefined || (modern && isAmdCompatible(vcpu))) return undefined;
  const limit = kvmFindCpuidEntry(vcpu, modern ? classOf(fn) : (fn & 0x8000_0000) >>> 0, 0);
  if (limit === undefined ? !modern : limit.eax >= fn) return undefined;
  return kvmFindCpuidEntry(vcpu, basic.eax, index);
}

const NOTHING = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** @kvm kvm_cpuid */
export function kvmCpuid(
  vcpu: VcpuVmx,
  fn: number,
  index: number,
): { eax: number; ebx: number; ecx: number; edx: number; found: boolean } {
  const exact = kvmFindCpuidEntry(vcpu, fn, index);
  const basic = exact === undefined ? outOfRangeEntry(vcpu, fn, index) : undefined;
  const { eax, ebx, ecx, edx } = exact ?? basic ?? NOTHING;
  const found = exact !== undefined;
  const usedMaxBasic = basic !== undefined;
  vcpu.host.trace?.({ name: "kvm_cpuid", function: fn, index, eax, ebx, ecx, edx, found, usedMaxBasic });
  return { eax, ebx, ecx, edx, found };
}

/** Handler of the CPUID exit: #GP(0) where the virtual MSR says so, else the guest's table. @kvm kvm_emulate_cpuid */
export function kvmEmulateCpuid(vcpu: VcpuVmx): boolean {
  const exempt = vcpu.vm.rules.smmExempt && vcpu.arch.smm;
  if (cpuidFaultEnabled(vcpu) && !exempt && !kvmRequireCpl(vcpu, 0)) {
    vcpu.host.ledger.count("emulated_cpuid_faults");
    return true;
  }
  const { core } = vcpu.host;
  const fn = core.gprLow(RAX);
  const { eax, ebx, ecx, edx } = kvmCpuid(vcpu, fn, core.gprLow(RCX));
  core.setGprLow(RAX, eax);
  core.setGprLow(RBX, ebx);
  core.setGprLow(RCX, ecx);
  // the APIC bit follows IA32_APIC_BASE. @kvm kvm_update_cpuid
  core.setGprLow(RDX, fn === 1 && !(vcpu.arch.apicBase & APIC_ENABLE) ? edx & ~CPUID_APIC : edx);
  return kvmSkipEmulatedInstruction(vcpu);
}
