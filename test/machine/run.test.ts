import { describe, expect, it } from "vitest";
import { StateError } from "../../src/index.ts";
import { machineWith } from "./program.ts";

const JMP_SELF = [0xeb, 0xfe];

describe("run", () => {
  it.each([0, 1, 2, 7, 19_999, 20_001, 1_234_567])("stops after exactly %i instructions", (n) => {
    const machine = machineWith("protected", 0x40, 0xeb, 0xfd); // l: inc eax; jmp l
    expect(machine.run({ maxInstructions: n })).toEqual({ reason: "instructions", instructions: n });
    expect(machine.registers.rax).toBe(BigInt(Math.ceil(n / 2)));
    expect(machine.registers.rip).toBe(n % 2 ? 0x100001n : 0x100000n);
    expect(machine.instructionCount).toBe(BigInt(n));
  });

  it("goes on where it stopped", () => {
    const machine = machineWith("protected", 0x40, 0xeb, 0xfd);
    for (let i = 0; i < 100; i++) machine.run({ maxInstructions: 3 });
    expect(machine.registers.rax).toBe(150n);
  });

  it("returns slice at the work bound, whatever the guest does", () => {
    const machine = machineWith("real", ...JMP_SELF);
    const exit = machine.run({ maxWork: 50_000 });
    expect(exit.reason).toBe("slice");
    expect(exit.instructions).toBeGreaterThanOrEqual(50_000);
    expect(exit.instructions).toBeLessThan(60_000);
  });

  it("returns halt after HLT", () => {
    const machine = machineWith("real", 0x90, 0xf4);
    expect(machine.run()).toEqual({ reason: "halt", instructions: 2 });
    expect(machine.registers.rip).toBe(0x7c02n);
  });

  it("returns shutdown at a triple fault", () => {
    const machine = machineWith("real", 0x0f, 0x0b); // ud2
    machine.registers.idtr = { limit: 0 };
    expect(machine.run({ maxInstructions: 100 })).toMatchObject({ reason: "shutdown" });
  });

  it("executes what the host writes over code that ran", () => {
    const machine = machineWith("real", 0xb0, 0x01, 0xf4); // mov al, 1; hlt
    machine.run();
    machine.writeMemory(0x7c01, Uint8Array.of(0x02));
    machine.registers.rip = 0x7c00;
    machine.run();
    expect(machine.registers.rax & 0xffn).toBe(2n);
  });

  it.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, "10", 10n, null])(
    "refuses %s as maxInstructions",
    (maxInstructions) => {
      const machine = machineWith("real", ...JMP_SELF);
      expect(() => machine.run({ maxInstructions: maxInstructions as number })).toThrow(/maxInstructions must be/);
      expect(machine.instructionCount).toBe(0n);
    },
  );
});

describe("step", () => {
  it("executes one instruction", () => {
    const machine = machineWith("real", 0xb8, 0x34, 0x12, 0x40, 0xf4); // mov ax, 1234h; inc ax; hlt
    expect(machine.step()).toEqual({ reason: "instructions", instructions: 1 });
    expect(machine.registers.rip).toBe(0x7c03n);
    machine.step();
    expect(machine.registers.rax).toBe(0x1235n);
  });
});

describe("stop", () => {
  it("ends run() after the instruction that called back", () => {
    const machine = machineWith("real", 0xe6, 0x80, 0x40, 0xf4); // out 80h, al; inc ax; hlt
    machine.onPortOut(0x80, () => machine.stop());
    expect(machine.run()).toEqual({ reason: "stopped", instructions: 1 });
    expect(machine.registers.rip).toBe(0x7c02n);
    expect(machine.run()).toEqual({ reason: "halt", instructions: 2 });
  });

  it("wins over a limit reached by the same instruction", () => {
    const machine = machineWith("real", 0xe6, 0x80, 0xf4);
    machine.onPortOut(0x80, () => machine.stop());
    expect(machine.run({ maxInstructions: 1 }).reason).toBe("stopped");
  });

  it("is for callbacks only", () => {
    expect(() => machineWith("real", 0xf4).stop()).toThrow(StateError);
  });
});

describe("interrupts", () => {
  // IVT entry 40h -> 0000:7C10, where `inc bx; hlt` stands; sti; nop; jmp $
  const program = [0xfb, 0x90, ...JMP_SELF];
  const withHandler = (vector: number) => {
    const machine = machineWith("real", ...program);
    machine.writeMemory(vector * 4, Uint8Array.of(0x10, 0x7c, 0, 0));
    machine.writeMemory(0x7c10, Uint8Array.of(0x43, 0xf4));
    return machine;
  };

  it("wait for IF and the instruction after STI", () => {
    const machine = withHandler(0x40);
    machine.interrupt(0x40);
    machine.run({ maxInstructions: 2 });
    expect(machine.registers.rip).toBe(0x7c02n);
    expect(machine.step()).toEqual({ reason: "instructions", instructions: 1 });
    expect(machine.registers.rip).toBe(0x7c10n);
    machine.run();
    expect(machine.registers.rbx).toBe(1n);
    // the return address that delivery pushed
    expect(machine.readMemory(machine.registers.rsp, 2)).toEqual(Uint8Array.of(0x02, 0x7c));
  });

  it("wake a halted processor", () => {
    const machine = withHandler(0x40);
    machine.writeMemory(0x7c02, Uint8Array.of(0xf4));
    expect(machine.run().reason).toBe("halt");
    machine.interrupt(0x40);
    expect(machine.run().reason).toBe("halt");
    expect(machine.registers.rbx).toBe(1n);
  });

  it("NMI needs no IF", () => {
    const machine = withHandler(2);
    machine.nmi();
    expect(machine.run({ maxInstructions: 10 }).reason).toBe("halt");
    expect(machine.registers.rbx).toBe(1n);
  });

  it.each([-1, 256, 1.5, "3"])("refuse vector %s", (vector) => {
    const machine = machineWith("real", 0xf4);
    expect(() => machine.interrupt(vector as number)).toThrow(/vector must be/);
  });
});

describe("runAsync", () => {
  it("stops after exactly the instructions asked for, over many slices", async () => {
    const machine = machineWith("protected", 0x40, 0xeb, 0xfd);
    const exit = await machine.runAsync({ maxInstructions: 3_000_001, sliceMs: 1 });
    expect(exit).toEqual({ reason: "instructions", instructions: 3_000_001 });
    expect(machine.registers.rax).toBe(1_500_001n);
  });

  it("lets the event loop turn and stops when aborted", async () => {
    const machine = machineWith("real", ...JMP_SELF);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 30);
    const exit = await machine.runAsync({ signal: controller.signal });
    expect(exit.reason).toBe("aborted");
    expect(exit.instructions).toBeGreaterThan(0);
    expect(machine.step().reason).toBe("instructions");
  });

  it("runs nothing when the signal is aborted already", async () => {
    const machine = machineWith("real", ...JMP_SELF);
    expect(await machine.runAsync({ signal: AbortSignal.abort() })).toEqual({ reason: "aborted", instructions: 0 });
  });

  it("rejects with what a callback throws", async () => {
    const machine = machineWith("real", 0xe6, 0x80, 0xf4);
    machine.onPortOut(0x80, () => {
      throw new Error("from the callback");
    });
    await expect(machine.runAsync()).rejects.toThrow("from the callback");
  });
});
