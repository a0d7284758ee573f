import { describe, expect, test } from "vitest";
import wrong from "../../fixtures/lab/policies/wrong.ts";
import { alphabet } from "../../src/lab/check/index.ts";
import { random } from "../../src/lab/check/search.ts";
import {
  type CheckEvent,
  checkPolicy,
  checkText,
  countSchedules,
  eventText,
  replaySchedule,
  runSchedule,
  type Violation,
  type ViolationKind,
} from "../../src/lab/index.ts";
import { ALL_POLICIES, alwaysHardware, type Policy, policyByName } from "../../src/policy/index.ts";

const check = (name: string, hosts: readonly number[]) =>
  checkPolicy(policyByName(name), { hosts, schedules: 500, exhaustive: 2 });
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
    const { findings } = checkPolicy(careless, { hosts: [0], schedules: 3000, exhaustive: 2 });
    const lost = findings.find(({ kind }) => kind === "host lost");
    // the value of the first load is stale once the thread has turned CPUID off for itself
    const ops = lost?.schedule.events.map(({ op }) => op);
    expect(ops).toContain("prctl");
    expect(ops!.length).toBeLessThanOrEqual(5);
    expect(lost?.shortest).toBe(false);
  });

  test("random schedules of two vCPUs shrink to one", () => {
    const { findings } = checkPolicy(alwaysHardware, { hosts: [0], schedules: 200, seed: 7, exhaustive: 2 });
    for (const { schedule } of findings) {
      expect(schedule.events.every(({ vcpu }) => vcpu === 0)).toBe(true);
    }
  });

  // what is expected is reasoned from the policy, by hand
  const base = { summary: "", source: "test", defaults: { hostValue: "shadow", restoreReads: false } } as const;
  const made = (name: string): Policy => wrong.find((policy) => policy.name === name)!;
  const shortest = (policy: Policy, kind: ViolationKind, host: number) => {
    const { findings } = checkPolicy(policy, { hosts: [host], schedules: 0, exhaustive: 2 });
    const finding = findings.find((one) => one.kind === kind);
    return finding && [finding.shortest, finding.replayed, finding.schedule.events];
  };

  test("a host value that leaks into the guest: the second load", () => {
    // a preempted write has the end of the first load in it
    const events = [{ op: "wrmsr", vcpu: 0, value: 0n, race: "preempt" }, run];
    expect(shortest(made("only-once"), "leak", 1)).toEqual([true, true, events]);
  });

  test("a guest's value that stays in the host: a write, and the end of the load", () => {
    const events = [{ op: "wrmsr", vcpu: 0, value: 1n, race: "none" }, user];
    expect(shortest(made("unnoted"), "host lost", 0)).toEqual([true, true, events]);
  });

  test("a write that comes too late: one preempted write, and none with a second look", () => {
    const [, , events] = shortest(made("racing"), "stale write", 0) as [boolean, boolean, CheckEvent[]];
    expect(events).toMatchObject([{ op: "wrmsr", race: "preempt" }]);
    expect(checkPolicy(made("careful"), { hosts: [0, 1], schedules: 2000 }).findings).toEqual([]);
  });

  test("an error of the policy, or #GP(0) that it makes, is a finding with its schedule", () => {
    const policy: Policy = {
      ...base,
      name: "throws",
      attach: (host) => ({
        prepareSwitchToGuest: (value) => {
          if (value !== 0n) host.wrmsrl(0x140, value << 2n);
        },
        setMsrLoaded: () => {},
        prepareSwitchToHost: () => {},
      }),
    };
    const { findings } = checkPolicy(policy, { hosts: [0], schedules: 0, exhaustive: 2 });
    // the guest's value is 1 at the next load: a preempted write ends the first, and is the first way in the alphabet
    const { schedule, violation, replayed } = findings.find(({ kind }) => kind === "error")!;
    const events = [{ op: "wrmsr", vcpu: 0, value: 1n, race: "preempt" }, run];
    expect([schedule.events, replayed]).toEqual([events, true]);
    expect(violation.text).toBe(
      "policy throws, prepareSwitchToGuest: unchecked MSR access: wrmsr of 0x140 (value 0x4) raised #GP(0)",
    );
  });

  test("so many schedules as it says", () => {
    for (const exhaustive of [1, 2]) {
      const options = { hosts: [0, 1], exhaustive, schedules: 7 };
      expect(checkPolicy(policyByName("clear-all"), options).tried).toBe(countSchedules(options));
    }
  });

  test("a seed gives one report", () => {
    expect(checkPolicy(careless, { schedules: 100, seed: 3, exhaustive: 2 })).toEqual(
      checkPolicy(careless, { schedules: 100, seed: 3, exhaustive: 2 }),
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
    const { findings } = checkPolicy(policyByName(name), { schedules: 300, exhaustive: 2 });
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
