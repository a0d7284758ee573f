import { EPT_EXEC, EPT_READ, EPT_RWX } from "./ept.ts";
import { KVM_INTERNAL_ERROR_EMULATION } from "./exit.ts";
import { KVM_MEM_READONLY, type MemorySlot } from "./memory-slots.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { GUEST_INTR_STATE_NMI, INTR_UNBLOCK_NMI, INTR_VALID } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const LARGE = 0x20_0000n;
const PAGE = 0x1000n;
const ACCESS_WRITE = 2n;

/** A 2 MiB page serves when slot and backing are congruent and the whole page lies in the slot. */
function largePage(slot: MemorySlot, gpa: bigint): boolean {
  const base = gpa & ~(LARGE - 1n);
  const congruent = ((slot.base ^ slot.backing) & (LARGE - 1n)) === 0n;
  return congruent && base >= slot.base && base + LARGE <= slot.base + slot.size;
}

/** @kvm tdp_page_fault, __direct_map */
function mapSlot(vcpu: VcpuVmx, slot: MemorySlot, gpa: bigint): void {
  const large = largePage(slot, gpa);
  const base = gpa & ~((large ? LARGE : PAGE) - 1n);
  const rights = slot.flags & KVM_MEM_READONLY ? EPT_READ | EPT_EXEC : EPT_RWX;
  vcpu.vm.ept.map(base, slot.backing + (base - slot.base), rights, large);
  vcpu.host.ledger.count("pf_fixed");
}

/**
 * Memory slots become EPT entries as the guest touches them. An access that no slot serves is MMIO, for which the
 * instruction would have to be emulated: that is not built, and ends in KVM_EXIT_INTERNAL_ERROR.
 * @kvm handle_ept_violation, kvm_mmu_page_fault
 */
export function handleEptViolation(vcpu: VcpuVmx): boolean {
  const qualification = vcpu.vmread(Field.EXIT_QUALIFICATION);
  const vectoring = (vcpu.idtVectoringInfo & INTR_VALID) !== 0;
  if (!vectoring && qualification & BigInt(INTR_UNBLOCK_NMI)) {
    vcpu.host.vmx.setBits(Field.GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
  }
  const gpa = vcpu.vmread(Field.GUEST_PHYSICAL_ADDRESS);
  vcpu.host.trace?.({ name: "kvm_page_fault", address: gpa, errorCode: qualification });
  const slot = vcpu.vm.slots.find(gpa);
  const write = (qualification & ACCESS_WRITE) !== 0n;
  if (slot !== undefined && !(write && slot.flags & KVM_MEM_READONLY)) {
    mapSlot(vcpu, slot, gpa);
    return true;
  }
  vcpu.host.ledger.count("mmio_exits");
  vcpu.userExit = {
    reason: "internalError",
    suberror: KVM_INTERNAL_ERROR_EMULATION,
    data: [gpa, qualification],
    message: `${write ? "write to" : "read of"} guest-physical 0x${gpa.toString(16)} at rip 0x${vcpu.rip.toString(16)}: no memory slot, and MMIO is not built`,
  };
  return false;
}
