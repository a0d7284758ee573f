import { kvmVcpuDoSinglestep } from "./guest-debug.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { GUEST_INTR_STATE_MOV_SS, GUEST_INTR_STATE_STI } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const X86_EFLAGS_TF = 0x100;
const CR0_PE = 1;
const CS_L = 1 << 13;
const CS_DB = 1 << 14;

/** RIP + length, which wraps as the processor's does in 16- and 32-bit code. */
function advanceRip(vcpu: VcpuVmx): void {
  const { vmx } = vcpu.host;
  const length = vmx.vmread32(Field.VM_EXIT_INSTRUCTION_LEN);
  const rights = vmx.vmread32(Field.GUEST_CS_AR_BYTES);
  const rip = vmx.vmread32(Field.GUEST_RIP) + length;
  if (rights & CS_L) {
    vmx.vmwriteHalves(Field.GUEST_RIP, rip, vmx.vmreadHigh(Field.GUEST_RIP) + (rip > 0xffff_ffff ? 1 : 0));
    return;
  }
  const wide = rights & CS_DB && vmx.vmread32(Field.GUEST_CR0) & CR0_PE;
  vmx.vmwriteHalves(Field.GUEST_RIP, wide ? rip : rip & 0xfffff, 0);
}

/**
 * RIP past the instruction, blocking by STI and MOV SS ended, a #DB when it was single-stepped; and one instruction
 * completed, as the count has it. False: user space steps, and gets its debug exit. @kvm kvm_skip_emulated_instruction
 */
export function kvmSkipEmulatedInstruction(vcpu: VcpuVmx): boolean {
  const rflags = vcpu.vmread32(Field.GUEST_RFLAGS);
  advanceRip(vcpu);
  vcpu.host.core.exports.retire(1);
  const blocking = vcpu.vmread32(Field.GUEST_INTERRUPTIBILITY_INFO);
  if (blocking & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)) {
    vcpu.vmwrite(Field.GUEST_INTERRUPTIBILITY_INFO, blocking & ~(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS));
  }
  return rflags & X86_EFLAGS_TF ? kvmVcpuDoSinglestep(vcpu) : true;
}
