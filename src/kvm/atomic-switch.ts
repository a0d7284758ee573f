import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

/** Both lists share a page: guest values first, host values from here on. */
const HOST_LIST = 0x800n;

function entry(index: number, value: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, index, true);
  view.setBigUint64(8, value, true);
  return bytes;
}

/** One MSR in the VM-entry and VM-exit load lists; only while the vCPU is loaded. @kvm add_atomic_switch_msr */
export function addAtomicSwitchMsr(vcpu: VcpuVmx, index: number, guest: bigint, host: bigint): void {
  const { core, pages } = vcpu.host;
  vcpu.atomicSwitch ??= { page: pages.alloc(), guest: undefined };
  const { page } = vcpu.atomicSwitch;
  core.writePhysical(page, entry(index, guest));
  core.writePhysical(page + HOST_LIST, entry(index, host));
  vcpu.vmwrite(Field.VM_ENTRY_MSR_LOAD_ADDR, page);
  vcpu.vmwrite(Field.VM_EXIT_MSR_LOAD_ADDR, page + HOST_LIST);
  setCount(vcpu, 1);
  vcpu.atomicSwitch.guest = guest;
}

/** @kvm clear_atomic_switch_msr */
export function clearAtomicSwitchMsr(vcpu: VcpuVmx): void {
  if (vcpu.atomicSwitch?.guest === undefined) return;
  setCount(vcpu, 0);
  vcpu.atomicSwitch.guest = undefined;
}

function setCount(vcpu: VcpuVmx, count: number): void {
  vcpu.vmwrite(Field.VM_ENTRY_MSR_LOAD_COUNT, count);
  vcpu.vmwrite(Field.VM_EXIT_MSR_LOAD_COUNT, count);
}
