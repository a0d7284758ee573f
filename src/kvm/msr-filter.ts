import { checkBytes, checkEach, checkObject, checkStruct, checkUint, MSR_FILTER_RANGE } from "./args.ts";
import { KvmError } from "./errors.ts";

export const KVM_MSR_FILTER_READ = 1;
export const KVM_MSR_FILTER_WRITE = 2;
export const KVM_MSR_FILTER_DEFAULT_DENY = 1;
const MAX_RANGES = 16;
const MAX_BITMAP_BYTES = 0x600;
const LONG_BITS = 64;
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;

/** struct kvm_msr_filter_range. */
export interface MsrFilterRange {
  /** KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE or both. */
  readonly flags: number;
  readonly base: number;
  readonly nmsrs: number;
  /** A set bit allows the access. */
  readonly bitmap: Uint8Array;
}

/** struct kvm_msr_filter. */
export interface MsrFilter {
  readonly flags?: number;
  /** At most 16; ranges of no MSRs are skipped. */
  readonly ranges: readonly MsrFilterRange[];
}

function invalid(why: string): never {
  throw new KvmError("KVM_X86_SET_MSR_FILTER", "EINVAL", why);
}

/** @kvm kvm_add_msr_filter */
function checkedRange(range: MsrFilterRange): MsrFilterRange {
  const { flags, nmsrs, bitmap } = range;
  if (flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)) invalid(`unknown range flags 0x${flags.toString(16)}`);
  if (flags === 0) invalid("a range filters neither reads nor writes");
  const bytes = (Math.ceil(nmsrs / LONG_BITS) * LONG_BITS) / 8;
  if (bytes > MAX_BITMAP_BYTES) invalid(`${nmsrs} MSRs need a bitmap above 0x600 bytes`);
  return { ...range, bitmap: bitmap.slice(0, bytes) };
}

/** Checks what user space gave. @kvm kvm_vm_ioctl_set_msr_filter */
export function makeMsrFilter(filter: MsrFilter): MsrFilter {
  const call = "KVM_X86_SET_MSR_FILTER";
  checkObject(call, "the argument", filter);
  checkEach(call, "ranges", filter.ranges, (name, range) => {
    checkStruct(call, name, range, MSR_FILTER_RANGE);
    checkBytes(call, `${name}.bitmap`, (range as MsrFilterRange).bitmap);
  });
  const flags = filter.flags ?? 0;
  checkUint(call, "flags", flags, 32);
  if (flags & ~KVM_MSR_FILTER_DEFAULT_DENY) invalid(`unknown flags 0x${flags.toString(16)}`);
  if (filter.ranges.length > MAX_RANGES) invalid(`${filter.ranges.length} ranges, at most ${MAX_RANGES}`);
  const ranges = filter.ranges.filter((range) => range.nmsrs !== 0);
  if (ranges.length === 0 && flags & KVM_MSR_FILTER_DEFAULT_DENY) invalid("denial of everything needs a range");
  return { flags, ranges: ranges.map(checkedRange) };
}

/** May the guest access this MSR? x2APIC registers are never filtered. @kvm kvm_msr_allowed */
export function kvmMsrAllowed(filter: MsrFilter | undefined, index: number, type: number): boolean {
  if (filter === undefined || (index >= X2APIC_FIRST && index <= X2APIC_LAST)) return true;
  for (const { flags, base, nmsrs, bitmap } of filter.ranges) {
    const bit = index - base;
    if (bit < 0 || bit >= nmsrs || !(flags & type)) continue;
    return ((bitmap[bit >> 3]! >> (bit & 7)) & 1) !== 0;
  }
  return ((filter.flags ?? 0) & KVM_MSR_FILTER_DEFAULT_DENY) === 0;
}
