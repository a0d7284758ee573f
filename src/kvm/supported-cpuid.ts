import type { Core } from "../core/index.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";
import type { KernelRules } from "./version.ts";

/** Leaf 1 ECX. MONITOR and VMX are never passed on, nor is XSAVE: the ioctls for its state are not built (unsupported.ts). */
const MONITOR = 1 << 3;
const VMX = 1 << 5;
const XSAVE = 3 << 26;
/** Emulated by KVM, whatever the processor has: leaf 1, ECX x2APIC and EDX APIC; ECX TSC deadline and HYPERVISOR in later kernels. */
const X2APIC = 1 << 21;
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = 1 << 31;
const APIC = 1 << 9;
/** Leaf 6 EAX: the APIC's timer never stops. */
const ARAT = 4;

const KVM_CPUID_SIGNATURE = 0x4000_0000;
const KVM_CPUID_FEATURES = 0x4000_0001;
/** "KVMKVMKVM" */
const SIGNATURE = { ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d } as const;
/** No delay is needed between port accesses. Clock, asynchronous page faults and hypercalls are not built. */
const KVM_FEATURE_NOP_IO_DELAY = 1 << 1;

/** Leaves that answer by ECX. @kvm cpuid_function_is_indexed */
const INDEXED: readonly number[] = [
  ...[0x4, 0x7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x1f, 0x24, 0x8000_001d],
];
const CACHES = 4;
const CACHE_TYPE = 0x1f;
const STRUCTURED = 7;

const NOTHING = { eax: 0, ebx: 0, ecx: 0, edx: 0 } as const;

/** What KVM makes of the processor's answer. @kvm __do_cpuid_func */
function passedOn(rules: KernelRules, entry: CpuidEntry): CpuidEntry {
  switch (entry.function) {
    case 1: {
      const emulated = rules.cpuidHypervisor ? X2APIC | TSC_DEADLINE | HYPERVISOR : X2APIC;
      const ecx = ((entry.ecx & ~(MONITOR | VMX | XSAVE | TSC_DEADLINE)) | emulated) >>> 0;
      return { ...entry, ecx, edx: (entry.edx | APIC) >>> 0 };
    }
    case 3: // serial number
    case 5: // MONITOR
      return { ...entry, ...NOTHING };
    case 6:
      return { ...entry, ...NOTHING, eax: ARAT };
    case 0xd: // XSAVE
    case 0xb: // user space says what the topology is
      return { ...entry, ...NOTHING };
    default:
      return entry;
  }
}

/** The processor's own answers, leaf by leaf, without VMX and with the local APIC, and KVM's signature. @kvm get_cpuid_func */
export function supportedCpuid(core: Core, rules: KernelRules): CpuidEntry[] {
  const row = (fn: number, index = 0): CpuidEntry => {
    const { eax, ebx, ecx, edx } = core.cpuid(fn, index);
    return { function: fn, index, significantIndex: INDEXED.includes(fn), eax, ebx, ecx, edx };
  };
  const leaf = (fn: number): CpuidEntry[] => {
    const rows = [row(fn)];
    if (fn === CACHES) while (rows.at(-1)!.eax & CACHE_TYPE) rows.push(row(fn, rows.length));
    if (fn === STRUCTURED) while (rows.length <= rows[0]!.eax) rows.push(row(fn, rows.length));
    return rows;
  };
  const range = (base: number): CpuidEntry[] => {
    const [first] = leaf(base) as [CpuidEntry];
    const last = first.eax >= base && first.eax < base + 0x100 ? first.eax : base;
    return [first, ...Array.from({ length: last - base }, (_, i) => leaf(base + 1 + i)).flat()];
  };
  const own = { index: 0, significantIndex: false };
  return [
    ...[...range(0), ...range(0x8000_0000)].map((entry) => passedOn(rules, entry)),
    { ...own, function: KVM_CPUID_SIGNATURE, eax: KVM_CPUID_FEATURES, ...SIGNATURE },
    { ...own, function: KVM_CPUID_FEATURES, ...NOTHING, eax: KVM_FEATURE_NOP_IO_DELAY },
  ];
}
