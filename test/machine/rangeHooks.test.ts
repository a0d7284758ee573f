import { describe, expect, it, vi } from "vitest";
import type { GuestEvent } from "../../src/index.ts";
import { guestNamed, loadGuest } from "./fixtureGuests.ts";
import { machineWith } from "./program.ts";

const HLT = 0xf4;
/** l: inc eax; inc ebx; jmp l */
const LOOP = [0x40, 0x43, 0xeb, 0xfc];
const HOT = 3_000_000;

describe("code hooks", () => {
  it("come before every instruction of the range, also in hot code, and none elsewhere", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.run({ maxInstructions: HOT });
    const seen: bigint[] = [];
    const remove = machine.onCode({ address: 0x100001, size: 2 }, (address) => {
      expect(machine.registers.rip).toBe(address);
      seen.push(address, machine.instructionCount);
    });
    machine.run({ maxInstructions: 4 });
    expect(seen).toEqual([0x100001n, BigInt(HOT + 1), 0x100002n, BigInt(HOT + 2)]);
    remove();
    machine.run({ maxInstructions: HOT });
    expect(seen.length).toBe(4);
  });

  it("may put another instruction in the place", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.onCode(0x100001, () => {
      machine.registers.rip = 0x100002;
    });
    machine.run({ maxInstructions: 100 });
    expect([machine.registers.rax, machine.registers.rbx]).toEqual([50n, 0n]);
  });

  it("may change registers and code that the instruction uses", () => {
    const machine = machineWith("protected", 0xb0, 0x01, HLT); // mov al, 1
    machine.onCode(0x100000, () => machine.writeMemory(0x100001, Uint8Array.of(0x42)));
    machine.run();
    expect(machine.registers.rax & 0xffn).toBe(0x42n);
  });

  it("may stop the run before the instruction", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.onCode(0x100002, () => "stop");
    expect(machine.run()).toEqual({ reason: "stopped", instructions: 2 });
    expect(machine.registers.rip).toBe(0x100002n);
  });

  it("that throw stop before the instruction, which can run again", () => {
    const machine = machineWith("protected", ...LOOP);
    const remove = machine.onCode(0x100001, () => {
      throw new Error("no");
    });
    expect(() => machine.run()).toThrow("no");
    expect(machine.instructionCount).toBe(1n);
    remove();
    machine.run({ maxInstructions: 1 });
    expect(machine.registers.rbx).toBe(1n);
  });

  it("ask about a REP once", () => {
    const machine = machineWith("protected", 0xbf, 0, 0, 0x20, 0, 0xb9, 0, 16, 0, 0, 0xf3, 0xaa, HLT); // rep stosb, 4096
    const hook = vi.fn();
    machine.onCode(0x10000a, hook);
    let exit = machine.run({ maxWork: 3 });
    while (exit.reason === "slice") exit = machine.run({ maxWork: 3 });
    expect(exit.reason).toBe("halt");
    expect(hook).toHaveBeenCalledOnce();
  });

  it("on blocks come where control arrives, not inside", () => {
    // mov ecx, 3; nop; l: nop; nop; loop l; nop; hlt
    const machine = machineWith("protected", 0xb9, 3, 0, 0, 0, 0x90, 0x90, 0x90, 0xe2, 0xfc, 0x90, HLT);
    const seen: number[] = [];
    machine.onBlock({ address: 0x100000, size: 0x100 }, (address) => void seen.push(Number(address - 0x100000n)));
    machine.run();
    expect(seen).toEqual([0, 6, 6, 10]);
  });
});

describe("memory hooks", () => {
  // mov eax, [200000h]; mov [200010h], eax; hlt
  const COPY = [0xa1, 0, 0, 0x20, 0, 0xa3, 0x10, 0, 0x20, 0, HLT];

  it.each([0, 1])("give a read its value and see a write's (jit %i)", (jit) => {
    const machine = machineWith("protected", ...COPY);
    for (let i = 0; i < 2000 * jit; i++) {
      machine.run();
      machine.registers.rip = 0x100000;
    }
    const accesses: unknown[] = [];
    machine.onRead({ address: 0x200000, size: 4 }, (access) => {
      accesses.push(access);
      return 0x1234_5678;
    });
    machine.onWrite({ address: 0x200012, size: 1 }, (access) => void accesses.push(access));
    expect(machine.run().reason).toBe("halt");
    expect(accesses).toEqual([
      { address: 0x200000n, physical: 0x200000n, size: 4 },
      { address: 0x200010n, physical: 0x200010n, size: 4, value: 0x1234_5678n },
    ]);
    expect(machine.readMemory(0x200010, 4)).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12));
  });

  it("replace or suppress a write", () => {
    const machine = machineWith("protected", ...COPY);
    machine.writeMemory(0x200000, Uint8Array.of(1, 2, 3, 4));
    const remove = machine.onWrite(0x200010, ({ value }) => value ^ 0xffn);
    machine.run();
    expect(machine.readMemory(0x200010, 4)).toEqual(Uint8Array.of(0xfe, 2, 3, 4));
    remove();
    machine.onWrite(0x200010, () => false);
    machine.writeMemory(0x200000, Uint8Array.of(9));
    machine.registers.rip = 0x100000;
    machine.run();
    expect(machine.readMemory(0x200010, 4)).toEqual(Uint8Array.of(0xfe, 2, 3, 4));
  });

  it("give the read of a read-modify-write its value", () => {
    const machine = machineWith("protected", 0xff, 0x05, 0, 0, 0x20, 0, HLT); // inc dword [200000h]
    machine.onRead(0x200000, () => 41);
    machine.run();
    expect(machine.readMemory(0x200000, 4)).toEqual(Uint8Array.of(42, 0, 0, 0));
  });

  it("work by physical address through page tables", () => {
    const { machine } = loadGuest(guestNamed("sha256-64"), 1);
    machine.run({ maxInstructions: 2000 });
    const stack = machine.translate(machine.registers.rsp - 8n)! & ~0xfffn;
    let calls = 0;
    machine.onWrite({ address: stack, size: 0x1000, space: "physical" }, ({ physical, address }) => {
      expect(machine.translate(address)).toBe(physical);
      calls++;
    });
    machine.run({ maxInstructions: 5000 });
    expect(calls).toBeGreaterThan(0);
  });

  it("refuse a value that does not fit", () => {
    const machine = machineWith("protected", ...COPY);
    machine.onRead(0x200000, () => 2n ** 32n);
    expect(() => machine.run()).toThrow(/value of a read hook must fit 4 bytes/);
    expect(machine.registers.rip).toBe(0x100000n);
  });

  it("over MMIO windows come before the window's own callbacks", () => {
    const machine = machineWith("protected", 0xa1, 0, 0, 0x50, 0, 0xa3, 4, 0, 0x50, 0, HLT);
    const written: bigint[] = [];
    machine.map({
      kind: "mmio",
      address: 0x500000,
      size: 4096,
      read: () => 1,
      write: (_offset, _size, value) => void written.push(value),
    });
    machine.onMmio({ address: 0x500000, size: 4 }, { read: () => 77 });
    machine.run();
    expect(written).toEqual([77n]);
  });
});

describe("event hooks", () => {
  it("see an exception before its delivery and may take it", () => {
    const machine = machineWith("protected", 0x0f, 0x0b, 0x40, HLT); // ud2; inc eax; hlt
    const events: GuestEvent[] = [];
    machine.onEvent([0, 31], (event) => {
      events.push(event);
      machine.registers.rip += 2n;
      return true;
    });
    expect(machine.run().reason).toBe("halt");
    expect(events).toEqual([{ vector: 6, kind: "exception", errorCode: undefined, address: undefined }]);
    expect(machine.registers.rax).toBe(1n);
  });

  it("give page faults their address and error code; the guest's handler runs when the hook does not take them", () => {
    const { machine } = loadGuest(guestNamed("isa-32"), 0);
    const seen: GuestEvent[] = [];
    machine.onEvent([0, 255], (event) => void seen.push(event));
    machine.run({ maxInstructions: 100_000 });
    const plain = loadGuest(guestNamed("isa-32"), 0).machine;
    plain.run({ maxInstructions: 100_000 });
    expect(machine.registers.read()).toEqual(plain.registers.read());
  });

  it("step over INT n that they take", () => {
    const machine = machineWith("real", 0xcd, 0x21, 0x40, HLT); // int 21h; inc ax; hlt
    machine.onEvent(0x21, ({ kind }) => {
      expect(kind).toBe("softwareInterrupt");
      machine.registers.rbx = 5;
      return true;
    });
    expect(machine.run()).toEqual({ reason: "halt", instructions: 3 });
    expect([machine.registers.rax, machine.registers.rbx]).toEqual([1n, 5n]);
  });

  it("that throw keep an interrupt for the next run", () => {
    const machine = machineWith("real", 0xfb, 0x90, 0xeb, 0xfe); // sti; nop; jmp $
    machine.writeMemory(0x40 * 4, Uint8Array.of(0x10, 0x7c, 0, 0));
    machine.writeMemory(0x7c10, Uint8Array.of(HLT));
    const remove = machine.onEvent(0x40, () => {
      throw new Error("later");
    });
    machine.interrupt(0x40);
    expect(() => machine.run()).toThrow("later");
    remove();
    expect(machine.run().reason).toBe("halt");
  });
});

describe("instruction hooks", () => {
  it("carry out VMCALL", () => {
    const machine = machineWith("protected", 0x0f, 0x01, 0xc1, 0x40, HLT); // vmcall; inc eax; hlt
    machine.onVmcall(() => {
      expect(machine.registers.rip).toBe(0x100000n);
      machine.registers.rax = 0x99;
      return true;
    });
    expect(machine.run()).toEqual({ reason: "halt", instructions: 3 });
    expect(machine.registers.rax).toBe(0x9an);
  });

  it("answer RDTSC and RDTSCP", () => {
    const machine = machineWith("protected", 0x0f, 0x31, HLT);
    machine.onRdtsc(() => 0x1_0000_0002n);
    machine.run();
    expect([machine.registers.rdx, machine.registers.rax]).toEqual([1n, 2n]);
  });

  it("carry out opcodes that the processor does not know", () => {
    const machine = machineWith("protected", 0x0f, 0x0a, 0x07, 0x40, HLT); // an undefined opcode with a byte of ours
    machine.onInvalidOpcode(({ bytes }) => {
      if (bytes[0] !== 0x0f || bytes[1] !== 0x0a) return undefined;
      machine.registers.rbx = bytes[2]!;
      return 3;
    });
    expect(machine.run()).toEqual({ reason: "halt", instructions: 3 });
    expect([machine.registers.rax, machine.registers.rbx]).toEqual([1n, 7n]);
  });

  it("see VM entries and exits of a guest hypervisor, and change nothing by looking", () => {
    const { machine, console } = loadGuest(guestNamed("hypervisor"), 0);
    let entries = 0;
    const reasons = new Map<number, number>();
    machine.onVmEntry(() => void entries++);
    machine.onVmExit(({ reason }) => void reasons.set(reason, (reasons.get(reason) ?? 0) + 1));
    machine.run({ maxInstructions: 1_000_000 });
    const plain = loadGuest(guestNamed("hypervisor"), 0);
    plain.machine.run({ maxInstructions: 1_000_000 });
    expect(console).toEqual(plain.console);
    expect(entries).toBeGreaterThan(3);
    expect(reasons.get(10)).toBeGreaterThan(0); // CPUID, SDM 3D appendix C
  });

  it("of CPUID and MSRs may be for a range of indices", () => {
    const machine = machineWith("protected", 0x0f, 0xa2, 0x0f, 0xa2, HLT);
    const hook = vi.fn(() => ({ eax: 0x4000_0001 }));
    machine.onCpuid([0x4000_0000, 0x4000_00ff], hook);
    machine.registers.rax = 0x4000_0000;
    machine.step();
    machine.registers.rax = 1;
    machine.step();
    expect(hook).toHaveBeenCalledOnce();
  });
});
