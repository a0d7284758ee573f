// Each row of the opcode table that touches memory, with each page it touches made not present or read-only: the fault
// leaves registers, flags and memory as they were, and the instruction runs to the same end when the page is back.
import { describe, expect, it } from "vitest";
import type { OpcodeRow } from "../../scripts/opcodes.ts";
import type { Case } from "../../scripts/oracle/cases.ts";
import { encode } from "../../scripts/oracle/encode.ts";
import { BASE, type Bits, CODE_AT, DATA, DATA_SIZE, REACHED_END } from "../../scripts/oracle/layout.ts";
import { Random } from "../../scripts/oracle/random.ts";
import { isPrivileged, runnable } from "../../scripts/oracle/rows.ts";
import { stateOf } from "../../scripts/oracle/state.ts";
import { changed, type Denial, FaultBench, same } from "./pages.ts";

const BREAKPOINT = 3;
const PAGE_FAULT = 14;
const P = 1;
const W = 2;
const U = 4;
/** Between the two writable pages. */
const EDGE = DATA + DATA_SIZE / 2;
const TRIES = 24;
const REP = [0xf2, 0xf3];

interface Done {
  absent: number;
  readOnly: number;
  crossing: number;
}

/** Operands and the stack lie at the edge of two pages or well inside one. */
function near(random: Random, bits: Bits): bigint {
  const offset = random.chance(60) ? EDGE - 8 + random.below(12) : EDGE - 0x200 + random.below(0x400);
  return BigInt(offset + (bits === 16 ? 0 : BASE));
}

function oneCase(row: OpcodeRow, bits: Bits, seed: number): Case | undefined {
  const random = new Random(seed);
  const plain = stateOf(random.u32(), bits);
  const gpr = plain.gpr.slice();
  gpr[4] = near(random, bits);
  for (const pointer of [6, 7]) if (random.chance(90)) gpr[pointer] = near(random, bits);
  gpr[1] = BigInt(random.below(20));
  // NT, AC and TF are of no use here
  const state = { ...plain, gpr, rflags: plain.rflags & ~0x44100, aim: (r: Random) => near(r, bits) };
  const instruction = encode(random, row, bits, state, 0);
  if (!instruction) return undefined;
  const code = Uint8Array.from(instruction.bytes);
  const patch = Uint8Array.from(instruction.stack ?? []);
  return {
    bits,
    seed,
    state,
    at: CODE_AT,
    code,
    patchAt: patch.length ? Number(gpr[4]!) - (bits === 16 ? 0 : BASE) : 0,
    patch,
    undefinedAtEnd: 0,
    undefinedAnywhere: 0,
  };
}

const bench = new FaultBench();

function check(c: Case, done: Done): string[] {
  const { result: whole, read, written } = bench.whole(c);
  // a return lands on INT3
  if (whole.vector !== REACHED_END && whole.vector !== BREAKPOINT) return [];
  const problems: string[] = [];
  const repeats = c.code.some((byte) => REP.includes(byte));
  const tell = (what: string, list: readonly string[]): void => {
    if (list.length) problems.push(`${Buffer.from(c.code).toString("hex")} ${c.bits} ${what}: ${list.join(", ")}`);
  };
  const attempt = (page: number, how: Denial): void => {
    const { result, resumed } = bench.denied(c, page, how);
    const write = written.includes(page);
    if (how === "read-only" && !write) {
      tell("reads a read-only page", same(whole, result));
      return;
    }
    if (result.vector !== PAGE_FAULT) {
      tell(`page ${page.toString(16)} ${how}`, [`vector ${result.vector}`]);
      return;
    }
    const expected = U | (how === "read-only" ? P | W : result.error & W);
    const linear = Number(result.cr2) - BASE;
    const bad = [];
    if (result.error !== expected) bad.push(`error code ${result.error}`);
    if (!write && result.error & W) bad.push("a write where nothing is written");
    if (linear >> 12 !== page >> 12) bad.push(`cr2 ${result.cr2.toString(16)}`);
    if (!repeats) bad.push(...changed(c, result));
    tell(`page ${page.toString(16)} ${how}`, bad);
    tell(`page ${page.toString(16)} ${how}, resumed`, same(whole, resumed!));
    if (how === "read-only") done.readOnly++;
    else done.absent++;
    if (read.length > 1) done.crossing++;
  };
  for (const page of read) {
    attempt(page, "not present");
    attempt(page, "read-only");
  }
  return problems;
}

const rows = runnable.filter((row) => !isPrivileged(row));
const place = (row: OpcodeRow): string =>
  [row.map, row.opcode.toString(16), row.digit, row.prefixes?.join(), row.mod, row.mnemonic, row.operands].join(" ");
/** Rows whose only memory is the target of a branch that this bench does not take. */
const touches = (row: OpcodeRow): boolean =>
  (row.mod !== "reg" && /(?:^|,)(?:[EMO][a-z]*|RvMw|[XY][bv]?)/.test(row.operands)) ||
  /^(?:push|pop|enter|leave|ret|call|xlat|movs|cmps|stos|lods|scas)/.test(row.mnemonic);
/** Memory forms that only name an address, and instructions that always fault. */
const NO_ACCESS = /^(?:lea|nop|prefetch|ud|clflush|clwb|cldemote|call|jmp)/;

describe("page faults", () => {
  const done = new Map<string, Done>();

  it("leave registers, flags and memory as they were", () => {
    const problems: string[] = [];
    rows.forEach((row, n) => {
      const count = { absent: 0, readOnly: 0, crossing: 0 };
      done.set(place(row), count);
      for (const bits of [16, 32, 64] as const) {
        for (let i = 0; i < TRIES; i++) {
          const c = oneCase(row, bits, n * 1000 + bits * 131072 + i);
          if (c) problems.push(...check(c, count));
        }
      }
    });
    expect(problems.slice(0, 20)).toEqual([]);
  });

  it("were made on every row that touches memory, at the edge of two pages too", () => {
    const all = [...done.values()];
    expect(all.reduce((sum, one) => sum + one.crossing, 0)).toBeGreaterThan(1000);
    expect(all.reduce((sum, one) => sum + one.readOnly, 0)).toBeGreaterThan(1000);
    expect(all.reduce((sum, one) => sum + one.absent, 0)).toBeGreaterThan(3000);
    const untouched = rows.filter(
      (row) => touches(row) && !NO_ACCESS.test(row.mnemonic) && !done.get(place(row))?.absent,
    );
    expect(untouched.map(place)).toEqual([]);
  });
});
