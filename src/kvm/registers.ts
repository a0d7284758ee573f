import { CR2, DR6 } from "../../assembly/abi/state.ts";
import { GPR_NAMES, type GprName } from "../core/index.ts";
import { kvmReadCr0, kvmReadCr4, loadPdptrsForSregs, vmxSetCr0, vmxSetCr4, vmxSetEfer } from "./control-registers.ts";
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
function validateSregs(sregs: Sregs): void {
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

/** @kvm __set_sregs */
export function setSregs(vcpu: VcpuVmx, sregs: Sregs): void {
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
  if (!loadPdptrsForSregs(vcpu)) throw new KvmError("KVM_SET_SREGS", "EINVAL", "bad PDPTEs");
  const vector = vcpu.apic === undefined ? sregs.interruptBitmap.findIndex((word) => word !== 0n) : -1;
  if (vector >= 0) {
    const bits = sregs.interruptBitmap[vector]!;
    kvmQueueInterrupt(vcpu, 64 * vector + (bits & -bits).toString(2).length - 1, false);
  }
  // the order above may have gone through enter_lmode or exit_lmode
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
