// CPUID answers for generated code and short forms.
import { COMM_CPUID } from "../abi/run";

/**
 * Answers that may be given again, by the low bits of the leaf: {leaf, subleaf, eax, ebx, ecx, edx}. A leaf that does not
 * belong there is no answer. They hold for root operation without faulting, until state that an answer follows from changes.
 */
export const cpuidCache: usize = memory.data(192, 8);
export const CPUID_CACHE_ENTRY: u32 = 24;
export const CPUID_CACHE_MASK: u32 = 7;

/** Is any answer kept? */
let some: bool = true;

/** Must follow every change of CR4, of an MSR, of the mode and of VMX operation, VM entry above all. */
export function forgetCpuidAnswers(): void {
  if (some) forget();
}

function forget(): void {
  some = false;
  for (let i: u32 = 0; i <= CPUID_CACHE_MASK; i++) store<u32>(cpuidCache + i * CPUID_CACHE_ENTRY, ~i);
}

/** Keeps the answer in COMM_CPUID. */
export function keepCpuidAnswer(leaf: u32, subleaf: u32): void {
  some = true;
  const e = cpuidCache + (leaf & CPUID_CACHE_MASK) * CPUID_CACHE_ENTRY;
  store<u32>(e, leaf);
  store<u32>(e, subleaf, 4);
  memory.copy(e + 8, COMM_CPUID, 16);
}
