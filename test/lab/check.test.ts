import { describe, expect, test } from "vitest";
import { alphabet } from "../../src/lab/check/index.ts";
import { random } from "../../src/lab/check/search.ts";
import {
  type CheckEvent,
  checkPolicy,
  checkText,
  eventText,
  replaySchedule,
  runSchedule,
  type Violation,
  type ViolationKind,
} from "../../src/lab/index.ts";
import { ALL_POLICIES, alwaysHardware, type Policy, policyByName } from "../../src/policy/index.ts";

const check = (name: string, hosts: readonly number[]) => checkPolicy(policyByName(name), { hosts, schedules: 500 });
const kinds = (name: string, hosts: readonly number[]): ViolationKind[] =>
  check(name, hosts)
    .findings.map(({ kind }) => kind)
    .sort();
const race: CheckEvent = { op: "wrmsr", vcpu: 0, value: 1n, race: "preempt" };
const run: CheckEvent = { op: "run", vcpu: 0 };
const user: CheckEvent = { op: "user", vcpu: 0 };

describe("what is known of the policies", () => {
  test("upstream leaks the host's bit at the first entry, and loses nothing", () => {
    const { findings } = check("upstream", [1]);
    expect(findings).toMatchObject([{ kind: "leak", schedule: { host: 1, events: [run] }, shortest: true }]);
  });

  test("always-hardware: the write after the test, preempted in between", () => {
    const { findings } = check("always-hardware", [0]);
    const stale = findings.find(({ kind }) => kind === "stale write");
    expect(stale?.schedule.events).toMatchObject([{ op: "wrmsr", race: "preempt" }]);
    expect(findings.find(({ kind }) => kind === "host lost")?.schedule.events).toEqual([race, user]);
    expect(findings.map(({ kind }) => kind)).not.toContain("leak");
  });

  test("always-hardware keeps the guest's value in the host for ever, host-nonzero heals after one load", () => {
    const lost = (name: string, host: number, value: bigint) =>
      runSchedule(policyByName(name), { host, events: [run, { ...race, value }, user, run, user, run, user] })
        .filter(({ kind }) => kind === "host lost")
        .map(({ at }) => at);
    expect(lost("always-hardware", 0, 1n)).toEqual([2, 4, 6]);
    expect(lost("host-nonzero", 1, 0n)).toEqual([2]);
  });

  test.each(["clear-all", "every-entry", "autoload"])("%s: nothing", (name) => {
    expect(kinds(name, [0, 1, 2, 3])).toEqual([]);
  });

  test("clear-host: nothing but ring-3 MWAIT", () => {
    expect(kinds("clear-host", [0, 1, 2, 3])).toEqual(["mwait leak"]);
  });

  test("user-return: a thread with TIF_NOCPUID breaks it", () => {
    expect(kinds("user-return", [1])).toEqual(["host lost", "leak", "stale write"]);
  });
});

describe("a policy of the user", () => {
  const careless: Policy = {
    name: "careless",
    summary: "takes the host's value at the first load for the value of all loads",
    source: "test",
    defaults: { hostValue: "shadow", restoreReads: false },
    attach: (host) => {
      let first: bigint | undefined;
      return {
        prepareSwitchToGuest: () => {
          first ??= host.shadow;
          host.wrmsrl(0x140, 0n);
        },
        setMsrLoaded: () => {},
        prepareSwitchToHost: () => host.wrmsrl(0x140, first!),
      };
    },
  };

  test("is found out, and the schedule made as short as it can be", () => {
    const { findings } = checkPolicy(careless, { hosts: [0], schedules: 3000 });
    const lost = findings.find(({ kind }) => kind === "host lost");
    // the value of the first load is stale once the thread has turned CPUID off for itself
    const ops = lost?.schedule.events.map(({ op }) => op);
    expect(ops).toContain("prctl");
    expect(ops!.length).toBeLessThanOrEqual(5);
    expect(lost?.shortest).toBe(false);
  });

  test("random schedules of two vCPUs shrink to one", () => {
    const { findings } = checkPolicy(alwaysHardware, { hosts: [0], schedules: 200, seed: 7 });
    for (const { schedule } of findings) {
      expect(schedule.events.every(({ vcpu }) => vcpu === 0)).toBe(true);
    }
  });

  test("a seed gives one report", () => {
    expect(checkPolicy(careless, { schedules: 100, seed: 3 })).toEqual(
      checkPolicy(careless, { schedules: 100, seed: 3 }),
    );
  });
});

test("the text tells the schedule", () => {
  const lines = checkText(check("always-hardware", [0]));
  expect(lines.join("\n")).toMatch(/preempted between the loaded\s+test\s+and\s+the\s+write/);
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
});

describe("what is found is played again on the processor", () => {
  test.each(ALL_POLICIES.map(({ name }) => name))("%s", (name) => {
    const { findings } = checkPolicy(policyByName(name), { schedules: 300 });
    expect(findings.filter(({ replayed }) => !replayed)).toEqual([]);
  });

  test("a schedule that shows nothing shows nothing there either", () => {
    const events = [run, { op: "preempt", vcpu: 0 }, run, { op: "migrate", vcpu: 0 }, run, user] as const;
    const schedule = { host: 1, events };
    expect(replaySchedule(policyByName("host-nonzero"), schedule)).toEqual([]);
    expect(replaySchedule(policyByName("upstream"), schedule)).toHaveLength(3);
  });

  test("always-hardware keeps the guest's value in the host for ever there too", () => {
    const events = [run, race, user, run, user, run, user];
    const seen = (name: string, host: number, value: bigint) =>
      replaySchedule(policyByName(name), {
        host,
        events: events.map((event) => (event.op === "wrmsr" ? { ...event, value } : event)),
      })
        .filter(({ kind }) => kind === "host lost")
        .map(({ at }) => at);
    expect(seen("always-hardware", 0, 1n)).toEqual([2, 4, 6]);
    expect(seen("host-nonzero", 1, 0n)).toEqual([2]);
  });

  const both = (op: "run" | "user" | "preempt" | "kthread" | "migrate"): CheckEvent[] =>
    [0, 1].map((vcpu) => ({ op, vcpu }));

  test("two vCPUs are in their guests at once, each on its CPU", () => {
    const events = [...both("run"), ...both("run"), ...both("user")];
    expect(replaySchedule(policyByName("host-nonzero"), { host: 1, events })).toEqual([]);
    expect(replaySchedule(policyByName("upstream"), { host: 1, events }).map(({ at }) => at)).toEqual([0, 1, 2, 3]);
  });

  test("user-return leaves what one guest wrote to a thread of the CPU that another has moved to", () => {
    const wrmsr = { op: "wrmsr", vcpu: 0, value: 1n, race: "none" } as const;
    const events = [wrmsr, { op: "kthread", vcpu: 0 }, ...both("migrate"), ...both("run"), ...both("user")] as const;
    for (const policy of ALL_POLICIES) {
      const schedule = { host: 0, events };
      expect(replaySchedule(policy, schedule), policy.name).toEqual(runSchedule(policy, schedule));
    }
  });

  test.each(ALL_POLICIES.map(({ name }) => name))("%s: random schedules of both show what the model shows", (name) => {
    const next = random(11);
    const letters = [0, 1].flatMap((vcpu) => alphabet(vcpu));
    const seen = (violations: readonly Violation[]) => violations.map(({ at, kind }) => `${at} ${kind}`);
    for (let n = 0; n < 60; n++) {
      const events = Array.from({ length: 12 }, () => letters[Math.floor(next() * letters.length)]!);
      const schedule = { host: n % 4, events };
      const model = seen(runSchedule(policyByName(name), schedule));
      expect(seen(replaySchedule(policyByName(name), schedule)), events.map(eventText).join("\n")).toEqual(model);
    }
  });
});
