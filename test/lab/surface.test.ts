import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { costModel } from "../../src/cost/index.ts";
import {
  breakEvenSensitivity,
  expand,
  flips,
  groups,
  measuredBreakEvens,
  ScenarioRunner,
  SurfaceError,
  type SurfaceOptions,
  type SweepResults,
  sensitivityText,
  surfaces,
  surfaceText,
} from "../../src/lab/index.ts";

const binary = readFileSync(new URL("../../fixtures/lab/bin/mix.bin", import.meta.url));
const runner = new ScenarioRunner({ kind: "mix", binary });

function sweep(axes: Parameters<typeof expand>[0]): SweepResults {
  const scenarios = expand({ policy: ["always-hardware", "host-nonzero"], host: [0], rounds: [200], ...axes });
  const cells = scenarios.map((scenario, index) => ({ index, result: runner.run(scenario) }));
  return { format: "wasm-vmx lab 1", guest: "mix", total: cells.length, cells };
}

/** The thread's numbers at the middle: an exit 1,000 cycles, a WRMSR 137.5, no RDMSR. */
const thread = costModel("thread-trip");
const results = sweep({ cpuids: [0, 0.25, 0.5, 1], exits: [1, 2] });
const of = (options: SurfaceOptions) => surfaces(results, thread, options);

describe("break-even surface", () => {
  test("one for each number of exits; two WRMSRs over an exit is where the gain turns", () => {
    const all = of({ x: "cpuids", y: "wrmsr", prices: { wrmsr: [50, 100, 150] } });
    expect(all.map(({ scenario }) => scenario.exits)).toEqual([1, 2]);
    const [first] = all;
    expect(first!.rows).toEqual([50, 100, 150]);
    first!.breakEvens.forEach((rate, row) => {
      expect(rate).toBeCloseTo((2 * [50, 100, 150][row]!) / 1000, 2);
    });
  });

  test("over the prices of an exit and a WRMSR the gain falls with one and rises with the other", () => {
    const prices = { exit: [500, 1000, 2000], wrmsr: [100, 400] };
    const all = of({ x: "exit", y: "wrmsr", prices });
    expect(all).toHaveLength(8);
    const busy = all.find(({ scenario }) => scenario.cpuids === 1 && scenario.exits === 1)!;
    const [cheap, dear] = busy.gains as [number[], number[]];
    expect(cheap).toEqual([...cheap].sort((a, b) => a - b));
    cheap.forEach((gain, i) => {
      // two WRMSRs a load at 300 cycles more each; the guest's own first write and last restore make the edge
      expect(gain - dear[i]!).toBeCloseTo(600, -1);
    });
  });

  test("over two parts of the scenario: CPUIDs as the scenario has them", () => {
    const [only] = of({ x: "cpuids", y: "exits" });
    expect([only!.columns, only!.rows]).toEqual([
      [0, 0.25, 0.5, 1],
      [1, 2],
    ]);
    expect(only!.gains.flat().every((gain) => gain !== undefined)).toBe(true);
  });

  test.each<[SurfaceOptions, RegExp]>([
    [{ x: "cpuids", y: "cpuids" }, /both axes/],
    [{ x: "cpuids", y: "vcpus" }, /one value of vcpus/],
  ])("%o is refused", (options, text) => {
    expect(() => of(options)).toThrow(SurfaceError);
    expect(() => of(options)).toThrow(text);
  });

  test("the text has a line a row, at most 80 wide", () => {
    const lines = surfaceText(of({ x: "cpuids", y: "wrmsr" }), thread);
    expect(lines.filter((line) => /^ +[0-9.]+( +-?[0-9]+){4} +[-0-9.]+$/.test(line))).toHaveLength(16);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});

describe("sensitivity", () => {
  test("a WRMSR twice as dear doubles the break-even, an exit twice as dear halves it", () => {
    const [found] = measuredBreakEvens(results, thread);
    const rows = Object.fromEntries(breakEvenSensitivity(found!, thread).map((row) => [row.kind, row]));
    expect(rows.wrmsr!.doubled).toBeCloseTo(2 * rows.wrmsr!.middle, 9);
    expect(rows.exit!.doubled).toBeCloseTo(rows.exit!.middle / 2, 9);
    expect(rows.rdmsr).toMatchObject({ halved: rows.rdmsr!.middle, doubled: rows.rdmsr!.middle }); // its price is 0
  });

  test("at the price of a flip both policies cost the same, beyond it the other is cheaper", () => {
    for (const group of groups(results, thread)) {
      for (const { kind, at, policy, factor } of flips(group, thread)) {
        const model = (price: number) => ({
          ...thread,
          [kind]: { ...thread[kind], cycles: { low: price, high: price } },
        });
        const beyond = groups(
          { ...results, cells: group.rows.map(({ result }, index) => ({ index, result })) },
          model(factor > 1 ? at * 1.01 : at * 0.99),
        );
        expect(beyond[0]!.winners).toContain(policy);
        const before = groups(
          { ...results, cells: group.rows.map(({ result }, index) => ({ index, result })) },
          model(factor > 1 ? at * 0.99 : at * 1.01),
        );
        expect(before[0]!.winners).toEqual(group.winners);
      }
    }
  });

  test("is told for every model and every group with a winner that could change", () => {
    const text = sensitivityText(results, [thread, costModel("skylake-sp")]).join("\n");
    expect(text).toMatch(/thread-trip +exit +1000 +0\.55 +0\.275 +0\.138/);
    expect(text).toContain("skylake-sp");
    expect(text).toMatch(/always-hardware, until exit is [0-9]+/);
  });
});
