import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { guestFile, root, start, wasmVmx } from "./command.ts";

const SMALL = ["--rounds", "40", "--cpuids", "0,0.25,2", "--host", "0,1"] as const;
const WRONG = join(root, "fixtures/lab/policies/wrong.ts");
const FORGETS = join(root, "fixtures/lab/policies/forgets.ts");
const words = (text: string): string => text.replace(/\s+/g, " ");

function saved(text: string): string {
  const file = guestFile([]).replace(/bin$/, "json");
  writeFileSync(file, text);
  return file;
}

describe("lab", () => {
  it("prints winners, what is wrong, and break-evens by prices and by the runs, in 80 columns", async () => {
    const { status, stdout, stderr } = await wasmVmx("lab", ...SMALL);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/^ {2}thread-trip +0\.25-0\.3 +0\.25-0\.3$/m);
    expect(stdout).toMatch(/^ {2}thread-write +0\.5-0\.6 +0\.5-0\.6$/m);
    expect(words(stdout)).toContain("upstream, host 1: the host's faulting bit acted in the guest");
    expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });

  it("gives the same results with any number of workers, and from shards", async () => {
    const whole = await wasmVmx("lab", ...SMALL, "--json", "--workers", "1");
    expect((await wasmVmx("lab", ...SMALL, "--json", "--workers", "3")).stdout).toBe(whole.stdout);
    const shards: string[] = [];
    for (const shard of ["1/2", "2/2"]) {
      shards.push(saved((await wasmVmx("lab", ...SMALL, "--shard", shard, "--workers", "1")).stdout));
    }
    expect((await wasmVmx("lab", "merge", ...shards, "--json")).stdout).toBe(whole.stdout);
    const missing = await wasmVmx("lab", "merge", shards[0]!);
    expect([missing.status, missing.stderr]).toEqual([2, expect.stringMatching(/15 of 30 runs are missing/)]);
  });

  it("gives the same results with any number of workers where vCPUs share a VM", async () => {
    const smp = ["--vcpus-per-vm", "2", "--host-cpus", "1,2", "--preempt-every", "3000", "--migrate-every", "2"];
    const one = await wasmVmx("lab", ...SMALL, ...smp, "--json", "--workers", "1");
    expect([one.status, one.stderr]).toEqual([0, ""]);
    expect((await wasmVmx("lab", ...SMALL, ...smp, "--json", "--workers", "3")).stdout).toBe(one.stdout);
    const { stdout } = await wasmVmx("lab", ...SMALL, ...smp, "--host-cpus", "2");
    expect(stdout).toMatch(/^ {2}thread-trip +0\.25-0\.3 +/m);
  });

  it("has one CSV line a run", async () => {
    const { stdout } = await wasmVmx("lab", ...SMALL, "--csv", "--cost", "thread-trip");
    const [head, ...lines] = stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(","));
    expect(lines).toHaveLength(30);
    expect(new Set(lines.map((line) => line.length))).toEqual(new Set([head!.length]));
    expect(head).toEqual(
      expect.arrayContaining(["policy", "host_state_reload", "wrmsr_policy", "thread-trip_exit_low"]),
    );
  });

  it("draws bars for a few groups", async () => {
    const { stdout } = await wasmVmx("lab", "--rounds", "40", "--cpuids", "1", "--host", "0", "--cost", "thread-trip");
    expect(stdout).toMatch(/^\* always-hardware +right .*·+░+▒+█+$/m);
    expect(stdout).toMatch(/^ {2}host-nonzero +right .*·+░+▒+$/m);
  });

  it("runs a guest of the user", async () => {
    const { stdout } = await wasmVmx("lab", "fixtures/guests/bin/leak.bin", "--mode", "long", "--host", "1");
    expect(stdout).toMatch(/upstream +wrong/);
    expect(words(stdout)).toContain("upstream, host 1: vCPU 0: exit status 1");
  });

  it("runs a policy from a TypeScript file beside the others, in workers too, and says what it breaks", async () => {
    const args = [
      "lab",
      "--rounds",
      "20",
      "--faulting",
      "off",
      "--host",
      "1",
      "--policy-file",
      FORGETS,
      "--workers",
      "2",
    ];
    expect(words((await wasmVmx(...args)).stdout)).toMatch(/forgets, host 1: a host thread ran with another value/);
    const compared = await wasmVmx(
      "compare",
      "fixtures/guests/bin/leak.bin",
      "--mode",
      "long",
      "--policy-file",
      FORGETS,
    );
    expect(compared.stdout).toMatch(/1 {2}forgets +host lost/);
  });

  it("stops at Ctrl-C and prints what is done", async () => {
    const { child, result } = start(["lab", "--rounds", "4000", "--workers", "2", "--json"]);
    setTimeout(() => child.kill("SIGINT"), 2500);
    const { status, stdout, stderr } = await result;
    expect(status).toBe(130);
    const [, done] = /interrupted after (\d+) of 60 runs/.exec(stderr)!;
    const cells = stdout === "" ? [] : JSON.parse(stdout).cells;
    expect(cells).toHaveLength(Number(done));
  });

  it("a policy that fails is wrong with its reason, and the others are as without it", async () => {
    const args = ["--rounds", "20", "--cpuids", "1", "--host", "0", "--policy", "host-nonzero"];
    const check = ["--schedules", "0", "--exhaustive", "1"];
    const { status, stdout } = await wasmVmx("lab", ...args, "--policy-file", WRONG, ...check);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^[ *] host-nonzero +right/m);
    expect(stdout).toMatch(/^ {2}reserved +wrong/m);
    expect(words(stdout)).toContain(
      "policy reserved, prepareSwitchToGuest: unchecked MSR access: wrmsr of 0x140 (value 0x5) raised #GP(0) (1 run)",
    );
  });

  it("fits a narrow terminal, and has bars whatever the number of combinations", async () => {
    const args = ["lab", "--rounds", "10", "--policy", "all", "--cost", "thread-trip"];
    const { stdout } = await start(args, undefined, { COLUMNS: "60" }).result;
    expect(stdout.split("\n").filter((line) => line.length > 60)).toEqual([]);
    expect(stdout).toMatch(/host 1, the 6 combinations together:\n {2}upstream +luck .*░+▒+$/m);
  });

  it("names kvm_stat's fields", async () => {
    const { stdout } = await wasmVmx("lab", "--rounds", "10", "--cpuids", "1", "--policy", "upstream", "--json");
    const { counts } = JSON.parse(stdout).cells[0].result;
    for (const name of ["exits", "io_exits", "irq_exits", "halt_exits", "signal_exits", "host_state_reload"]) {
      expect(counts).toHaveProperty(name);
    }
  });
});

describe("lab with bad input: a message and status 2", () => {
  it.each([
    ["a rate that is none", ["--cpuids", "x"], /--cpuids needs numbers from 0 to 65535/],
    ["on and off", ["--feature", "yes"], /list of on and off/],
    ["a rate with a guest of the user", ["fixtures/guests/bin/leak.bin", "--cpuids", "1"], /laboratory's own guest/],
    ["an unknown policy", ["--policy", "clear-al"], /did you mean clear-all/],
    ["an unknown cost model", ["--cost", "skylake"], /unknown cost model "skylake"/],
    ["a shard", ["--shard", "3/2"], /--shard needs i\/n/],
    ["no vCPUs", ["--vcpus", "0"], /at least 1/],
    ["a missing policy file", ["--policy-file", "nowhere.ts"], /no such file/],
    ["a policy file without a policy", ["--policy-file", "biome.json"], /cannot load policy file|no default export/],
    ["nothing to merge", ["merge"], /nothing to merge/],
    ["two forms at once", ["--json", "--csv"], /exclude each other/],
    ["a page that cannot be written", ["--html", "/nowhere/page.html"], /cannot write .*: there is no such directory/],
    ["a page of a shard", ["--shard", "1/2", "--html", "page.html"], /--html goes with lab merge/],
    ["a guest's memory without a guest", ["--memory", "16M"], /--memory is for a GUEST of yours/],
    ["schedules without a policy to check", ["--schedules", "3"], /--schedules is for lab check/],
    ["a rate for a check", ["check", "--cpuids", "1"], /--cpuids has no effect with lab check/],
    ["a guest for a check", ["check", "guest.bin"], /lab check runs no guest of yours: "guest.bin"/],
    ["hosts for a merge", ["merge", "part.json", "--host", "1"], /--host has no effect with lab merge/],
    ["a merge of something else", ["merge", "package.json"], /holds no results/],
  ] as const)("%s", async (_name, args, message) => {
    const { status, stderr } = await wasmVmx("lab", ...args);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});

describe("lab check", () => {
  it("finds the race of the patch, and a user's policy gives status 1", async () => {
    const patch = await wasmVmx("lab", "check", "--policy", "always-hardware", "--schedules", "100", "--host", "0");
    expect(patch.status).toBe(0);
    expect(words(patch.stdout)).toContain("preempted between the loaded test and the write");
    const args = ["--policy", "clear-all", "--policy-file", FORGETS, "--schedules", "100", "--json"];
    const own = await wasmVmx("lab", "check", ...args);
    expect(own.status).toBe(1);
    const reports = JSON.parse(own.stdout);
    expect(reports.map(({ policy }: { policy: string }) => policy)).toEqual(["clear-all", "forgets"]);
    expect(reports[0].findings).toEqual([]);
  });

  it("shows each kind of mistake of policies that import from the package and from another file", async () => {
    const args = ["--policy", "clear-all", "--policy-file", WRONG, "--schedules", "0", "--host", "0,1", "--json"];
    const { status, stdout } = await wasmVmx("lab", "check", ...args);
    expect(status).toBe(1);
    const found = JSON.parse(stdout).map((report: { policy: string; findings: { kind: string }[] }) => [
      report.policy,
      report.findings.map(({ kind }) => kind).sort(),
    ]);
    expect(found).toEqual([
      ["clear-all", []],
      ["only-once", ["leak"]],
      // what stays in a CPU acts in the next guest there
      ["unnoted", ["host lost", "leak"]],
      ["racing", ["host lost", "leak", "stale write"]],
      ["careful", []],
      ["reserved", ["error", "leak"]],
    ]);
  });

  it("has a break-even surface over axes of one's choice, and what the answers hang on", async () => {
    const small = [
      "--rounds",
      "50",
      "--host",
      "0",
      "--policy",
      "always-hardware,host-nonzero",
      "--cost",
      "thread-trip",
    ];
    const { status, stdout } = await wasmVmx(
      "lab",
      ...small,
      "--surface",
      "cpuids,wrmsr",
      "--wrmsr-price",
      "100,200",
      "--sensitivity",
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ +100( +-?\d+){6} +0\.\d+$/m);
    expect(stdout).toMatch(/thread-trip +wrmsr +138 +0\.138 +0\.275 +0\.55/);
    expect((await wasmVmx("lab", ...small, "--surface", "cpuids,nothing")).stderr).toMatch(
      /no axis "nothing"; there are: .*wrmsr/,
    );
    expect((await wasmVmx("lab", ...small, "--wrmsr-price", "1")).status).toBe(2);
  });

  it("checks a policy of the user in the report of a sweep", async () => {
    const policy = ["--policy-file", FORGETS, "--policy", "forgets", "--rounds", "20"];
    const { stdout } = await wasmVmx("lab", ...policy, "--cpuids", "1", "--host", "0");
    expect(stdout).toContain("Property check (lab check) of\nforgets:");
    expect(words(stdout)).toContain("so it does on the processor with guests");
  });
});
