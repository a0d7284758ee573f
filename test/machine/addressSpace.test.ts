// Many machines in one process, under a limit on address space.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import { AddressSpaceError, Machine } from "../../src/index.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const limits = process.platform === "linux" && spawnSync("sh", ["-c", "ulimit -v 8388608"]).status === 0;
if (!limits) console.warn("address space cannot be limited here: machines under a limit are not tested");

/** As many machines as COUNT says, or fit; each runs a loop that becomes generated code. */
const PROGRAM = `
  const { AddressSpaceError, loadImage, Machine, parseFlat } = await import("./dist/src/index.js");
  // mov ecx, 100000; l: add eax, ecx; dec ecx; jnz l; hlt
  const code = Uint8Array.of(0xb9, 0xa0, 0x86, 1, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);
  const image = parseFlat(code, { mode: "protected", load: 0x8000 });
  const machines = [];
  const sums = new Set();
  const run = (machine) => {
    loadImage(machine, image);
    machine.registers.rax = 0n;
    const { reason } = machine.run();
    sums.add(reason + " " + machine.registers.rax);
  };
  let error;
  try {
    while (machines.length < Number(process.env.COUNT)) {
      const machine = new Machine({ memory: 1 << 20, extraMemory: 0 });
      machines.push(machine);
      run(machine);
      if (process.env.DISPOSE) machine.dispose();
    }
  } catch (caught) {
    error = caught;
  }
  if (!process.env.DISPOSE) for (const machine of machines) run(machine);
  const modules = process.env.DISPOSE ? 0 : machines[0].jitStatistics.modules;
  console.log(JSON.stringify({
    machines: machines.length, sums: [...sums], generated: modules > 0,
    refused: error instanceof AddressSpaceError, message: error?.message, bytes: error?.bytes,
  }));`;

function underLimit(kibibytes: number, count: number, flags: readonly string[], more: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(
    "sh",
    [
      "-c",
      `ulimit -v ${kibibytes} && exec "$@"`,
      "sh",
      process.execPath,
      ...flags,
      "--input-type=module",
      "-e",
      PROGRAM,
    ],
    { cwd: root, encoding: "utf8", env: { ...process.env, COUNT: `${count}`, NODE_OPTIONS: "", ...more } },
  );
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout);
}

// 1 + ... + 100000, modulo 2^32
const SUM = `halt ${(100_000 * 100_001) / 2 - 2 ** 32}`;

describe.skipIf(!limits)("machines under a limit on address space", () => {
  it("fit by the hundred into 4 GiB where the engine reserves what they declare", () => {
    expect(underLimit(4 << 20, 100, ["--disable-wasm-trap-handler"])).toEqual({
      machines: 100,
      sums: [SUM],
      generated: true,
      refused: false,
    });
  });

  it("give it back when they are disposed of, though they are held", () => {
    const { machines, refused } = underLimit(2 << 20, 300, ["--disable-wasm-trap-handler"], { DISPOSE: "1" });
    expect({ machines, refused }).toEqual({ machines: 300, refused: false });
  });

  it("say what to do when no more fit, and those that exist go on", () => {
    const { machines, sums, refused, message, bytes } = underLimit(32 << 20, 100, []);
    expect(refused).toBe(true);
    expect(message).toContain("--disable-wasm-trap-handler");
    expect(bytes).toBeGreaterThan(1 << 20);
    expect(machines).toBeGreaterThan(0);
    expect(machines).toBeLessThan(100);
    expect(sums).toEqual([SUM]);
  });
});

describe("the memory of a machine", () => {
  afterEach(() => void vi.restoreAllMocks());

  it("declares as its most what the machine can ever use", () => {
    const asked: WebAssembly.MemoryDescriptor[] = [];
    const { Memory } = WebAssembly;
    vi.spyOn(WebAssembly, "Memory").mockImplementation(function make(descriptor: WebAssembly.MemoryDescriptor) {
      asked.push(descriptor);
      return new Memory(descriptor);
    } as never);
    const machine = new Machine({ memory: 1 << 20, extraMemory: 2 << 20 });
    // all of it can be mapped
    machine.map({ kind: "ram", address: 16 << 20, size: 2 << 20 });
    const [{ initial, maximum }] = asked as [{ initial: number; maximum: number }];
    expect(asked).toHaveLength(1);
    expect(((maximum - initial) << 16) >>> 0).toBe(2 << 20);
    expect(maximum << 16).toBeLessThan(24 << 20);
  });

  it("that the engine refuses is an error with its size", () => {
    vi.spyOn(WebAssembly, "Memory").mockImplementation(function refuse() {
      throw new RangeError("could not allocate memory");
    });
    expect(() => new Machine({ memory: 1 << 20 })).toThrow(AddressSpaceError);
  });
});
