import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { Machine } from "../../src/index.ts";
import { generator } from "../jit/lockstep.ts";
import { GUESTS, guestNamed, loadGuest } from "../machine/fixtureGuests.ts";
import { catchError, machineWith } from "../machine/program.ts";

/** l: inc eax; inc ebx; jmp l */
const LOOP = [0x40, 0x43, 0xeb, 0xfc];

function stateOf(machine: Machine) {
  const memory = createHash("sha1").update(machine.readMemory(0, machine.ramSize)).digest("hex");
  return { count: machine.instructionCount, registers: machine.registers.read(), memory };
}

describe("going back", () => {
  it("gives the registers and memory that were there", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.record({ interval: 1000 });
    machine.run({ maxInstructions: 100_000 });
    machine.rewind(50_001);
    expect(machine.instructionCount).toBe(49_999n);
    expect(machine.registers.rax).toBe(16_667n);
    machine.reverseStep();
    expect(machine.registers.rip).toBe(0x100000n);
    machine.run({ maxInstructions: 100_000 });
    expect(machine.instructionCount).toBe(149_998n);
    machine.seek(3);
    expect(machine.registers.rax).toBe(1n);
  });

  const names = GUESTS.filter(({ name }) => name !== "rep-forever").map(({ name }) => name);
  describe.each([0, 1])("jit %i", (jit) => {
    it.each(names)("to random places, and forth again: %s", (name) => {
      const { machine, console } = loadGuest(guestNamed(name), jit, 8 << 20);
      const random = generator(name.length + jit);
      machine.record({ interval: 3000 });
      const seen: ReturnType<typeof stateOf>[] = [stateOf(machine)];
      for (let i = 0; i < 8; i++) {
        const exit = machine.run({ maxInstructions: 1 + random(4000) });
        seen.push(stateOf(machine));
        if (exit.reason !== "instructions") break;
      }
      const printed = console.length;
      const last = seen[seen.length - 1]!;
      for (let i = 0; i < 6; i++) {
        const there = seen[random(seen.length)]!;
        machine.seek(there.count);
        expect(stateOf(machine)).toEqual(there);
      }
      if (machine.instructionCount < last.count) {
        machine.run({ maxInstructions: Number(last.count - machine.instructionCount) });
      }
      expect(stateOf(machine)).toEqual(last);
      // callbacks were not called again, and are again from here on
      expect(console.length).toBe(printed);
    });
  });

  it("plays what came from outside: interrupts, port input, writes of the caller", () => {
    // sti; l: in al, 60h; add bx, ax; jmp l   with a handler of vector 40h: inc cx; iret
    const machine = machineWith("real", 0xfb, 0xe4, 0x60, 0x01, 0xc3, 0xeb, 0xfa);
    machine.writeMemory(0x40 * 4, Uint8Array.of(0, 0x7d, 0, 0));
    machine.writeMemory(0x7d00, Uint8Array.of(0x41, 0xcf));
    const random = generator(99);
    let asked = 0;
    machine.onPortIn(0x60, () => {
      asked++;
      return random(256);
    });
    machine.record({ interval: 500 });
    const seen: ReturnType<typeof stateOf>[] = [];
    for (let i = 0; i < 40; i++) {
      if (i % 3 === 0) machine.interrupt(0x40);
      if (i % 7 === 0) machine.registers.rdx = i;
      if (i % 5 === 0) machine.writeMemory(0x9000, Uint8Array.of(i));
      machine.run({ maxInstructions: 1 + random(200) });
      seen.push(stateOf(machine));
    }
    const live = asked;
    for (const i of [39, 3, 20, 21, 0, 38]) {
      machine.seek(seen[i]!.count);
      expect(stateOf(machine)).toEqual(seen[i]);
    }
    machine.seek(seen[10]!.count);
    machine.run({ maxInstructions: Number(seen[39]!.count - seen[10]!.count) });
    expect(stateOf(machine)).toEqual(seen[39]);
    expect(asked).toBe(live);
    machine.run({ maxInstructions: 100 });
    expect(asked).toBeGreaterThan(live);
  });

  it("a change in the past cuts the future off", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.record();
    machine.run({ maxInstructions: 300 });
    machine.rewind(150);
    machine.registers.rax = 1000;
    machine.run({ maxInstructions: 30 });
    expect(machine.registers.rax).toBe(1010n);
    expect(machine.recording).toMatchObject({ from: 0n, to: 180n });
    machine.rewind(31);
    expect(machine.registers.rax).toBe(50n);
    machine.run({ maxInstructions: 31 });
    expect(machine.registers.rax).toBe(1010n);
  });

  it("says how far it reaches", () => {
    const machine = machineWith("protected", ...LOOP);
    expect(() => machine.rewind(1)).toThrow(/call record\(\) before/);
    machine.run({ maxInstructions: 10 });
    machine.record();
    machine.run({ maxInstructions: 10 });
    expect(catchError(() => machine.rewind(11)).message).toBe("the recording holds instruction counts 10 to 20, not 9");
    expect(() => machine.seek(21)).toThrow(RangeError);
  });

  it("keeps within its memory: keyframes are thinned, then the beginning is forgotten", () => {
    // l: inc dword [edi]; add edi, 4096; and edi, 3fffffh; or edi, 200000h; jmp l
    const code = [
      0xff, 0x07, 0x81, 0xc7, 0, 0x10, 0, 0, 0x81, 0xe7, 0xff, 0xff, 0x3f, 0, 0x81, 0xcf, 0, 0, 0x20, 0, 0xeb, 0xea,
    ];
    const machine = machineWith("protected", ...code);
    machine.registers.rdi = 0x200000;
    machine.record({ interval: 100, maxKeyframes: 10 });
    machine.run({ maxInstructions: 20_000 });
    expect(machine.recording!.keyframes).toBeLessThanOrEqual(10);
    expect(machine.recording!.from).toBe(0n);
    machine.seek(777);
    expect(machine.registers.rip).toBe(0x100000n + [0n, 2n, 8n, 14n, 20n][777 % 5]!);
    machine.record({ interval: 100, maxBytes: 3 << 20 });
    machine.run({ maxInstructions: 20_000 });
    expect(machine.recording!.bytes).toBeLessThanOrEqual(3 << 20);
    expect(machine.recording!.from).toBeGreaterThan(777n);
    machine.seek(machine.recording!.from);
  });
});

describe("reverse continue", () => {
  it.each([0, 1])("stops at the last breakpoint before, then at the one before that (jit %i)", (jit) => {
    const { machine } = loadGuest(guestNamed("sha256-32"), jit);
    machine.record({ interval: 2000 });
    machine.run({ maxInstructions: 5000 });
    const place = machine.registers.rip;
    machine.addBreakpoint(place);
    const stops: bigint[] = [];
    while (stops.length < 6) {
      if (machine.run({ maxInstructions: 20_000 }).reason !== "breakpoint") break;
      stops.push(machine.instructionCount);
    }
    expect(stops.length).toBeGreaterThan(2);
    const registers = machine.registers.read();
    for (const expected of stops.slice(0, -1).reverse()) {
      expect(machine.reverseContinue()).toMatchObject({ reason: "breakpoint", address: place });
      expect(machine.instructionCount).toBe(expected);
    }
    while (machine.instructionCount < stops.at(-1)!) {
      expect(machine.run({ maxInstructions: 100_000 }).reason).toBe("breakpoint");
    }
    expect(machine.registers.read()).toEqual(registers);
  });

  it("stops after the last write to a watched place, or at the beginning", () => {
    // mov [200000h], eax; inc eax x3; mov [200000h], eax; inc eax x3; hlt
    const store = [0xa3, 0, 0, 0x20, 0];
    const machine = machineWith("protected", ...store, 0x40, 0x40, 0x40, ...store, 0x40, 0x40, 0x40, 0xf4);
    machine.record();
    machine.run();
    machine.addWatchpoint(0x200000, { size: 4 });
    expect(machine.reverseContinue()).toMatchObject({ reason: "watchpoint", before: 0n, after: 3n, instructions: -4 });
    expect(machine.reverseContinue()).toMatchObject({ reason: "watchpoint", before: 0n, after: 0n, instructions: -4 });
    expect(machine.reverseContinue()).toEqual({ reason: "recordingStart", instructions: -1 });
    expect(machine.instructionCount).toBe(0n);
  });
});
