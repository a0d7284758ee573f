import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

/** struct kvm_segment. */
export interface Segment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}

/** struct kvm_dtable. */
export interface DescriptorTable {
  base: bigint;
  limit: number;
}

export const SEGMENT_NAMES = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"] as const;
export type SegmentName = (typeof SEGMENT_NAMES)[number];

/** Access rights: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. @kvm vmx_segment_access_rights */
function vmxSegmentAccessRights(segment: Segment): number {
  if (segment.unusable || !segment.present) return 1 << 16;
  return (
    (segment.type & 15) |
    ((segment.s & 1) << 4) |
    ((segment.dpl & 3) << 5) |
    ((segment.present & 1) << 7) |
    ((segment.avl & 1) << 12) |
    ((segment.l & 1) << 13) |
    ((segment.db & 1) << 14) |
    ((segment.g & 1) << 15)
  );
}

/** @kvm vmx_get_segment */
export function vmxGetSegment(vcpu: VcpuVmx, name: SegmentName): Segment {
  const index = SEGMENT_NAMES.indexOf(name) * 2;
  const rights = vcpu.vmread32(Field.GUEST_ES_AR_BYTES + index);
  const unusable = (rights >> 16) & 1;
  return {
    base: vcpu.vmread(Field.GUEST_ES_BASE + index),
    limit: vcpu.vmread32(Field.GUEST_ES_LIMIT + index),
    selector: vcpu.vmread32(Field.GUEST_ES_SELECTOR + index),
    type: rights & 15,
    // some userspaces do not preserve unusable, so it is not-present for them
    present: unusable ? 0 : 1,
    dpl: (rights >> 5) & 3,
    db: (rights >> 14) & 1,
    s: (rights >> 4) & 1,
    l: (rights >> 13) & 1,
    g: (rights >> 15) & 1,
    avl: (rights >> 12) & 1,
    unusable,
  };
}

/** @kvm vmx_set_segment */
export function vmxSetSegment(vcpu: VcpuVmx, name: SegmentName, segment: Segment): void {
  const index = SEGMENT_NAMES.indexOf(name) * 2;
  vcpu.vmwrite(Field.GUEST_ES_BASE + index, segment.base);
  vcpu.vmwrite(Field.GUEST_ES_LIMIT + index, segment.limit);
  vcpu.vmwrite(Field.GUEST_ES_SELECTOR + index, segment.selector);
  // with unrestricted guest the accessed bit must be set, and older user spaces leave it clear
  const type = name === "ldt" ? segment.type : segment.type | 1;
  vcpu.vmwrite(Field.GUEST_ES_AR_BYTES + index, vmxSegmentAccessRights({ ...segment, type }));
}

export function vmxGetGdt(vcpu: VcpuVmx): DescriptorTable {
  return { base: vcpu.vmread(Field.GUEST_GDTR_BASE), limit: vcpu.vmread32(Field.GUEST_GDTR_LIMIT) };
}

export function vmxSetGdt(vcpu: VcpuVmx, table: DescriptorTable): void {
  vcpu.vmwrite(Field.GUEST_GDTR_BASE, table.base);
  vcpu.vmwrite(Field.GUEST_GDTR_LIMIT, table.limit);
}

export function vmxGetIdt(vcpu: VcpuVmx): DescriptorTable {
  return { base: vcpu.vmread(Field.GUEST_IDTR_BASE), limit: vcpu.vmread32(Field.GUEST_IDTR_LIMIT) };
}

export function vmxSetIdt(vcpu: VcpuVmx, table: DescriptorTable): void {
  vcpu.vmwrite(Field.GUEST_IDTR_BASE, table.base);
  vcpu.vmwrite(Field.GUEST_IDTR_LIMIT, table.limit);
}
