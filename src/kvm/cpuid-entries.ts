/** struct kvm_cpuid_entry2. */
export interface CpuidEntry {
  readonly function: number;
  /** Only matched where `significantIndex` is set. */
  readonly index: number;
  /** KVM_CPUID_FLAG_SIGNIFCANT_INDEX */
  readonly significantIndex: boolean;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}
