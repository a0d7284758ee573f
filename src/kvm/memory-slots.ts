import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import { type Core, MemoryMapError } from "../core/index.ts";
import { checkBytes, checkStruct, checkU64, checkUint, MEMORY_REGION } from "./args.ts";
import { KvmError } from "./errors.ts";
import type { HostPages } from "./host-pages.ts";

const PAGE = 4096n;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** @kvm mark_page_dirty_in_slot */
export function markPageDirty(slot: MemorySlot, gpa: bigint): void {
  const page = Number((gpa - slot.base) / PAGE);
  if (slot.dirty !== undefined) slot.dirty[page >> 3]! |= 1 << (page & 7);
}
/** @kvm kvm_mmu_max_gfn */
const MAX_GPA = 1n << BigInt(PHYSICAL_WIDTH);
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;

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
  /** A bit a page, while KVM_MEM_LOG_DIRTY_PAGES is set. */
  readonly dirty: Uint8Array | undefined;
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
    /** KVM_USER_MEM_SLOTS */
    private readonly slotMax: number,
    /** New logs start with every bit set. @kvm KVM_DIRTY_LOG_INITIALLY_SET */
    private readonly initiallySet: () => boolean,
  ) {}

  /** Address space 0 and an id below KVM_USER_MEM_SLOTS. */
  validId(id: number): boolean {
    return id >> 16 === 0 && (id & 0xffff) < this.slotMax;
  }

  get(id: number): MemorySlot | undefined {
    return this.slots.get(id);
  }

  /** Zeroed memory of the VMM, as mmap gives it; the address goes into userspaceAddr. */
  allocMemory(bytes: bigint): bigint {
    checkU64("mmap", "the length", bytes);
    if (bytes === 0n || bytes % PAGE !== 0n) throw new KvmError("mmap", "EINVAL", `${bytes} bytes are not whole pages`);
    const address = this.nextAddress;
    this.allocations.push({ address, size: bytes, backing: this.#backing(bytes) });
    this.nextAddress += bytes + PAGE;
    return address;
  }

  #backing(bytes: bigint): bigint {
    try {
      return this.pages.allocBacking(Number(bytes / PAGE));
    } catch (error) {
      if (!(error instanceof MemoryMapError)) throw error;
      const taken = this.allocations.reduce((sum, { size }) => sum + size, 0n);
      const text = `no room for ${bytes} bytes beside ${taken}: hostOptions.memory says how many there may be in all`;
      throw new KvmError("mmap", "ENOMEM", text);
    }
  }

  /** True when a live slot went away or changed, so that EPT entries must go. @kvm __kvm_set_memory_region */
  setUserMemoryRegion(region: UserMemoryRegion): boolean {
    const call = "KVM_SET_USER_MEMORY_REGION";
    const invalid = (why: string): never => {
      throw new KvmError(call, "EINVAL", why);
    };
    checkStruct(call, "", region, MEMORY_REGION);
    const flags = region.flags ?? 0;
    checkUint(call, "flags", flags, 32);
    const { slot, guestPhysAddr: base, memorySize: size, userspaceAddr } = region;
    if (flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)) invalid(`unknown flag 0x${flags.toString(16)}`);
    if (size % PAGE !== 0n) invalid(`the size ${hex(size)} is not whole pages`);
    if (base % PAGE !== 0n) invalid(`the guest-physical address ${hex(base)} is not page aligned`);
    if (userspaceAddr % PAGE !== 0n) invalid(`the userspace address ${hex(userspaceAddr)} is not page aligned`);
    if (!this.validId(slot)) invalid(`there is no slot ${slot}`);
    if (base + size > MAX_GPA)
      invalid(`${hex(base)} + ${hex(size)} wraps or ends above the processor's ${hex(MAX_GPA)}`);
    const old = this.slots.get(slot);
    if (size === 0n) {
      if (old === undefined) invalid(`slot ${slot} is empty`);
      this.slots.delete(slot);
      return true;
    }
    if (old !== undefined) {
      if (userspaceAddr !== old.userspaceAddr)
        invalid(`a live slot keeps its userspace address ${hex(old.userspaceAddr)}`);
      if (size !== old.size) invalid(`a live slot keeps its size ${hex(old.size)}`);
      if ((flags ^ old.flags) & KVM_MEM_READONLY) invalid("a live slot stays read-only or writable");
    }
    if (old === undefined || old.base !== base) {
      for (const other of this.slots.values()) {
        if (other.id !== slot && base < other.base + other.size && other.base < base + size) {
          const theirs = `slot ${other.id}, ${hex(other.base)} + ${hex(other.size)}`;
          throw new KvmError(call, "EEXIST", `${hex(base)} + ${hex(size)} overlaps ${theirs}`);
        }
      }
    }
    const backing =
      this.backingOf(userspaceAddr, size) ?? invalid(`${hex(userspaceAddr)} + ${hex(size)} was not allocated`);
    this.slots.set(slot, {
      id: slot,
      base,
      size,
      flags,
      userspaceAddr,
      backing,
      dirty: this.dirtyLog(old, flags, size),
    });
    return old !== undefined && (old.base !== base || old.flags !== flags);
  }

  /** @kvm kvm_alloc_dirty_bitmap */
  private dirtyLog(old: MemorySlot | undefined, flags: number, size: bigint): Uint8Array | undefined {
    if (!(flags & KVM_MEM_LOG_DIRTY_PAGES)) return undefined;
    if (old?.dirty !== undefined) return old.dirty;
    const bytes = Number((size / PAGE + 63n) / 64n) * 8;
    const log = new Uint8Array(bytes);
    if (this.initiallySet())
      for (let page = 0n; page < size / PAGE; page++) log[Number(page >> 3n)]! |= 1 << Number(page & 7n);
    return log;
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
  private walk(
    gpa: bigint,
    size: number,
    visit: (physical: bigint, offset: number, bytes: number, slot: MemorySlot) => void,
  ): boolean {
    for (let offset = 0; offset < size; ) {
      const at = gpa + BigInt(offset);
      const slot = this.find(at);
      if (slot === undefined) return false;
      const left = slot.base + slot.size - at;
      const bytes = left < BigInt(size - offset) ? Number(left) : size - offset;
      visit(slot.backing + (at - slot.base), offset, bytes, slot);
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
    return this.walk(gpa, bytes.length, (physical, offset, count, slot) => {
      for (let page = 0; page <= (count + Number((gpa + BigInt(offset)) & 0xfffn) - 1) >> 12; page++) {
        markPageDirty(slot, ((gpa + BigInt(offset)) & ~0xfffn) + BigInt(page) * PAGE);
      }
      this.core.writePhysical(physical, bytes.subarray(offset, offset + count));
    });
  }

  /** The VMM's own access to its memory. Throws EFAULT outside what was allocated. */
  readUser(address: bigint, size: number): Uint8Array {
    checkUint("memory access", "the size", size, 32);
    return this.core.readPhysical(this.userBacking(address, size), size);
  }

  writeUser(address: bigint, bytes: Uint8Array): void {
    checkBytes("memory access", "the data", bytes);
    this.core.writePhysical(this.userBacking(address, bytes.length), bytes);
  }

  private userBacking(address: bigint, size: number): bigint {
    checkU64("memory access", "the address", address);
    const backing = this.backingOf(address, BigInt(size));
    if (backing === undefined)
      throw new KvmError("memory access", "EFAULT", `${hex(address)} + ${hex(size)} is not all allocated`);
    return backing;
  }
}
