import { kvmReadCr4 } from "./control-registers.ts";
import { CR0_PG, CR4_PAE, CR4_PSE, EFER_LMA } from "./cr-bits.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

const PRESENT = 1n;
const LARGE = 0x80n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

/** A walk ended: a physical address, or what #PF would carry. */
export type Walk = { readonly gpa: bigint } | { readonly errorCode: number };

function entry(vcpu: VcpuVmx, gpa: bigint, bytes: 4 | 8): bigint {
  const data = vcpu.vm.slots.read(gpa, bytes);
  if (data === undefined) return 0n;
  const view = new DataView(data.buffer, data.byteOffset);
  return bytes === 8 ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true));
}

interface Access {
  readonly write: boolean;
  readonly user: boolean;
}

function check(rights: { writable: boolean; user: boolean }, access: Access): Walk | undefined {
  const denied = (access.write && !rights.writable) || (access.user && !rights.user);
  return denied ? { errorCode: 1 | (access.write ? 2 : 0) | (access.user ? 4 : 0) } : undefined;
}

/** Guest-virtual to guest-physical through the guest's own tables. @kvm paging64_gva_to_gpa, paging32_gva_to_gpa */
export function kvmGvaToGpa(vcpu: VcpuVmx, gva: bigint, access: Access = { write: false, user: false }): Walk {
  if (!(vcpu.arch.cr0 & CR0_PG)) return { gpa: gva & 0xffff_ffffn };
  const absent: Walk = { errorCode: (access.write ? 2 : 0) | (access.user ? 4 : 0) };
  const long = (vcpu.arch.efer & EFER_LMA) !== 0n;
  const cr4 = kvmReadCr4(vcpu);
  const pae = (cr4 & CR4_PAE) !== 0n;
  const bytes = pae ? 8 : 4;
  const bits = pae ? 9n : 10n;
  let table = vcpu.vmread(Field.GUEST_CR3) & (pae && !long ? 0xffff_ffe0n : ADDRESS);
  let level = long ? 3 : pae ? 2 : 1;
  const rights = { writable: true, user: true };
  for (; ; level--) {
    const shift = 12n + bits * BigInt(level);
    const pdpte = pae && !long && level === 2;
    const index = (gva >> shift) & (pdpte ? 3n : (1n << bits) - 1n);
    const value = entry(vcpu, table + index * BigInt(bytes), bytes);
    if (!(value & PRESENT)) return absent;
    if (!pdpte) {
      rights.writable &&= (value & 2n) !== 0n;
      rights.user &&= (value & 4n) !== 0n;
    }
    const large = level > 0 && !pdpte && level < 3 && (value & LARGE) !== 0n && (pae || (cr4 & CR4_PSE) !== 0n);
    if (level === 0 || large) {
      const denied = check(rights, access);
      if (denied) return denied;
      const inside = (1n << shift) - 1n;
      const high = !pae && large ? ((value >> 13n) & 0xffn) << 32n : 0n;
      return { gpa: high | (value & ADDRESS & ~inside) | (gva & inside) };
    }
    table = value & ADDRESS;
  }
}

/** Bytes at a guest-virtual address; undefined when a page is absent or in no slot. @kvm kvm_read_guest_virt */
export function kvmReadGuestVirt(vcpu: VcpuVmx, gva: bigint, size: number, access: Access): Uint8Array | Walk {
  const out = new Uint8Array(size);
  for (let offset = 0; offset < size; ) {
    const at = gva + BigInt(offset);
    const walk = kvmGvaToGpa(vcpu, at, access);
    if (!("gpa" in walk)) return walk;
    const bytes = Math.min(size - offset, 4096 - Number(at & 0xfffn));
    out.set(vcpu.vm.slots.read(walk.gpa, bytes) ?? new Uint8Array(bytes).fill(0xff), offset);
    offset += bytes;
  }
  return out;
}

/** Writes all or nothing. @kvm kvm_write_guest_virt_system */
export function kvmWriteGuestVirt(vcpu: VcpuVmx, gva: bigint, data: Uint8Array, access: Access): Walk | undefined {
  const pieces: { gpa: bigint; bytes: Uint8Array }[] = [];
  for (let offset = 0; offset < data.length; ) {
    const at = gva + BigInt(offset);
    const walk = kvmGvaToGpa(vcpu, at, access);
    if (!("gpa" in walk)) return walk;
    const bytes = Math.min(data.length - offset, 4096 - Number(at & 0xfffn));
    pieces.push({ gpa: walk.gpa, bytes: data.subarray(offset, offset + bytes) });
    offset += bytes;
  }
  for (const piece of pieces) vcpu.vm.slots.write(piece.gpa, piece.bytes);
  return undefined;
}
