import { describe, expect, it, vi } from "vitest";
import { genericModel } from "../../src/index.ts";
import { CODE, SEL, STACK3, World } from "./world.ts";

const CPUID = [0x0f, 0xa2];
const LOCK_CPUID = [0xf0, 0x0f, 0xa2];

// Intel application note 323850: with faulting on, CPUID at CPL > 0 outside SMM is #GP(0).
describe("CPUID faulting", () => {
  it.each(["protected", "compatibility", "long"] as const)("in %s mode: CPL 3 faults, CPL 0 does not", (kind) => {
    for (const on of [0, 1]) {
      const user = new World(kind, 3);
      user.machine.writeMsr(0x140, on);
      expect(user.run(CPUID)).toMatchObject(on ? { vector: 13, error: 0, rip: CODE } : { vector: "none" });
      const supervisor = new World(kind, 0);
      supervisor.machine.writeMsr(0x140, on);
      expect(supervisor.run(CPUID).vector).toBe("none");
    }
  });

  it("comes after #UD for LOCK", () => {
    for (const level of [0, 3] as const) {
      const world = new World("protected", level);
      world.machine.writeMsr(0x140, 1);
      expect(world.run(LOCK_CPUID)).toMatchObject({ vector: 6, rip: CODE });
    }
  });

  it("comes before the callback", () => {
    const world = new World("long", 3);
    const hook = vi.fn();
    world.machine.onCpuid(hook);
    world.machine.writeMsr(0x140, 1);
    expect(world.run(CPUID).vector).toBe(13);
    expect(hook).not.toHaveBeenCalled();
  });

  it("applies to CPL 1 and 2, and to vm86", () => {
    for (const level of [1, 2]) {
      const world = new World("protected");
      world.machine.writeMsr(0x140, 1);
      const attributes = 0xc093 | (level << 5);
      world.write32(0x14000 + 4, 0x70000);
      world.machine.registers.write({
        cs: { selector: 0x1b, attributes: 0xc09b | (level << 5) },
        ss: { selector: 0x23, attributes },
      });
      expect(world.run(CPUID)).toMatchObject({ vector: 13, error: 0 });
    }
    const world = new World("protected");
    world.machine.writeMsr(0x140, 1);
    world.push(4, 0, 0, 0, 0, 0x2000, 0x8000, 0x20002, 0xb000, 0);
    world.write(0xb0000, ...CPUID);
    world.run([0xcf]);
    world.machine.run({ maxInstructions: 1 });
    expect(world.outcome()).toMatchObject({ vector: 13, error: 0, cs: 0xb000 });
  });

  it("leaves the registers as they were and can be resumed", () => {
    const world = new World("protected", 3);
    world.machine.writeMsr(0x140, 1);
    world.machine.registers.write({ rax: 1, rbx: 2, rcx: 3, rdx: 4 });
    world.run(CPUID);
    expect(world.machine.registers.read()).toMatchObject({ rax: 1n, rbx: 2n, rcx: 3n, rdx: 4n });
    world.machine.writeMsr(0x140, 0);
    // the handler: add esp, 4; iret
    const at = Number(world.machine.registers.rip);
    world.write(at, 0x83, 0xc4, 4, 0xcf);
    world.machine.run({ maxInstructions: 3 });
    expect(Number(world.machine.registers.rip)).toBe(CODE + 2);
    expect(Number(world.machine.registers.rsp)).toBe(STACK3);
    expect(world.machine.registers.cs.selector).toBe(SEL.code32User);
    expect(world.machine.registers.rax).toBe(0x906e9n);
  });
});

// @sdm 2A "CPUID-CPU Identification"
describe("CPUID", () => {
  it("gives the highest basic leaf for leaves out of range", () => {
    const world = new World("protected");
    const highest = world.machine.cpuid(7);
    for (const leaf of [8, 0x1234, 0x40000000, 0x80000009, 0xffffffff]) {
      expect(world.machine.cpuid(leaf)).toEqual(highest);
    }
  });

  it("clears the upper halves of four registers", () => {
    const world = new World("long");
    world.machine.registers.write({ rax: 0, rbx: -1n & (2n ** 64n - 1n), rcx: 2n ** 40n, rdx: 2n ** 40n });
    world.run(CPUID);
    const { rbx, rcx, rdx } = world.machine.registers.read();
    expect([rbx, rdx, rcx].map((v) => v >> 32n)).toEqual([0n, 0n, 0n]);
  });

  it("reports SYSCALL in 64-bit mode only", () => {
    expect(new World("long").machine.cpuid(0x80000001).edx & 0x800).toBe(0x800);
    expect(new World("protected").machine.cpuid(0x80000001).edx & 0x800).toBe(0);
  });

  it("mirrors CR4.OSXSAVE", () => {
    const model = genericModel();
    const cpu = { ...model, cpuid: model.cpuid.map((l) => (l.leaf === 1 ? { ...l, ecx: 1 << 26 } : l)) };
    const world = new World("protected", 0, cpu);
    expect(world.machine.cpuid(1).ecx).toBe(1 << 26);
    world.machine.registers.cr4 = 1 << 18;
    expect(world.machine.cpuid(1).ecx).toBe((1 << 26) | (1 << 27));
  });
});
