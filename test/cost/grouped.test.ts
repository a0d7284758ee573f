import { expect, it } from "vitest";
import { grouped } from "../../src/cost/index.ts";

it("writes numbers as the English locale does", () => {
  const values = [
    0,
    7,
    10,
    100,
    999,
    1000,
    1200.5,
    12_345.678,
    100_000,
    1e6,
    0.25,
    2.001,
    9_198_570,
    2 ** 53,
    1e9 + 0.1,
  ];
  for (const value of values) expect(grouped(value)).toBe(value.toLocaleString("en-US", { maximumFractionDigits: 2 }));
  for (const value of [0n, 999n, 1000n, 2n ** 64n - 1n]) expect(grouped(value)).toBe(value.toLocaleString("en-US"));
});
