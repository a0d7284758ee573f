// Rows of the opcode table that the native oracle runs at CPL 3 and that touch memory, with each page they touch made not
// present or read-only in the guest's page tables or in EPT. FAULT_TRIES: cases of a row in each mode.
import { describe, expect, it } from "vitest";
import type { OpcodeRow } from "../../scripts/opcodes.ts";
import { encode } from "../../scripts/oracle/encode.ts";
import { BASE, type Bits } from "../../scripts/oracle/layout.ts";
import { Random } from "../../scripts/oracle/random.ts";
import { isPrivileged, runnable } from "../../scripts/oracle/rows.ts";
import { check, type Done, HOWS, none, place } from "./check.ts";
import { GuestBench, type Start } from "./guestBench.ts";
import { AT } from "./guestWorld.ts";
import { near, startingState } from "./systemRows.ts";

const TRIES = Number(process.env.FAULT_TRIES ?? 8);

function oneCase(row: OpcodeRow, bits: Bits, seed: number): Start | undefined {
  const random = new Random(seed);
  const state = { ...startingState(random, bits), aim: (r: Random) => near(r, bits) };
  const instruction = encode(random, row, bits, state, 0);
  if (!instruction) return undefined;
  const stack = Uint8Array.from(instruction.stack ?? []);
  const at = AT.window + Number(state.gpr[4]!) - (bits === 16 ? 0 : BASE);
  return {
    bits,
    legacy: false,
    cpl: 3,
    gpr: state.gpr,
    rflags: state.rflags,
    fsBase: state.fsBase,
    gsBase: state.gsBase,
    code: Uint8Array.from(instruction.bytes),
    patches: stack.length ? [{ at, bytes: stack }] : [],
  };
}

const bench = new GuestBench();

/** Rows whose only memory is the target of a branch that this bench does not take. */
const touches = (row: OpcodeRow): boolean =>
  (row.mod !== "reg" && /(?:^|,)(?:[EMO][a-z]*|RvMw|[XY][bv]?)/.test(row.operands)) ||
  /^(?:push|pop|enter|leave|ret|call|xlat|movs|cmps|stos|lods|scas)/.test(row.mnemonic);
/** Memory forms that only name an address, and instructions that always fault. */
const NO_ACCESS = /^(?:lea|nop|prefetch|ud|clflush|clwb|cldemote)/;

const rows = runnable.filter((row) => !isPrivileged(row));

describe("instructions of any program", () => {
  const done = new Map<OpcodeRow, Done>(rows.map((row) => [row, none()]));

  it.each([16, 32, 64] as const)("faults leave registers, flags and memory of %i-bit code as they were", (bits) => {
    const problems: string[] = [];
    rows.forEach((row, n) => {
      for (let i = 0; i < TRIES; i++) {
        const start = oneCase(row, bits, n * 1000 + bits * 131072 + i);
        if (start) problems.push(...check(bench, start, HOWS, done.get(row)!));
      }
    });
    expect(problems.slice(0, 20)).toEqual([]);
  });

  it("were made on every row that touches memory, in every way, at the edge of two pages too", () => {
    const all = [...done.values()];
    const sum = (key: keyof Done): number => all.reduce((total, one) => total + one[key], 0);
    for (const key of ["notPresent", "eptAbsent", "crossing"] as const) expect(sum(key)).toBeGreaterThan(1500);
    for (const key of ["readOnly", "eptReadOnly"] as const) expect(sum(key)).toBeGreaterThan(500);
    const untouched = rows.filter(
      (row) =>
        touches(row) && !NO_ACCESS.test(row.mnemonic) && !(done.get(row)!.notPresent && done.get(row)!.eptAbsent),
    );
    expect(untouched.map(place)).toEqual([]);
  });
});
