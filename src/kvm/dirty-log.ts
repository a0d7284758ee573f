import { CLEAR_DIRTY_LOG, checkBytes, checkStruct, checkUint } from "./args.ts";
import { KvmError } from "./errors.ts";
import type { MemorySlot } from "./memory-slots.ts";
import type { VmState } from "./vcpu.ts";

const PAGE = 4096n;
/** KVM_CLEAR_DIRTY_LOG works in groups of this many pages. */
const GROUP = 64;
export const KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1;
export const KVM_DIRTY_LOG_INITIALLY_SET = 2;

/** struct kvm_clear_dirty_log. */
export interface ClearDirtyLog {
  readonly slot: number;
  /** A multiple of 64. */
  readonly firstPage: number;
  /** A multiple of 64, or up to the end of the slot. */
  readonly numPages: number;
  /** Bit 0 of byte 0 is `firstPage`; set bits are cleared in the log. */
  readonly dirtyBitmap: Uint8Array;
}

const pagesOf = (slot: MemorySlot): number => Number(slot.size / PAGE);

function loggedSlot(vm: VmState, call: string, id: number): MemorySlot & { dirty: Uint8Array } {
  checkUint(call, "slot", id, 32);
  if (!vm.slots.validId(id)) throw new KvmError(call, "EINVAL", `there is no slot ${id}`);
  const slot = vm.slots.get(id);
  if (slot?.dirty === undefined) throw new KvmError(call, "ENOENT", `slot ${id} logs no dirty pages`);
  return slot as MemorySlot & { dirty: Uint8Array };
}

/** Makes a page of the slot read-only in the EPT again, so that the next write is seen. */
function writeProtect(vm: VmState, slot: MemorySlot, page: number): void {
  vm.ept.writeProtect(slot.base + BigInt(page) * PAGE);
}

function flush(vm: VmState): void {
  vm.host.vmx.inveptSingle(vm.ept.eptp);
}

/** KVM_GET_DIRTY_LOG: a bit a page. Without manual protection the log starts again. @kvm kvm_get_dirty_log_protect */
export function getDirtyLog(vm: VmState, id: number): Uint8Array {
  const slot = loggedSlot(vm, "KVM_GET_DIRTY_LOG", id);
  const bitmap = slot.dirty.slice();
  if (vm.manualDirtyLogProtect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) return bitmap;
  slot.dirty.fill(0);
  for (let page = 0; page < pagesOf(slot); page++) {
    if ((bitmap[page >> 3]! >> (page & 7)) & 1) writeProtect(vm, slot, page);
  }
  flush(vm);
  return bitmap;
}

/** KVM_CLEAR_DIRTY_LOG. @kvm kvm_clear_dirty_log_protect */
export function clearDirtyLog(vm: VmState, log: ClearDirtyLog): void {
  const call = "KVM_CLEAR_DIRTY_LOG";
  checkStruct(call, "", log, CLEAR_DIRTY_LOG);
  const { firstPage, numPages, dirtyBitmap } = log;
  checkBytes(call, "dirtyBitmap", dirtyBitmap);
  const invalid = (why: string): never => {
    throw new KvmError(call, "EINVAL", why);
  };
  if (!vm.slots.validId(log.slot)) invalid(`there is no slot ${log.slot}`);
  if (firstPage % GROUP !== 0) invalid(`the first page, ${firstPage}, is no multiple of 64`);
  const slot = loggedSlot(vm, call, log.slot);
  const left = pagesOf(slot) - firstPage;
  if (left < 0 || numPages > left)
    invalid(`${firstPage} + ${numPages} pages are not all in the slot of ${pagesOf(slot)}`);
  if (numPages < left && numPages % GROUP !== 0) invalid(`the number of pages, ${numPages}, is no multiple of 64`);
  for (let i = 0; i < numPages; i++) {
    const page = firstPage + i;
    const bit = 1 << (page & 7);
    if (!((dirtyBitmap[i >> 3]! >> (i & 7)) & 1) || !(slot.dirty[page >> 3]! & bit)) continue;
    slot.dirty[page >> 3]! &= ~bit;
    writeProtect(vm, slot, page);
  }
  flush(vm);
}
