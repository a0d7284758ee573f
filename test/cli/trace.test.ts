import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { expectedConsole, guestArgs, guestFile, manifest, root, start, wasmVmx } from "./command.ts";

const appStart = [join(root, "fixtures/guests/bin/app-start.bin"), "--mode", "long"];
const directory = mkdtempSync(join(tmpdir(), "wasm-vmx-trace-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Line {
  readonly kind: string;
  readonly count: number;
  readonly address: string;
  readonly text?: string;
  readonly changed?: Readonly<Record<string, string>>;
  readonly vector?: number;
  readonly reason?: string;
}

async function lines(...args: string[]): Promise<Line[]> {
  const { stdout } = await wasmVmx("trace", ...args, "--json");
  return stdout.trim() === ""
    ? []
    : stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Line);
}

describe.each(["--bare", "--vmx"])("wasm-vmx trace %s", (how) => {
  it("has every instruction once, with what it changed", async () => {
    // mov ax, 1234h; mov bx, ax; out 80h, al; inc bx; hlt
    const guest = guestFile([0xb8, 0x34, 0x12, 0x89, 0xc3, 0xe6, 0x80, 0x43, 0xf4]);
    const found = (await lines(guest, how, "--kinds", "instruction")).map(({ count, address, text, changed }) => ({
      ...{ count, address, text, changed },
    }));
    expect(found).toEqual([
      { count: 0, address: "0x7c00", text: "mov ax, 0x1234", changed: { rax: "0x1234" } },
      { count: 1, address: "0x7c03", text: "mov bx, ax", changed: { rbx: "0x1234" } },
      { count: 2, address: "0x7c05", text: "out 0x80, al", changed: {} },
      { count: 3, address: "0x7c07", text: "inc bx", changed: { rbx: "0x1235" } },
      { count: 4, address: "0x7c08", text: "hlt", changed: {} },
    ]);
  });

  it("has exceptions with their code, the address they came at and the handler", async () => {
    // @sdm 3A "Interrupt 6", "Interrupt 0": real-mode vectors at 0:18h and 0:0; ud2, then xor cx, cx; div cx
    const code = [0xc7, 0x06, 0x18, 0x00, 0x20, 0x7c, 0xc7, 0x06, 0x00, 0x00, 0x30, 0x7c, 0x0f, 0x0b];
    const image = new Uint8Array(0x40).fill(0x90);
    image.set(code);
    image.set([0x31, 0xc9, 0xf7, 0xf1], 0x20);
    image.set([0xf4], 0x30);
    const found = await lines(guestFile(image), how, "--kinds", "fault");
    expect(found).toMatchObject([
      { kind: "fault", count: 2, address: "0x7c0c", vector: 6, handler: "0x7c20" },
      { kind: "fault", count: 4, address: "0x7c22", vector: 0, handler: "0x7c30" },
    ]);
  });

  it("keeps to addresses, kinds and a count", async () => {
    const args = [...appStart, how, "--range", "0x100117", "--count", "3", "--kinds", "instruction"];
    const found = await lines(...args);
    expect(found.map(({ text }) => text)).toEqual(["out 0x80, al", "out 0x80, al", "out 0x80, al"]);
    expect(await lines(...appStart, how, "--range", "0x10-0x20,0x30")).toEqual([]);
  });

  it("stops a guest that never ends when nobody reads on", () => {
    const script = `node bin/wasm-vmx.mjs trace "$@" | head -n 3; echo "status \${PIPESTATUS[0]}"`;
    const args = [...guestArgs("spin"), how];
    const { stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...args], { cwd: root, encoding: "utf8" });
    expect(stdout.trim().split("\n")).toHaveLength(4);
    expect(stdout).toContain("status 0");
    expect(stderr).toBe(expectedConsole(manifest.find(({ name }) => name === "spin")!));
  });

  it("ends at Ctrl-C, with nothing to print", async () => {
    const { child, result } = start(["trace", ...guestArgs("spin"), how, "--range", "0x10"]);
    // the guest says that it runs
    await new Promise((resolve) => child.stderr!.once("data", resolve));
    child.kill("SIGINT");
    const { status, stdout, stderr } = await result;
    expect({ status, stdout }).toEqual({ status: 130, stdout: "" });
    expect(stderr).toContain("interrupted");
  });
});

describe("wasm-vmx trace", () => {
  it("has the same instructions on the bare processor and under VMX", async () => {
    const sha = [join(root, "fixtures/guests/bin/sha256-64.elf"), "--kinds", "instruction", "--count", "20000"];
    const [bare, vmx] = await Promise.all([lines(...sha, "--bare"), lines(...sha, "--vmx")]);
    expect(bare).toHaveLength(20000);
    // RDX at the start is the model's own; LEA, SUB and the rest give the same
    expect(vmx).toEqual(bare);
  });

  it("has VM exits and entries of a hypervisor that runs on the bare processor", async () => {
    const found = await lines(...guestArgs("hypervisor"), "--kinds", "exit,entry", "--count", "12");
    expect(found.map(({ kind }) => kind)).toContain("exit");
    expect(found.map(({ kind }) => kind)).toContain("entry");
  });

  it("counts as the run does: instructions and deliveries in turn", async () => {
    const found = await lines(
      ...appStart,
      "--vmx",
      "--kinds",
      "instruction,fault",
      "--after",
      "1500",
      "--count",
      "5000",
    );
    expect(found).toHaveLength(5000);
    expect(found.map(({ count }) => count)).toEqual(Array.from({ length: 5000 }, (_, i) => 1500 + i));
    const faults = found.filter(({ kind }) => kind === "fault");
    // the guest says itself how many CPUIDs faulted
    expect(faults.map(({ vector }) => vector)).toEqual([13, 13, 13, 13, 13]);
  });

  it("has VM exits by reason", async () => {
    const found = await lines(...appStart, "--vmx", "--kinds", "exit");
    const reasons: Record<string, number> = {};
    for (const { reason } of found) reasons[reason!] = (reasons[reason!] ?? 0) + 1;
    const summary = JSON.parse((await wasmVmx("run", ...appStart, "--vmx", "--json")).stdout);
    expect(reasons).toEqual(summary.exits);
  });

  it("writes a file for Perfetto", async () => {
    const file = join(directory, "trace.json");
    const { status, stdout } = await wasmVmx("trace", ...appStart, "--perfetto", file, "--policy", "always-hardware");
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
    const { traceEvents } = JSON.parse(readFileSync(file, "utf8"));
    expect(traceEvents.length).toBeGreaterThan(1000);
  });

  it.each<[string, string[], string]>([
    ["a kind", ["--kinds", "instructions"], "did you mean instruction?"],
    ["a range", ["--range", "main"], "--range needs addresses"],
    ["a range from its end", ["--range", "0x20-0x10"], "ends before it begins"],
    ["a policy", ["--policy", "upstrem"], "did you mean upstream?"],
    ["--bare with --vmx", ["--bare", "--vmx"], "--bare excludes --vmx"],
    ["--cpu with --vmx", ["--cpu", "vmx", "--vmx"], "--cpu is for --bare"],
    ["a cost model without --perfetto", ["--cost", "thread-trip"], "--cost is for --perfetto"],
    ["a file that cannot be written", ["--perfetto", "/nowhere/t.json"], "cannot write /nowhere/t.json"],
  ])("refuses %s", async (_name, args, message) => {
    const { status, stderr } = await wasmVmx("trace", guestFile([0xf4]), ...args);
    expect(stderr).toContain(message);
    expect(status).toBe(2);
  });
});
