import { kvmVcpuDoSinglestep } from "./guest-debug.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { GUEST_INTR_STATE_MOV_SS, GUEST_INTR_STATE_STI } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const X86_EFLAGS_TF = 0x100n;
const CR0_PE = 1n;
const CS_L = 1 << 13;
const CS_DB = 1 << 14;

/** The next RIP wraps as the processor's does in 16- and 32-bit code. */
function nextRip(vcpu: VcpuVmx, length: bigint): bigint {
  const rip = vcpu.rip + length;
  const rights = vcpu.vmread32(Field.GUEST_CS_AR_BYTES);
  if (rights & CS_L) return BigInt.asUintN(64, rip);
  const wide = (vcpu.vmread(Field.GUEST_CR0) & CR0_PE) !== 0n && (rights & CS_DB) !== 0;
  return wide ? rip & 0xffff_ffffn : rip & 0xffffn;
}

/**
 * RIP past the instruction, blocking by STI and MOV SS ended, a #DB when it was single-stepped; and one instruction
 * completed, as the count has it. False: user space steps, and gets its debug exit. @kvm kvm_skip_emulated_instruction
 */
export function kvmSkipEmulatedInstruction(vcpu: VcpuVmx): boolean {
  const rflags = vcpu.vmread(Field.GUEST_RFLAGS);
  vcpu.rip = nextRip(vcpu, vcpu.vmread(Field.VM_EXIT_INSTRUCTION_LEN));
  vcpu.host.core.exports.retire(1);
  const blocking = vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO);
  if (blocking & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)) {
    vcpu.vmwrite(Field.GUEST_INTERRUPTIBILITY_INFO, blocking & ~(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS));
  }
  return rflags & X86_EFLAGS_TF ? kvmVcpuDoSinglestep(vcpu) : true;
}
