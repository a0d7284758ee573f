// Rows of the opcode table that the native oracle does not run, with each page they touch (operands, stacks, descriptor
// tables, TSS and I/O bitmap) made not present or read-only in the guest's page tables or in EPT.
import { describe, expect, it } from "vitest";
import { type OpcodeRow, opcodeRows } from "../../scripts/opcodes.ts";
import { isPrivileged, runnable } from "../../scripts/oracle/rows.ts";
import { check, type Done, HOWS, none, place } from "./check.ts";
import { GuestBench } from "./guestBench.ts";
import type { Mode } from "./guestWorld.ts";
import { recipeOf, systemCase } from "./systemRows.ts";

const MODES: readonly Mode[] = ([0, 3] as const).flatMap((cpl) => [
  { bits: 64, legacy: false, cpl },
  { bits: 32, legacy: false, cpl },
  { bits: 16, legacy: false, cpl },
  { bits: 32, legacy: true, cpl },
  { bits: 16, legacy: true, cpl },
]);
const TRIES = 5;

const rows = opcodeRows.filter((row) => recipeOf(row));

const VMX = "exits before it reads its operand in a guest, see vmx.test.ts";
const MEMORY_LESS = "touches no memory";
/** Rows without a case, by what is common to them. */
function whyNot(row: OpcodeRow): string | undefined {
  if (row.handler === "ud" || row.handler === "ud2") return "raises #UD";
  if (row.handler === "x87") return "raises #NM or #UD before it looks at memory";
  if (/^vm|^invept|^invvpid/.test(row.mnemonic)) return VMX;
  if (row.handler === "nop" || row.mnemonic === "invlpg" || row.mnemonic === "wait" || row.mnemonic === "fwait")
    return MEMORY_LESS;
  if (
    /^(?:rdmsr|wrmsr|hlt|cli|sti|clts|invd|wbinvd|swapgs|mwait|clac|stac|[xr]getbv|[xs]etbv|xgetbv|xsetbv|rdtscp?|rdpmc|rdrand|rdseed|rdpid|cpuid|syscall|sysret|sysenter|sysexit)/.test(
      row.mnemonic,
    )
  )
    return MEMORY_LESS;
  if (/[CD]n/.test(row.operands)) return MEMORY_LESS;
  return undefined;
}

const bench = new GuestBench();
const done = new Map<OpcodeRow, Done>(rows.map((row) => [row, none()]));

describe("system instructions and what they touch", () => {
  it.each(MODES.map((mode) => [`${mode.bits}-bit${mode.legacy ? " legacy" : ""} CPL ${mode.cpl}`, mode] as const))(
    "%s",
    (_name, mode) => {
      const problems: string[] = [];
      rows.forEach((row, n) => {
        for (let i = 0; i < TRIES; i++) {
          const start = systemCase(row, mode, n * 1000 + mode.bits * 131072 + mode.cpl * 100 + i);
          if (start) problems.push(...check(bench, start, HOWS, done.get(row)!));
        }
      });
      expect(problems.slice(0, 20)).toEqual([]);
    },
  );

  it("each row was denied a page in every way it can be", () => {
    const missing = rows.filter((row) => !done.get(row)!.notPresent || !done.get(row)!.eptAbsent);
    expect(missing.map(place)).toEqual([]);
    const all = [...done.values()];
    for (const key of ["readOnly", "eptReadOnly", "crossing"] as const) {
      expect(all.reduce((sum, one) => sum + one[key], 0)).toBeGreaterThan(100);
    }
  });

  it("every row of the opcode table has a case here, in plain.test.ts, or a reason", () => {
    const plain = new Set(runnable.filter((row) => !isPrivileged(row)));
    const forgotten = opcodeRows.filter((row) => !plain.has(row) && !recipeOf(row) && whyNot(row) === undefined);
    expect(forgotten.map(place)).toEqual([]);
  });
});
