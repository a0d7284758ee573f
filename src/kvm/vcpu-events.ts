import { KvmError } from "./errors.ts";
import { BP_VECTOR, OF_VECTOR } from "./events.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { GUEST_INTR_STATE_MOV_SS, GUEST_INTR_STATE_NMI, GUEST_INTR_STATE_STI } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

export const KVM_VCPUEVENT_VALID_NMI_PENDING = 1;
export const KVM_VCPUEVENT_VALID_SIPI_VECTOR = 2;
export const KVM_VCPUEVENT_VALID_SHADOW = 4;
export const KVM_VCPUEVENT_VALID_SMM = 8;
export const KVM_VCPUEVENT_VALID_PAYLOAD = 16;
export const KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 32;
const NMI_VECTOR = 2;

/** struct kvm_vcpu_events; flags of it are 0 or 1 as in the kernel. */
export interface VcpuEvents {
  readonly exception: {
    readonly injected: number;
    readonly nr: number;
    readonly hasErrorCode: number;
    readonly pending: number;
    readonly errorCode: number;
    /** Bits of DR6 for #DB; valid with `hasPayload`. */
    readonly payload?: bigint;
    readonly hasPayload?: number;
  };
  readonly interrupt: {
    readonly injected: number;
    readonly nr: number;
    readonly soft: number;
    /** KVM_X86_SHADOW_INT_MOV_SS 1, KVM_X86_SHADOW_INT_STI 2. */
    readonly shadow: number;
  };
  readonly nmi: { readonly injected: number; readonly pending: number; readonly masked: number };
  readonly sipiVector: number;
  /** Which parts are valid: KVM_VCPUEVENT_VALID_*. */
  readonly flags: number;
  readonly tripleFault: number;
}

const SHADOW_MOV_SS = 1;
const SHADOW_STI = 2;
const bit = (value: boolean): number => (value ? 1 : 0);

/** @kvm vmx_get_interrupt_shadow */
function getInterruptShadow(vcpu: VcpuVmx): number {
  const state = vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO);
  return (state & GUEST_INTR_STATE_STI ? SHADOW_STI : 0) | (state & GUEST_INTR_STATE_MOV_SS ? SHADOW_MOV_SS : 0);
}

/** @kvm vmx_set_interrupt_shadow */
function setInterruptShadow(vcpu: VcpuVmx, shadow: number): void {
  const old = vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO);
  let state = old & ~(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS);
  if (shadow & SHADOW_MOV_SS) state |= GUEST_INTR_STATE_MOV_SS;
  else if (shadow & SHADOW_STI) state |= GUEST_INTR_STATE_STI;
  if (state !== old) vcpu.vmwrite(Field.GUEST_INTERRUPTIBILITY_INFO, state);
}

/** @kvm kvm_vcpu_ioctl_x86_get_vcpu_events */
export function getVcpuEvents(vcpu: VcpuVmx): VcpuEvents {
  const { exception, interrupt, nmiInjected, nmiPending } = vcpu.arch;
  const { exceptionPayload, tripleFaultEvent } = vcpu.vm;
  // no length of the instruction is reported, so software exceptions are not either
  const soft = exception.nr === BP_VECTOR || exception.nr === OF_VECTOR;
  const pending = exception.pending && !soft;
  const injected = exception.injected && !soft;
  const flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
  return {
    exception: {
      // without the payload capability pending and injected are not told apart
      injected: bit(injected || (pending && !exceptionPayload)),
      nr: exception.nr,
      hasErrorCode: bit(exception.hasErrorCode),
      pending: bit(pending),
      errorCode: exception.errorCode,
      payload: exception.payload,
      hasPayload: bit(exception.payload !== 0n),
    },
    interrupt: {
      injected: bit(interrupt.injected && !interrupt.soft),
      nr: interrupt.nr,
      soft: 0,
      shadow: getInterruptShadow(vcpu),
    },
    nmi: {
      injected: bit(nmiInjected),
      pending: nmiPending,
      masked: bit((vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI) !== 0),
    },
    sipiVector: 0,
    flags:
      flags |
      (exceptionPayload ? KVM_VCPUEVENT_VALID_PAYLOAD : 0) |
      (tripleFaultEvent ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0),
    tripleFault: bit(vcpu.arch.tripleFault),
  };
}

/** @kvm kvm_vcpu_ioctl_x86_set_vcpu_events */
export function setVcpuEvents(vcpu: VcpuVmx, events: VcpuEvents): void {
  const invalid = (why: string): never => {
    throw new KvmError("KVM_SET_VCPU_EVENTS", "EINVAL", why);
  };
  const { flags, exception: e, interrupt, nmi } = events;
  const { vm, arch } = vcpu;
  if (flags & ~63) invalid(`unknown flags 0x${flags.toString(16)}`);
  const withPayload = (flags & KVM_VCPUEVENT_VALID_PAYLOAD) !== 0;
  if (withPayload && !vm.exceptionPayload) invalid("KVM_CAP_EXCEPTION_PAYLOAD is off");
  if (flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && !vm.tripleFaultEvent)
    invalid("KVM_CAP_X86_TRIPLE_FAULT_EVENT is off");
  const pending = withPayload && e.pending !== 0;
  const injected = e.injected !== 0 && !pending;
  if ((pending || injected) && (e.nr > 31 || e.nr === NMI_VECTOR)) invalid(`exception ${e.nr}`);
  Object.assign(arch.exception, {
    pending,
    injected,
    nr: e.nr,
    hasErrorCode: e.hasErrorCode !== 0,
    errorCode: e.errorCode,
    payload: pending && e.hasPayload ? (e.payload ?? 0n) : 0n,
    source: "kvm",
  });
  arch.interrupt.injected = interrupt.injected !== 0;
  arch.interrupt.nr = interrupt.nr;
  arch.interrupt.soft = interrupt.soft !== 0;
  if (flags & KVM_VCPUEVENT_VALID_SHADOW) setInterruptShadow(vcpu, interrupt.shadow);
  arch.nmiInjected = nmi.injected !== 0;
  if (flags & KVM_VCPUEVENT_VALID_NMI_PENDING) arch.nmiPending = nmi.pending;
  const { vmx } = vcpu.host;
  if (nmi.masked) vmx.setBits(Field.GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
  else vmx.clearBits(Field.GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
  if (flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) arch.tripleFault = events.tripleFault !== 0;
}
