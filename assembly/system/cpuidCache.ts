// CPUID answers for generated code.
import { COMM_CPUID } from "../abi/run";

/**
 * Answers that generated code may give itself, by the low bits of the leaf: {leaf, subleaf, eax, ebx, ecx, edx}. A leaf of all
 * ones is no answer. They hold for root operation without faulting, until state that an answer follows from changes.
 */
export const cpuidCache: usize = memory.data(192, 8);
export const CPUID_CACHE_ENTRY: u32 = 24;
export const CPUID_CACHE_MASK: u32 = 7;

/** Must follow every change of CR4, of an MSR, of the mode and of VMX operation. */
export function forgetCpuidAnswers(): void {
  for (let i: u32 = 0; i <= CPUID_CACHE_MASK; i++) store<u32>(cpuidCache + i * CPUID_CACHE_ENTRY, 0xffffffff);
}

/** Keeps the answer in COMM_CPUID. */
export function keepCpuidAnswer(leaf: u32, subleaf: u32): void {
  if (leaf == 0xffffffff) return;
  const e = cpuidCache + (leaf & CPUID_CACHE_MASK) * CPUID_CACHE_ENTRY;
  store<u32>(e, leaf);
  store<u32>(e, subleaf, 4);
  memory.copy(e + 8, COMM_CPUID, 16);
}
