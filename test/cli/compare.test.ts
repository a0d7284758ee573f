import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { guestArgs, guestFile, root, wasmVmx } from "./command.ts";

describe("compare", () => {
  it("prints a table, the winners, the leak and the break-even", async () => {
    const { status, stdout, stderr } = await wasmVmx("compare", ...guestArgs("leak"));
    expect([status, stderr]).toEqual([0, ""]);
    const rows = stdout.split("\n").filter((line) => /^\*? +[01] {2}/.test(line));
    expect(rows).toHaveLength(10);
    expect(rows.filter((line) => line.includes("WRONG"))).toHaveLength(1);
    expect(stdout).toMatch(/Host value 1, upstream: [^:]*the leak/);
    expect(stdout).toMatch(/Break-even/);
    expect(
      Math.max(
        ...stdout
          .split("\n")
          .slice(2, 14)
          .map((line) => line.length),
      ),
    ).toBeLessThanOrEqual(100);
  });

  it("says where the break-even of a guest lies", async () => {
    const { stdout } = await wasmVmx("compare", ...guestArgs("app-start"), "--host", "0");
    expect(stdout).toMatch(/5 faulting CPUIDs in [\d,]+ entering loads[^:]* breaks even at 0\.250-0\.300: emulation/);
  });

  it("is one JSON object with --json", async () => {
    const { status, stdout } = await wasmVmx(
      "compare",
      ...guestArgs("leak"),
      "--json",
      "--host",
      "3",
      "--kernel",
      "7.1",
    );
    const report = JSON.parse(stdout);
    expect(status).toBe(0);
    expect(report).toMatchObject({ kernel: "7.1", model: { name: "thread-trip" }, winners: [{ host: 3 }] });
    expect(report.rows.map((row: { policy: string }) => row.policy)).toEqual([
      "upstream",
      "clear-host",
      "always-hardware",
      "host-nonzero",
      "clear-all",
    ]);
    expect(report.rows[0].counts.instructions).toBe(report.rows[0].instructions);
  });

  it("takes a cost model from a JSON file", async () => {
    const model = { name: "mine", instruction: 1, exit: 10, wrmsr: 1000, rdmsr: 0, userspace: 0, fault: 0 };
    const file = guestFile(Buffer.from(JSON.stringify(model)));
    const json = file.replace(/bin$/, "json");
    copyFileSync(file, json);
    const { stdout } = await wasmVmx("compare", ...guestArgs("cpuid-heavy"), "--host", "0", "--cost", json);
    expect(stdout).toMatch(/cost model mine/);
  });

  it("is in the list of commands and has help", async () => {
    expect((await wasmVmx("--help")).stdout).toMatch(/compare +run a guest under every policy/);
    const { stdout } = await wasmVmx("compare", "--help");
    for (const word of ["--kernel", "--cost", "--host", "always-hardware", "thread-write"])
      expect(stdout).toContain(word);
  });
});

describe("compare with bad input: a message and status 2", () => {
  it.each([
    ["no guest", [], /no guest given/],
    ["an unknown kernel", [...guestArgs("leak"), "--kernel", "4.9"], /unknown kernel "4.9".*5.0, 6.19, 7.1/],
    ["an unknown cost model", [...guestArgs("leak"), "--cost", "thread-trp"], /did you mean thread-trip/],
    [
      "a cost model file that is none",
      [...guestArgs("leak"), "--cost", join(root, "package.json")],
      /"instruction" is missing/,
    ],
    ["a host value of 4", [...guestArgs("leak"), "--host", "0,4"], /0, 1, 2 or 3/],
    ["a host value that is no number", [...guestArgs("leak"), "--host", "x"], /whole number/],
  ] as const)("%s", async (_name, args, message) => {
    const { status, stderr } = await wasmVmx("compare", ...args);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});

describe("run --vmx", () => {
  it("prints what the guest prints, and its exits and cycles", async () => {
    const { status, stdout, stderr } = await wasmVmx("run", ...guestArgs("app-start"), "--policy", "always-hardware");
    expect(stdout).toBe(readFileSync(join(root, "fixtures/guests/expected/app-start.txt"), "latin1"));
    expect(status).toBe(0);
    expect(stderr).toMatch(/under VMX, policy always-hardware/);
    expect(stderr).toMatch(/VM exits: IO_INSTRUCTION/);
    expect(stderr).toMatch(/cycles by the cost model/);
  });

  it("traces exits", async () => {
    const { stderr } = await wasmVmx("run", ...guestArgs("leak"), "--vmx", "--trace");
    expect(stderr).toMatch(/kvm_exit: +vcpu 0 reason CPUID rip 0x/);
  });

  it("stops at --max-instructions", async () => {
    const { status, stderr } = await wasmVmx("run", ...guestArgs("spin"), "--vmx", "--max-instructions", "5000");
    expect(status).toBe(124);
    expect(stderr).toMatch(/^5,000 instructions/m);
  });
});
