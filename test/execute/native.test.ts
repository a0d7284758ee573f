import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { disassemble } from "../../src/disasm/index.ts";
import { genericModel } from "../../src/index.ts";
import { CODE, DATA, World } from "../system/world.ts";

// What an Intel Xeon did: scripts/native/extended.c. A case: rax rcx rdx rbx rdi r8 r9 flags and 16 bytes at rsi, before > after.
interface Recorded {
  readonly bytes: string;
  readonly cases: readonly string[];
}
const recorded: readonly Recorded[] = JSON.parse(
  readFileSync(new URL("../../fixtures/native/extended-64.json", import.meta.url), "utf8"),
);

const CF = 1;
const PF = 4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;
const ALL = CF | PF | AF | ZF | SF | OF;

/** Flags that the manual leaves undefined. */
const UNDEFINED: Record<string, number> = {
  tzcnt: OF | SF | PF | AF,
  lzcnt: OF | SF | PF | AF,
  andn: AF | PF,
  blsr: AF | PF,
  blsmsk: AF | PF,
  blsi: AF | PF,
  bzhi: AF | PF,
  bextr: AF | SF | PF,
};

/** All of the default model and what needs SSE to be advertised. */
function everything() {
  const model = genericModel();
  const extra: readonly (readonly [number, "ecx" | "edx", number])[] = [
    [1, "ecx", 20], // SSE4.2: CRC32
    [1, "edx", 26], // SSE2: MOVNTI
  ];
  const cpuid = model.cpuid.map((row) => {
    const bits = { ...row };
    for (const [leaf, register, bit] of extra) if (row.leaf === leaf) bits[register] |= 1 << bit;
    return bits;
  });
  return { ...model, cpuid };
}

describe("instructions as a real processor carries them out", () => {
  const world = new World("long", 0, everything());
  const { machine } = world;

  it.each(recorded.map((r) => [disassemble(Buffer.from(r.bytes, "hex"), { mode: 64 }).text, r] as const))(
    "%s",
    (_text, { bytes, cases }) => {
      const code = [...Buffer.from(bytes, "hex")];
      const { mnemonic } = disassemble(Uint8Array.from(code), { mode: 64 });
      const mask = ALL & ~(UNDEFINED[mnemonic] ?? 0);
      expect(cases.length).toBeGreaterThan(10);
      for (const text of cases) {
        const [before, after] = text.split(" > ").map((half) => half.split(" ").map((w) => BigInt(`0x${w}`)));
        const [rax, rcx, rdx, rbx, rdi, r8, r9, flags, m0, m1] = before!;
        machine.registers.write({
          rax,
          rcx,
          rdx,
          rbx,
          rdi,
          r8,
          r9,
          rsi: BigInt(DATA),
          rflags: 2n | flags!,
          rip: BigInt(CODE),
        } as never);
        world.write64(DATA, m0!);
        world.write64(DATA + 8, m1!);
        world.write(CODE, ...code);
        machine.run({ maxInstructions: 1 });
        expect(Number(machine.registers.rip), text).toBe(CODE + code.length);
        const g = machine.registers;
        const memory = machine.readMemory(DATA, 16);
        const view = new DataView(memory.buffer, memory.byteOffset);
        const got = [g.rax, g.rcx, g.rdx, g.rbx, g.rdi, g.r8, g.r9, g.rflags & BigInt(mask)];
        got.push(view.getBigUint64(0, true), view.getBigUint64(8, true));
        const expected = after!.map((w, i) => (i === 7 ? w & BigInt(mask) : w));
        expect(
          got.map((w) => w.toString(16)),
          text,
        ).toEqual(expected.map((w) => w.toString(16)));
      }
    },
  );
});
