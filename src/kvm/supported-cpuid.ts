import type { Core } from "../core/index.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";

const VMX = 1 << 5;
/** Emulated by KVM, whatever the processor has: leaf 1, ECX x2APIC and EDX APIC. */
const X2APIC = 1 << 21;
const APIC = 1 << 9;

/** The processor's own answers, leaf by leaf, without VMX and with the local APIC. @kvm __do_cpuid_func */
export function supportedCpuid(core: Core): CpuidEntry[] {
  const row = (fn: number): CpuidEntry => {
    const { eax, ebx, ecx, edx } = core.cpuid(fn, 0);
    return { function: fn, index: 0, significantIndex: false, eax, ebx, ecx, edx };
  };
  const range = (base: number): CpuidEntry[] => {
    const first = row(base);
    const last = first.eax >= base && first.eax < base + 0x100 ? first.eax : base;
    const rows = [first];
    for (let fn = base + 1; fn <= last; fn++) rows.push(row(fn));
    return rows;
  };
  return [...range(0), ...range(0x8000_0000)].map((entry) =>
    entry.function === 1
      ? { ...entry, ecx: ((entry.ecx & ~VMX) | X2APIC) >>> 0, edx: (entry.edx | APIC) >>> 0 }
      : entry,
  );
}
