import { describe, expect, it } from "vitest";
import { CODE, descriptor, gate, SEL, STACK0, STACK3, TSS_STACK0, World } from "./world.ts";

const IRET = [0xcf];
const IRETQ = [0x48, 0xcf];
const RETF = [0xcb];
const TARGET = 0x110000;

// @sdm 2A "IRET/IRETD/IRETQ-Interrupt Return"
describe("IRET in protected mode", () => {
  it("returns to the same level without popping the stack", () => {
    const world = new World("protected");
    world.push(4, 0x3246, SEL.code32, TARGET);
    expect(world.run(IRET).vector).toBe("none");
    const { registers } = world.machine;
    expect(Number(registers.rip)).toBe(TARGET);
    expect(Number(registers.rsp)).toBe(STACK0);
    expect(registers.rflags).toBe(0x3246n);
  });

  it("returns to CPL 3 with its stack and drops data segments of DPL 0", () => {
    const world = new World("protected");
    world.push(4, SEL.dataUser, STACK3, 0x202, SEL.code32User, TARGET);
    expect(world.run(IRET).vector).toBe("none");
    const { registers } = world.machine;
    expect(registers.cs.selector).toBe(SEL.code32User);
    expect(registers.ss.selector).toBe(SEL.dataUser);
    expect(Number(registers.rsp)).toBe(STACK3);
    expect(registers.ds).toMatchObject({ selector: 0, attributes: 0x10000 });
    expect(registers.gs.selector).toBe(0);
  });

  it("does not let CPL 3 change IOPL or IF", () => {
    const world = new World("protected", 3);
    world.push(4, 0x3ed7, SEL.code32User, TARGET);
    world.run(IRET);
    expect(world.machine.registers.rflags).toBe(0xcd7n);
  });

  it.each([
    ["null CS", [0x2, 0, TARGET], 13, 0],
    ["CS beyond the table", [0x2, 0x7f8, TARGET], 13, 0x7f8],
    ["CS of data", [0x2, SEL.data, TARGET], 13, SEL.data],
    ["CS absent", [0x2, SEL.codeAbsent, TARGET], 11, SEL.codeAbsent],
    ["DPL other than RPL", [0x2, SEL.code32 | 3, TARGET], 13, SEL.code32],
    ["null SS", [0, STACK3, 0x2, SEL.code32User, TARGET], 13, 0],
    ["SS of another RPL", [SEL.data, STACK3, 0x2, SEL.code32User, TARGET], 13, SEL.data],
    ["SS of another DPL", [SEL.data | 3, STACK3, 0x2, SEL.code32User, TARGET], 13, SEL.data],
  ])("faults on %s", (_name, frame, vector, error) => {
    const world = new World("protected");
    world.push(4, ...frame);
    expect(world.run(IRET)).toMatchObject({ vector, error, rip: CODE });
  });

  it("faults on an offset beyond the limit of the new segment", () => {
    const world = new World("protected");
    world.push(4, 0x2, SEL.code16, 0x10000);
    expect(world.run(IRET)).toMatchObject({ vector: 13, error: 0, rip: CODE });
  });

  it("refuses an inner level", () => {
    const world = new World("protected", 3);
    world.push(4, 0x2, SEL.code32, TARGET);
    expect(world.run(IRET)).toMatchObject({ vector: 13, error: SEL.code32 });
  });

  it("enters vm86 from CPL 0, whose fault comes back with nine words", () => {
    const world = new World("protected");
    world.push(4, 0x1234, 0x2345, 0x3456, 0x4567, 0x2000, 0x8000, 0x23002, 0xb000, 0x0010);
    world.write(0xb0010, 0x0f, 0x0b);
    expect(world.run(IRET).vector).toBe("none");
    const { registers } = world.machine;
    expect(registers.cs).toMatchObject({ selector: 0xb000, base: 0xb0000n, limit: 0xffff, attributes: 0xf3 });
    expect(registers.ds.selector).toBe(0x3456);
    expect(registers.rflags & 0x20000n).toBe(0x20000n);
    world.machine.run({ maxInstructions: 1 });
    expect(world.outcome()).toMatchObject({ vector: 6, rip: 0x10, cs: 0xb000, flags: 0x33002 });
    expect(Number(registers.rsp)).toBe(TSS_STACK0 - 36);
    expect([3, 4, 5, 6, 7, 8].map((n) => world.stack(n))).toEqual([0x8000, 0x2000, 0x4567, 0x3456, 0x2345, 0x1234]);
    expect(registers.ds.selector).toBe(0);
  });
});

describe("IRETQ", () => {
  it("pops SS and RSP at the same level too, and a null SS", () => {
    const world = new World("long");
    world.push(8, 0, 0x40000, 0x2, SEL.code64, TARGET);
    expect(world.run(IRETQ).vector).toBe("none");
    expect(world.machine.registers.ss.selector).toBe(0);
    expect(Number(world.machine.registers.rsp)).toBe(0x40000);
  });

  it("returns to compatibility code of CPL 3", () => {
    const world = new World("long");
    world.push(8, SEL.dataUser, STACK3, 0x2, SEL.code32User, TARGET);
    expect(world.run(IRETQ).vector).toBe("none");
    expect(world.machine.codeMode).toBe(32);
  });

  it.each([
    ["null SS at CPL 3", [3, STACK3, 2, SEL.code64User, TARGET], 0],
    ["null SS for compatibility code", [0, STACK0, 2, SEL.code32, TARGET], 0],
  ])("faults on %s", (_name, frame, error) => {
    const world = new World("long");
    world.push(8, ...frame);
    expect(world.run(IRETQ)).toMatchObject({ vector: 13, error });
  });

  it("faults with NT set, and on a segment with L and D", () => {
    const nested = new World("long");
    nested.machine.registers.rflags = 0x4002;
    nested.push(8, SEL.data, STACK0, 2, SEL.code64, TARGET);
    expect(nested.run(IRETQ)).toMatchObject({ vector: 13, error: 0 });
    const both = new World("long");
    both.setDescriptor(SEL.free, descriptor(0x9a, 0xe));
    both.push(8, SEL.data, STACK0, 2, SEL.free, TARGET);
    expect(both.run(IRETQ)).toMatchObject({ vector: 13, error: SEL.free });
  });
});

// @sdm 2B "RET-Return from Procedure", 2A "CALL-Call Procedure"
describe("far CALL and RETF", () => {
  it("go to a conforming segment without a change of level and come back", () => {
    const world = new World("protected", 3);
    world.write(TARGET, ...RETF);
    expect(world.run([0x9a, 0, 0, 0x11, 0, SEL.conforming, 0]).vector).toBe("none");
    expect(world.machine.registers.cs.selector).toBe(SEL.conforming | 3);
    expect([world.stack(0), world.stack(1)]).toEqual([CODE + 7, SEL.code32User]);
    world.machine.run({ maxInstructions: 1 });
    expect(Number(world.machine.registers.rip)).toBe(CODE + 7);
    expect(Number(world.machine.registers.rsp)).toBe(STACK3);
  });

  it.each([
    ["null", 0, 13, 0],
    ["data", SEL.data, 13, SEL.data],
    ["absent code", SEL.codeAbsent, 11, SEL.codeAbsent],
    ["code of DPL 3", SEL.code32User, 13, SEL.code32User & ~3],
    ["RPL above CPL", SEL.code32 | 3, 13, SEL.code32],
  ])("fault on %s", (_name, selector, vector, error) => {
    const world = new World("protected");
    expect(world.run([0x9a, 0, 0, 0x11, 0, selector, 0])).toMatchObject({ vector, error, rip: CODE });
    // the frame of the fault is all that is on the stack
    expect(Number(world.machine.registers.rsp)).toBe(STACK0 - 16);
  });

  it("go through a call gate to CPL 0 with parameters, and back with RETF n", () => {
    const world = new World("protected", 3);
    world.setDescriptor(SEL.free, gate(12, SEL.code32, TARGET, 3, 2));
    world.write(TARGET, 0xca, 8, 0); // retf 8
    world.push(4, 0x11111111, 0x22222222);
    expect(world.run([0x9a, 0, 0, 0, 0, SEL.free, 0]).vector).toBe("none");
    const { registers } = world.machine;
    expect(registers.cs.selector).toBe(SEL.code32);
    expect(Number(registers.rsp)).toBe(TSS_STACK0 - 24);
    expect([0, 1, 2, 3, 4, 5].map((n) => world.stack(n))).toEqual([
      CODE + 7,
      SEL.code32User,
      0x22222222,
      0x11111111,
      STACK3 - 8,
      SEL.dataUser,
    ]);
    world.machine.run({ maxInstructions: 1 });
    expect(registers.cs.selector).toBe(SEL.code32User);
    expect(Number(registers.rip)).toBe(CODE + 7);
    expect(Number(registers.rsp)).toBe(STACK3);
  });

  it("check the gate: DPL, presence", () => {
    const low = new World("protected", 3);
    low.setDescriptor(SEL.free, gate(12, SEL.code32, TARGET, 0));
    expect(low.run([0x9a, 0, 0, 0, 0, SEL.free, 0])).toMatchObject({ vector: 13, error: SEL.free });
    const absent = new World("protected", 3);
    absent.setDescriptor(SEL.free, gate(12, SEL.code32, TARGET, 3) & ~(0x80n << 40n));
    expect(absent.run([0x9a, 0, 0, 0, 0, SEL.free, 0])).toMatchObject({ vector: 11, error: SEL.free });
  });

  it("jump between 64-bit and compatibility code", () => {
    const world = new World("long");
    world.write32(0x80000, TARGET);
    world.write(0x80004, SEL.code32, 0);
    // jmp far [rsi]
    world.machine.registers.rsi = 0x80000;
    expect(world.run([0xff, 0x2e]).vector).toBe("none");
    expect(world.machine.codeMode).toBe(32);
    world.write(TARGET, 0xea, 0, 0, 0x10, 0, SEL.code64, 0);
    world.machine.run({ maxInstructions: 1 });
    expect(world.machine.codeMode).toBe(64);
    expect(Number(world.machine.registers.rip)).toBe(CODE);
  });
});
