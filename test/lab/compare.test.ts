import { describe, expect, test } from "vitest";
import { costModel } from "../../src/cost/index.ts";
import {
  breakEven,
  type CompareReport,
  type CompareRow,
  compare,
  compareText,
  threshold,
} from "../../src/lab/index.ts";
import { alwaysHardware, hostNonzero, type Policy, upstream } from "../../src/policy/index.ts";
import { fixture, imageOf } from "./fixtures.ts";

const of = (name: string, options = {}): CompareReport => compare({ image: imageOf(fixture(name)), ...options });
const row = (report: CompareReport, host: number, policy: string): CompareRow =>
  report.rows.find((one) => one.host === host && one.policy === policy)!;

describe("leak", () => {
  const report = of("leak");

  test("only upstream with host value 1 is wrong", () => {
    const wrong = report.rows.filter((one) => !one.right).map((one) => `${one.host} ${one.policy}`);
    expect(wrong).toEqual(["1 upstream"]);
    expect(row(report, 1, "upstream").output).toContain("wrong #GP");
    expect(row(report, 1, "upstream").hardwareFaults).toBe(1);
  });

  test("the wrong row is no winner, and the text names the leak", () => {
    expect(report.winners.find(({ host }) => host === 1)?.policies).not.toContain("upstream");
    expect(compareText(report).join("\n")).toMatch(/Host value 1, upstream: [^:]*the leak/);
  });

  test("a trip is two WRMSRs where the host's bit must go", () => {
    const loads = row(report, 1, "clear-host").counts.entering_loads;
    expect(row(report, 1, "clear-host").wrmsr).toBe(2 * loads);
    expect(row(report, 1, "clear-host").rdmsr).toBe(loads);
    expect(row(report, 1, "host-nonzero").rdmsr).toBe(0);
    expect(row(report, 0, "always-hardware").wrmsr).toBe(0);
  });

  test("there is no break-even without faulting CPUIDs", () => {
    expect(report.breakEven).toBeUndefined();
  });
});

describe("application start", () => {
  const report = of("app-start", { hosts: [0] });

  test("emulation wins, as the reply in the thread says", () => {
    expect(report.breakEven?.verdict).toBe("emulation");
    expect(report.breakEven?.faultingCpuids).toBe(5);
    expect(report.winners[0]?.policies).toContain("host-nonzero");
    expect(report.winners[0]?.policies).not.toContain("always-hardware");
  });

  test("hardware faulting saves the five exits and pays on every later trip", () => {
    const emulated = row(report, 0, "host-nonzero");
    const hardware = row(report, 0, "always-hardware");
    expect([emulated.cpuidExits, hardware.cpuidExits]).toEqual([5, 0]);
    expect([emulated.hardwareFaults, hardware.hardwareFaults]).toEqual([0, 5]);
    expect(emulated.wrmsr).toBe(0);
    // the load in which the guest turns it on writes twice, every one after it too
    expect(hardware.wrmsr).toBe(2 * hardware.counts.entering_loads);
  });
});

test("a CPUID-heavy guest is cheaper with hardware faulting", () => {
  const report = of("cpuid-heavy", { hosts: [0] });
  expect(report.breakEven?.verdict).toBe("hardware");
  expect(report.winners[0]?.policies).toEqual(["always-hardware"]);
});

describe("host values with the ring-3 MWAIT bit", () => {
  const report = of("leak", { hosts: [2, 3] });

  test("the bit acts in the guest under the policies that touch bit 0 only", () => {
    const leaking = report.rows.filter((one) => one.leaks.ring3mwait > 0).map((one) => `${one.host} ${one.policy}`);
    expect(leaking).toEqual([
      ...["2 upstream", "2 clear-host", "2 always-hardware"],
      ...["3 upstream", "3 clear-host", "3 always-hardware"],
    ]);
  });

  test("every policy gives the host its value back", () => {
    expect(report.rows.every((one) => one.hostKept)).toBe(true);
  });
});

describe("break-even", () => {
  test("the thread's models break even at 0.25-0.30 and 0.50-0.60 faulting CPUIDs a load", () => {
    expect(threshold(costModel("thread-trip"), 0)).toEqual({ low: 0.25, high: 0.3 });
    expect(threshold(costModel("thread-write"), 1)).toEqual({ low: 0.5, high: 0.6 });
  });

  test("an RDMSR a load raises the threshold by its cost over an exit's", () => {
    const model = costModel("sandy-bridge");
    const [without, with1] = [threshold(model, 0), threshold(model, 1)];
    expect(with1.low - without.low).toBeCloseTo(30 / 784);
    expect(with1.high - without.high).toBeCloseTo(50 / 784);
  });

  test("between the two ends the model cannot tell", () => {
    const counts = { emulated_cpuid_faults: 27, entering_loads: 100 } as CompareRow["counts"];
    const result = breakEven(costModel("thread-trip"), { counts, rdmsr: 0 }, { counts, rdmsr: 0 });
    expect(result?.verdict).toBe("undecided");
    expect(result?.loadsToBreakEven).toEqual({ low: 90, high: 108 });
  });
});

test("a user's policy runs beside the built-in ones", () => {
  const keepsGuestValue: Policy = {
    name: "forgets",
    summary: "never restores the host's value",
    source: "test",
    defaults: { hostValue: "rdmsr", restoreReads: false },
    attach: (host) => ({
      prepareSwitchToGuest: (guest) => host.wrmsrl(0x140, guest),
      setMsrLoaded: (data) => host.wrmsrl(0x140, data),
      prepareSwitchToHost: () => {},
    }),
  };
  const report = of("leak", { hosts: [1], policies: [upstream, alwaysHardware, hostNonzero, keepsGuestValue] });
  const mine = row(report, 1, "forgets");
  expect([mine.right, mine.hostKept]).toEqual([true, false]);
  expect(report.winners[0]?.policies).not.toContain("forgets");
});

test("two runs give the same report", () => {
  expect(JSON.stringify(of("leak"))).toBe(JSON.stringify(of("leak")));
});
