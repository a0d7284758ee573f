import { describe, expect, it, vi } from "vitest";
import { HOOKS } from "../../assembly/abi/state.ts";
import { Core, StateError } from "../../src/core/index.ts";
import { machineWith } from "./program.ts";

const CPUID = [0x0f, 0xa2];
const RDMSR = [0x0f, 0x32];
const WRMSR = [0x0f, 0x30];
const HLT = 0xf4;

describe("port hooks", () => {
  it("give IN its value, by size", () => {
    const machine = machineWith("protected", 0xe4, 0x60, 0x66, 0xe5, 0x61, 0xe5, 0x62, HLT); // in al; in ax; in eax
    const seen: number[][] = [];
    machine.onPortIn([0x60, 0x62], (port, size) => {
      seen.push([port, size]);
      return 2 ** (8 * size) - port;
    });
    machine.registers.rax = 0x1111_1111;
    machine.step();
    expect(machine.registers.rax).toBe(0x1111_11a0n);
    machine.step();
    expect(machine.registers.rax).toBe(0x1111_ff9fn);
    machine.step();
    expect(machine.registers.rax).toBe(0xffff_ff9en);
    expect(seen).toEqual([
      [0x60, 1],
      [0x61, 2],
      [0x62, 4],
    ]);
  });

  it("leave ports outside their range alone: IN gives all ones", () => {
    const machine = machineWith("real", 0xe4, 0x61, HLT);
    machine.onPortIn(0x60, () => 0);
    machine.run();
    expect(machine.registers.rax & 0xffn).toBe(0xffn);
  });

  it("see OUT with its value, before RIP moves", () => {
    const machine = machineWith("real", 0xb0, 0x2a, 0xe6, 0x80, HLT);
    const hook = vi.fn(() => expect(machine.registers.rip).toBe(0x7c02n));
    machine.onPortOut(0x80, hook);
    machine.run();
    expect(hook.mock.calls).toEqual([[0x80, 0x2a, 1]]);
  });

  it("pass on to an earlier hook, the newest first", () => {
    const machine = machineWith("real", 0xe6, 0x80, 0xe6, 0x80, HLT);
    const calls: string[] = [];
    machine.onPortOut([0, 0xffff], () => void calls.push("old"));
    const remove = machine.onPortOut(0x80, () => {
      calls.push("new");
      return false;
    });
    machine.step();
    expect(calls).toEqual(["new", "old"]);
    remove();
    remove();
    machine.step();
    expect(calls).toEqual(["new", "old", "old"]);
  });

  it("refuse a value that does not fit the access", () => {
    const machine = machineWith("real", 0xe4, 0x60, HLT);
    machine.onPortIn(0x60, () => 256);
    expect(() => machine.run()).toThrow(/port-in hook must be between 0 and 255/);
  });

  it.each([-1, 65536, 0.5, "80"])("refuse port %s", (port) => {
    expect(() => machineWith("real", HLT).onPortOut(port as number, () => {})).toThrow(/port must be/);
  });
});

describe("CPUID hooks", () => {
  it("override the whole answer, or a part of it", () => {
    const machine = machineWith("protected", ...CPUID, ...CPUID, HLT);
    machine.onCpuid((leaf) => (leaf === 0x40000000 ? { eax: 1, ebx: 2, ecx: 3, edx: 4 } : { eax: 99 }));
    machine.registers.rax = 0x40000000;
    machine.step();
    const { rax, rbx, rcx, rdx } = machine.registers;
    expect([rax, rbx, rcx, rdx]).toEqual([1n, 2n, 3n, 4n]);
    machine.registers.rax = 0;
    machine.step();
    expect(machine.registers.rax).toBe(99n);
    // "Genu" "ineI" "ntel", SDM 2A CPUID table for leaf 0
    expect(machine.registers.rbx).toBe(0x756e_6547n);
    expect(machine.registers.rcx).toBe(0x6c65_746en);
  });

  it("see leaf and subleaf and may leave the answer as it is", () => {
    const machine = machineWith("protected", ...CPUID, HLT);
    const hook = vi.fn(() => undefined);
    machine.onCpuid(hook);
    machine.registers.write({ rax: 0, rcx: 7 });
    machine.run();
    expect(hook.mock.calls).toEqual([[0, 7]]);
    expect(machine.registers.rdx).toBe(0x4965_6e69n);
  });
});

describe("MSR hooks", () => {
  it("give RDMSR a value the processor does not have", () => {
    const machine = machineWith("protected", ...RDMSR, HLT);
    machine.onRdmsr((index) => (index === 0x40000000 ? 0x1234_5678_9abc_def0n : undefined));
    machine.registers.rcx = 0x40000000;
    expect(machine.run().reason).toBe("halt");
    expect(machine.registers.rdx).toBe(0x1234_5678n);
    expect(machine.registers.rax).toBe(0x9abc_def0n);
  });

  it("take a write", () => {
    const machine = machineWith("protected", ...WRMSR, HLT);
    const hook = vi.fn(() => true);
    machine.onWrmsr(hook);
    machine.registers.write({ rcx: 0xc0000081, rax: 0x10, rdx: 1 }); // IA32_STAR
    machine.run();
    expect(hook.mock.calls).toEqual([[0xc0000081, 0x1_0000_0010n]]);
    expect(machine.readMsr(0xc0000081)).toBe(0n);
  });

  it("raise #GP(0)", () => {
    const machine = machineWith("real", ...WRMSR, HLT);
    machine.writeMemory(13 * 4, Uint8Array.of(0x10, 0x7c, 0, 0));
    machine.writeMemory(0x7c10, Uint8Array.of(0x43, HLT)); // inc bx; hlt
    machine.onWrmsr(() => "#GP");
    machine.registers.write({ rcx: 0xc0000081, rbx: 0 });
    machine.run();
    expect(machine.registers.rbx).toBe(1n);
    expect(machine.readMsr(0xc0000081)).toBe(0n);
  });
});

describe("MMIO windows", () => {
  it("answer reads and take writes, with offsets from their start", () => {
    // mov eax, [200010h]; mov [200020h], ax; hlt
    const code = [0xa1, 0x10, 0x00, 0x50, 0x00, 0x66, 0xa3, 0x20, 0x00, 0x50, 0x00, HLT];
    const machine = machineWith("protected", ...code);
    const writes: unknown[] = [];
    machine.map({
      kind: "mmio",
      address: 0x500000,
      size: 4096,
      read: (offset, size) => offset * 0x10000 + size,
      write: (offset, size, value) => writes.push([offset, size, value]),
    });
    expect(machine.run().reason).toBe("halt");
    expect(machine.registers.rax).toBe(0x10_0004n);
    expect(writes).toEqual([[0x20, 2, 4n]]);
  });

  it("ROM ignores what the guest writes", () => {
    // mov [500000h], al; mov al, [500000h]; hlt
    const machine = machineWith("protected", 0xa2, 0, 0, 0x50, 0, 0xa0, 0, 0, 0x50, 0, HLT);
    machine.map({ kind: "rom", address: 0x500000, size: 4096, data: Uint8Array.of(0x77) });
    machine.registers.rax = 0x11;
    machine.run();
    expect(machine.registers.rax).toBe(0x77n);
  });
});

describe("callbacks", () => {
  it("that throw stop the machine before the instruction, which can run again", () => {
    const machine = machineWith("real", 0xb0, 0x2a, 0xe6, 0x80, HLT);
    const error = new Error("not now");
    let fail = true;
    const taken: number[] = [];
    machine.onPortOut(0x80, (_port, value) => {
      if (fail) throw error;
      taken.push(value);
    });
    expect(() => machine.run()).toThrow(error);
    expect(machine.registers.rip).toBe(0x7c02n);
    expect(machine.instructionCount).toBe(1n);
    fail = false;
    expect(machine.run()).toEqual({ reason: "halt", instructions: 2 });
    expect(taken).toEqual([0x2a]);
  });

  it("may not run, step, map, reset or dispose", () => {
    const machine = machineWith("real", 0xe6, 0x80, HLT);
    const attempts = [
      () => machine.run(),
      () => machine.step(),
      () => machine.map({ kind: "ram", address: 0x1000_0000, size: 4096 }),
      () => machine.unmap(0),
      () => machine.reset(),
      () => machine.dispose(),
    ];
    const hook = vi.fn(() => {
      for (const attempt of attempts) expect(attempt).toThrow(StateError);
    });
    machine.onPortOut(0x80, hook);
    expect(machine.run().reason).toBe("halt");
    expect(hook).toHaveBeenCalledOnce();
  });

  it("may read and write registers and memory, which the guest sees", () => {
    const machine = machineWith("real", 0xe6, 0x80, 0xa0, 0x00, 0x05, HLT); // out 80h, al; mov al, [500h]; hlt
    machine.onPortOut(0x80, () => {
      machine.writeMemory(0x500, Uint8Array.of(0x99));
      machine.registers.rbx = 0x1234;
    });
    machine.run();
    expect(machine.registers.rax & 0xffn).toBe(0x99n);
    expect(machine.registers.rbx).toBe(0x1234n);
  });

  it("must be functions", () => {
    const machine = machineWith("real", HLT);
    expect(() => machine.onCpuid({} as never)).toThrow(TypeError);
    expect(() => machine.onPortIn(1, undefined as never)).toThrow(TypeError);
  });
});

describe("hooks that are not set", () => {
  it("leave no bit in the processor", () => {
    const core = new Core(1);
    expect(core.read32(HOOKS)).toBe(0);
    core.setHandler("cpuid", () => false);
    expect(core.read32(HOOKS)).not.toBe(0);
    core.setHandler("cpuid", undefined);
    expect(core.read32(HOOKS)).toBe(0);
  });
});
