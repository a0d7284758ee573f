import { RunCode } from "../../assembly/abi/run.ts";
import { vmxCompleteInterrupts } from "./complete-interrupts.ts";
import { dumpVmcs } from "./dump-vmcs.ts";
import type { KvmExit } from "./exit.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { ENTRY_FAILURE, Primary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

/** vcpu->arch.last_vmentry_cpu */
export const LAST_VMENTRY_CPU = 0n;
/** Vector of the timer interrupt that ends a bounded run. */
export const LOCAL_TIMER_VECTOR = 0xec;

/** Gets the processor out of the guest, so that the VMCS holds its state; an interrupt shadow may take one instruction. */
export function forceExit(vcpu: VcpuVmx): boolean {
  const { core } = vcpu.host;
  core.exports.raiseInterrupt(LOCAL_TIMER_VECTOR);
  let left = false;
  for (let tries = 0n; tries < 3n && !left; tries++) left = core.run(tries, 1n + tries) === RunCode.VmExit;
  core.exports.raiseInterrupt(-1);
  if (!left) throw new Error("the guest does not leave for an external interrupt");
  return true;
}

/** Fields of the VMCS that every exit needs, and the event whose delivery it interrupted. @kvm vmx_vcpu_run */
export function readExitFields(vcpu: VcpuVmx): void {
  vcpu.exitReason = vcpu.vmread32(Field.VM_EXIT_REASON);
  if (!(vcpu.exitReason & ENTRY_FAILURE)) vcpu.loadedVmcs.launched = true;
  vcpu.exitIntrInfo = vcpu.vmread32(Field.VM_EXIT_INTR_INFO);
  vcpu.idtVectoringInfo = vcpu.exitReason & ENTRY_FAILURE ? 0 : vcpu.vmread32(Field.IDT_VECTORING_INFO_FIELD);
  vcpu.host.vmx.setBits(Field.CPU_BASED_VM_EXEC_CONTROL, vcpu.host.vmcsConfig.primary & Primary.MOV_DR_EXITING);
  vmxCompleteInterrupts(vcpu);
}

/** KVM_EXIT_FAIL_ENTRY with the VMCS as the kernel prints it to its log. @kvm vmx_handle_exit, dump_vmcs */
export function failEntry(vcpu: VcpuVmx, reason: bigint): Extract<KvmExit, { reason: "failEntry" }> {
  return {
    reason: "failEntry",
    hardwareEntryFailureReason: reason,
    cpu: Number(LAST_VMENTRY_CPU),
    vmcs: dumpVmcs(vcpu),
  };
}

/** KVM_EXIT_INTERNAL_ERROR, with the VMCS as it is. Back to user space. */
export function internalError(vcpu: VcpuVmx, suberror: number, data: readonly bigint[], message: string): false {
  vcpu.userExit = { reason: "internalError", suberror, data, message, vmcs: dumpVmcs(vcpu) };
  return false;
}

/** kvm_run.emulation_failure.flags: the bytes of the instruction follow. */
const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1n;
const NOP = 0x90;

/** Words of kvm_run.internal.data: flags, size and bytes of the instruction, the last exit. @kvm prepare_emulation_failure_exit */
export function emulationFailureData(vcpu: VcpuVmx, instruction: Uint8Array): bigint[] {
  if (!vcpu.vm.rules.internalErrorData) return [];
  const data = [instruction.length > 0 ? KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES : 0n];
  if (instruction.length > 0) {
    const packed = new Uint8Array(16).fill(NOP);
    packed[0] = instruction.length;
    packed.set(instruction.subarray(0, 15), 1);
    const view = new DataView(packed.buffer);
    data.push(view.getBigUint64(0, true), view.getBigUint64(8, true));
  }
  return [...data, ...exitInfo(vcpu)];
}

/** Reason, qualification, IDT-vectoring information, event and its error code of the last exit. @kvm vmx_get_exit_info */
export function exitInfo(vcpu: VcpuVmx): [bigint, bigint, bigint, bigint, bigint] {
  const word = (value: number): bigint => BigInt(value >>> 0);
  return [
    word(vcpu.exitReason),
    vcpu.vmread(Field.EXIT_QUALIFICATION),
    word(vcpu.idtVectoringInfo),
    word(vcpu.exitIntrInfo),
    word(vcpu.vmread32(Field.VM_EXIT_INTR_ERROR_CODE)),
  ];
}
