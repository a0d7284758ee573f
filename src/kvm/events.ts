import { DR6 } from "../../assembly/abi/state.ts";
import { kvmCpuGetInterrupt, kvmCpuHasInterrupt } from "./lapic.ts";
import type { VcpuVmx } from "./vcpu.ts";
import {
  GUEST_INTR_STATE_MOV_SS,
  GUEST_INTR_STATE_NMI,
  GUEST_INTR_STATE_STI,
  INTR_ERROR_CODE,
  INTR_VALID,
  IntrType,
  Primary,
} from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

export const DB_VECTOR = 1;
export const BP_VECTOR = 3;
export const OF_VECTOR = 4;
export const UD_VECTOR = 6;
export const DF_VECTOR = 8;
export const GP_VECTOR = 13;
export const PF_VECTOR = 14;
export const AC_VECTOR = 17;
export const MC_VECTOR = 18;

/** vcpu->guest_debug: no NMI and no interrupt goes in. */
export const KVM_GUESTDBG_BLOCKIRQ = 0x10_0000;

const X86_EFLAGS_RF = 0x1_0000n;
const X86_EFLAGS_IF = 0x200;
const CR0_PE = 1n;
const DR7_GD = 0x2000n;

type ExceptionClass = "benign" | "contributory" | "pf";

/** @kvm exception_class */
function exceptionClass(vector: number): ExceptionClass {
  if (vector === PF_VECTOR) return "pf";
  return [0, 10, 11, 12, 13].includes(vector) ? "contributory" : "benign";
}

/** Faults push RF = 1; traps and aborts don't. @kvm exception_type */
function isFault(vector: number): boolean {
  return ![DB_VECTOR, BP_VECTOR, OF_VECTOR, DF_VECTOR, MC_VECTOR].includes(vector);
}

/** Two exceptions at once become one. @kvm kvm_multiple_exception */
function kvmMultipleException(
  vcpu: VcpuVmx,
  nr: number,
  errorCode: number | undefined,
  payload: bigint,
  reinject: boolean,
): void {
  const { exception } = vcpu.arch;
  const queue = (vector: number, code: number | undefined, injected: boolean): void => {
    const hasErrorCode = code !== undefined && (vcpu.arch.cr0 & CR0_PE) !== 0n;
    exception.pending = !injected;
    exception.injected = injected;
    exception.nr = vector;
    exception.hasErrorCode = hasErrorCode;
    exception.errorCode = code ?? 0;
    exception.payload = payload;
    exception.source = "kvm";
  };
  if (!exception.pending && !exception.injected) {
    queue(nr, errorCode, reinject);
    return;
  }
  if (exception.nr === DF_VECTOR) {
    vcpu.arch.tripleFault = true;
    return;
  }
  const first = exceptionClass(exception.nr);
  const second = exceptionClass(nr);
  if ((first === "contributory" && second === "contributory") || (first === "pf" && second !== "benign")) {
    queue(DF_VECTOR, 0, false);
  } else {
    queue(nr, errorCode, reinject);
  }
}

/** @kvm kvm_queue_exception, kvm_queue_exception_e */
export function kvmQueueException(vcpu: VcpuVmx, nr: number, errorCode?: number): void {
  kvmMultipleException(vcpu, nr, errorCode, 0n, false);
}

export function kvmQueueDebug(vcpu: VcpuVmx, dr6: bigint): void {
  kvmMultipleException(vcpu, DB_VECTOR, undefined, dr6, false);
}

/** @kvm kvm_requeue_exception, kvm_requeue_exception_e */
export function kvmRequeueException(vcpu: VcpuVmx, nr: number, errorCode?: number): void {
  kvmMultipleException(vcpu, nr, errorCode, 0n, true);
}

/** @kvm kvm_inject_gp */
export function kvmInjectGp(vcpu: VcpuVmx, errorCode: number): void {
  kvmQueueException(vcpu, GP_VECTOR, errorCode);
}

/** @kvm vmx_get_cpl */
export function vmxGetCpl(vcpu: VcpuVmx): number {
  return (vcpu.vmread32(Field.GUEST_SS_AR_BYTES) >> 5) & 3;
}

/** False with #GP(0) queued where the guest's CPL is above `required`. @kvm kvm_require_cpl */
export function kvmRequireCpl(vcpu: VcpuVmx, required: number): boolean {
  if (vmxGetCpl(vcpu) <= required) return true;
  kvmQueueException(vcpu, GP_VECTOR, 0);
  return false;
}

/** A registered interrupt goes in at the next entry. @kvm kvm_queue_interrupt */
export function kvmQueueInterrupt(vcpu: VcpuVmx, vector: number, soft: boolean): void {
  vcpu.arch.interrupt.injected = true;
  vcpu.arch.interrupt.nr = vector;
  vcpu.arch.interrupt.soft = soft;
}

/** @kvm vmx_queue_exception */
function vmxQueueException(vcpu: VcpuVmx): void {
  const { nr, hasErrorCode, errorCode } = vcpu.arch.exception;
  let info = nr | INTR_VALID;
  if (hasErrorCode) {
    vcpu.vmwrite(Field.VM_ENTRY_EXCEPTION_ERROR_CODE, errorCode);
    info |= INTR_ERROR_CODE;
  }
  if (nr === BP_VECTOR || nr === OF_VECTOR) {
    vcpu.vmwrite(Field.VM_ENTRY_INSTRUCTION_LEN, vcpu.arch.eventExitInstLen);
    info |= IntrType.SOFT_EXCEPTION;
  } else {
    info |= IntrType.HARD_EXCEPTION;
  }
  vcpu.vmwrite(Field.VM_ENTRY_INTR_INFO_FIELD, info);
  vcpu.vmwrite(Field.GUEST_ACTIVITY_STATE, 0);
}

/** @kvm vmx_inject_irq */
function vmxInjectIrq(vcpu: VcpuVmx, reinjected = false): void {
  const { nr, soft } = vcpu.arch.interrupt;
  vcpu.host.trace?.({ name: "kvm_inj_virq", vector: nr, soft, reinjected });
  let info = nr | INTR_VALID;
  if (soft) {
    info |= IntrType.SOFT_INTR;
    vcpu.vmwrite(Field.VM_ENTRY_INSTRUCTION_LEN, vcpu.arch.eventExitInstLen);
  }
  vcpu.vmwrite(Field.VM_ENTRY_INTR_INFO_FIELD, info);
  vcpu.vmwrite(Field.GUEST_ACTIVITY_STATE, 0);
  vcpu.host.ledger.count("irq_injections");
}

/** @kvm vmx_inject_nmi */
function vmxInjectNmi(vcpu: VcpuVmx): void {
  vcpu.host.ledger.count("nmi_injections");
  vcpu.vmwrite(Field.VM_ENTRY_INTR_INFO_FIELD, INTR_VALID | IntrType.NMI | 2);
  vcpu.vmwrite(Field.GUEST_ACTIVITY_STATE, 0);
}

/** @kvm vmx_interrupt_allowed */
export function vmxInterruptAllowed(vcpu: VcpuVmx): boolean {
  const blocked = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;
  return (
    (vcpu.vmread32(Field.GUEST_RFLAGS) & X86_EFLAGS_IF) !== 0 &&
    (vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO) & blocked) === 0
  );
}

/** @kvm vmx_nmi_allowed */
export function vmxNmiAllowed(vcpu: VcpuVmx): boolean {
  const blocked = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS | GUEST_INTR_STATE_NMI;
  return (vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO) & blocked) === 0;
}

/** A pending #DB updates DR6 and ends DR7.GD when it is injected. @kvm kvm_deliver_exception_payload */
function deliverPayload(vcpu: VcpuVmx): void {
  const { core } = vcpu.host;
  core.write64(DR6, (core.read64(DR6) & ~0xfn) | vcpu.arch.exception.payload);
  const { hiddenDebugRegs: hidden } = vcpu.arch;
  if (hidden !== undefined) {
    vcpu.arch.hiddenDebugRegs = { ...hidden, dr7: hidden.dr7 & ~DR7_GD };
    return;
  }
  const dr7 = vcpu.vmread(Field.GUEST_DR7);
  if (dr7 & DR7_GD) vcpu.vmwrite(Field.GUEST_DR7, dr7 & ~DR7_GD);
}

/** An event whose delivery did not end goes in again. */
export function reinjectEvent(vcpu: VcpuVmx): void {
  const { exception, interrupt, nmiInjected } = vcpu.arch;
  if (exception.injected) {
    // 5.0 traces an exception once
    if (vcpu.vm.rules.tracesReinjection) traceException(vcpu, true);
    vmxQueueException(vcpu);
  } else if (nmiInjected) vmxInjectNmi(vcpu);
  else if (interrupt.injected) vmxInjectIrq(vcpu, true);
}

/** What must be delivered at this entry: what was interrupted first, then exception, NMI, interrupt. @kvm inject_pending_event */
export function injectPendingEvent(vcpu: VcpuVmx): void {
  const { arch } = vcpu;
  const { exception } = arch;
  if (exception.injected || !exception.pending) reinjectEvent(vcpu);
  if (exception.pending) injectException(vcpu);
  if (arch.guestDebug & KVM_GUESTDBG_BLOCKIRQ) return;
  const { vmx } = vcpu.host;
  if (arch.nmiPending > 0) {
    if (canInject(vcpu) && vmxNmiAllowed(vcpu)) {
      arch.nmiPending -= 1;
      arch.nmiInjected = true;
      vmxInjectNmi(vcpu);
    }
    if (arch.nmiPending > 0) vmx.setBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.VIRTUAL_NMI_PENDING);
  }
  if (!kvmCpuHasInterrupt(vcpu)) return;
  if (canInject(vcpu) && vmxInterruptAllowed(vcpu)) {
    kvmQueueInterrupt(vcpu, kvmCpuGetInterrupt(vcpu), false);
    vmxInjectIrq(vcpu);
  }
  if (kvmCpuHasInterrupt(vcpu)) vmx.setBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.VIRTUAL_INTR_PENDING);
}

/** Nothing goes in at this entry yet. */
function canInject({ arch }: VcpuVmx): boolean {
  return !arch.exception.injected && !arch.interrupt.injected && !arch.nmiInjected;
}

function traceException(vcpu: VcpuVmx, reinjected: boolean): void {
  const { nr, hasErrorCode, errorCode } = vcpu.arch.exception;
  const code = hasErrorCode ? errorCode : undefined;
  vcpu.host.trace?.({ name: "kvm_inj_exception", vector: nr, errorCode: code, reinjected });
}

function injectException(vcpu: VcpuVmx): void {
  const { exception } = vcpu.arch;
  traceException(vcpu, false);
  exception.pending = false;
  exception.injected = true;
  if (isFault(exception.nr)) vcpu.vmwrite(Field.GUEST_RFLAGS, vcpu.vmread(Field.GUEST_RFLAGS) | X86_EFLAGS_RF);
  if (exception.nr === DB_VECTOR) deliverPayload(vcpu);
  vmxQueueException(vcpu);
}
