import type { Core } from "../core/index.ts";
import { KvmError } from "./errors.ts";
import type { HostPages } from "./host-pages.ts";

const PAGE = 4096n;
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;
/** KVM_USER_MEM_SLOTS of x86. */
const SLOT_MAX = 509;

/** struct kvm_userspace_memory_region. */
export interface UserMemoryRegion {
  readonly slot: number;
  readonly flags?: number;
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  /** What allocMemory returned, or an address inside it. */
  readonly userspaceAddr: bigint;
}

export interface MemorySlot {
  readonly id: number;
  readonly base: bigint;
  readonly size: bigint;
  readonly flags: number;
  readonly userspaceAddr: bigint;
  /** Physical address of the first byte of its backing. */
  readonly backing: bigint;
}

interface Allocation {
  readonly address: bigint;
  readonly size: bigint;
  readonly backing: bigint;
}

/** First address that allocMemory gives; 0 stays invalid. */
const USERSPACE_BASE = 0x7f00_0000_0000n;

/** The user's memory and the slots that show parts of it to the guest. */
export class MemorySlots {
  private readonly allocations: Allocation[] = [];
  private readonly slots = new Map<number, MemorySlot>();
  private nextAddress = USERSPACE_BASE;

  constructor(
    private readonly core: Core,
    private readonly pages: HostPages,
  ) {}

  /** Zeroed memory of the VMM, as mmap gives it; the address goes into userspaceAddr. */
  allocMemory(bytes: bigint): bigint {
    if (bytes <= 0n || bytes % PAGE !== 0n) throw new KvmError("mmap", "EINVAL", `${bytes} bytes are not whole pages`);
    const address = this.nextAddress;
    this.allocations.push({ address, size: bytes, backing: this.pages.allocBacking(Number(bytes / PAGE)) });
    this.nextAddress += bytes + PAGE;
    return address;
  }

  /** True when a live slot went away or changed, so that EPT entries must go. @kvm __kvm_set_memory_region */
  setUserMemoryRegion(region: UserMemoryRegion): boolean {
    const call = "KVM_SET_USER_MEMORY_REGION";
    const invalid = (why: string): never => {
      throw new KvmError(call, "EINVAL", why);
    };
    const flags = region.flags ?? 0;
    const { slot, guestPhysAddr: base, memorySize: size, userspaceAddr } = region;
    if (flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)) invalid(`unknown flag 0x${flags.toString(16)}`);
    if (size % PAGE !== 0n) invalid("the size is not whole pages");
    if (base % PAGE !== 0n) invalid("the guest-physical address is not page aligned");
    if (userspaceAddr % PAGE !== 0n) invalid("the userspace address is not page aligned");
    if (slot >> 16 !== 0 || (slot & 0xffff) >= SLOT_MAX) invalid(`there is no slot ${slot}`);
    if (base + size > 1n << 64n) invalid("the range wraps");
    const old = this.slots.get(slot);
    if (size === 0n) {
      if (old === undefined) invalid(`slot ${slot} is empty`);
      this.slots.delete(slot);
      return true;
    }
    if (old !== undefined) {
      if (userspaceAddr !== old.userspaceAddr) invalid("a live slot keeps its userspace address");
      if (size !== old.size) invalid("a live slot keeps its size");
      if ((flags ^ old.flags) & KVM_MEM_READONLY) invalid("a live slot stays read-only or writable");
    }
    if (old === undefined || old.base !== base) {
      for (const other of this.slots.values()) {
        if (other.id !== slot && base < other.base + other.size && other.base < base + size) {
          throw new KvmError(call, "EEXIST", `overlaps slot ${other.id}`);
        }
      }
    }
    const backing = this.backingOf(userspaceAddr, size) ?? invalid("the userspace range was not allocated");
    this.slots.set(slot, { id: slot, base, size, flags, userspaceAddr, backing });
    return old !== undefined && old.base !== base;
  }

  private backingOf(address: bigint, size: bigint): bigint | undefined {
    const holder = this.allocations.find((a) => address >= a.address && address + size <= a.address + a.size);
    return holder && holder.backing + (address - holder.address);
  }

  /** @kvm gfn_to_memslot */
  find(gpa: bigint): MemorySlot | undefined {
    for (const slot of this.slots.values()) {
      if (gpa >= slot.base && gpa < slot.base + slot.size) return slot;
    }
    return undefined;
  }

  /** Calls `visit` for each piece inside one slot; false when a byte lies in no slot. */
  private walk(gpa: bigint, size: number, visit: (physical: bigint, offset: number, bytes: number) => void): boolean {
    for (let offset = 0; offset < size; ) {
      const at = gpa + BigInt(offset);
      const slot = this.find(at);
      if (slot === undefined) return false;
      const left = slot.base + slot.size - at;
      const bytes = left < BigInt(size - offset) ? Number(left) : size - offset;
      visit(slot.backing + (at - slot.base), offset, bytes);
      offset += bytes;
    }
    return true;
  }

  /** undefined when a byte lies in no slot. @kvm kvm_read_guest */
  read(gpa: bigint, size: number): Uint8Array | undefined {
    const out = new Uint8Array(size);
    const done = this.walk(gpa, size, (physical, offset, bytes) => {
      out.set(this.core.readPhysical(physical, bytes), offset);
    });
    return done ? out : undefined;
  }

  /** False when a byte lies in no slot; the pieces before it are written. @kvm kvm_write_guest */
  write(gpa: bigint, bytes: Uint8Array): boolean {
    return this.walk(gpa, bytes.length, (physical, offset, count) => {
      this.core.writePhysical(physical, bytes.subarray(offset, offset + count));
    });
  }

  /** The VMM's own access to its memory. Throws EINVAL outside what was allocated. */
  readUser(address: bigint, size: number): Uint8Array {
    return this.core.readPhysical(this.userBacking(address, size), size);
  }

  writeUser(address: bigint, bytes: Uint8Array): void {
    this.core.writePhysical(this.userBacking(address, bytes.length), bytes);
  }

  private userBacking(address: bigint, size: number): bigint {
    const backing = this.backingOf(address, BigInt(size));
    if (backing === undefined)
      throw new KvmError("memory access", "EINVAL", `0x${address.toString(16)} is not allocated`);
    return backing;
  }
}
