import { handleEmulationFailure, prepareEventVectoringExit, x86EmulateInstruction } from "./emulate.ts";
import { EPT_EXEC, EPT_READ, EPT_RWX } from "./ept.ts";
import { KVM_MEM_READONLY, type MemorySlot, markPageDirty } from "./memory-slots.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { GUEST_INTR_STATE_NMI, INTR_UNBLOCK_NMI, INTR_VALID } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

const LARGE = 0x20_0000n;
const PAGE = 0x1000n;
const ACCESS_WRITE = 2n;
const ACCESS_FETCH = 4n;
/** The access is to the page itself, not to a guest paging-structure entry. */
const FINAL = 0x100n;

/** A 2 MiB page serves when slot and backing are congruent and the whole page lies in the slot. */
function largePage(slot: MemorySlot, gpa: bigint): boolean {
  const base = gpa & ~(LARGE - 1n);
  const congruent = ((slot.base ^ slot.backing) & (LARGE - 1n)) === 0n;
  return congruent && base >= slot.base && base + LARGE <= slot.base + slot.size;
}

/** @kvm tdp_page_fault, __direct_map */
function mapSlot(vcpu: VcpuVmx, slot: MemorySlot, gpa: bigint, write: boolean): void {
  const logged = slot.dirty !== undefined;
  const large = !logged && largePage(slot, gpa);
  const base = gpa & ~((large ? LARGE : PAGE) - 1n);
  // a page of a logged slot becomes writable when it is written
  if (write) markPageDirty(slot, base);
  const rights = slot.flags & KVM_MEM_READONLY || (logged && !write) ? EPT_READ | EPT_EXEC : EPT_RWX;
  vcpu.vm.ept.map(base, slot.backing + (base - slot.base), rights, large);
  vcpu.host.ledger.count("pf_fixed");
}

/**
 * Memory slots become EPT entries as the guest touches them. What no slot serves is MMIO: the instruction is emulated.
 * @kvm handle_ept_violation, kvm_mmu_page_fault
 */
export function handleEptViolation(vcpu: VcpuVmx): boolean {
  const qualification = vcpu.vmread(Field.EXIT_QUALIFICATION);
  const vectoring = (vcpu.idtVectoringInfo & INTR_VALID) !== 0;
  if (!vectoring && qualification & BigInt(INTR_UNBLOCK_NMI)) {
    vcpu.host.vmx.setBits(Field.GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
  }
  const gpa = vcpu.vmread(Field.GUEST_PHYSICAL_ADDRESS);
  const { id, rip, host } = vcpu;
  host.trace?.({ name: "kvm_page_fault", vcpu: id, rip, address: gpa, errorCode: qualification });
  const slot = vcpu.vm.slots.find(gpa);
  const write = (qualification & ACCESS_WRITE) !== 0n;
  if (slot !== undefined && !(write && slot.flags & KVM_MEM_READONLY)) {
    mapSlot(vcpu, slot, gpa, write);
    return true;
  }
  const what = `${write ? "write to" : "access to"} guest-physical 0x${gpa.toString(16)} at rip 0x${vcpu.rip.toString(16)}`;
  if (vectoring) return prepareEventVectoringExit(vcpu, gpa, `${what}: an event was being delivered`);
  vcpu.host.ledger.count("mmio_exits");
  if (qualification & ACCESS_FETCH || !(qualification & FINAL)) {
    return handleEmulationFailure(vcpu, `${what}: no memory slot holds instructions or page tables there`);
  }
  return x86EmulateInstruction(vcpu);
}
