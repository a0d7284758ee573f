import { DR0, DR6 } from "../../assembly/abi/state.ts";
import { KvmError } from "./errors.ts";
import { BP_VECTOR, DB_VECTOR, KVM_GUESTDBG_BLOCKIRQ, kvmQueueDebug, kvmQueueException } from "./events.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

export const KVM_GUESTDBG_ENABLE = 1;
export const KVM_GUESTDBG_SINGLESTEP = 2;
export const KVM_GUESTDBG_USE_SW_BP = 0x1_0000;
export const KVM_GUESTDBG_USE_HW_BP = 0x2_0000;
export const KVM_GUESTDBG_INJECT_DB = 0x4_0000;
export const KVM_GUESTDBG_INJECT_BP = 0x8_0000;

/** What KVM_CAP_SET_GUEST_DEBUG2 answers; the call itself takes other bits without effect. */
export const KVM_GUESTDBG_VALID_MASK: number =
  KVM_GUESTDBG_ENABLE |
  KVM_GUESTDBG_SINGLESTEP |
  KVM_GUESTDBG_USE_SW_BP |
  KVM_GUESTDBG_USE_HW_BP |
  KVM_GUESTDBG_INJECT_DB |
  KVM_GUESTDBG_INJECT_BP |
  KVM_GUESTDBG_BLOCKIRQ;

const X86_EFLAGS_TF = 0x100n;
const CS_L = 1 << 13;
/** Bits of DR6 that are 1 in a register of an idle processor. */
export const DR6_ACTIVE_LOW = 0xffff_0ff0n;
/** Linux 5.0 takes bit 16 (RTM) for one that the exit qualification has when it is idle. */
const DR6_FIXED_1 = 0xfffe_0ff0n;
export const DR6_BS = 0x4000n;

/** struct kvm_guest_debug. */
export interface GuestDebug {
  /** KVM_GUESTDBG_*; without ENABLE the rest is dropped. */
  readonly control: number;
  /** DR0-DR3 and, at 7, DR7 of KVM_GUESTDBG_USE_HW_BP. */
  readonly debugreg?: readonly bigint[];
}

/** @kvm kvm_get_linear_rip */
export function kvmGetLinearRip(vcpu: VcpuVmx): bigint {
  if (vcpu.vmread32(Field.GUEST_CS_AR_BYTES) & CS_L) return vcpu.rip;
  return (vcpu.vmread(Field.GUEST_CS_BASE) + vcpu.rip) & 0xffff_ffffn;
}

/** The guest's own RFLAGS: TF of single stepping is hidden. @kvm kvm_get_rflags */
export function kvmGetRflags(vcpu: VcpuVmx): bigint {
  const rflags = vcpu.vmread(Field.GUEST_RFLAGS);
  return vcpu.arch.guestDebug & KVM_GUESTDBG_SINGLESTEP ? rflags & ~X86_EFLAGS_TF : rflags;
}

/** @kvm kvm_set_rflags */
export function kvmSetRflags(vcpu: VcpuVmx, rflags: bigint): void {
  const { guestDebug, singlestepRip } = vcpu.arch;
  const step = guestDebug & KVM_GUESTDBG_SINGLESTEP && kvmGetLinearRip(vcpu) === singlestepRip;
  vcpu.vmwrite(Field.GUEST_RFLAGS, step ? rflags | X86_EFLAGS_TF : rflags);
}

function debugAddresses(vcpu: VcpuVmx): bigint[] {
  return [0, 1, 2, 3].map((i) => vcpu.host.core.read64(DR0 + 8 * i));
}

function loadDebugAddresses(vcpu: VcpuVmx, addresses: readonly bigint[]): void {
  for (let i = 0; i < 4; i++) vcpu.host.core.write64(DR0 + 8 * i, addresses[i] ?? 0n);
}

/** DR0-DR3 and DR7 as the guest has them, whatever acts. @kvm kvm_get_dr */
export function guestDebugRegisters(vcpu: VcpuVmx): { db: bigint[]; dr7: bigint } {
  const { hiddenDebugRegs } = vcpu.arch;
  if (hiddenDebugRegs !== undefined) return { db: [...hiddenDebugRegs.db], dr7: hiddenDebugRegs.dr7 };
  return { db: debugAddresses(vcpu), dr7: vcpu.vmread(Field.GUEST_DR7) };
}

/** What the guest has; it acts only while user space does not use the hardware's breakpoints. @kvm kvm_update_dr7 */
export function setGuestDebugRegisters(vcpu: VcpuVmx, db: readonly bigint[], dr7: bigint): void {
  if (vcpu.arch.hiddenDebugRegs !== undefined) {
    vcpu.arch.hiddenDebugRegs = { db: [...db], dr7 };
    return;
  }
  loadDebugAddresses(vcpu, db);
  vcpu.vmwrite(Field.GUEST_DR7, dr7);
}

/** KVM_SET_GUEST_DEBUG. @kvm kvm_arch_vcpu_ioctl_set_guest_debug */
export function setGuestDebug(vcpu: VcpuVmx, debug: GuestDebug): void {
  const { arch } = vcpu;
  const { control } = debug;
  if (control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
    if (arch.exception.pending) throw new KvmError("KVM_SET_GUEST_DEBUG", "EBUSY", "an exception is pending");
    if (control & KVM_GUESTDBG_INJECT_DB) kvmQueueDebug(vcpu, 0n);
    else kvmQueueException(vcpu, BP_VECTOR);
  }
  const rflags = kvmGetRflags(vcpu);
  arch.guestDebug = control & KVM_GUESTDBG_ENABLE ? control : 0;
  const guest = guestDebugRegisters(vcpu);
  arch.hiddenDebugRegs = undefined;
  if (arch.guestDebug & KVM_GUESTDBG_USE_HW_BP) {
    arch.hiddenDebugRegs = guest;
    loadDebugAddresses(vcpu, debug.debugreg ?? []);
    vcpu.vmwrite(Field.GUEST_DR7, debug.debugreg?.[7] ?? 0n);
  } else {
    setGuestDebugRegisters(vcpu, guest.db, guest.dr7);
  }
  if (arch.guestDebug & KVM_GUESTDBG_SINGLESTEP) arch.singlestepRip = kvmGetLinearRip(vcpu);
  kvmSetRflags(vcpu, rflags);
  updateExceptionBitmap(vcpu);
}

/** Software breakpoints make #BP exit. @kvm vmx_update_exception_bitmap */
export function updateExceptionBitmap(vcpu: VcpuVmx): void {
  const wanted = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
  const bits = 1 << BP_VECTOR;
  if ((vcpu.arch.guestDebug & wanted) === wanted) vcpu.host.vmx.setBits(Field.EXCEPTION_BITMAP, bits);
  else vcpu.host.vmx.clearBits(Field.EXCEPTION_BITMAP, bits);
}

/** KVM_EXIT_DEBUG for a #DB that exited; `dr6` is the exit qualification, DR7 the one that acts. @kvm handle_exception */
export function exitDebug(vcpu: VcpuVmx, dr6: bigint): false {
  vcpu.userExit = {
    reason: "debug",
    exception: DB_VECTOR,
    pc: kvmGetLinearRip(vcpu),
    dr6: dr6 | (vcpu.vm.rules.debugExitRtm ? DR6_ACTIVE_LOW : DR6_FIXED_1),
    dr7: vcpu.vmread(Field.GUEST_DR7),
  };
  return false;
}

/** An instruction that KVM completed was single-stepped. @kvm kvm_vcpu_do_singlestep */
export function kvmVcpuDoSinglestep(vcpu: VcpuVmx): boolean {
  if (vcpu.arch.guestDebug & KVM_GUESTDBG_SINGLESTEP) {
    const { singlestepRip } = vcpu.arch;
    const pc = vcpu.vm.rules.debugExitRtm ? kvmGetLinearRip(vcpu) : singlestepRip;
    // the kernel leaves dr7 as it was
    vcpu.userExit = { reason: "debug", exception: DB_VECTOR, pc, dr6: DR6_BS | DR6_ACTIVE_LOW, dr7: 0n };
    return false;
  }
  kvmQueueDebug(vcpu, DR6_BS);
  return true;
}

/** Reads DR6 as the core has it. */
export function readDr6(vcpu: VcpuVmx): bigint {
  return vcpu.host.core.read64(DR6);
}
