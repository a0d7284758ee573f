import { expect, test } from "vitest";
import { hookReport } from "../../src/bench/hooks.ts";

test("the hook benchmark runs and gives a figure for each hook", () => {
  const { costs, free, elsewhere } = hookReport(20_000);
  expect(costs.length).toBe(9);
  for (const value of [
    ...costs.map(({ nanoseconds }) => nanoseconds),
    ...Object.values(free),
    ...Object.values(elsewhere),
  ]) {
    expect(value).toBeGreaterThan(0);
    expect(Number.isFinite(value)).toBe(true);
  }
});
