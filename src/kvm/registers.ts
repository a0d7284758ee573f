import { CR2, DR6 } from "../../assembly/abi/state.ts";
import { GPR_NAMES, type GprName } from "../core/index.ts";
import {
  isPaePaging,
  kvmReadCr0,
  kvmReadCr4,
  loadPdptrsForSregs,
  vmxSetCr0,
  vmxSetCr4,
  vmxSetEfer,
} from "./control-registers.ts";
import { CR0_PE, CR0_PG, CR4_OSXSAVE, CR4_PAE, EFER_LMA, EFER_LME } from "./cr-bits.ts";
import { KvmError } from "./errors.ts";
import { kvmQueueInterrupt } from "./events.ts";
import { guestDebugRegisters, kvmGetRflags, kvmSetRflags, readDr6, setGuestDebugRegisters } from "./guest-debug.ts";
import { kvmGetCr8, kvmSetApicBase, kvmSetCr8 } from "./lapic.ts";
import {
  type DescriptorTable,
  type Segment,
  vmxGetGdt,
  vmxGetIdt,
  vmxGetSegment,
  vmxSetGdt,
  vmxSetIdt,
  vmxSetSegment,
} from "./segments.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

/** struct kvm_regs. */
export type Regs = Record<GprName | "rip" | "rflags", bigint>;

/** struct kvm_sregs. */
export interface Sregs {
  cs: Segment;
  ds: Segment;
  es: Segment;
  fs: Segment;
  gs: Segment;
  ss: Segment;
  tr: Segment;
  ldt: Segment;
  gdt: DescriptorTable;
  idt: DescriptorTable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apicBase: bigint;
  /** The interrupt that is being injected, one bit of 256; all 0 with an in-kernel APIC. */
  interruptBitmap: bigint[];
}

/** struct kvm_sregs2: PDPTRs in place of the interrupt bitmap. */
export interface Sregs2 extends Omit<Sregs, "interruptBitmap"> {
  /** KVM_SREGS2_FLAGS_PDPTRS_VALID */
  flags: number;
  /** PDPTE0 to PDPTE3 with the flag, else 0. */
  pdptrs: bigint[];
}

export const KVM_SREGS2_FLAGS_PDPTRS_VALID = 1;
const PDPTE_FIELDS = [Field.GUEST_PDPTR0, Field.GUEST_PDPTR1, Field.GUEST_PDPTR2, Field.GUEST_PDPTR3] as const;

const SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"] as const;
const CS_L = 1;

/** @kvm kvm_arch_vcpu_ioctl_get_regs */
export function getRegs(vcpu: VcpuVmx): Regs {
  const regs = {} as Regs;
  GPR_NAMES.forEach((name, i) => {
    regs[name] = vcpu.gpr(i);
  });
  regs.rip = vcpu.rip;
  regs.rflags = kvmGetRflags(vcpu);
  return regs;
}

/** RFLAGS bit 1 is forced and a pending exception is dropped. @kvm kvm_arch_vcpu_ioctl_set_regs */
export function setRegs(vcpu: VcpuVmx, regs: Regs): void {
  GPR_NAMES.forEach((name, i) => {
    vcpu.setGpr(i, regs[name]);
  });
  vcpu.rip = regs.rip;
  kvmSetRflags(vcpu, regs.rflags | 2n);
  vcpu.arch.exception.pending = false;
}

function interruptBitmap({ apic, arch }: VcpuVmx): bigint[] {
  const { injected, soft, nr } = arch.interrupt;
  const words = [0n, 0n, 0n, 0n];
  if (apic === undefined && injected && !soft) words[nr >> 6] = 1n << BigInt(nr & 63);
  return words;
}

/** @kvm kvm_arch_vcpu_ioctl_get_sregs */
export function getSregs(vcpu: VcpuVmx): Sregs {
  const segments = Object.fromEntries(SEGMENTS.map((name) => [name, vmxGetSegment(vcpu, name)]));
  return {
    ...(segments as Pick<Sregs, (typeof SEGMENTS)[number]>),
    gdt: vmxGetGdt(vcpu),
    idt: vmxGetIdt(vcpu),
    cr0: kvmReadCr0(vcpu),
    cr2: vcpu.host.core.read64(CR2),
    cr3: vcpu.vmread(Field.GUEST_CR3),
    cr4: kvmReadCr4(vcpu),
    cr8: kvmGetCr8(vcpu),
    efer: vcpu.arch.efer,
    apicBase: vcpu.arch.apicBase,
    interruptBitmap: interruptBitmap(vcpu),
  };
}

/** @kvm kvm_valid_sregs */
function validateSregs(sregs: SregsCommon): void {
  const invalid = (why: string): never => {
    throw new KvmError("KVM_SET_SREGS", "EINVAL", why);
  };
  if (sregs.cr4 & CR4_OSXSAVE) invalid("CR4.OSXSAVE without XSAVE");
  if (sregs.efer & EFER_LME && sregs.cr0 & CR0_PG) {
    if (!(sregs.cr4 & CR4_PAE) || !(sregs.efer & EFER_LMA)) invalid("EFER.LME and CR0.PG need CR4.PAE and EFER.LMA");
  } else {
    if (sregs.efer & EFER_LMA) invalid("EFER.LMA without EFER.LME and CR0.PG");
    if (sregs.cs.l & CS_L) invalid("CS.L outside long mode");
  }
  if (sregs.cr0 & CR0_PG && !(sregs.cr0 & CR0_PE)) invalid("CR0.PG without CR0.PE");
}

type SregsCommon = Omit<Sregs, "interruptBitmap">;

/** @kvm __set_sregs_common */
function setSregsCommon(vcpu: VcpuVmx, sregs: SregsCommon, updatePdptrs: boolean): void {
  validateSregs(sregs);
  if (!kvmSetApicBase(vcpu, sregs.apicBase, true)) {
    throw new KvmError("KVM_SET_SREGS", "EINVAL", `APIC base 0x${sregs.apicBase.toString(16)}`);
  }
  vmxSetIdt(vcpu, sregs.idt);
  vmxSetGdt(vcpu, sregs.gdt);
  vcpu.host.core.write64(CR2, sregs.cr2);
  vcpu.vmwrite(Field.GUEST_CR3, sregs.cr3);
  kvmSetCr8(vcpu, sregs.cr8);
  vmxSetEfer(vcpu, sregs.efer);
  vmxSetCr0(vcpu, sregs.cr0);
  vcpu.arch.cr0 = sregs.cr0;
  if (!vmxSetCr4(vcpu, sregs.cr4)) throw new KvmError("KVM_SET_SREGS", "EINVAL", "CR4.VMXE: no nested virtualization");
  for (const name of SEGMENTS) vmxSetSegment(vcpu, name, sregs[name]);
  // the kernel does not look at what load_pdptrs says
  if (updatePdptrs) loadPdptrsForSregs(vcpu);
}

/** @kvm __set_sregs */
export function setSregs(vcpu: VcpuVmx, sregs: Sregs): void {
  setSregsCommon(vcpu, sregs, true);
  const vector = vcpu.apic === undefined ? sregs.interruptBitmap.findIndex((word) => word !== 0n) : -1;
  if (vector >= 0) {
    const bits = sregs.interruptBitmap[vector]!;
    kvmQueueInterrupt(vcpu, 64 * vector + (bits & -bits).toString(2).length - 1, false);
  }
  // the order above may have gone through enter_lmode or exit_lmode
  vmxSetEfer(vcpu, sregs.efer);
}

/** @kvm __get_sregs2 */
export function getSregs2(vcpu: VcpuVmx): Sregs2 {
  const { interruptBitmap: _, ...common } = getSregs(vcpu);
  const valid = isPaePaging(vcpu);
  const pdptrs = PDPTE_FIELDS.map((field) => (valid ? vcpu.vmread(field) : 0n));
  return { ...common, flags: valid ? KVM_SREGS2_FLAGS_PDPTRS_VALID : 0, pdptrs };
}

/** @kvm __set_sregs2 */
export function setSregs2(vcpu: VcpuVmx, sregs: Sregs2): void {
  const { flags, pdptrs } = sregs;
  const given = (flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) !== 0;
  const pae = (sregs.cr0 & CR0_PG) !== 0n && (sregs.cr4 & CR4_PAE) !== 0n && !(sregs.efer & EFER_LMA);
  if (flags & ~KVM_SREGS2_FLAGS_PDPTRS_VALID) throw new KvmError("KVM_SET_SREGS2", "EINVAL", `flags ${flags}`);
  if (given && !pae) throw new KvmError("KVM_SET_SREGS2", "EINVAL", "PDPTRs without PAE paging");
  setSregsCommon(vcpu, sregs, !given);
  if (given) {
    PDPTE_FIELDS.forEach((field, i) => {
      vcpu.vmwrite(field, pdptrs[i] ?? 0n);
    });
  }
  vmxSetEfer(vcpu, sregs.efer);
}

/** DR0-DR3 and DR6 are in the core, DR7 in the VMCS. @kvm kvm_vcpu_ioctl_x86_get_debugregs */
export function getDebugRegs(vcpu: VcpuVmx): bigint[] {
  const { db, dr7 } = guestDebugRegisters(vcpu);
  return [...db, readDr6(vcpu), dr7];
}

/** DR0-DR3, DR6, DR7. @kvm kvm_vcpu_ioctl_x86_set_debugregs */
export function setDebugRegs(vcpu: VcpuVmx, regs: readonly bigint[]): void {
  const [dr6 = 0n, dr7 = 0n] = regs.slice(4);
  if (dr6 >> 32n || dr7 >> 32n) throw new KvmError("KVM_SET_DEBUGREGS", "EINVAL", "bits 63:32 of DR6 or DR7");
  vcpu.host.core.write64(DR6, dr6);
  setGuestDebugRegisters(vcpu, regs.slice(0, 4), dr7);
}
