import { afterEach, expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";

const { Module } = WebAssembly;

afterEach(() => {
  WebAssembly.Module = Module;
});

// mov ecx, 100000; l: add eax, ecx; dec ecx; jnz l; hlt
const loop = Uint8Array.of(0xb9, 0xa0, 0x86, 1, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);

function modulesMade(options: { readonly jit?: boolean }): number {
  const machine = new Machine({ memory: 1 << 20, ...options });
  loadImage(machine, parseFlat(loop, { mode: "protected", load: 0x8000, entry: 0x8000 }));
  let made = 0;
  WebAssembly.Module = class extends Module {
    constructor(bytes: BufferSource) {
      super(bytes);
      made++;
    }
  } as typeof Module;
  expect(machine.run().reason).toBe("halt");
  expect(machine.registers.rax).toBe(((100_000n * 100_001n) / 2n) & 0xffff_ffffn);
  expect(machine.instructionCount).toBe(300_002n);
  return made;
}

it("generates code for a hot loop of a machine made without options", () => {
  if (process.env.WASM_VMX_JIT === "0") return;
  expect(modulesMade({})).toBeGreaterThan(0);
});

it("generates none with jit: false", () => {
  expect(modulesMade({ jit: false })).toBe(0);
});
