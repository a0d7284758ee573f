import { expect, test } from "vitest";
import { parseCostModel } from "../../src/cost/index.ts";
import { calibratedModel } from "../../src/lab/index.ts";

test("intervals of a measurement become a model that --cost reads", () => {
  const text = JSON.stringify(calibratedModel({ trip: [2528, 2550, 2576], cpuid: [1018, 1027, 1053] }, "a machine"));
  const model = parseCostModel(JSON.parse(text));
  expect([model.exit.cycles, model.userspace.cycles]).toEqual([
    { low: 1018, high: 1053 },
    { low: 1501, high: 1549 },
  ]);
  expect(model.exit.source).toContain("a machine");
  expect(model.wrmsr.source).toContain("weak");
});

test("a trip cheaper than an exit is no negative cost", () => {
  const model = parseCostModel(calibratedModel({ trip: [5, 6, 7], cpuid: [10, 10, 10] }, "x"));
  expect(model.userspace.cycles).toEqual({ low: 0, high: 0 });
});
