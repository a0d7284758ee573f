import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { MixRateError, mixImage } from "../../src/lab/mix.ts";
import { ScenarioRunner } from "../../src/lab/run-scenario.ts";
import { DEFAULT_SCENARIO, expand, type Scenario, shardOf } from "../../src/lab/scenario.ts";
import { hostNonzero, type Policy } from "../../src/policy/index.ts";

const binary = readFileSync(new URL("../../fixtures/lab/bin/mix.bin", import.meta.url));
const runner = new ScenarioRunner({ kind: "mix", binary });
const run = (change: Partial<Scenario>) => runner.run({ ...DEFAULT_SCENARIO, rounds: 100, ...change });
/** Trips of the guest's own: what printing takes is measured by a run without rounds. */
const printing = run({ rounds: 0, policy: "upstream" }).counts.entering_loads;

describe("the guest's rates", () => {
  test("are patched into the binary", () => {
    const result = run({ cpuids: 0.25, exits: 2, policy: "host-nonzero" });
    expect(result.right).toBe(true);
    expect(result.counts.emulated_cpuid_faults).toBe(25);
    expect(result.exitsByReason[30]! - run({ rounds: 0 }).exitsByReason[30]!).toBeGreaterThanOrEqual(200);
  });

  test("without faulting CPUIDs exit and complete", () => {
    const { counts, exitsByReason } = run({ faulting: false, cpuids: 3 });
    expect([exitsByReason[10], counts.emulated_cpuid_faults]).toEqual([300, 0]);
  });

  test("guest WRMSRs come at their rate", () => {
    expect(run({ writes: 0.5, faulting: false }).exitsByReason[32]).toBe(50);
  });

  test("out of range are refused", () => {
    const rates = { ...DEFAULT_SCENARIO, cpuids: -1 };
    expect(() => mixImage(binary, rates)).toThrow(MixRateError);
    expect(() => mixImage(binary, { ...rates, cpuids: 1, rounds: 1.5 })).toThrow(MixRateError);
    expect(() => mixImage(new Uint8Array(100), { ...rates, cpuids: 1 })).toThrow(/parameter block/);
  });
});

describe("trips", () => {
  test("two WRMSRs an entering load for always-hardware where the guest faults and the host does not", () => {
    const { counts, wrmsr } = run({ policy: "always-hardware" });
    expect(wrmsr.policy).toBe(2 * counts.entering_loads);
    expect(counts.entering_loads - printing).toBeGreaterThanOrEqual(100);
  });

  test("a put and a load between VMCSs is two WRMSRs more", () => {
    const plain = run({ policy: "clear-host", host: 1, cpuids: 4 });
    const nested = run({ policy: "clear-host", host: 1, cpuids: 4, vmcsSwitchEvery: 4 });
    expect(nested.schedule.vmcs_switches).toBeGreaterThan(50);
    expect(nested.wrmsr.policy - plain.wrmsr.policy).toBe(2 * nested.schedule.vmcs_switches);
  });

  test("ioctls cost a switch only where it is made at the load", () => {
    const writes = (switchPoint: "prepare" | "load", ioctls: number) =>
      run({ policy: "clear-host", host: 1, switchPoint, ioctls }).wrmsr.policy;
    expect(writes("prepare", 3)).toBe(writes("prepare", 0));
    expect(writes("load", 3)).toBe(4 * writes("load", 0));
  });
});

describe("several vCPUs on several host CPUs", () => {
  const rates = { vcpus: 3, hostCpus: 2, preemptEvery: 1000, migrateEvery: 2, host: 1, writes: 0.1, faulting: false };

  test("are preempted and move, and every vCPU gives its result", () => {
    const result = run({ ...rates, policy: "host-nonzero" });
    expect([result.right, result.wrong]).toEqual([true, ""]);
    expect(result.schedule.migrations).toBeGreaterThan(10);
    expect(result.schedule.preemptions).toBeGreaterThanOrEqual(2 * result.schedule.migrations);
    expect([result.leaks.faulting, result.schedule.host_value_lost]).toEqual([0, 0]);
  });

  test("preemptions come at guest instructions, alike under every policy", () => {
    const [a, b] = [run({ ...rates, policy: "clear-all" }), run({ ...rates, policy: "always-hardware" })];
    expect(a.schedule.preemptions).toBe(b.schedule.preemptions);
    expect(a.counts.instructions).toBe(b.counts.instructions);
  });

  test("one after the other on one CPU they complete as many instructions as alone", () => {
    const alone = run({ policy: "host-nonzero" }).counts.instructions;
    expect(run({ policy: "host-nonzero", vcpus: 3, preemptEvery: 777 }).counts.instructions).toBe(3 * alone);
  });

  test("the same scenario gives the same result", () => {
    expect(JSON.stringify(run({ ...rates, policy: "user-return" }))).toBe(
      JSON.stringify(run({ ...rates, policy: "user-return" })),
    );
  });
});

describe("what goes wrong is seen", () => {
  test("upstream with host value 1: the leak", () => {
    const result = run({ faulting: false, host: 1, cpuids: 1 });
    expect([result.right, result.leaks.faulting > 0]).toEqual([false, true]);
    expect(result.wrong).toMatch(/exit status 1/);
  });

  test("always-hardware preempted in vmx_set_msr: the host's value is lost", () => {
    const rates = { writes: 1, faulting: false, raceEvery: 1, policy: "always-hardware" };
    expect(run({ ...rates, raceEvery: 0 }).schedule.host_value_lost).toBe(0);
    expect(run(rates).schedule.host_value_lost).toBeGreaterThan(0);
  });

  test("user-return with TIF_NOCPUID: a wrong #GP", () => {
    expect(run({ faulting: false, host: 1, cpuids: 1, policy: "user-return" }).right).toBe(false);
  });

  test.each(["clear-host", "always-hardware", "host-nonzero", "clear-all", "every-entry", "autoload"])(
    "%s keeps both sides apart on host values 0 and 1",
    (policy) => {
      for (const host of [0, 1]) {
        const rates = { host, cpuids: 1, writes: 0.1, preemptEvery: 500, vcpus: 2, hostCpus: 2, migrateEvery: 1 };
        const { right, leaks, schedule } = run({ ...rates, policy });
        expect([right, leaks.faulting, schedule.host_value_lost]).toEqual([true, 0, 0]);
      }
    },
  );
});

test("a policy of the user", () => {
  const mine: Policy = { ...hostNonzero, name: "mine" };
  const own = new ScenarioRunner({ kind: "mix", binary }, { policies: [mine] });
  expect(own.run({ ...DEFAULT_SCENARIO, rounds: 10, policy: "mine" }).right).toBe(true);
});

describe("axes", () => {
  test("give every combination, policies fastest", () => {
    const cells = expand({ policy: ["upstream", "clear-all"], cpuids: [0, 1], host: [0, 1] });
    expect(cells.map(({ policy, cpuids, host }) => `${policy} ${cpuids} ${host}`).slice(0, 4)).toEqual([
      "upstream 0 0",
      "clear-all 0 0",
      "upstream 0 1",
      "clear-all 0 1",
    ]);
    expect(cells).toHaveLength(8);
  });

  test("leave out a host bit on a CPU without the feature", () => {
    expect(expand({ feature: [true, false], host: [0, 1] })).toHaveLength(3);
  });

  test("shards are disjoint and complete", () => {
    const shards = [1, 2, 3].flatMap((i) => shardOf(10, i, 3));
    expect(shards.sort((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, i) => i));
    expect(() => shardOf(10, 4, 3)).toThrow(RangeError);
  });
});
