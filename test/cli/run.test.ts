import { describe, expect, it } from "vitest";
import { buildElf } from "../machine/elf.ts";
import { expectedConsole, guestArgs, guestFile, manifest, start, wasmVmx } from "./command.ts";

const OUT_F4 = 0xe6;

const ending = manifest.filter((guest) => guest.ends === "exit" && guest.needs === undefined);

describe.each(ending)("run $name", (guest) => {
  it.each(["--bare", "--vmx"])("prints what the guest prints elsewhere and ends with its status, %s", async (how) => {
    const { status, stdout, stderr } = await wasmVmx("run", ...guestArgs(guest.name), how);
    expect({ stdout, status, stderr }).toMatchObject({
      stdout: expectedConsole(guest),
      status: guest.expectedStatus,
    });
    expect(stderr).toMatch(/[\d,]+ instructions in [\d.]+ s/);
  });
});

describe("bare and under VMX", () => {
  it.each(ending.map(({ name }) => name))("%s takes the same number of instructions", async (name) => {
    const counts = await Promise.all(
      ["--bare", "--vmx"].map(async (how) => {
        const { stdout, stderr } = await wasmVmx("run", ...guestArgs(name), how, "--json");
        expect(stderr).not.toContain("Error");
        return JSON.parse(stdout);
      }),
    );
    expect(counts[0].instructions).toBeGreaterThan(0);
    expect(counts[1].instructions).toBe(counts[0].instructions);
    expect(counts[1].console).toBe(counts[0].console);
  });
});

describe("--cpu", () => {
  const guest = manifest.find(({ name }) => name === "hypervisor")!;

  it("vmx runs a hypervisor", async () => {
    const { status, stdout } = await wasmVmx("run", ...guestArgs("hypervisor"));
    expect({ stdout, status }).toEqual({ stdout: expectedConsole(guest), status: 0 });
  });

  it("refuses names it does not know, and KVM", async () => {
    const unknown = await wasmVmx("run", guestFile([0xf4]), "--cpu", "vmxx");
    expect(unknown).toMatchObject({ status: 2 });
    expect(unknown.stderr).toContain("did you mean vmx?");
    expect(await wasmVmx("run", ...guestArgs("hypervisor"), "--vmx")).toMatchObject({ status: 2 });
  });
});

describe("the summary", () => {
  it("shows the registers at the end", async () => {
    // mov ax, 1234h; hlt
    const { status, stderr } = await wasmVmx("run", guestFile([0xb8, 0x34, 0x12, 0xf4]));
    expect(status).toBe(0);
    expect(stderr).toContain("the guest halted");
    expect(stderr).toContain("2 instructions");
    expect(stderr).toContain("eax 00001234");
    expect(stderr).toContain("eip 00007c04");
  });

  it("is one JSON object with --json", async () => {
    const { status, stdout } = await wasmVmx("run", ...guestArgs("boot-sector"), "--json");
    const summary = JSON.parse(stdout);
    const guest = manifest.find((entry) => entry.name === "boot-sector")!;
    expect(status).toBe(0);
    expect(summary).toMatchObject({
      ending: { kind: "exit", status: 0 },
      exitStatus: 0,
      console: expectedConsole(guest),
      cpl: 0,
      codeMode: 16,
    });
    expect(summary.instructions).toBeGreaterThan(100);
  });
});

describe("exit status", () => {
  it("is what the guest wrote to port 0xF4", async () => {
    const { status, stderr } = await wasmVmx("run", guestFile([0xb0, 0x2a, OUT_F4, 0xf4, 0xf4]));
    expect(status).toBe(42);
    expect(stderr).toContain("port 0xF4 with 42");
  });

  it("is 1 for a triple fault", async () => {
    // lidt [7c08h] of an empty table; ud2
    const guest = guestFile([0x0f, 0x01, 0x1e, 0x08, 0x7c, 0x0f, 0x0b, 0xf4, 0, 0, 0, 0, 0, 0]);
    const { status, stderr } = await wasmVmx("run", guest);
    expect(status).toBe(1);
    expect(stderr).toContain("triple fault");
  });

  it("is 124 after exactly --max-instructions", async () => {
    for (const guest of ["spin", "ud-loop"]) {
      const { status, stdout } = await wasmVmx("run", ...guestArgs(guest), "--max-instructions", "123457", "--json");
      expect(status).toBe(124);
      expect(JSON.parse(stdout)).toMatchObject({ ending: { kind: "limit" }, instructions: 123457 });
    }
  });
});

describe("a guest whose REP never ends", () => {
  it("is stopped by the work bound", async () => {
    const { status, stdout } = await wasmVmx(
      "run",
      ...guestArgs("rep-forever"),
      "--max-instructions",
      "1000",
      "--json",
    );
    expect(status).toBe(124);
    expect(JSON.parse(stdout)).toMatchObject({ ending: { kind: "workLimit" } });
  });
});

describe("Ctrl-C", () => {
  it.each([
    ["spin", "--bare"],
    ["rep-forever", "--bare"],
    ["ud-loop", "--bare"],
    ["spin", "--vmx"],
    ["rep-forever", "--vmx"],
    ["ud-loop", "--vmx"],
  ])("ends %s %s, with the summary", async (guest, how) => {
    const { child, result } = start(["run", ...guestArgs(guest), how]);
    // the guest says that it runs
    await new Promise((resolve) => child.stdout!.once("data", resolve));
    child.kill("SIGINT");
    const { status, stderr } = await result;
    expect(status).toBe(130);
    expect(stderr).toContain("interrupted");
    expect(stderr).toMatch(/[er]ip [0-9a-f]+/);
  });
});

describe("--trace", () => {
  it("shows port accesses on stderr", async () => {
    const { stderr } = await wasmVmx("run", guestFile([0xb0, 0x41, OUT_F4, 0xe9, 0xf4]), "--trace");
    expect(stderr).toContain("1 0x7c02 out 0xe9 = 0x41 size 1");
  });
});

describe("bad input ends with status 2 and says why", () => {
  const nop = Uint8Array.of(0x90);
  const elf = { wide: true, entry: 0x200000, segments: [{ vaddr: 0x200000, data: nop }] };
  const good = buildElf(elf);
  const at = (...vaddrs: number[]) =>
    buildElf({ wide: true, entry: vaddrs[0]!, segments: vaddrs.map((vaddr) => ({ vaddr, data: nop, memsz: 0x1000 })) });

  it.each<[string, () => string[], string]>([
    ["no guest", () => [], "no guest given"],
    ["two guests", () => [guestFile(nop), "b.bin"], "one guest at a time"],
    ["a missing file", () => ["/nowhere/guest.bin"], "cannot read guest /nowhere/guest.bin: there is no such file"],
    ["a directory", () => ["."], "it is a directory"],
    ["an empty file", () => [guestFile([])], "is empty"],
    ["a truncated ELF", () => [guestFile(good.subarray(0, 90))], "truncated ELF file"],
    ["an ELF for another machine", () => [guestFile(buildElf({ ...elf, machine: 40 }))], "machine 40, ARM"],
    ["segments outside RAM", () => [guestFile(at(0x1000000))], "lies outside the 16777216 bytes of RAM"],
    ["overlapping segments", () => [guestFile(at(0x200000, 0x200fff))], "overlap"],
    ["an entry outside RAM", () => [guestFile(nop), "--entry", "0x1000000"], "entry 0x1000000 lies outside"],
    ["an entry that is no number", () => [guestFile(nop), "--entry", "here"], "--entry needs a whole number"],
    ["a load address of 5 GiB", () => [guestFile(nop), "--load", "5368709120"], "too large"],
    ["--load with an ELF", () => [guestFile(good), "--load", "0"], "--load is for flat binaries"],
    ["an unknown mode", () => [guestFile(nop), "--mode", "protcted"], "did you mean protected?"],
    ["an unknown policy", () => [guestFile(nop), "--policy", "upstrem"], "did you mean upstream?"],
    [
      "an unknown option",
      () => [guestFile(nop), "--max-instruction", "5"],
      "did you mean --max-instructions?); see wasm-vmx run --help",
    ],
    ["an option without its value", () => [guestFile(nop), "--load", "--json"], "--load needs a value"],
    ["a value for a switch", () => [guestFile(nop), "--json=1"], "--json takes no value"],
    ["--bare with a policy", () => [guestFile(nop), "--bare", "--policy", "upstream"], "--bare excludes"],
    ["no memory", () => [guestFile(nop), "--memory", "0"], "--memory 0 is 0 bytes"],
    ["half a page of memory", () => [guestFile(nop), "--memory", "2K"], "multiple of 4K"],
    ["5 GiB of memory", () => [guestFile(nop), "--memory", "5G"], "between 4K and"],
    ["a negative memory", () => [guestFile(nop), "--memory=-1M"], "--memory needs a size"],
    ["a million terabytes", () => [guestFile(nop), "--memory", "999999999999G"], "absurd"],
    ["a negative limit", () => [guestFile(nop), "--max-instructions=-1"], "--max-instructions needs a whole number"],
  ])("%s", async (_name, args, message) => {
    const { status, stdout, stderr } = await wasmVmx("run", ...args());
    expect(stderr).toContain(message);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).not.toContain("    at ");
  });
});

describe("help and version", () => {
  it("are there without a guest", async () => {
    expect(await wasmVmx("--version")).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
    expect(await wasmVmx("--help")).toMatchObject({ status: 0, stdout: expect.stringContaining("run a guest binary") });
    expect(await wasmVmx("run", "--help")).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("--max-instructions N"),
    });
    expect(await wasmVmx("help", "run")).toMatchObject({ status: 0, stdout: expect.stringContaining("Exit status") });
  });

  it("are what an unknown or missing command leads to", async () => {
    expect(await wasmVmx()).toMatchObject({ status: 2, stderr: expect.stringContaining("Usage: wasm-vmx COMMAND") });
    expect(await wasmVmx("rnu")).toMatchObject({ status: 2, stderr: expect.stringContaining("did you mean run?") });
    expect(await wasmVmx("--vesion")).toMatchObject({ status: 2, stderr: expect.stringContaining("--version?") });
  });

  it("fit into 80 columns", async () => {
    for (const args of [["--help"], ["run", "--help"]]) {
      const { stdout } = await wasmVmx(...args);
      expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
    }
  });
});

describe("--verify-jit", () => {
  it("says that the tiers agree, with the guest's console and status", async () => {
    const guest = manifest.find(({ name }) => name === "sha256-32")!;
    const { status, stdout, stderr } = await wasmVmx("run", ...guestArgs(guest.name), "--verify-jit");
    expect({ status, stdout }).toEqual({ status: guest.expectedStatus, stdout: expectedConsole(guest) });
    expect(stderr).toMatch(/agree\n[\d,]+ instructions compared at [\d,]+ points, \d+ generated functions/);
  });

  it("under VMX too", async () => {
    const guest = manifest.find(({ name }) => name === "app-start")!;
    const { status, stdout, stderr } = await wasmVmx("run", ...guestArgs(guest.name), "--verify-jit", "--vmx");
    expect({ status, stdout }).toEqual({ status: guest.expectedStatus, stdout: expectedConsole(guest) });
    expect(stderr).toContain("interpreter and generated code agree");
  });

  it("is for neither tier alone", async () => {
    const { status, stderr } = await wasmVmx("run", guestFile([0xf4]), "--verify-jit", "--no-jit");
    expect(status).toBe(2);
    expect(stderr).toContain("--verify-jit excludes --no-jit");
  });
});
