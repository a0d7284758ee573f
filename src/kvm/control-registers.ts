import {
  CR0_AM,
  CR0_CD,
  CR0_EM,
  CR0_ET,
  CR0_MP,
  CR0_NE,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR0_WP,
  CR4_DE,
  CR4_LA57,
  CR4_MCE,
  CR4_OSFXSR,
  CR4_OSXMMEXCPT,
  CR4_PAE,
  CR4_PCE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PKE,
  CR4_PSE,
  CR4_PVI,
  CR4_SMAP,
  CR4_SMEP,
  CR4_TSD,
  CR4_VMXE,
  EFER_LMA,
  EFER_LME,
  EFER_NX,
  EFER_SCE,
} from "./cr-bits.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { EntryControl, ExitControl } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const CR0_RESERVED_BITS = ~(
  CR0_PE |
  CR0_MP |
  CR0_EM |
  CR0_TS |
  CR0_ET |
  CR0_NE |
  CR0_WP |
  CR0_AM |
  CR0_NW |
  CR0_CD |
  CR0_PG
);
const CR0_GUEST_OWNED = CR0_TS;
const CR4_GUEST_OWNED = CR4_PVI | CR4_DE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_LA57 | CR4_TSD | CR4_PGE;
const CR4_KNOWN = CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | 1n;
const CR4_PDPTR_BITS = CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP;
const EFER_KNOWN = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
const CS_L = 1 << 13;
const TR_BUSY_64 = 11;

/** @kvm kvm_read_cr0 */
export function kvmReadCr0(vcpu: VcpuVmx): bigint {
  return (vcpu.arch.cr0 & ~CR0_GUEST_OWNED) | (vcpu.vmread(Field.GUEST_CR0) & CR0_GUEST_OWNED);
}

/** @kvm kvm_read_cr4 */
export function kvmReadCr4(vcpu: VcpuVmx): bigint {
  return (vcpu.arch.cr4 & ~CR4_GUEST_OWNED) | (vcpu.vmread(Field.GUEST_CR4) & CR4_GUEST_OWNED);
}

export function writeGuestHostMasks(vcpu: VcpuVmx): void {
  vcpu.vmwrite(Field.CR0_GUEST_HOST_MASK, BigInt.asUintN(64, ~CR0_GUEST_OWNED));
  vcpu.vmwrite(Field.CR4_GUEST_HOST_MASK, BigInt.asUintN(64, ~CR4_GUEST_OWNED));
}

/** EFER as the processor must hold it, switched at entry and exit where it differs. @kvm vmx_set_efer, update_transition_efer */
export function vmxSetEfer(vcpu: VcpuVmx, efer: bigint): void {
  const { vmx, vmcsConfig } = vcpu.host;
  vcpu.arch.efer = efer;
  if (efer & EFER_LMA) vmx.setBits(Field.VM_ENTRY_CONTROLS, EntryControl.IA32E_MODE);
  else vmx.clearBits(Field.VM_ENTRY_CONTROLS, EntryControl.IA32E_MODE);
  if (vmcsConfig.entry & EntryControl.LOAD_IA32_EFER && vmcsConfig.exit & ExitControl.LOAD_IA32_EFER) {
    vmx.setBits(Field.VM_ENTRY_CONTROLS, EntryControl.LOAD_IA32_EFER);
    vmx.setBits(Field.VM_EXIT_CONTROLS, ExitControl.LOAD_IA32_EFER);
    vcpu.vmwrite(Field.GUEST_IA32_EFER, efer & EFER_LMA ? efer : efer & ~EFER_LME);
  }
  vcpu.guestMsrsDirty = true;
}

/** @kvm enter_lmode */
function enterLmode(vcpu: VcpuVmx): void {
  const rights = vcpu.vmread32(Field.GUEST_TR_AR_BYTES);
  if ((rights & 15) !== TR_BUSY_64) vcpu.vmwrite(Field.GUEST_TR_AR_BYTES, (rights & ~15) | TR_BUSY_64);
  vmxSetEfer(vcpu, vcpu.arch.efer | EFER_LMA);
}

/** @kvm vmx_set_cr0 */
export function vmxSetCr0(vcpu: VcpuVmx, cr0: bigint): void {
  if (vcpu.arch.efer & EFER_LME) {
    const paging = (vcpu.arch.cr0 & CR0_PG) !== 0n;
    if (!paging && cr0 & CR0_PG) enterLmode(vcpu);
    if (paging && !(cr0 & CR0_PG)) vmxSetEfer(vcpu, vcpu.arch.efer & ~EFER_LMA);
  }
  vcpu.vmwrite(Field.CR0_READ_SHADOW, cr0);
  vcpu.vmwrite(Field.GUEST_CR0, (cr0 & ~(CR0_NW | CR0_CD)) | CR0_NE);
  vcpu.arch.cr0 = cr0;
}

/** @kvm vmx_set_cr4 */
export function vmxSetCr4(vcpu: VcpuVmx, cr4: bigint): boolean {
  if (cr4 & CR4_VMXE) return false; // no nested virtualization
  vcpu.arch.cr4 = cr4;
  vcpu.vmwrite(Field.CR4_READ_SHADOW, cr4);
  vcpu.vmwrite(Field.GUEST_CR4, cr4 | CR4_VMXE);
  return true;
}

/** @kvm load_pdptrs */
function loadPdptrs(vcpu: VcpuVmx, cr3: bigint): boolean {
  const bytes = vcpu.vm.slots.read(cr3 & 0xffff_ffe0n, 32);
  if (bytes === undefined) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const entries = [0, 1, 2, 3].map((i) => view.getBigUint64(8 * i, true));
  // present entries: bits 2:1 and 8:5 are reserved
  if (entries.some((entry) => entry & 1n && entry & 0x1e6n)) return false;
  for (let i = 0; i < 4; i++) vcpu.vmwrite(Field.GUEST_PDPTR0 + 2 * i, entries[i]!);
  return true;
}

/** False: #GP(0). @kvm kvm_set_cr0 */
export function kvmSetCr0(vcpu: VcpuVmx, value: bigint): boolean {
  const old = kvmReadCr0(vcpu);
  const cr0 = (value | CR0_ET) & 0xffff_ffffn;
  if (value >> 32n) return false;
  const next = cr0 & ~(CR0_RESERVED_BITS & 0xffff_ffffn);
  if (next & CR0_NW && !(next & CR0_CD)) return false;
  if (next & CR0_PG && !(next & CR0_PE)) return false;
  if (!(old & CR0_PG) && next & CR0_PG) {
    const pae = (kvmReadCr4(vcpu) & CR4_PAE) !== 0n;
    if (vcpu.arch.efer & EFER_LME) {
      if (!pae || vcpu.vmread32(Field.GUEST_CS_AR_BYTES) & CS_L) return false;
    } else if (pae && !loadPdptrs(vcpu, vcpu.vmread(Field.GUEST_CR3))) {
      return false;
    }
  }
  if (!(next & CR0_PG) && kvmReadCr4(vcpu) & CR4_PCIDE) return false;
  vmxSetCr0(vcpu, next);
  return true;
}

/** Bits of CR4 that the guest's CPUID allows. @kvm kvm_valid_cr4 */
function cr4Reserved(vcpu: VcpuVmx): bigint {
  const leaf1 = vcpu.arch.cpuid.find((e) => e.function === 1);
  const leaf7 = vcpu.arch.cpuid.find((e) => e.function === 7);
  let known = CR4_KNOWN;
  if (leaf1 && leaf1.edx & (1 << 24)) known |= CR4_OSFXSR;
  if (leaf1 && leaf1.edx & (1 << 25)) known |= CR4_OSXMMEXCPT;
  if (leaf1 && leaf1.ecx & (1 << 17)) known |= CR4_PCIDE;
  if (leaf7 && leaf7.ebx & (1 << 7)) known |= CR4_SMEP;
  if (leaf7 && leaf7.ebx & (1 << 20)) known |= CR4_SMAP;
  if (leaf7 && leaf7.ecx & (1 << 3)) known |= CR4_PKE;
  return BigInt.asUintN(64, ~known);
}

/** False: #GP(0). @kvm kvm_set_cr4 */
export function kvmSetCr4(vcpu: VcpuVmx, cr4: bigint): boolean {
  const old = kvmReadCr4(vcpu);
  if (cr4 & cr4Reserved(vcpu)) return false;
  const paging = (vcpu.arch.cr0 & CR0_PG) !== 0n;
  if (vcpu.arch.efer & EFER_LMA) {
    if (!(cr4 & CR4_PAE)) return false;
  } else if (paging && cr4 & CR4_PAE && (cr4 ^ old) & CR4_PDPTR_BITS) {
    if (!loadPdptrs(vcpu, vcpu.vmread(Field.GUEST_CR3))) return false;
  }
  if (cr4 & CR4_PCIDE && !(old & CR4_PCIDE)) {
    if (!(vcpu.arch.efer & EFER_LMA) || vcpu.vmread(Field.GUEST_CR3) & 0xfffn) return false;
  }
  return vmxSetCr4(vcpu, cr4);
}

/** False: #GP(0). Guest WRMSR of EFER; LMA is the processor's. @kvm set_efer */
export function kvmSetEfer(vcpu: VcpuVmx, value: bigint, hostInitiated: boolean): boolean {
  if (value & ~EFER_KNOWN) return false;
  const old = vcpu.arch.efer;
  const paging = (vcpu.arch.cr0 & CR0_PG) !== 0n;
  if (!hostInitiated && paging && (old & EFER_LME) !== (value & EFER_LME)) return false;
  vmxSetEfer(vcpu, (value & ~EFER_LMA) | (old & EFER_LMA));
  return true;
}

/** KVM_SET_SREGS loads PDPTRs after everything else. */
export function loadPdptrsForSregs(vcpu: VcpuVmx): void {
  if (isPaePaging(vcpu)) loadPdptrs(vcpu, vcpu.vmread(Field.GUEST_CR3));
}

/** @kvm is_pae_paging */
export function isPaePaging({ arch }: VcpuVmx): boolean {
  return (arch.cr4 & CR4_PAE) !== 0n && (arch.cr0 & CR0_PG) !== 0n && !(arch.efer & EFER_LMA);
}
