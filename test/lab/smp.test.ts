// Several vCPUs in one VM, on host CPUs that take turns. What the guest prints follows from its parameters.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Host } from "../../src/kvm/index.ts";
import { DEFAULT_SCENARIO, MIX_MEMORY, mixImage, type Scenario, ScenarioRunner, Vmm } from "../../src/lab/index.ts";
import { Scheduler } from "../../src/lab/scheduler.ts";
import { ALL_POLICIES, policyByName } from "../../src/policy/index.ts";

const read = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../fixtures/lab/bin/${name}.bin`, import.meta.url)));
const smp = read("smp");
const runner = new ScenarioRunner({ kind: "mix", binary: read("mix"), smp });
const STANDARD: Scenario = {
  ...DEFAULT_SCENARIO,
  ...{ rounds: 60, vcpusPerVm: 2, hostCpus: 2, maxInstructions: 2_000_000, policy: "host-nonzero" },
};
const run = (change: Partial<Scenario>) => runner.run({ ...STANDARD, ...change });

/** Runs VMs of several vCPUs and gives what each printed. */
function printed(change: Partial<Scenario> & { readonly vms?: number }, binary = smp): string[] {
  const scenario = { ...STANDARD, tickEvery: 1000, ...change };
  const { vms = 1, vcpusPerVm, tickEvery } = scenario;
  const host = new Host({ memory: vms * (MIX_MEMORY + (8 << 20)), hostValue: scenario.host });
  const scheduler = new Scheduler(host, scenario);
  const image = mixImage(binary, scenario, vcpusPerVm);
  const outputs = Array.from({ length: vms }, (_, i) => {
    const bytes: number[] = [];
    const options = { host, image, memory: MIX_MEMORY, policy: policyByName(scenario.policy), vcpus: vcpusPerVm };
    scheduler.add(`vmm${i}`, () => {
      const console = (byte: number): void => void bytes.push(byte);
      return new Vmm({ ...options, console, yieldWhenWaiting: true, preemptEvery: tickEvery });
    });
    return bytes;
  });
  scheduler.run();
  return outputs.map((bytes) => String.fromCharCode(...bytes));
}

/** Without the checksum. */
const sums = (text: string): string => text.replace(/, checksum [0-9A-Fa-f]{8}\n$/, "");

describe("the vCPUs of a VM share its memory", () => {
  test.each([
    [1, 2],
    [2, 2],
    [2, 3],
    [3, 8],
  ])("on %i host CPUs: %i vCPUs count together", (hostCpus, vcpusPerVm) => {
    const rounds = 60 * vcpusPerVm;
    const cpuids = 15 * vcpusPerVm;
    const expected = `lab: vCPUs ${vcpusPerVm}, cpuids 0, faults ${cpuids}, shared ${rounds} ${rounds}`;
    expect(sums(printed({ hostCpus, vcpusPerVm })[0]!)).toBe(expected);
  });

  test("at every instruction they may change places: a lock that is not taken loses updates, LOCK XADD none", () => {
    const loose = smp.slice();
    // TEST EAX, EAX; JZ: always
    const at = loose.findIndex((_, i) =>
      [0x85, 0xc0, 0x74, 0x04, 0xf3, 0x90].every((byte, j) => loose[i + j] === byte),
    );
    loose[at + 2] = 0xeb;
    const shared = (binary: Uint8Array): number[] =>
      /shared (\d+) (\d+)/
        .exec(printed({ tickEvery: 7, vcpusPerVm: 3, steps: 0 }, binary)[0]!)!
        .slice(1)
        .map(Number);
    expect(shared(smp)).toEqual([180, 180]);
    const [atomic, plain] = shared(loose);
    expect(atomic).toBe(180);
    expect(plain).toBeLessThan(180);
  });

  test("VMs do not share theirs", () => {
    const outputs = printed({ vms: 2, hostCpus: 3, preemptEvery: 3000, migrateEvery: 1 });
    expect(outputs.map(sums)).toEqual(Array(2).fill("lab: vCPUs 2, cpuids 0, faults 30, shared 120 120"));
  });
});

describe("policies", () => {
  const busy = { preemptEvery: 3000, migrateEvery: 2, tickEvery: 1000, vcpusPerVm: 3, writes: 0.1, cpuids: 1 };

  test.each(["clear-host", "always-hardware", "host-nonzero", "clear-all", "every-entry", "autoload"])(
    "%s keeps both sides apart while vCPUs of a VM move between the CPUs",
    (policy) => {
      for (const host of [0, 1]) {
        const { right, wrong, leaks, schedule } = run({ ...busy, host, policy });
        expect([right, wrong, leaks.faulting, schedule.host_value_lost]).toEqual([true, "", 0, 0]);
        expect(schedule.migrations).toBeGreaterThan(5);
        expect(schedule.sleeps).toBeGreaterThanOrEqual(2); // those that wait for their start-up IPI
      }
    },
  );

  test("the vCPUs of a guest run alike under every policy that is right", () => {
    const counts = ALL_POLICIES.filter(({ name }) => name !== "user-return").map(({ name }) => {
      const { counts: one, schedule } = run({ ...busy, policy: name });
      return [one.instructions, schedule.preemptions, schedule.sleeps];
    });
    expect(new Set(counts.map(String)).size).toBe(1);
  });

  test("upstream leaks the host's bit into all of them", () => {
    const { right, leaks } = run({ policy: "upstream", host: 1, faulting: false, cpuids: 0 });
    expect([right, leaks.faulting > 2]).toEqual([true, true]);
    expect(run({ policy: "upstream", host: 1, faulting: false }).wrong).toMatch(/exit status 1/);
  });

  test("the same scenario gives the same result", () => {
    const text = (): string => JSON.stringify(run({ ...busy, policy: "always-hardware", vcpus: 6, hostCpus: 4 }));
    expect(text()).toBe(text());
  });
});

test("a VM whose vCPUs all halt for ever ends", () => {
  const forever = smp.slice();
  // the boot processor's loop (PAUSE after INT3) becomes INT3, too
  const at = forever.findIndex((_, i) => forever[i] === 0xcc && forever[i + 1] === 0xf3 && forever[i + 2] === 0x90);
  forever[at + 1] = 0xcc;
  const result = new ScenarioRunner({ kind: "mix", binary: smp, smp: forever }).run(STANDARD);
  expect([result.right, result.wrong]).toEqual([true, ""]);
  expect(result.schedule.sleeps).toBe(2);
});

test("more vCPUs than the guest has room for are refused", () => {
  expect(() => run({ vcpusPerVm: 9 })).toThrow("9 vCPUs of a VM: 1 to 8");
});
