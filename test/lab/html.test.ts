import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { costModel } from "../../src/cost/index.ts";
import {
  DEFAULT_SCENARIO,
  expand,
  htmlReport,
  roundTrip,
  ScenarioRunner,
  type SweepResults,
} from "../../src/lab/index.ts";
import { ALL_POLICIES } from "../../src/policy/index.ts";

const source = {
  kind: "mix",
  binary: readFileSync(new URL("../../fixtures/lab/bin/mix.bin", import.meta.url)),
} as const;
const trip = (policy: string, host: number) =>
  roundTrip(source, { ...DEFAULT_SCENARIO, policy, host, rounds: 12, cpuids: 1 }, ALL_POLICIES)
    .map(({ kind }) => kind)
    .join(" ");

describe("one round trip", () => {
  test("emulation: an exit, an injection and an entry for the CPUID, no access to the MSR", () => {
    expect(trip("host-nonzero", 0)).toBe("user entry exit exit entry exit user");
  });

  test("hardware: read, write, one entry, one exit, restore", () => {
    expect(trip("always-hardware", 0)).toBe("user rdmsr wrmsr entry exit wrmsr user");
  });
});

describe("the page", () => {
  const scenarios = expand({ policy: ["always-hardware", "host-nonzero"], cpuids: [0, 1], host: [0], rounds: [20] });
  const runner = new ScenarioRunner(source);
  const cells = scenarios.map((scenario, index) => ({ index, result: runner.run(scenario) }));
  const results: SweepResults = { format: "wasm-vmx lab 1", guest: "<mix>", total: cells.length, cells };
  const events = roundTrip(source, { ...DEFAULT_SCENARIO, rounds: 12 }, ALL_POLICIES);
  const html = htmlReport(results, [costModel("thread-trip")], [{ title: "a & b", events }]);

  test("needs no other file", () => {
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:|src=|href=|@import|url\(/);
  });

  test("has bars, the surface and the round trip", () => {
    expect(html.match(/aria-label="cycles by cause and policy"/g)).toHaveLength(2);
    expect(html.match(/aria-label="break-even surface"/g)).toHaveLength(1);
    expect(html.match(/aria-label="one load\/put round trip: a &amp; b"/g)).toHaveLength(1);
  });

  test("escapes names", () => {
    expect(html).toContain("&lt;mix&gt;");
    expect(html).not.toContain("<mix>");
  });

  test("has the reader's choice of light and dark: text and lines take the page's colours", () => {
    expect(html).toContain("@media (prefers-color-scheme: dark)");
    expect(html).not.toMatch(/<text(?![^>]*fill=)[^>]*style=|stroke="#/);
    expect(html).toMatch(/svg \{[^}]*fill: currentColor/);
  });

  test("holds no NaN", () => {
    expect(html).not.toMatch(/NaN|Infinity|undefined/);
  });
});
