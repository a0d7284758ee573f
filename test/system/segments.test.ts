import { describe, expect, it } from "vitest";
import { DATA, descriptor, GDT, GDT_LIMIT, MOV_DS_AX, MOV_SS_AX, SEL, TSS, World } from "./world.ts";

function load(code: number[], selector: number, kind: "protected" | "long" = "protected", level: 0 | 3 = 0) {
  const world = new World(kind, level);
  world.machine.registers.rax = selector;
  return { world, outcome: world.run(code) };
}

// @sdm 2B "MOV-Move", "Protected Mode Exceptions"
describe("MOV DS", () => {
  it.each([
    ["beyond the table", GDT_LIMIT + 1, 13],
    ["execute-only code", SEL.executeOnly, 13],
    ["a system descriptor", SEL.tss, 13],
    ["LDT selector without an LDT", 0x0c, 13],
    ["absent data", SEL.dataAbsent, 11],
    ["RPL above DPL", SEL.data | 3, 13],
  ])("faults on %s", (_name, selector, vector) => {
    const { world, outcome } = load(MOV_DS_AX, selector);
    expect(outcome).toMatchObject({ vector, error: selector & 0xfffc });
    expect(world.machine.registers.ds.selector).toBe(SEL.data);
  });

  it("faults at CPL 3 on a segment of DPL 0, and takes a conforming one", () => {
    expect(load(MOV_DS_AX, SEL.data, "protected", 3).outcome).toMatchObject({ vector: 13, error: SEL.data });
    expect(load(MOV_DS_AX, SEL.conforming | 3, "protected", 3).outcome).toMatchObject({ vector: "none" });
  });

  it("loads the hidden part and writes the accessed bit", () => {
    const world = new World("protected");
    world.setDescriptor(SEL.free, descriptor(0x92, 0x4, 0x12345678, 0x54321));
    world.machine.registers.rax = SEL.free;
    expect(world.run(MOV_DS_AX).vector).toBe("none");
    expect(world.machine.registers.ds).toEqual({
      selector: SEL.free,
      base: 0x12345678n,
      limit: 0x54321,
      attributes: 0x4093,
    });
    expect(world.machine.readMemory(GDT + SEL.free + 5, 1)[0]).toBe(0x93);
  });

  it("takes a null selector, and an access through it is #GP(0)", () => {
    const world = new World("protected");
    world.machine.registers.rax = 3;
    // mov ds, ax; mov al, [0]
    expect(world.run([...MOV_DS_AX, 0xa0, 0, 0, 0, 0], 2)).toMatchObject({ vector: 13, error: 0 });
  });
});

describe("MOV SS", () => {
  it.each([
    ["null", 0, 13],
    ["RPL other than CPL", SEL.data | 1, 13],
    ["DPL other than CPL", SEL.dataUser & ~3, 13],
    ["read-only data", SEL.readOnly, 13],
    ["code", SEL.code32, 13],
    ["absent data", SEL.dataAbsent, 12],
  ])("faults on %s", (_name, selector, vector) => {
    expect(load(MOV_SS_AX, selector).outcome).toMatchObject({ vector, error: selector & 0xfffc });
  });

  it("takes a null selector in 64-bit mode below CPL 3 only", () => {
    expect(load(MOV_SS_AX, 0, "long").outcome.vector).toBe("none");
    expect(load(MOV_SS_AX, 3, "long").outcome).toMatchObject({ vector: 13, error: 0 });
    expect(load(MOV_SS_AX, 3, "long", 3).outcome).toMatchObject({ vector: 13, error: 0 });
  });

  it("holds interrupts back for one instruction", () => {
    const world = new World("protected");
    const { registers } = world.machine;
    registers.rax = SEL.data;
    registers.rflags = 0x202;
    world.machine.run({ maxInstructions: 0 });
    world.write(0x100000, ...MOV_SS_AX, 0x90, 0x90);
    world.machine.run({ maxInstructions: 1 });
    world.machine.interrupt(0x20);
    world.machine.run({ maxInstructions: 1 });
    expect(world.outcome().vector).toBe("none");
    expect(Number(registers.rip)).toBe(0x100003);
    world.machine.run({ maxInstructions: 1 });
    expect(world.outcome()).toMatchObject({ vector: 0x20, rip: 0x100003 });
  });
});

it("MOV CS is #UD", () => {
  expect(load([0x8e, 0xc8], SEL.code32).outcome.vector).toBe(6);
  expect(load([0x8e, 0xf0], SEL.data).outcome.vector).toBe(6);
});

// @sdm 2A "LTR-Load Task Register", "LLDT-Load Local Descriptor Table Register"
describe("LTR and LLDT", () => {
  const LTR = [0x0f, 0x00, 0xd8];
  const LLDT = [0x0f, 0x00, 0xd0];

  it("mark a TSS busy and refuse a busy one", () => {
    const { world, outcome } = load(LTR, SEL.tss);
    expect(outcome.vector).toBe("none");
    expect(world.machine.registers.tr).toMatchObject({ selector: SEL.tss, base: BigInt(TSS), attributes: 0x8b });
    expect(world.machine.readMemory(GDT + SEL.tss + 5, 1)[0]).toBe(0x8b);
    world.machine.registers.rip = 0x100000;
    expect(world.run(LTR)).toMatchObject({ vector: 13, error: SEL.tss });
  });

  it("fault on null, other types, LDT selectors, CPL 3, and real mode", () => {
    expect(load(LTR, 0).outcome).toMatchObject({ vector: 13, error: 0 });
    expect(load(LTR, SEL.data).outcome).toMatchObject({ vector: 13, error: SEL.data });
    expect(load(LTR, SEL.tss | 4).outcome).toMatchObject({ vector: 13, error: SEL.tss | 4 });
    expect(load(LTR, SEL.tss, "protected", 3).outcome).toMatchObject({ vector: 13, error: 0 });
    expect(load(LLDT, SEL.tss).outcome).toMatchObject({ vector: 13, error: SEL.tss });
    expect(load(LLDT, SEL.tss, "protected", 3).outcome).toMatchObject({ vector: 13, error: 0 });
  });

  it("take 16-byte descriptors in IA-32e mode", () => {
    const world = new World("long");
    world.setDescriptor(SEL.free, descriptor(0x89, 0, 0x12345678, 0x67), 0xffff8000n);
    world.machine.registers.rax = SEL.free;
    expect(world.run(LTR).vector).toBe("none");
    expect(world.machine.registers.tr.base).toBe(0xffff8000_12345678n);
  });

  it("refuse a 16-bit TSS, a bad upper half and a non-canonical base in IA-32e mode", () => {
    expect(load(LTR, SEL.tss16, "long").outcome).toMatchObject({ vector: 13, error: SEL.tss16 });
    for (const high of [0x8000n, 1n << 40n]) {
      const world = new World("long");
      world.setDescriptor(SEL.free, descriptor(0x89, 0, TSS, 0x67), high);
      world.machine.registers.rax = SEL.free;
      expect(world.run(LTR)).toMatchObject({ vector: 13, error: SEL.free });
    }
  });

  it("a loaded LDT serves selectors with TI", () => {
    const world = new World("protected");
    world.write64(DATA + 8, descriptor(0x92, 0xc, 0x5000));
    world.machine.registers.write({ rax: SEL.ldt, rbx: 0x0c, rcx: 0x14 });
    // lldt ax; mov ds, bx; mov es, cx (beyond the limit)
    expect(world.run([...LLDT, 0x8e, 0xdb, 0x8e, 0xc1], 2).vector).toBe("none");
    expect(world.machine.registers.ds).toMatchObject({ selector: 0x0c, base: 0x5000n });
    world.machine.run({ maxInstructions: 1 });
    expect(world.outcome()).toMatchObject({ vector: 13, error: 0x14 });
  });
});
