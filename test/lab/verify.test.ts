// Guests under VMX on both tiers in lock-step.
import { afterEach, describe, expect, it } from "vitest";
import { describeDifference, type GuestImage, parseFlat } from "../../src/index.ts";
import { verifyGuestUnderVmx } from "../../src/lab/index.ts";
import { generator } from "../jit/lockstep.ts";
import { LOAD, program } from "../jit/programs.ts";
import { segmentedProgram } from "../jit/segmentedPrograms.ts";
import { ENTRY } from "../jit/segmentedWorld.ts";
import { FIXTURES, imageOf } from "./fixtures.ts";

/** KVM gives its guests no VMX; the sweeps of straight-line code make thousands of modules when every block counts as hot. */
const guests = FIXTURES.filter(({ name }) => !name.startsWith("isa-"));
const MEMORY = 4 << 20;

const { Module } = WebAssembly;
afterEach(() => {
  WebAssembly.Module = Module;
});

describe("guests under VMX in lock-step", () => {
  it.each(guests.map((guest) => [guest.name, guest] as const))("%s", async (name, guest) => {
    const maxInstructions = name === "rep-forever" ? 100 : 200_000;
    const result = await verifyGuestUnderVmx({ image: imageOf(guest), memory: MEMORY, maxInstructions });
    expect(result.difference ? describeDifference(result.difference).join("\n") : "").toBe("");
    expect(result.instructions).toBeGreaterThan(0n);
  });

  it.each(["always-hardware", "host-nonzero", "clear-all"])(
    "with the timer's interrupts, policy %s",
    async (policy) => {
      const guest = guests.find(({ name }) => name === "leak")!;
      const options = { image: imageOf(guest), memory: MEMORY, preemptEvery: 97, policy, kernel: "5.0" };
      const result = await verifyGuestUnderVmx({ ...options, maxInstructions: 50_000 });
      expect(result.difference ? describeDifference(result.difference).join("\n") : "").toBe("");
      expect(result.functions).toBeGreaterThan(0);
    },
  );
});

/** Programs of each kind; RANDOM_PROGRAMS=n for more, RANDOM_SEED for others. */
const PROGRAMS = Number(process.env.RANDOM_PROGRAMS ?? 2);
const SEED = Number(process.env.RANDOM_SEED ?? 1);
const MODES = { 16: "real", 32: "protected", 64: "long" } as const;

describe("random programs under VMX in lock-step", () => {
  const check = async (image: GuestImage, seed: number) => {
    const result = await verifyGuestUnderVmx({ image, memory: 1 << 20, step: 3000, maxInstructions: 30_000 });
    expect(result.difference ? `seed ${seed}: ${describeDifference(result.difference).join("\n")}` : "").toBe("");
  };

  it.each([16, 32, 64] as const)("%i bits, that change themselves, with faults", async (bits) => {
    for (let i = 0; i < PROGRAMS; i++) {
      const seed = SEED * 100_003 + i * 17 + bits;
      const code = program(generator(seed), { bits, selfModifying: true, faults: true, rounds: 100 });
      await check(parseFlat(code, { mode: MODES[bits], load: LOAD, entry: LOAD }), seed);
    }
  });

  it.each(["real", "protected16", "protected32"] as const)("in segments, %s", async (kind) => {
    for (let i = 0; i < PROGRAMS; i++) {
      const seed = SEED * 100_003 + i * 17 + kind.length;
      const code = segmentedProgram(generator(seed), { kind, wraps: i % 2 === 1, paged: kind !== "real", rounds: 100 });
      await check(parseFlat(code, { mode: kind === "real" ? "real" : "protected", load: 0, entry: ENTRY }), seed);
    }
  });
});

// mov ecx, 5000; l: add eax, 12345678h; dec ecx; jnz l; cpuid; mov [200000h], eax; hlt
const code = Uint8Array.of(
  ...[0xb9, 0x88, 0x13, 0, 0, 0x05, 0x78, 0x56, 0x34, 0x12, 0x49, 0x75, 0xf8],
  ...[0x0f, 0xa2, 0xa3, 0, 0, 0x20, 0, 0xf4],
);
const image = parseFlat(code, { mode: "protected", load: 0x8000, entry: 0x8000 });

describe("verifyGuestUnderVmx", () => {
  it("runs to the guest's end, through its VM exits", async () => {
    const result = await verifyGuestUnderVmx({ image, memory: MEMORY });
    expect(result).toMatchObject({ exit: { kind: "halt" }, instructions: 15_004n, aborted: false });
    expect(result.difference).toBeUndefined();
    expect(result.functions).toBeGreaterThan(0);
  });

  it("stops at maxInstructions and when the signal comes", async () => {
    const limited = await verifyGuestUnderVmx({ image, memory: MEMORY, maxInstructions: 1234 });
    expect(limited).toMatchObject({ exit: { kind: "limit" }, instructions: 1234n });
    const forever = parseFlat(Uint8Array.of(0xeb, 0xfe), { mode: "protected", load: 0x8000, entry: 0x8000 });
    const stopped = await verifyGuestUnderVmx({ image: forever, memory: MEMORY, signal: AbortSignal.timeout(50) });
    expect(stopped.aborted).toBe(true);
  });

  it("names the first difference: a constant that generated code has wrong", async () => {
    // 12345678h as signed LEB128, and one more
    const [right, wrong] = [Buffer.from([0xf8, 0xac, 0xd1, 0x91, 0x01]), Buffer.from([0xf9, 0xac, 0xd1, 0x91, 0x01])];
    WebAssembly.Module = class extends Module {
      static override [Symbol.hasInstance](value: unknown) {
        return value instanceof Module;
      }
      constructor(bytes: BufferSource) {
        const copy = Buffer.from(bytes as Uint8Array);
        for (let at = copy.indexOf(right); at >= 0; at = copy.indexOf(right)) wrong.copy(copy, at);
        super(copy);
      }
    } as typeof Module;
    const { difference } = await verifyGuestUnderVmx({ image, memory: MEMORY });
    expect(Object.keys(difference!.values)).toContain("rax");
    expect(difference!.instructions.map(({ text }) => text)).toContain("add eax, 0x12345678");
    expect(difference!.interpreter.rip).toBe(difference!.generated.rip);
  });
});
