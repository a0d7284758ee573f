import { describe, expect, it } from "vitest";
import {
  loadImage,
  Machine,
  minimalModel,
  parseFlat,
  type SavedData,
  SnapshotError,
  snapshotFromBytes,
  snapshotToBytes,
} from "../../src/index.ts";
import { catchError, machineWith } from "../machine/program.ts";

/** l: inc dword [200000h]; jmp l */
const COUNTER = [0xff, 0x05, 0, 0, 0x20, 0, 0xeb, 0xf8];

function why(body: () => unknown): { why: string; message: string } {
  const error = catchError(body);
  expect(error).toBeInstanceOf(SnapshotError);
  return { why: (error as SnapshotError).why, message: error.message };
}

describe("snapshots", () => {
  it("share the pages that did not change", () => {
    const machine = machineWith("protected", ...COUNTER);
    const a = machine.snapshot();
    machine.run({ maxInstructions: 1000 });
    const b = machine.snapshot();
    expect([...b.contents[0]!.differences(a.contents[0]!)]).toEqual([0x200]);
    const c = machine.snapshot();
    expect([...c.contents[0]!.differences(b.contents[0]!)]).toEqual([]);
    machine.writeMemory(0x300ffe, Uint8Array.of(1, 2, 3));
    expect([...machine.snapshot().contents[0]!.differences(c.contents[0]!)]).toEqual([0x300, 0x301]);
  });

  it("see the accessed and dirty bits that page walks set", () => {
    // the page tables of a long-mode start are at a fixed place; a first access to another page sets bits in them
    const machine = machineWith("long", 0xa0, 0, 0, 0x60, 0, 0, 0, 0, 0, 0xf4); // mov al, [600000h]; hlt
    const before = machine.snapshot();
    machine.run();
    const after = machine.snapshot();
    const changed = [...after.contents[0]!.differences(before.contents[0]!)];
    expect(changed.length).toBeGreaterThan(0);
    machine.restore(before);
    expect(machine.snapshot().contents[0]!.get(changed[0]!)).toEqual(before.contents[0]!.get(changed[0]!));
  });

  it("of the same state have the same digest, however the machine got there", () => {
    const make = (jit: number) => {
      const machine = new Machine({ memory: 4 << 20, extraMemory: 0, jit });
      loadImage(machine, parseFlat(Uint8Array.from(COUNTER), { mode: "protected" }));
      return machine;
    };
    const machine = make(0);
    const before = machine.snapshot();
    machine.run({ maxInstructions: 5000 });
    const { digest } = machine.snapshot();
    expect(digest).not.toBe(before.digest);
    machine.restore(before);
    while (machine.instructionCount < 5000n) machine.run({ maxInstructions: 100 });
    expect(machine.snapshot().digest).toBe(digest);
    const generated = make(10);
    generated.run({ maxInstructions: 5000 });
    expect(generated.jitStatistics.functions).toBeGreaterThan(0);
    expect(generated.snapshot().digest).toBe(digest);
    const copy = Machine.from(before, { jit: 10 });
    copy.run({ maxInstructions: 5000 });
    expect(copy.snapshot().digest).toBe(digest);
  });

  it("go back and forth", () => {
    const machine = machineWith("protected", ...COUNTER);
    const snapshots = Array.from({ length: 5 }, () => {
      machine.run({ maxInstructions: 1001 });
      return {
        snapshot: machine.snapshot(),
        registers: machine.registers.read(),
        word: machine.readMemory(0x200000, 4),
      };
    });
    for (const i of [3, 0, 4, 1, 1, 2]) {
      const { snapshot, registers, word } = snapshots[i]!;
      machine.restore(snapshot);
      expect(machine.registers.read()).toEqual(registers);
      expect(machine.readMemory(0x200000, 4)).toEqual(word);
      expect(machine.instructionCount).toBe(BigInt(1001 * (i + 1)));
      expect(snapshot.instructionCount).toBe(machine.instructionCount);
      machine.run({ maxInstructions: 77 });
    }
  });

  it("bring back code that was overwritten since", () => {
    const machine = machineWith("protected", 0xb0, 0x01, 0xf4); // mov al, 1; hlt
    const snapshot = machine.snapshot();
    machine.run();
    machine.writeMemory(0x100001, Uint8Array.of(2));
    machine.registers.rip = 0x100000;
    machine.run();
    expect(machine.registers.rax & 0xffn).toBe(2n);
    machine.restore(snapshot);
    machine.run();
    expect(machine.registers.rax & 0xffn).toBe(1n);
  });

  it("hold the state of added parts", () => {
    const make = () => {
      const machine = machineWith("protected", 0xe6, 0x80, 0xe6, 0x80, 0xf4); // out 80h, al; out 80h, al; hlt
      const part = { outs: 0n, save: () => ({ outs: part.outs }), restore: (s: SavedData) => Object.assign(part, s) };
      machine.onPortOut(0x80, () => void part.outs++);
      machine.addState("counter", part);
      return { machine, part };
    };
    const one = make();
    one.machine.step();
    const snapshot = snapshotFromBytes(snapshotToBytes(one.machine.snapshot()));
    const two = make();
    two.machine.restore(snapshot);
    expect(two.part.outs).toBe(1n);
    two.machine.run();
    expect([one.part.outs, two.part.outs]).toEqual([1n, 2n]);
    const bare = machineWith("protected", 0xf4);
    expect(why(() => bare.restore(snapshot))).toMatchObject({ why: "misfit", message: /no part "counter"/ });
    expect(why(() => two.machine.restore(bare.snapshot())).message).toMatch(/no state of "counter"/);
  });
});

describe("bytes of a snapshot", () => {
  it("have the size of the pages that are used", () => {
    const machine = machineWith("protected", ...COUNTER);
    machine.run({ maxInstructions: 10 });
    const snapshot = machine.snapshot();
    const bytes = snapshotToBytes(snapshot);
    expect(bytes.length).toBeLessThan(snapshot.pages * 4096 + 16384);
    expect(snapshotFromBytes(bytes).digest).toBe(snapshot.digest);
  });

  it("can be what changed since another", () => {
    const machine = machineWith("protected", ...COUNTER);
    machine.writeMemory(0x300000, new Uint8Array(8192).fill(7));
    const base = machine.snapshot();
    machine.run({ maxInstructions: 101 });
    machine.writeMemory(0x300000, new Uint8Array(4096));
    const later = machine.snapshot();
    const delta = snapshotToBytes(later, { since: base });
    expect(delta.length).toBeLessThan(4096 + 16384);
    const read = snapshotFromBytes(delta, { parent: base });
    const fresh = Machine.from(read);
    expect(fresh.readMemory(0x300000, 4)).toEqual(new Uint8Array(4));
    expect(fresh.readMemory(0x301000, 4)).toEqual(new Uint8Array(4).fill(7));
    expect(fresh.readMemory(0x200000, 4)).toEqual(machine.readMemory(0x200000, 4));
    expect(why(() => snapshotFromBytes(delta))).toMatchObject({ why: "parent", message: /none was given/ });
    expect(why(() => snapshotFromBytes(delta, { parent: later }))).toMatchObject({ why: "parent" });
  });

  it("say what is wrong with them", () => {
    const bytes = snapshotToBytes(machineWith("real", 0xf4).snapshot());
    const changed = (at: number) => {
      const copy = bytes.slice();
      copy[at]! ^= 1;
      return copy;
    };
    expect(why(() => snapshotFromBytes(new Uint8Array(3)))).toMatchObject({ why: "format" });
    expect(why(() => snapshotFromBytes(new Uint8Array(100)))).toMatchObject({ why: "format", message: /WVMXSNAP/ });
    expect(why(() => snapshotFromBytes(changed(8)))).toMatchObject({ why: "version", message: /format version 0/ });
    expect(why(() => snapshotFromBytes(changed(16)))).toMatchObject({ why: "version", message: /another version/ });
    for (const at of [24, 40, 100, bytes.length - 1]) {
      expect(why(() => snapshotFromBytes(changed(at)))).toMatchObject({ why: "damaged" });
    }
    for (const size of [24, 64, 1000, bytes.length - 1]) {
      expect(why(() => snapshotFromBytes(bytes.slice(0, size)))).toMatchObject({ why: "damaged" });
    }
  });
});

describe("restore", () => {
  it("refuses another memory map and another CPU model, and changes nothing", () => {
    const snapshot = machineWith("protected", ...COUNTER).snapshot();
    const small = new Machine({ memory: 1 << 20 });
    small.registers.rax = 5;
    expect(why(() => small.restore(snapshot))).toEqual({
      why: "misfit",
      message: "the snapshot has ram 0x0 + 0x400000; this machine has ram 0x0 + 0x100000",
    });
    const other = new Machine({ memory: 4 << 20, cpu: minimalModel() });
    expect(why(() => other.restore(snapshot)).message).toMatch(/CPU model "generic", this machine is "minimal"/);
    expect(small.registers.rax).toBe(5n);
    expect(() => small.restore(new Uint8Array(4) as never)).toThrow(/read bytes with snapshotFromBytes/);
  });

  it("is not for callbacks", () => {
    const machine = machineWith("real", 0xe6, 0x80, 0xf4);
    const snapshot = machine.snapshot();
    machine.onPortOut(0x80, () => {
      expect(() => machine.restore(snapshot)).toThrow(/inside a callback/);
      expect(() => machine.snapshot()).toThrow(/inside a callback/);
    });
    expect(machine.run().reason).toBe("halt");
  });

  it("keeps hooks and breakpoints, which stop again", () => {
    const machine = machineWith("protected", ...COUNTER);
    machine.addBreakpoint(0x100006);
    const snapshot = machine.snapshot();
    expect(machine.run()).toMatchObject({ reason: "breakpoint", instructions: 1 });
    machine.restore(snapshot);
    expect(machine.run()).toMatchObject({ reason: "breakpoint", instructions: 1 });
  });
});

describe("fork", () => {
  it("gives another machine, which goes its own way", () => {
    const machine = machineWith("protected", ...COUNTER);
    machine.map({ kind: "rom", address: 0x8000_0000, size: 8192, data: Uint8Array.of(1, 2, 3) });
    machine.run({ maxInstructions: 100 });
    const fork = machine.fork();
    fork.run({ maxInstructions: 100 });
    machine.run({ maxInstructions: 10 });
    expect(fork.instructionCount).toBe(200n);
    expect(fork.readMemory(0x200000, 1)).toEqual(Uint8Array.of(100));
    expect(machine.readMemory(0x200000, 1)).toEqual(Uint8Array.of(55));
    expect(fork.readMemory(0x8000_0000, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(fork.regions).toEqual(machine.regions);
  });

  it("into an earlier fork takes the state over", () => {
    const machine = machineWith("protected", ...COUNTER);
    const fork = machine.fork();
    fork.run({ maxInstructions: 100 });
    machine.run({ maxInstructions: 20 });
    expect(machine.fork({ into: fork })).toBe(fork);
    expect(fork.readMemory(0x200000, 1)).toEqual(Uint8Array.of(10));
    expect(fork.registers.read()).toEqual(machine.registers.read());
  });

  it("is set up by its maker", () => {
    const machine = machineWith("protected", 0xe6, 0x80, 0xf4);
    const seen: number[] = [];
    const fork = machine.fork({ setup: (made) => void made.onPortOut(0x80, (port) => void seen.push(port)) });
    fork.run();
    machine.run();
    expect(seen).toEqual([0x80]);
  });
});
