import { describe, expect, it } from "vitest";
import { CODE, descriptor, GDT, gate, HANDLERS, IST1, SEL, STACK0, STACK3, TSS_STACK0, World } from "./world.ts";

const UD2 = [0x0f, 0x0b];
const int = (n: number) => [0xcd, n];
const idt = (vector: number, ext = 0) => (vector << 3) | 2 | ext;

// @sdm 2A "INT n/INTO/INT3/INT1-Call to Interrupt Procedure"
describe.each(["protected", "long", "compatibility"] as const)("gates in %s mode", (kind) => {
  const handlerCode = kind === "protected" ? SEL.code32 : SEL.code64;

  it("push the address after INT n, that of a fault itself", () => {
    expect(new World(kind).run(int(0x20))).toMatchObject({ vector: 0x20, rip: CODE + 2 });
    expect(new World(kind).run(UD2)).toMatchObject({ vector: 6, rip: CODE });
  });

  it("set RF in the image of a fault, not of INT n", () => {
    expect(new World(kind).run(UD2).flags).toBe(0x10002);
    expect(new World(kind).run(int(0x20)).flags).toBe(2);
  });

  it("clear TF and NT, and IF for interrupt gates only", () => {
    for (const [type, flags] of [
      [14, 2n],
      [15, 0x202n],
    ] as const) {
      const world = new World(kind);
      world.setGate(0x20, gate(type, handlerCode, HANDLERS + 0x200));
      world.machine.registers.rflags = 0x4202;
      expect(world.run(int(0x20)).flags).toBe(0x4202);
      expect(world.machine.registers.rflags).toBe(flags);
    }
  });

  it("refuse INT n of CPL 3 through a gate of DPL 0, but not a fault", () => {
    expect(new World(kind, 3).run(int(0x20))).toMatchObject({ vector: 13, error: idt(0x20), rip: CODE });
    expect(new World(kind, 3).run(UD2)).toMatchObject({ vector: 6 });
    const world = new World(kind, 3);
    world.setGate(0x20, gate(14, handlerCode, HANDLERS + 0x200, 3));
    expect(world.run(int(0x20))).toMatchObject({ vector: 0x20 });
  });

  it("give #NP when absent, #GP outside the IDT or of another type; EXT for faults only", () => {
    const absent = gate(14, handlerCode, HANDLERS) & ~(0x80n << 40n);
    const world = new World(kind);
    world.setGate(0x20, absent);
    expect(world.run(int(0x20))).toMatchObject({ vector: 11, error: idt(0x20) });
    const fault = new World(kind);
    fault.setGate(6, absent);
    expect(fault.run(UD2, 1)).toMatchObject({ vector: 11, error: idt(6, 1) });
    expect(new World(kind).run(int(0x40))).toMatchObject({ vector: 13, error: idt(0x40) });
    const call = new World(kind);
    call.setGate(0x20, gate(12, handlerCode, HANDLERS));
    expect(call.run(int(0x20))).toMatchObject({ vector: 13, error: idt(0x20) });
  });

  it("check the code segment", () => {
    for (const [selector, vector, error] of [
      [0, 13, 0],
      [SEL.data, 13, SEL.data],
      [kind === "protected" ? SEL.codeAbsent : SEL.free, 11, kind === "protected" ? SEL.codeAbsent : SEL.free],
      [kind === "protected" ? SEL.code32User : SEL.code64User, 13, 0x18 + (kind === "protected" ? 0 : 0x28)],
      [0x7f8, 13, 0x7f8],
    ] as const) {
      const world = new World(kind);
      world.setDescriptor(SEL.free, descriptor(0x1a, 0xa));
      world.setGate(0x20, gate(14, selector, HANDLERS));
      expect(world.run(int(0x20))).toMatchObject({ vector, error });
    }
  });

  it("switch to the stack of the TSS from CPL 3", () => {
    const world = new World(kind, 3);
    const outcome = world.run(UD2);
    const { registers } = world.machine;
    const words = kind === "protected" ? 5 * 4 : 5 * 8;
    expect(Number(registers.rsp)).toBe(TSS_STACK0 - words);
    expect(outcome.cs).toBe(kind === "long" ? SEL.code64User : SEL.code32User);
    expect(world.stack(3)).toBe(STACK3);
    expect(world.stack(4)).toBe(SEL.dataUser);
    expect(registers.cs.selector).toBe(handlerCode);
    expect(registers.ss.selector).toBe(kind === "protected" ? SEL.data : 0);
  });

  it("shut down when no event finds a stack in the TSS", () => {
    const world = new World(kind, 3);
    const { registers } = world.machine;
    registers.tr = { limit: 6 };
    // #TS and #DF need the same stack
    world.write(CODE, ...UD2);
    expect(world.machine.run({ maxInstructions: 10 }).reason).toBe("shutdown");
  });

  it("make a double fault of two contributory faults", () => {
    const world = new World(kind);
    world.setGate(13, 0n);
    // mov ds, ax with a bad selector: #GP, whose delivery gives #NP... of a null gate: #GP
    world.machine.registers.rax = 0x7f8;
    expect(world.run([0x8e, 0xd8])).toMatchObject({ vector: 8, error: 0, rip: CODE });
  });

  it("shut down when #DF cannot be delivered", () => {
    const world = new World(kind);
    world.setGate(13, 0n);
    world.setGate(8, 0n);
    world.machine.registers.rax = 0x7f8;
    world.write(CODE, 0x8e, 0xd8);
    expect(world.machine.run({ maxInstructions: 10 }).reason).toBe("shutdown");
  });

  it("deliver a contributory fault in the delivery of a benign one as it is", () => {
    const world = new World(kind);
    world.setGate(6, 0n);
    expect(world.run(UD2)).toMatchObject({ vector: 13, error: idt(6, 1), rip: CODE });
  });

  it("write the accessed bit of the code segment", () => {
    const world = new World(kind);
    world.run(UD2);
    expect(world.machine.readMemory(GDT + handlerCode + 5, 1)[0]).toBe(0x9b);
  });
});

describe("64-bit gates", () => {
  it("align the stack to 16 bytes", () => {
    const world = new World("long");
    world.machine.registers.rsp = STACK0 - 5;
    world.run(UD2);
    expect(Number(world.machine.registers.rsp)).toBe(STACK0 - 16 - 40);
    expect(world.stack(3)).toBe(STACK0 - 5);
  });

  it("use the interrupt stack table without a change of privilege", () => {
    const world = new World("long");
    world.setGate(6, gate(14, SEL.code64, HANDLERS + 0x60, 0, 1));
    world.run(UD2);
    expect(Number(world.machine.registers.rsp)).toBe(IST1 - 40);
    expect(world.machine.registers.ss.selector).toBe(SEL.data);
  });

  it("need 64-bit code and a canonical offset", () => {
    const legacy = new World("long");
    legacy.setGate(0x20, gate(14, SEL.code32, HANDLERS));
    expect(legacy.run(int(0x20))).toMatchObject({ vector: 13, error: SEL.code32 });
    const far = new World("long");
    far.setGate(0x20, gate(14, SEL.code64, HANDLERS), 0x8000n);
    expect(far.run(int(0x20))).toMatchObject({ vector: 13, error: 0 });
  });
});

describe("16-bit gates", () => {
  it("push words and use 16 bits of the offset", () => {
    const world = new World("protected");
    world.setDescriptor(SEL.free, descriptor(0x9a, 0, HANDLERS));
    world.setGate(0x20, gate(6, SEL.free, 0xf0000 + 0x200));
    world.machine.registers.cs = { base: 0xff000n };
    world.machine.registers.rip = 0x1000;
    world.write(CODE, ...int(0x20));
    world.machine.run({ maxInstructions: 1 });
    const { registers } = world.machine;
    expect(registers.rip).toBe(0x200n);
    expect(Number(registers.rsp)).toBe(STACK0 - 6);
    expect([world.stack(0, 2) & 0xffff, world.stack(1, 2) & 0xffff, world.stack(2, 2) & 0xffff]).toEqual([
      0x1002,
      SEL.code32,
      2,
    ]);
  });
});

describe("stack switch in protected mode", () => {
  it.each([
    ["null SS", 0, 10, 1],
    ["SS beyond the table", 0x7f8, 10, 0x7f9],
    ["RPL other than the new CPL", SEL.data | 1, 10, SEL.data | 1],
    ["read-only SS", SEL.readOnly, 10, SEL.readOnly | 1],
    ["absent SS", SEL.dataAbsent, 12, SEL.dataAbsent | 1],
  ])("%s", (_name, selector, vector, error) => {
    const world = new World("protected", 3);
    world.write32(0x14008, selector);
    // faults are taken by a conforming handler, which needs no new stack
    world.setGate(vector, gate(14, SEL.conforming, HANDLERS + vector * 16));
    const outcome = world.run(UD2);
    expect(outcome).toMatchObject({ vector, error: (error & ~3) | 1 });
  });
});
