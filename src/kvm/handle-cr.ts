import { DR6 } from "../../assembly/abi/state.ts";
import { kvmReadCr0, kvmReadCr4, kvmSetCr0, kvmSetCr4, vmxSetCr0 } from "./control-registers.ts";
import { CR0_EM, CR0_MP, CR0_PE, CR0_TS, CR4_DE } from "./cr-bits.ts";
import { DB_VECTOR, kvmInjectGp, kvmQueueException, kvmRequireCpl, UD_VECTOR } from "./events.ts";
import {
  DR6_ACTIVE_LOW,
  exitDebug,
  guestDebugRegisters,
  KVM_GUESTDBG_USE_HW_BP,
  setGuestDebugRegisters,
} from "./guest-debug.ts";
import { kvmGetCr8, kvmSetCr8 } from "./lapic.ts";
import { kvmSkipEmulatedInstruction } from "./skip.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Primary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const MOV_TO_CR = 0;
const MOV_FROM_CR = 1;
const CLTS = 2;

/** #GP(0), or past the instruction. @kvm kvm_complete_insn_gp */
export function kvmCompleteInsnGp(vcpu: VcpuVmx, ok: boolean): boolean {
  if (ok) return kvmSkipEmulatedInstruction(vcpu);
  kvmInjectGp(vcpu, 0);
  return true;
}

function moveToCr(vcpu: VcpuVmx, cr: number, value: bigint): boolean {
  switch (cr) {
    case 0:
      return kvmCompleteInsnGp(vcpu, kvmSetCr0(vcpu, value));
    case 3:
      vcpu.vmwrite(Field.GUEST_CR3, value);
      return kvmSkipEmulatedInstruction(vcpu);
    case 4:
      return kvmCompleteInsnGp(vcpu, kvmSetCr4(vcpu, value));
    default: {
      const before = kvmGetCr8(vcpu);
      const again = kvmCompleteInsnGp(vcpu, kvmSetCr8(vcpu, value & 0xffn));
      if (vcpu.apic !== undefined) return again;
      // without an in-kernel APIC user space must learn of a lowered priority
      if (before <= vcpu.arch.cr8) return again;
      vcpu.userExit = { reason: "setTpr" };
      return false;
    }
  }
}

/** Qualification: 3:0 register, 5:4 type, 11:8 GPR, 31:16 LMSW source. @kvm handle_cr */
export function handleCr(vcpu: VcpuVmx): boolean {
  const qualification = vcpu.vmread32(Field.EXIT_QUALIFICATION);
  const cr = qualification & 15;
  const gpr = (qualification >> 8) & 15;
  switch ((qualification >> 4) & 3) {
    case MOV_TO_CR:
      return moveToCr(vcpu, cr, vcpu.gpr(gpr));
    case MOV_FROM_CR:
      vcpu.setGpr(gpr, cr === 3 ? vcpu.vmread(Field.GUEST_CR3) : kvmGetCr8(vcpu));
      return kvmSkipEmulatedInstruction(vcpu);
    case CLTS:
      vmxSetCr0(vcpu, kvmReadCr0(vcpu) & ~CR0_TS);
      return kvmSkipEmulatedInstruction(vcpu);
    default: {
      const source = BigInt(qualification >>> 16) & (CR0_PE | CR0_MP | CR0_EM | CR0_TS);
      const keep = ~(CR0_MP | CR0_EM | CR0_TS);
      // LMSW can set PE and not clear it
      return kvmCompleteInsnGp(vcpu, kvmSetCr0(vcpu, (kvmReadCr0(vcpu) & keep) | source));
    }
  }
}

const DR7_GD = 0x2000n;
const DR6_BD = 0x2000n;

/** The first MOV DR turns its exit off until the next exit; DR0-DR3 and DR6 are in the core. @kvm handle_dr */
export function handleDr(vcpu: VcpuVmx): boolean {
  const qualification = vcpu.vmread32(Field.EXIT_QUALIFICATION);
  const dr = qualification & 7;
  if ((dr === 4 || dr === 5) && kvmReadCr4(vcpu) & CR4_DE) {
    kvmQueueException(vcpu, UD_VECTOR);
    return true;
  }
  if (!kvmRequireCpl(vcpu, 0)) return true;
  const dr7 = vcpu.vmread(Field.GUEST_DR7);
  if (dr7 & DR7_GD) {
    const { core } = vcpu.host;
    if (vcpu.arch.guestDebug & KVM_GUESTDBG_USE_HW_BP) return exitDebug(vcpu, DR6_BD);
    core.write64(DR6, (core.read64(DR6) & ~0xfn) | DR6_BD);
    kvmQueueException(vcpu, DB_VECTOR);
    return true;
  }
  if (vcpu.arch.guestDebug === 0) {
    vcpu.host.vmx.clearBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.MOV_DR_EXITING);
    return true;
  }
  const gpr = (qualification >> 8) & 15;
  if (qualification & MOV_FROM_DR) {
    vcpu.setGpr(gpr, getDr(vcpu, dr));
    return kvmSkipEmulatedInstruction(vcpu);
  }
  return kvmCompleteInsnGp(vcpu, setDr(vcpu, dr, vcpu.gpr(gpr)));
}

/** Qualification of a MOV DR exit: 2:0 register, 4 from DR, 11:8 GPR. */
const MOV_FROM_DR = 16;
const DR6_VOLATILE = 0xe00fn;
const DR7_VOLATILE = 0xffff_2bffn;
const DR7_FIXED_1 = 0x400n;

/** @kvm kvm_get_dr */
function getDr(vcpu: VcpuVmx, dr: number): bigint {
  const { db, dr7 } = guestDebugRegisters(vcpu);
  if (dr < 4) return db[dr]!;
  return dr === 4 || dr === 6 ? vcpu.host.core.read64(DR6) : dr7;
}

/** False: #GP(0). @kvm kvm_set_dr */
function setDr(vcpu: VcpuVmx, dr: number, value: bigint): boolean {
  const { db, dr7 } = guestDebugRegisters(vcpu);
  if (dr < 4) {
    db[dr] = value;
    setGuestDebugRegisters(vcpu, db, dr7);
    return true;
  }
  if (value >> 32n) return false;
  if (dr === 4 || dr === 6) vcpu.host.core.write64(DR6, (value & DR6_VOLATILE) | DR6_ACTIVE_LOW);
  else setGuestDebugRegisters(vcpu, db, (value & DR7_VOLATILE) | DR7_FIXED_1);
  return true;
}
