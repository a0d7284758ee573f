// Fields of the tracepoints around an entry.
import type { TraceEvent } from "../trace/index.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { ENTRY_FAILURE, exitReasonName, INTR_ERROR_CODE, INTR_VALID } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

/** @kvm is_exception_with_error_code */
function hasErrorCode(info: number): boolean {
  return (info & INTR_VALID) !== 0 && (info & INTR_ERROR_CODE) !== 0;
}

/** @kvm vmx_get_entry_info */
export function entryEvent(vcpu: VcpuVmx): TraceEvent {
  const intrInfo = vcpu.vmread32(Field.VM_ENTRY_INTR_INFO_FIELD);
  const errorCode = hasErrorCode(intrInfo) ? vcpu.vmread32(Field.VM_ENTRY_EXCEPTION_ERROR_CODE) : 0;
  return { name: "kvm_entry", vcpu: vcpu.id, rip: vcpu.rip, intrInfo, errorCode };
}

/** @kvm vmx_get_exit_info */
export function exitEvent(vcpu: VcpuVmx): TraceEvent {
  const reason = vcpu.exitReason;
  const failed = (reason & ENTRY_FAILURE) !== 0;
  const intrInfo = failed ? 0 : vcpu.exitIntrInfo;
  return {
    name: "kvm_exit",
    vcpu: vcpu.id,
    reason,
    reasonName: exitReasonName(reason & 0xffff),
    rip: vcpu.rip,
    qualification: vcpu.vmread(Field.EXIT_QUALIFICATION),
    idtVectoringInfo: failed ? 0 : vcpu.idtVectoringInfo,
    intrInfo,
    errorCode: hasErrorCode(intrInfo) ? vcpu.vmread32(Field.VM_EXIT_INTR_ERROR_CODE) : 0,
  };
}
