// The study is what the generator writes, and its claims come out as the facts have them.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const text = readFileSync(new URL("../../docs/study-cpuid-faulting.md", import.meta.url), "utf8");

test("npm run study would write the same", { timeout: 300_000 }, async () => {
  const { study } = (await import("../../scripts/study.ts")) as { study: string };
  expect(study).toBe(text);
});

test("break-evens of the thread's two readings", () => {
  expect(text).toMatch(/\| `thread-trip` \|[^|]*\| 0\.25-0\.3 \| 0\.25-0\.3 \|/);
  expect(text).toMatch(/\| `thread-write` \|[^|]*\| 0\.5-0\.6 \| 0\.5-0\.6 \|/);
});

test("one static case in which the two sides differ, and the leak", () => {
  expect(text).toMatch(/\| 0 \| 1 \| #GP by KVM, 0 \| #GP by CPU, 2 \| #GP by KVM, 0 \|/);
  expect(text).toMatch(/\| 1 \| 0 \| WRONG #GP, 0 \| completes, 2 \| completes, 2 \|/);
});
