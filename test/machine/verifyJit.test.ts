import { afterEach, describe, expect, it } from "vitest";
import { describeDifference, type JitOptions, loadImage, Machine, parseFlat, verifyJit } from "../../src/index.ts";

const { Module } = WebAssembly;

afterEach(() => {
  WebAssembly.Module = Module;
});

// mov ecx, 5000; l: add eax, 12345678h; dec ecx; jnz l; cpuid; mov [200000h], eax; hlt
const code = Uint8Array.of(
  ...[0xb9, 0x88, 0x13, 0, 0, 0x05, 0x78, 0x56, 0x34, 0x12, 0x49, 0x75, 0xf8],
  ...[0x0f, 0xa2, 0xa3, 0, 0, 0x20, 0, 0xf4],
);
const CPUID_AT = 15_002n;

function make(jit: false | JitOptions): Machine {
  const machine = new Machine({ memory: 4 << 20, jit });
  loadImage(machine, parseFlat(code, { mode: "protected", load: 0x8000, entry: 0x8000 }));
  return machine;
}

describe("verifyJit", () => {
  it("finds no difference between the tiers", async () => {
    const result = await verifyJit({ make });
    expect(result.difference).toBeUndefined();
    expect(result.exit?.reason).toBe("halt");
    expect(result.instructions).toBe(15_004n);
    expect(result.functions).toBeGreaterThan(0);
  });

  it("stops at maxInstructions", async () => {
    expect((await verifyJit({ make, maxInstructions: 1234 })).instructions).toBe(1234n);
  });

  it("names count, instruction and registers of the first difference", async () => {
    const { difference } = await verifyJit({
      make: (jit) => {
        const machine = make(jit);
        machine.onCpuid(() => ({ eax: jit === false ? 1 : 2, ebx: 0, ecx: 0, edx: 0 }));
        return machine;
      },
    });
    expect(difference).toMatchObject({
      count: CPUID_AT,
      values: { rax: { interpreter: "0x1", generated: "0x2" } },
    });
    expect(difference!.instructions.at(-1)).toMatchObject({ count: CPUID_AT - 1n, rip: 0x800dn, text: "cpuid" });
    expect(describeDifference(difference!).join("\n")).toContain("rax: interpreter 0x1, generated code 0x2");
  });

  it("sees a constant that generated code has wrong", async () => {
    // 12345678h as signed LEB128, and one more
    const [right, wrong] = [Buffer.from([0xf8, 0xac, 0xd1, 0x91, 0x01]), Buffer.from([0xf9, 0xac, 0xd1, 0x91, 0x01])];
    const Wrong = class extends Module {
      constructor(bytes: BufferSource) {
        const copy = Buffer.from(bytes as Uint8Array);
        for (let at = copy.indexOf(right); at >= 0; at = copy.indexOf(right)) wrong.copy(copy, at);
        super(copy);
      }
      // the generator was compiled before
      static override [Symbol.hasInstance](value: unknown): boolean {
        return value instanceof Module;
      }
    } as typeof Module;
    const { difference } = await verifyJit({
      make: (jit) => {
        WebAssembly.Module = Module;
        const machine = make(jit);
        WebAssembly.Module = Wrong;
        return machine;
      },
    });
    expect(Object.keys(difference!.values)).toContain("rax");
    expect(difference!.instructions.map(({ text }) => text)).toContain("add eax, 0x12345678");
  });

  it("sees memory that differs", async () => {
    const { difference } = await verifyJit({
      make: (jit) => {
        const machine = make(jit);
        if (jit !== false) machine.writeMemory(0x300001, Uint8Array.of(9));
        return machine;
      },
    });
    expect(difference?.memory).toEqual({ address: 0x300001n, interpreter: 0, generated: 9 });
  });
});
