import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { timeGuest } from "../../src/bench/guest.ts";
import { type BenchRecord, compareLines, compareRecords, htmlPage, tableLines } from "../../src/bench/report.ts";
import { readGuests, runSuite } from "../../src/bench/suite.ts";

const folder = new URL("../../fixtures/bench/", import.meta.url);
const guests = readGuests(folder);
const meta = JSON.parse(readFileSync(new URL("meta.json", folder), "utf8"));

describe("benchmark guests", () => {
  // checksums are QEMU's, those of 32-bit guests without privilege a real processor's too
  it.each(guests.map((guest) => [guest.name, guest] as const))(
    "%s gives the checksum of other processors",
    (name, guest) => {
      for (const jit of [false, true]) {
        const { checksum, instructions } = timeGuest(guest.bytes, 0x10000, 0x10080, { jit });
        expect(checksum).toBe(guest.checksum);
        expect(instructions).toBe(meta[name].ins * 1000 + meta[name].base);
      }
    },
  );

  it("run in every mode", async () => {
    const { cells } = await runSuite({
      guests: guests.filter(({ name }) => name === "alu64"),
      rounds: 2,
      seconds: 0.002,
    });
    expect(cells.map(({ mode, rounds }) => [mode, rounds.length])).toEqual([
      ["interpreter", 2],
      ["generated", 2],
      ["vmx-interpreter", 2],
      ["vmx-generated", 2],
    ]);
    for (const { mips } of cells) expect(mips).toBeGreaterThan(0);
  });
});

const record = (mips: readonly number[], exits: number): BenchRecord => ({
  version: 1,
  date: "2026-01-01 00:00",
  node: "v20",
  cpu: "a processor",
  cells: mips.map((value, i) => ({
    guest: `g${i}`,
    mode: "generated",
    count: 1,
    instructions: 1,
    mips: value,
    rounds: [value],
  })),
  exits: [{ name: "CPUID", mode: "generated", perSecond: exits }],
});

describe("a comparison", () => {
  // a machine at half its speed, and one guest that is four times as fast on it
  const then = record([100, 200, 300, 10], 1e6);
  const now = record([50, 100, 150, 20], 0.5e6);

  it("gives ratios, and ratios over the median", () => {
    const moves = compareRecords(now, then);
    expect(moves.map(({ ratio }) => ratio)).toEqual([0.5, 0.5, 0.5, 2, 0.5]);
    expect(moves.map(({ relative }) => relative)).toEqual([1, 1, 1, 4, 1]);
  });

  it("says what moved and nothing else", () => {
    const text = compareLines(now, then).join("\n");
    expect(text).toContain("median ratio 0.50");
    expect(text).toMatch(/g3, generated +2\.00 +4\.00 +faster/);
    expect(text).not.toContain("g0,");
    expect(compareLines(then, then).join("\n")).toContain("nothing moved");
  });

  it("is on the page, which needs nothing from elsewhere", () => {
    const page = htmlPage(now, then);
    expect(page).toContain("median ratio 0.50");
    expect(page.match(/<rect /g)).toHaveLength(4);
    expect(page).not.toMatch(/(?:src|href)=|@import|url\(/);
    expect(tableLines(now).join("\n")).toContain("g3");
  });
});
