import { describe, expect, it } from "vitest";
import { nextSlice } from "../../src/machine/yield.ts";

describe("slices", () => {
  it("aim at 10 ms and grow by four at most", () => {
    expect(nextSlice(1000, 20)).toBe(500);
    expect(nextSlice(1000, 10)).toBe(1000);
    expect(nextSlice(1000, 0.01)).toBe(4000);
    expect(nextSlice(100, 1e6)).toBe(100);
  });

  it("stay whole numbers that a slice can have, however many end early", () => {
    let work = 2000;
    for (let n = 0; n < 2000; n++) work = nextSlice(work, 2.6);
    expect(BigInt(work)).toBeGreaterThan(1_000_000n);
    expect(Number.isSafeInteger(work)).toBe(true);
  });
});
