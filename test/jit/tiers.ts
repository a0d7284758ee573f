// Random programs on both tiers, at long and at very short distances between two comparisons.
import { expect } from "vitest";
import { describeDifference, type Machine, type MachineOptions, verifyJit } from "../../src/index.ts";

export interface Seen {
  instructions: bigint;
  halts: number;
  functions: number;
}

export const nothingSeen = (): Seen => ({ instructions: 0n, halts: 0, functions: 0 });

/** Compares the machines that `make` gives for each tier; `where` names the program in a failure. */
export async function compareTiers(
  where: string,
  make: (jit: MachineOptions["jit"]) => Machine,
  seen: Seen,
): Promise<void> {
  for (const step of [3000, 6]) {
    const result = await verifyJit({ step, maxInstructions: step === 6 ? 4000 : 60_000, make });
    const { difference } = result;
    expect(difference ? `${where}, step ${step}: ${describeDifference(difference).join("\n")}` : "").toBe("");
    seen.instructions += result.instructions;
    seen.functions += result.functions;
    if (step !== 6 && result.exit?.reason === "halt") seen.halts++;
  }
}
