import { CR0, CR3, CR4, EFER, GDTR_BASE, IDTR_BASE, MSR_PAT, SEG_TR, SEGS, SG_BASE } from "../../assembly/abi/state.ts";
import { vmxSetCr0, vmxSetCr4, vmxSetEfer, writeGuestHostMasks } from "./control-registers.ts";
import { CR0_CD, CR0_ET, CR0_NW } from "./cr-bits.ts";
import { AC_VECTOR, DB_VECTOR, MC_VECTOR, UD_VECTOR } from "./events.ts";
import { PLATFORM_INFO_CPUID_FAULT } from "./host-cpu.ts";
import { MSR_IA32_APICBASE_BSP } from "./lapic.ts";
import { msrBitmap } from "./msr-bitmap.ts";
import { KVM_X86_QUIRK_STUFF_FEATURE_MSRS } from "./quirks.ts";
import { SEGMENT_NAMES, type Segment, vmxGetSegment, vmxSetGdt, vmxSetIdt, vmxSetSegment } from "./segments.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { EntryControl, ExitControl, Primary, Secondary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

// Selectors and addresses of the host's own, as a 64-bit kernel has them; nothing is ever fetched there.
const KERNEL_CS = 0x10;
const KERNEL_DS = 0x18;
const GDT_TSS = 0x40;
const VMX_VMEXIT = 0xffff_ffff_8100_0000n;
const HOST_STACK = 0xffff_c900_0000_4000n;

/** @kvm vmx_set_constant_host_state */
function vmxSetConstantHostState(vcpu: VcpuVmx): void {
  const { core } = vcpu.host;
  vcpu.vmwrite(Field.HOST_CR0, core.read64(CR0));
  vcpu.vmwrite(Field.HOST_CR3, core.read64(CR3));
  vcpu.vmwrite(Field.HOST_CR4, core.read64(CR4));
  vcpu.vmwrite(Field.HOST_CS_SELECTOR, KERNEL_CS);
  vcpu.vmwrite(Field.HOST_DS_SELECTOR, 0);
  vcpu.vmwrite(Field.HOST_ES_SELECTOR, 0);
  vcpu.vmwrite(Field.HOST_SS_SELECTOR, KERNEL_DS);
  vcpu.vmwrite(Field.HOST_FS_SELECTOR, 0);
  vcpu.vmwrite(Field.HOST_GS_SELECTOR, 0);
  vcpu.vmwrite(Field.HOST_TR_SELECTOR, GDT_TSS);
  vcpu.vmwrite(Field.HOST_TR_BASE, core.read64(SEGS + SEG_TR + SG_BASE));
  vcpu.vmwrite(Field.HOST_GDTR_BASE, core.read64(GDTR_BASE));
  vcpu.vmwrite(Field.HOST_IDTR_BASE, core.read64(IDTR_BASE));
  vcpu.vmwrite(Field.HOST_RIP, VMX_VMEXIT);
  vcpu.vmwrite(Field.HOST_RSP, HOST_STACK);
  vcpu.vmwrite(Field.HOST_IA32_SYSENTER_CS, 0);
  vcpu.vmwrite(Field.HOST_IA32_SYSENTER_EIP, 0n);
  vcpu.vmwrite(Field.HOST_IA32_SYSENTER_ESP, 0n);
  if (vcpu.host.vmcsConfig.exit & ExitControl.LOAD_IA32_PAT) vcpu.vmwrite(Field.HOST_IA32_PAT, core.read64(MSR_PAT));
  if (vcpu.host.vmcsConfig.exit & ExitControl.LOAD_IA32_EFER) vcpu.vmwrite(Field.HOST_IA32_EFER, core.read64(EFER));
}

/** With EPT, #PF stays in the guest. @kvm update_exception_bitmap */
const EXCEPTION_BITMAP = (1 << UD_VECTOR) | (1 << MC_VECTOR) | (1 << DB_VECTOR) | (1 << AC_VECTOR);

/** Once a vCPU, with its VMCS current. @kvm vmx_vcpu_setup */
export function vmxVcpuSetup(vcpu: VcpuVmx): void {
  const { vmcsConfig, pages, core } = vcpu.host;
  const bitmap = pages.alloc();
  vcpu.msrBitmap = bitmap;
  core.writePhysical(bitmap, msrBitmap(vcpu.vm.msrFilter));
  vcpu.vmwrite(Field.MSR_BITMAP, bitmap);
  vcpu.vmwrite(Field.VMCS_LINK_POINTER, 0xffff_ffff_ffff_ffffn);
  vcpu.vmwrite(Field.PIN_BASED_VM_EXEC_CONTROL, vmcsConfig.pin);
  vcpu.vmwrite(Field.CPU_BASED_VM_EXEC_CONTROL, vmcsConfig.primary);
  vcpu.vmwrite(Field.SECONDARY_VM_EXEC_CONTROL, vmcsConfig.secondary);
  vcpu.vmwrite(Field.PAGE_FAULT_ERROR_CODE_MASK, 0);
  vcpu.vmwrite(Field.PAGE_FAULT_ERROR_CODE_MATCH, 0);
  vcpu.vmwrite(Field.CR3_TARGET_COUNT, 0);
  vmxSetConstantHostState(vcpu);
  vcpu.vmwrite(Field.HOST_FS_BASE, 0n);
  vcpu.vmwrite(Field.HOST_GS_BASE, 0n);
  vcpu.vmwrite(Field.VM_EXIT_MSR_STORE_COUNT, 0);
  vcpu.vmwrite(Field.VM_EXIT_MSR_LOAD_COUNT, 0);
  vcpu.vmwrite(Field.VM_ENTRY_MSR_LOAD_COUNT, 0);
  vcpu.vmwrite(Field.VM_EXIT_CONTROLS, vmcsConfig.exit);
  vcpu.vmwrite(Field.VM_ENTRY_CONTROLS, vmcsConfig.entry);
  if (vmcsConfig.entry & EntryControl.LOAD_IA32_PAT) vcpu.vmwrite(Field.GUEST_IA32_PAT, vcpu.arch.pat);
  if (vmcsConfig.primary & Primary.USE_TSC_OFFSETTING) vcpu.vmwrite(Field.TSC_OFFSET, 0n);
  if (vmcsConfig.secondary & Secondary.ENABLE_VPID) vcpu.vmwrite(Field.VIRTUAL_PROCESSOR_ID, vcpu.vpid);
  vcpu.vmwrite(Field.EPT_POINTER, vcpu.vm.ept.eptp);
  vcpu.vmwrite(Field.EXCEPTION_BITMAP, EXCEPTION_BITMAP);
  writeGuestHostMasks(vcpu);
}

const FLAT16: Segment = {
  base: 0n,
  limit: 0xffff,
  selector: 0,
  type: 3,
  present: 1,
  dpl: 0,
  db: 0,
  s: 1,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
};
const APIC_BASE_RESET = 0xfee0_0800n;
const RDX_RESET = 0x600n;

/** RESET of a vCPU, or INIT, which leaves 0x140, the APIC base and most MSRs. @kvm vmx_vcpu_reset, kvm_vcpu_reset */
export function vmxVcpuReset(vcpu: VcpuVmx, initEvent = false): void {
  const { arch } = vcpu;
  for (let i = 0; i < 16; i++) vcpu.setGpr(i, i === 2 ? RDX_RESET : 0n);
  arch.cr8 = 0n;
  arch.nmiPending = 0;
  arch.nmiInjected = false;
  arch.exception.pending = false;
  arch.exception.injected = false;
  arch.interrupt.injected = false;
  if (!initEvent) {
    arch.apicBase = APIC_BASE_RESET | (vcpu.id === 0 ? MSR_IA32_APICBASE_BSP : 0n);
    arch.msrMiscFeaturesEnables = 0n;
    vcpu.vmwrite(Field.GUEST_SYSENTER_CS, 0);
    vcpu.vmwrite(Field.GUEST_SYSENTER_ESP, 0n);
    vcpu.vmwrite(Field.GUEST_SYSENTER_EIP, 0n);
    vcpu.vmwrite(Field.GUEST_IA32_DEBUGCTL, 0n);
  }
  for (const name of SEGMENT_NAMES) vmxSetSegment(vcpu, name, FLAT16);
  vmxSetSegment(vcpu, "cs", { ...FLAT16, selector: 0xf000, base: 0xffff_0000n, type: 11 });
  vmxSetSegment(vcpu, "tr", { ...FLAT16, type: 11, s: 0 });
  vmxSetSegment(vcpu, "ldt", { ...FLAT16, type: 2, s: 0 });
  vcpu.vmwrite(Field.GUEST_RFLAGS, 2n);
  vcpu.rip = 0xfff0n;
  vmxSetGdt(vcpu, { base: 0n, limit: 0xffff });
  vmxSetIdt(vcpu, { base: 0n, limit: 0xffff });
  vcpu.vmwrite(Field.GUEST_ACTIVITY_STATE, 0);
  vcpu.vmwrite(Field.GUEST_INTERRUPTIBILITY_INFO, 0);
  vcpu.vmwrite(Field.GUEST_PENDING_DBG_EXCEPTIONS, 0n);
  vcpu.vmwrite(Field.GUEST_DR7, 0x400n);
  vcpu.vmwrite(Field.GUEST_CR3, 0n);
  vcpu.vmwrite(Field.VM_ENTRY_INTR_INFO_FIELD, 0);
  vmxSetCr0(vcpu, CR0_CD | CR0_NW | CR0_ET);
  vmxSetCr4(vcpu, 0n);
  vmxSetEfer(vcpu, 0n);
}

/** Real-mode code at vector << 12. @kvm kvm_vcpu_deliver_sipi_vector */
export function kvmSetSegmentForSipi(vcpu: VcpuVmx, vector: number): void {
  const cs = vmxGetSegment(vcpu, "cs");
  vmxSetSegment(vcpu, "cs", { ...cs, selector: vector << 8, base: BigInt(vector << 12) });
  vcpu.rip = 0n;
}

/** 0xCE of a new vCPU. @kvm kvm_arch_vcpu_setup (5.0), kvm_arch_vcpu_create */
export function initialPlatformInfo(vcpu: VcpuVmx): bigint {
  const stuffed = !vcpu.vm.rules.featureMsrs || !(vcpu.vm.disabledQuirks & KVM_X86_QUIRK_STUFF_FEATURE_MSRS);
  return stuffed ? PLATFORM_INFO_CPUID_FAULT : 0n;
}
