import { describe, expect, it } from "vitest";
import { GPR_NAMES, Machine } from "../../src/index.ts";
import { machineWith } from "./program.ts";

describe("registers", () => {
  it("stand as the manual says after power-up", () => {
    // SDM 3A "Processor State After Reset", table 9-1
    const { registers } = new Machine({ memory: 4096 });
    expect(registers.read()).toMatchObject({
      rip: 0xfff0n,
      rflags: 2n,
      cr0: 0x6000_0010n,
      cr3: 0n,
      cr4: 0n,
      efer: 0n,
      rax: 0n,
      cs: { selector: 0xf000, base: 0xffff_0000n, limit: 0xffff },
      ds: { selector: 0, base: 0n, limit: 0xffff },
      gdtr: { base: 0n, limit: 0xffff },
      idtr: { base: 0n, limit: 0xffff },
      dr6: 0xffff_0ff0n,
      dr7: 0x400n,
    });
  });

  it("keep 64-bit values in 64-bit mode", () => {
    const { registers } = machineWith("long", 0xf4);
    GPR_NAMES.forEach((name, i) => {
      registers[name] = 0xffff_ffff_0000_0000n + BigInt(i);
    });
    GPR_NAMES.forEach((name, i) => {
      expect(registers[name]).toBe(0xffff_ffff_0000_0000n + BigInt(i));
    });
  });

  it("keep 32 bits outside 64-bit mode", () => {
    const { registers } = machineWith("protected", 0xf4);
    registers.rax = 0x1_2345_6789n;
    expect(registers.rax).toBe(0x2345_6789n);
  });

  it("keep every flag that is written", () => {
    const { registers } = machineWith("real", 0xf4);
    for (const flags of [0x8d5n, 0n, 0x44n, 0x80n, 0x811n, 0x200n]) {
      registers.rflags = flags;
      expect(registers.rflags).toBe(flags | 2n);
    }
  });

  it("change a part of a segment register and nothing else of it", () => {
    const { registers } = machineWith("real", 0xf4);
    const before = registers.ds;
    registers.ds = { base: 0x12340n };
    expect(registers.ds).toEqual({ ...before, base: 0x12340n });
  });

  it("take a whole set in any order and give it back", () => {
    const source = machineWith("long", 0xf4);
    source.registers.write({ rax: 1n << 40n, r15: 5, cr2: 0x1234 });
    const values = source.registers.read();
    const target = new Machine({ memory: 4 << 20 });
    target.registers.write(values);
    expect(target.registers.read()).toEqual(values);
    expect(target.codeMode).toBe(64);
  });

  it.each([
    ["rax", "1", TypeError],
    ["rip", -1, RangeError],
    ["cr3", 1.5, RangeError],
    ["r8", 1n << 64n, RangeError],
    ["rflags", Number.NaN, RangeError],
    ["cs", { selector: 0x10000 }, RangeError],
    ["gdtr", { limit: 0x10000 }, RangeError],
    ["cr0", 0x8000_0000, RangeError],
    ["raxx", 1, TypeError],
  ])("refuse %s = %s and change nothing", (name, value, kind) => {
    const { registers } = machineWith("real", 0xf4);
    const before = registers.read();
    expect(() => registers.write({ rbx: 1, [name]: value })).toThrow(kind);
    expect(registers.read()).toEqual(before);
  });
});
