// Places where the engine refuses to compile generated code, by a real refusal where Node can be made to give one.
import { createContext, runInContext } from "node:vm";
import { afterEach, describe, expect, it, vi } from "vitest";
import { forgetWarning } from "../../src/core/index.ts";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";

const { Module, compile } = WebAssembly;

afterEach(() => {
  WebAssembly.Module = Module;
  WebAssembly.compile = compile;
  vi.restoreAllMocks();
});

/** The engine's own refusal, as under a Content-Security-Policy without wasm-unsafe-eval. */
function forbidden(): typeof WebAssembly {
  return runInContext("WebAssembly", createContext({}, { codeGeneration: { strings: false, wasm: false } }));
}

// mov ecx, 100000; l: add eax, ecx; dec ecx; jnz l; hlt
const loop = Uint8Array.of(0xb9, 0xa0, 0x86, 1, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);
const SUM = ((100_000n * 100_001n) / 2n) & 0xffff_ffffn;

function hotLoop(jit: boolean | { async: boolean } = true): Machine {
  const machine = new Machine({ memory: 1 << 20, jit });
  loadImage(machine, parseFlat(loop, { mode: "protected", load: 0x8000, entry: 0x8000 }));
  return machine;
}

function warnings(): () => string[] {
  forgetWarning();
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  return () => warn.mock.calls.map(([text]) => String(text));
}

describe("where generated code is refused", () => {
  it("the interpreter goes on, with one warning for all machines", () => {
    const seen = warnings();
    const machines = [hotLoop(), hotLoop()];
    WebAssembly.Module = forbidden().Module;
    for (const machine of machines) {
      expect(machine.run().reason).toBe("halt");
      expect(machine.registers.rax).toBe(SUM);
    }
    if (process.env.WASM_VMX_JIT === "0") return;
    expect(seen()).toHaveLength(1);
    expect(seen()[0]).toContain("interpreter goes on alone");
    expect(seen()[0]).not.toContain("malformed");
  });

  it("the same in the background", async () => {
    const seen = warnings();
    WebAssembly.compile = forbidden().compile;
    const machine = hotLoop({ async: true });
    while ((await machine.runAsync({ maxInstructions: 30_000, sliceMs: 1 })).reason === "instructions") {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(machine.registers.rax).toBe(SUM);
    if (process.env.WASM_VMX_JIT === "0") return;
    expect(seen()).toHaveLength(1);
  });

  it("modules too large for the calling thread are compiled in the background, without a warning", async () => {
    const seen = warnings();
    const machine = hotLoop();
    WebAssembly.Module = class {
      constructor() {
        throw new RangeError("WebAssembly.Module(): Compile is disallowed on the main thread");
      }
    } as unknown as typeof Module;
    expect(machine.run({ maxInstructions: 150_000 }).reason).toBe("instructions");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(machine.run().reason).toBe("halt");
    expect(machine.registers.rax).toBe(SUM);
    expect(seen()).toEqual([]);
  });
});
