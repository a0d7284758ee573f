// CPUID answers that may be given again, by generated code and short forms too. A leaf that does not belong at its place is no
// answer. They hold for root operation without faulting, until state that an answer follows from changes.
import { CPUID_ANSWER, CPUID_ANSWER_MASK, CPUID_ANSWERS } from "../abi/layout";
import { COMM_CPUID } from "../abi/run";

/** Is any answer kept? */
let some: bool = true;

export class CpuidAnswers {
  /** Must follow every change of CR4, of an MSR, of the mode and of VMX operation, VM entry above all. */
  @inline static forget(): void {
    if (some) forget();
  }
}

function forget(): void {
  some = false;
  for (let i: u32 = 0; i <= <u32>CPUID_ANSWER_MASK; i++) store<u32>(CPUID_ANSWERS + i * CPUID_ANSWER, ~i);
}

/** Keeps the answer in COMM_CPUID. */
export function keepCpuidAnswer(leaf: u32, subleaf: u32): void {
  some = true;
  const e = CPUID_ANSWERS + (leaf & CPUID_ANSWER_MASK) * CPUID_ANSWER;
  store<u32>(e, leaf);
  store<u32>(e, subleaf, 4);
  memory.copy(e + 8, COMM_CPUID, 16);
}
