// The generator is a module of its own: made late, once a processor, and compiled once a process.
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GENERATOR_DATA, MEMORY_MIN, STATIC_DATA } from "../../assembly/abi/layout.ts";
import { coreBase64 } from "../../src/core/coreBytes.generated.ts";
import { generatorBase64 } from "../../src/core/generatorBytes.generated.ts";
import { type JitOptions, loadImage, Machine, parseFlat } from "../../src/index.ts";

const { Module, Instance } = WebAssembly;
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, "base64"));
const GENERATOR = bytesOf(generatorBase64);

let compiled: number[] = [];
let generators = 0;

beforeEach(() => {
  compiled = [];
  generators = 0;
  WebAssembly.Module = new Proxy(Module, {
    construct: (target, [bytes]: [Uint8Array<ArrayBuffer>]) => {
      compiled.push(bytes.length);
      return new target(bytes);
    },
  });
  WebAssembly.Instance = new Proxy(Instance, {
    construct: (target, [module, imports]: [WebAssembly.Module, WebAssembly.Imports]) => {
      const instance = new target(module, imports);
      if ("generate" in instance.exports) generators++;
      return instance;
    },
  });
});

afterEach(() => {
  WebAssembly.Module = Module;
  WebAssembly.Instance = Instance;
});

// mov ecx, N; l: add eax, ecx; dec ecx; jnz l; hlt
const loop = (n: number) =>
  Uint8Array.of(0xb9, n & 255, (n >> 8) & 255, n >> 16, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);
const LOAD = { mode: "protected", load: 0x8000, entry: 0x8000 } as const;

function guest(n: number, jit: boolean | JitOptions): Machine {
  const machine = new Machine({ memory: 1 << 20, jit });
  loadImage(machine, parseFlat(loop(n), LOAD));
  return machine;
}

function runs(n: number, jit: boolean | JitOptions): Machine {
  const machine = guest(n, jit);
  expect(machine.run().reason).toBe("halt");
  expect(machine.registers.rax).toBe(((BigInt(n) * BigInt(n + 1)) / 2n) & 0xffff_ffffn);
  return machine;
}

const HOT = { threshold: 500 };

describe("the generator", () => {
  it("is not compiled for a machine without generated code, nor for a short guest", () => {
    runs(100_000, false);
    runs(100, HOT);
    expect(compiled).not.toContain(GENERATOR.length);
    expect(generators).toBe(0);
  });

  it("that is compiled in the background is waited for by nobody, and changes nothing when it comes", async () => {
    const waiting: { readonly bytes: Uint8Array<ArrayBuffer>; readonly go: () => void }[] = [];
    const compile = (bytes: Uint8Array<ArrayBuffer>) =>
      new Promise<WebAssembly.Module>((resolve) => waiting.push({ bytes, go: () => resolve(new Module(bytes)) }));
    const machine = guest(400_000, { ...HOT, async: true, compile });
    const other = guest(400_000, false);
    const both = (maxInstructions: number) => {
      expect(machine.run({ maxInstructions })).toEqual(other.run({ maxInstructions }));
      expect(machine.registers.read()).toEqual(other.registers.read());
    };
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    both(100_000);
    await turn();
    both(100_000);
    expect(waiting.map(({ bytes }) => Buffer.compare(bytes, GENERATOR))).toEqual([0]);
    expect(machine.jitStatistics.modules).toBe(0);
    waiting[0]!.go();
    await turn();
    both(100_000);
    await turn();
    expect(waiting.length).toBe(2);
    waiting[1]!.go();
    await turn();
    both(100_000);
    both(1_000_000);
    expect(machine.jitStatistics.modules).toBe(1);
    expect(compiled).toEqual([]);
  });

  it("is made once a machine, and a fork that takes over another's processor has it already", () => {
    const machine = guest(100_000, HOT);
    const snapshot = machine.snapshot();
    expect(machine.run().reason).toBe("halt");
    expect(generators).toBe(1);
    for (let i = 0; i < 4; i++) {
      const fork = Machine.from(snapshot, { jit: HOT });
      expect(fork.run().reason).toBe("halt");
    }
    expect(generators).toBe(5);
    generators = 0;
    for (let i = 0; i < 4; i++) {
      const fork = machine.fork();
      fork.restore(snapshot);
      expect(fork.run().reason).toBe("halt");
      fork.dispose();
    }
    expect(generators).toBeLessThanOrEqual(1);
    expect(compiled.filter((bytes) => bytes === GENERATOR.length).length).toBeLessThanOrEqual(1);
  });
});

describe("the border between the core and the generator", () => {
  it("is few functions, all of which exist", () => {
    const core = WebAssembly.Module.exports(new Module(bytesOf(coreBase64))).map(({ name }) => name);
    const imports = WebAssembly.Module.imports(new Module(GENERATOR));
    const of = (from: string) => imports.filter(({ module }) => module === from).map(({ name }) => name);
    expect(imports.length).toBeLessThan(20);
    expect(of("core").filter((name) => !core.includes(name))).toEqual([]);
    expect([...of("env"), ...of("host")]).toEqual(["memory", "jitCompile"]);
    expect(imports.length).toBe(of("core").length + 2);
  });

  it("keeps the static data of one apart from that of the other", () => {
    const options = (name: string) =>
      JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), "utf8")).options;
    const { memoryBase, initialMemory } = options("asconfig.generator.json");
    expect({ memoryBase, initialMemory }).toEqual({ memoryBase: GENERATOR_DATA, initialMemory: MEMORY_MIN });
    expect(options("asconfig.json")).toMatchObject({ memoryBase: STATIC_DATA, initialMemory: MEMORY_MIN });
  });
});
