import { describe, expect, test } from "vitest";
import { COST_MODELS, costModel, Ledger, parseCostModel } from "../../src/cost/index.ts";

describe("cost models", () => {
  test("the thread's: 250-300 a pair of WRMSRs, about 1000 an exit", () => {
    const model = costModel("thread-trip");
    expect([model.wrmsr.cycles.low * 2, model.wrmsr.cycles.high * 2]).toEqual([250, 300]);
    expect(model.exit.cycles).toEqual({ low: 1000, high: 1000 });
    expect(COST_MODELS[0]).toBe(model);
  });

  test("the other reading: 250-300 a WRMSR", () => {
    expect(costModel("thread-write").wrmsr.cycles).toEqual({ low: 250, high: 300 });
  });

  test("measured exits", () => {
    expect(costModel("skylake-sp").exit.cycles).toEqual({ low: 1529, high: 1559 });
    expect(costModel("kernel-2024").exit.cycles).toEqual({ low: 1018, high: 1098 });
    expect(costModel("mitigations").exit.cycles.low).toBe(1600);
    expect(costModel("sandy-bridge").exit.cycles).toEqual({ low: 784, high: 784 });
  });

  test("every figure has a source", () => {
    for (const model of COST_MODELS) {
      for (const kind of ["exit", "wrmsr", "rdmsr", "userspace", "fault", "instruction"] as const) {
        expect(model[kind].source.length, `${model.name} ${kind}`).toBeGreaterThan(5);
      }
    }
  });

  test("an unknown name lists the known ones", () => {
    expect(() => costModel("free")).toThrow(/thread-trip, thread-write/);
  });

  test("a user's model is read from numbers, pairs and objects", () => {
    const model = parseCostModel({
      name: "mine",
      instruction: 1,
      exit: [900, 1100],
      wrmsr: { low: 80, high: 90, source: "my bench" },
      rdmsr: 25,
      userspace: 500,
      fault: 0,
    });
    expect(model.exit.cycles).toEqual({ low: 900, high: 1100 });
    expect(model.wrmsr.source).toBe("my bench");
    expect(() => parseCostModel({ name: "half" })).toThrow(/"instruction" is missing/);
    expect(() => parseCostModel({ instruction: [2, 1] })).toThrow(/low <= high/);
  });
});

describe("ledger", () => {
  test("prices counts by cause", () => {
    const ledger = new Ledger();
    ledger.count("instructions", 5000);
    for (let i = 0; i < 3; i++) ledger.exit(10);
    ledger.wrmsr.policy += 2;
    const report = ledger.cycles(costModel("thread-trip"));
    expect(report.byCause.exit).toEqual({ low: 3000, high: 3000 });
    expect(report.byCause.wrmsr).toEqual({ low: 250, high: 300 });
    expect(report.total).toEqual({ low: 8250, high: 8300 });
    expect(report.midpoint).toBe(8275);
    expect(ledger.exitsOf(10)).toBe(3);
  });

  test("keeps the policy's writes apart from Linux's own", () => {
    const ledger = new Ledger();
    ledger.wrmsr.policy += 2;
    ledger.wrmsr.switch_to_xtra += 1;
    ledger.wrmsr.arch_prctl += 1;
    expect(ledger.total("wrmsr")).toBe(4);
    // arch_prctl and boot happen before the guest runs
    expect(ledger.cycles(costModel("thread-write")).byCause.wrmsr).toEqual({ low: 750, high: 900 });
  });
});
