// Callbacks see the exact count and RIP, and timers interrupt at the exact instruction, with and without generated code.
import { describe, expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";

const HLT = 0xf4;
const MMIO = 0xe0000000;
const u32 = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];

describe.each([
  ["interpreter", false],
  ["generated code", 1],
] as const)("%s", (_name, jit) => {
  it("an MMIO callback sees what completed before its instruction, in the middle of a block too", () => {
    const seen: [string, number, number][] = [];
    const machine = new Machine({ memory: 4 << 20, extraMemory: 0, jit });
    const note = (what: string) => {
      seen.push([what, Number(machine.instructionCount), Number(machine.registers.rip)]);
    };
    machine.map({
      kind: "mmio",
      address: MMIO,
      size: 4096,
      read: () => {
        note("read");
        return 0;
      },
      write: () => note("write"),
    });
    const code = [
      ...[0xb9, ...u32(300)], // mov ecx, 300
      ...[0x40, 0x40, 0x40], // l: inc eax x 3
      ...[0x8b, 0x1d, ...u32(MMIO)], // mov ebx, [MMIO]
      ...[0x40],
      ...[0x89, 0x1d, ...u32(MMIO)], // mov [MMIO], ebx
      ...[0x01, 0x1d, ...u32(MMIO + 8)], // add [MMIO + 8], ebx
      ...[0x49, 0x75, 0xe7], // dec ecx; jnz l
      HLT,
    ];
    loadImage(machine, parseFlat(Uint8Array.from(code), { mode: "protected" }));
    expect(machine.run().reason).toBe("halt");
    const expected = Array.from({ length: 300 }, (_, i) => {
      const at = 1 + 9 * i; // nine instructions a pass
      return [
        ["read", at + 3, 0x100008],
        ["write", at + 6, 0x100015],
        ["read", at + 6, 0x100015],
        ["write", at + 7, 0x10001b],
      ];
    }).flat();
    expect(seen).toEqual(expected);
  });

  it("REP MOVS to a device stops at each element with the registers of that moment", () => {
    const seen: [number, number, number][] = [];
    const machine = new Machine({ memory: 4 << 20, extraMemory: 0, jit });
    machine.map({
      kind: "mmio",
      address: MMIO,
      size: 4096,
      write: (offset) => seen.push([offset, Number(machine.instructionCount), Number(machine.registers.rip)]),
    });
    const code = [0xbe, ...u32(0x2000), 0xbf, ...u32(MMIO), 0xb9, ...u32(4), 0x90, 0xf3, 0xa5, HLT];
    loadImage(machine, parseFlat(Uint8Array.from(code), { mode: "protected" }));
    machine.run();
    expect(seen.map(([offset]) => offset)).toEqual([0, 4, 8, 12]);
    expect(seen.slice(0, 3).map(([, count, rip]) => [count, rip])).toEqual(Array(3).fill([4, 0x100010]));
  });

  it("a TSC deadline interrupts before the instruction that the count points at", () => {
    const code = [
      ...[0xb9, ...u32(100_000)],
      0xfb, // sti
      ...[0x40, 0x43, 0x90, 0x31, 0xc0, 0x51, 0x59], // l: a block of eight
      ...[0x49, 0x75, 0xf6],
      HLT,
    ];
    const idt = 0x110000;
    const make = (devices: "pc" | "none") => {
      const machine = new Machine({ memory: 4 << 20, extraMemory: 0, jit, devices });
      loadImage(machine, parseFlat(Uint8Array.from(code), { mode: "protected" }));
      machine.writeMemory(idt + 8 * 0x40, Uint8Array.of(0x00, 0x10, 0x08, 0x00, 0x00, 0x8e, 0x12, 0x00));
      machine.writeMemory(0x121000, Uint8Array.of(HLT));
      const gdt = BigUint64Array.of(0n, 0x00cf9b000000ffffn, 0x00cf93000000ffffn);
      machine.writeMemory(0x111000, new Uint8Array(gdt.buffer));
      machine.registers.write({ idtr: { base: BigInt(idt), limit: 0x7ff }, gdtr: { base: 0x111000n, limit: 23 } });
      return machine;
    };
    const plain = make("none");
    for (let tick = 5_000; tick < 5_040; tick++) {
      plain.run({ maxInstructions: tick - Number(plain.instructionCount) });
      const machine = make("pc");
      const { lapic } = machine.devices!;
      lapic!.writePage(0xf0, 0x1ff);
      lapic!.writePage(0x320, 0x40040);
      machine.writeMsr(0x6e0, tick);
      expect(machine.run().reason).toBe("halt");
      const stack = new DataView(machine.readMemory(machine.registers.rsp, 4).buffer).getUint32(0, true);
      expect([stack, machine.instructionCount]).toEqual([Number(plain.registers.rip), BigInt(tick) + 2n]);
    }
  });
});
