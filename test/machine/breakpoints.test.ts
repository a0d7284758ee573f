import { describe, expect, it } from "vitest";
import type { Machine } from "../../src/index.ts";
import { generator } from "../jit/lockstep.ts";
import { GUESTS, guestNamed, loadGuest } from "./fixtureGuests.ts";
import { machineWith } from "./program.ts";

/** l: inc eax; inc ebx; jmp l */
const LOOP = [0x40, 0x43, 0xeb, 0xfc];

/** Linear addresses of the next `steps` instructions, by stepping. */
function trace(machine: Machine, steps: number): bigint[] {
  const seen: bigint[] = [];
  for (let i = 0; i < steps; i++) {
    const { cs, rip } = machine.registers;
    seen.push(machine.codeMode === 64 ? rip : (cs.base + rip) & 0xffff_ffffn);
    if (machine.step().reason !== "instructions") break;
  }
  return seen;
}

describe("breakpoints", () => {
  it("stop before the instruction, go on with it, and stop again", () => {
    const machine = machineWith("protected", ...LOOP);
    const { id } = machine.addBreakpoint(0x100001);
    expect(machine.run()).toEqual({ reason: "breakpoint", instructions: 1, address: 0x100001n, ids: [id] });
    expect(machine.registers.rbx).toBe(0n);
    expect(machine.run()).toEqual({ reason: "breakpoint", instructions: 3, address: 0x100001n, ids: [id] });
    expect(machine.step()).toEqual({ reason: "instructions", instructions: 1 });
    expect(machine.registers.rbx).toBe(2n);
  });

  it("stop at once where the processor stands, once", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.addBreakpoint(0x100000);
    expect(machine.run({ maxInstructions: 10 })).toMatchObject({ reason: "breakpoint", instructions: 0 });
    expect(machine.run({ maxInstructions: 10 })).toMatchObject({ reason: "breakpoint", instructions: 3 });
  });

  it("can be set and removed on code that is hot", () => {
    const machine = machineWith("protected", ...LOOP);
    machine.run({ maxInstructions: 3_000_000 });
    const breakpoint = machine.addBreakpoint(0x100002);
    expect(machine.run({ maxInstructions: 10 })).toMatchObject({ reason: "breakpoint", instructions: 2 });
    expect(machine.removeBreakpoint(breakpoint)).toBe(true);
    expect(machine.removeBreakpoint(breakpoint)).toBe(false);
    expect(machine.run({ maxInstructions: 3_000_000 })).toEqual({ reason: "instructions", instructions: 3_000_000 });
    expect(machine.breakpoints).toEqual([]);
  });

  it("work by physical address, wherever the page is mapped", () => {
    const { machine } = loadGuest(guestNamed("sha256-64"), 1);
    machine.run({ maxInstructions: 5000 });
    const linear = machine.registers.rip;
    const physical = machine.translate(linear, "execute")!;
    const stepped = loadGuest(guestNamed("sha256-64"), 0).machine;
    stepped.run({ maxInstructions: 5000 });
    const later = trace(stepped, 4000);
    const target = later[100]!;
    machine.addBreakpoint(physical + (target - linear), { space: "physical" });
    expect(machine.run()).toMatchObject({ reason: "breakpoint", instructions: later.indexOf(target), address: target });
  });

  it("are met inside the second page of a region and after far jumps between modes", () => {
    for (const name of ["modes", "isa-16"]) {
      const places = trace(loadGuest(guestNamed(name), 0).machine, 3000);
      const { machine } = loadGuest(guestNamed(name), 1);
      const target = places[places.length - 2]!;
      machine.addBreakpoint(target);
      expect(machine.run()).toMatchObject({ reason: "breakpoint", instructions: places.indexOf(target) });
    }
  });

  const names = GUESTS.map(({ name }) => name).filter((name) => name !== "spin" && name !== "rep-forever");
  it.each(names)("stop where stepping would see them, with generated code: %s", (name) => {
    const places = trace(loadGuest(guestNamed(name), 0).machine, 6000);
    const random = generator(name.length * 77);
    const chosen = new Set(Array.from({ length: 4 }, () => places[random(places.length)]!));
    const expected = places.flatMap((place, i) => (chosen.has(place) ? [i] : [])).slice(0, 300);
    for (const jit of [0, 1]) {
      const { machine } = loadGuest(guestNamed(name), jit);
      for (const place of chosen) machine.addBreakpoint(place);
      const stops: number[] = [];
      while (stops.length < expected.length) {
        const exit = machine.run({ maxInstructions: 10_000 });
        if (exit.reason !== "breakpoint") break;
        stops.push(Number(machine.instructionCount));
      }
      expect(stops, `jit ${jit}`).toEqual(expected);
    }
  });

  it("at 600 places are too many, and the machine says how many fit", () => {
    const machine = machineWith("protected", ...LOOP);
    for (let i = 0; i < 512; i++) machine.addBreakpoint(0x200000 + i * 16);
    expect(() => machine.addBreakpoint(0x300000)).toThrow(/at most 512 separate ranges/);
    expect(machine.run({ maxInstructions: 100 }).reason).toBe("instructions");
  });

  it.each([-1, 2n ** 64n, 1.5, "0x7c00"])("refuse address %s", (address) => {
    expect(() => machineWith("real", 0xf4).addBreakpoint(address as number)).toThrow(/address must be/);
  });
});

describe("run until", () => {
  it("ends before the instruction and leaves nothing behind", () => {
    const machine = machineWith("protected", ...LOOP);
    for (let i = 1; i < 4; i++) {
      const exit = machine.run({ until: 0x100002 });
      expect(exit).toEqual({ reason: "until", instructions: i === 1 ? 2 : 3, address: 0x100002n });
    }
    expect(machine.run({ maxInstructions: 100_000 }).reason).toBe("instructions");
    expect(machine.run({ until: [0x100000n, 0x100001] })).toMatchObject({ reason: "until" });
  });

  it("counts the limit over a forgotten address", async () => {
    const machine = machineWith("protected", ...LOOP);
    machine.run({ until: 0x100001 });
    expect(machine.run({ maxInstructions: 1000 })).toEqual({ reason: "instructions", instructions: 1000 });
    expect(await machine.runAsync({ until: 0x100001 })).toMatchObject({ reason: "until", address: 0x100001n });
  });
});

describe("watchpoints", () => {
  // l: inc dword [200000h]; mov al, [200002h]; jmp l
  const program = [0xff, 0x05, 0, 0, 0x20, 0, 0xa0, 2, 0, 0x20, 0, 0xeb, 0xf3];

  it.each([0, 1])("stop after the write with its address, old and new value (jit %i)", (jit) => {
    const machine = machineWith("protected", ...program);
    if (jit) machine.run({ maxInstructions: 3_000_000 });
    const before = BigInt(new DataView(machine.readMemory(0x200000, 4).buffer).getUint32(0, true));
    const { id } = machine.addWatchpoint(0x200001, { size: 2 });
    const exit = machine.run();
    expect(exit).toMatchObject({
      reason: "watchpoint",
      instructions: 1,
      address: 0x200000n,
      physical: 0x200000n,
      size: 4,
      access: "write",
      before,
      after: before + 1n,
    });
    expect(exit.reason === "watchpoint" && exit.hits.map((hit) => hit.ids)).toEqual([[id]]);
    expect(machine.registers.rip).toBe(0x100006n);
    expect(machine.run()).toMatchObject({ reason: "watchpoint", instructions: 3, before: before + 1n });
  });

  it("tell reads from writes", () => {
    const machine = machineWith("protected", ...program);
    machine.addWatchpoint(0x200002, { access: "read" });
    // the increment reads it too
    expect(machine.run()).toMatchObject({ reason: "watchpoint", instructions: 1, access: "read", size: 4, before: 0n });
    expect(machine.run()).toMatchObject({ reason: "watchpoint", instructions: 1, access: "read", size: 1 });
  });

  it("see every iteration of a REP, and let it go on", () => {
    // mov edi, 200000h; mov ecx, 100; mov al, 7; rep stosb; hlt
    const machine = machineWith("protected", 0xbf, 0, 0, 0x20, 0, 0xb9, 100, 0, 0, 0, 0xb0, 7, 0xf3, 0xaa, 0xf4);
    machine.addWatchpoint(0x200010, { size: 3 });
    const rcx: bigint[] = [];
    for (;;) {
      const exit = machine.run();
      if (exit.reason !== "watchpoint") break;
      rcx.push(machine.registers.rcx);
      expect(machine.registers.rip).toBe(0x10000cn);
    }
    expect(rcx).toEqual([83n, 82n, 81n]);
    expect(machine.readMemory(0x200000, 101)).toEqual(Uint8Array.from({ length: 101 }, (_, i) => (i < 100 ? 7 : 0)));
  });

  it("see the frame that an interrupt pushes", () => {
    const machine = machineWith("real", 0xcd, 0x40, 0xf4); // int 40h
    machine.writeMemory(0x40 * 4, Uint8Array.of(0x10, 0x7c, 0, 0));
    machine.writeMemory(0x7c10, Uint8Array.of(0xf4));
    machine.addWatchpoint(machine.registers.rsp - 2n, { size: 2 });
    const exit = machine.run();
    expect(exit).toMatchObject({
      reason: "watchpoint",
      access: "write",
      after: 2n,
    });
  });

  it("do not see an instruction that faults", () => {
    // mov eax, 200000h; xchg [eax], ecx with a limit below it -> #GP -> triple fault
    const machine = machineWith("protected", 0x87, 0x0d, 0, 0, 0x20, 0, 0xf4);
    machine.registers.write({ ds: { limit: 0xfff, attributes: 0x4093 }, idtr: { limit: 0 } });
    machine.addWatchpoint(0x200000, { access: "access", size: 4 });
    expect(machine.run({ maxInstructions: 5 }).reason).toBe("shutdown");
  });

  const cases = ["sha256-32", "sha256-64", "modes", "boot-sector", "cpuid-fault-64"];
  it.each(cases)("see every change that stepping sees, in both tiers alike: %s", (name) => {
    const stepped = loadGuest(guestNamed(name), 0).machine;
    const memory = 16 << 20;
    const random = generator(name.length);
    // a place near the stack pointer after a while
    stepped.run({ maxInstructions: 3000 });
    const { ss, rsp } = stepped.registers;
    const place = Number((ss.base + rsp) & 0xff_ffffn) - 8 - 4 * random(8);
    const reference = loadGuest(guestNamed(name), 0).machine;
    const changes: number[] = [];
    let old = reference.readMemory(place, 4);
    for (let i = 0; i < 6000; i++) {
      if (reference.step().reason !== "instructions") break;
      const now = reference.readMemory(place, 4);
      if (Buffer.compare(old, now)) changes.push(Number(reference.instructionCount));
      old = now;
    }
    const logs = [0, 1].map((jit) => {
      const { machine } = loadGuest(guestNamed(name), jit, memory);
      machine.addWatchpoint(place, { size: 4, space: "physical" });
      const log: string[] = [];
      const changed: number[] = [];
      while (machine.instructionCount < 6000n) {
        const exit = machine.run({ maxInstructions: 6000 - Number(machine.instructionCount) });
        if (exit.reason !== "watchpoint") break;
        log.push(`${machine.instructionCount} ${exit.address.toString(16)} ${exit.before} ${exit.after}`);
        if (exit.hits.some((hit) => hit.before !== hit.after)) changed.push(Number(machine.instructionCount));
      }
      for (const at of changes) expect(changed).toContain(at);
      return log;
    });
    expect(logs[1]).toEqual(logs[0]);
  });
});

describe("permissions", () => {
  it("end the run before the access, which had no effect", () => {
    // mov al, [200000h]; mov [200000h], al; hlt
    const machine = machineWith("protected", 0xa0, 0, 0, 0x20, 0, 0xa2, 0, 0, 0x20, 0, 0xf4);
    machine.protect(0x200000, 4096, { read: true, execute: true });
    expect(machine.run()).toEqual({
      reason: "denied",
      instructions: 1,
      rip: 0x100005n,
      address: 0x200000n,
      physical: 0x200000n,
      size: 1,
      access: "write",
    });
    machine.protect(0x200000, 4096, { write: true });
    expect(machine.run().reason).toBe("halt");
    machine.registers.rip = 0x100000;
    expect(machine.run()).toMatchObject({ reason: "denied", access: "read", rip: 0x100000n });
  });

  it("hold for the fetch of code", () => {
    const machine = machineWith("protected", 0xe9, 0xfb, 0xff, 0x0f, 0x00); // jmp 200000h
    machine.protect(0x200000, 16, { read: true, write: true });
    expect(machine.run()).toMatchObject({ reason: "denied", access: "execute", rip: 0x200000n, instructions: 1 });
  });

  it("may come with a region, and go with it", () => {
    const machine = machineWith("protected", 0xa2, 0, 0, 0x50, 0, 0xf4); // mov [500000h], al
    machine.map({ kind: "ram", address: 0x500000, size: 4096, permissions: { read: true } });
    expect(machine.run()).toMatchObject({ reason: "denied", access: "write" });
    machine.unmap(0x500000);
    machine.map({ kind: "ram", address: 0x500000, size: 4096 });
    expect(machine.run().reason).toBe("halt");
  });
});

describe("virtual memory", () => {
  it("is read and written through the page tables", () => {
    const { machine } = loadGuest(guestNamed("sha256-64"), 0);
    const at = machine.registers.rip;
    expect(machine.readVirtual(at, 64)).toEqual(machine.readMemory(machine.translate(at, "execute")!, 64));
    machine.writeVirtual(
      0x200ff0n,
      Uint8Array.from({ length: 32 }, (_, i) => i),
    );
    expect(machine.readMemory(machine.translate(0x201000)!, 2)).toEqual(Uint8Array.of(16, 17));
    expect(() => machine.readVirtual(0x7fff_ffff_f000n, 8)).toThrow(/no page is mapped at 0x7ffffffff000/);
  });
});
