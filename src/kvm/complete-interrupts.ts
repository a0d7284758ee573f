import { kvmQueueInterrupt, kvmRequeueException } from "./events.ts";
import type { VcpuVmx } from "./vcpu.ts";
import {
  GUEST_INTR_STATE_NMI,
  INTR_ERROR_CODE,
  INTR_TYPE,
  INTR_UNBLOCK_NMI,
  INTR_VALID,
  INTR_VECTOR,
  IntrType,
} from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const DF_VECTOR = 8;

/** IRET had unblocked NMIs before it faulted: block them again. @kvm vmx_recover_nmi_blocking */
function vmxRecoverNmiBlocking(vcpu: VcpuVmx): void {
  const info = vcpu.exitIntrInfo;
  const idtvInfoValid = (vcpu.idtVectoringInfo & INTR_VALID) !== 0;
  if ((info & INTR_VALID) === 0 || (info & INTR_UNBLOCK_NMI) === 0) return;
  if ((info & INTR_VECTOR) !== DF_VECTOR && !idtvInfoValid) {
    vcpu.host.vmx.setBits(Field.GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
  }
}

/** An event whose delivery ended in this exit is delivered again at the next entry. @kvm vmx_complete_interrupts */
export function vmxCompleteInterrupts(vcpu: VcpuVmx): void {
  vmxRecoverNmiBlocking(vcpu);
  const { arch } = vcpu;
  arch.nmiInjected = false;
  arch.exception.pending = false;
  arch.exception.injected = false;
  arch.interrupt.injected = false;
  const info = vcpu.idtVectoringInfo;
  if ((info & INTR_VALID) === 0) return;
  const vector = info & INTR_VECTOR;
  const type = info & INTR_TYPE;
  const length = (): void => {
    arch.eventExitInstLen = vcpu.vmread32(Field.VM_EXIT_INSTRUCTION_LEN);
  };
  switch (type) {
    case IntrType.NMI:
      arch.nmiInjected = true;
      vcpu.host.vmx.clearBits(Field.GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
      break;
    case IntrType.SOFT_EXCEPTION:
    case IntrType.HARD_EXCEPTION:
      if (type === IntrType.SOFT_EXCEPTION) length();
      kvmRequeueException(
        vcpu,
        vector,
        info & INTR_ERROR_CODE ? vcpu.vmread32(Field.IDT_VECTORING_ERROR_CODE) : undefined,
      );
      break;
    case IntrType.SOFT_INTR:
    case IntrType.EXT_INTR:
      if (type === IntrType.SOFT_INTR) length();
      kvmQueueInterrupt(vcpu, vector, type === IntrType.SOFT_INTR);
      break;
  }
}
