import { describe, expect, it } from "vitest";
import { Machine, MemoryMapError, StateError } from "../../src/index.ts";

const MiB = 1 << 20;

describe("memory of a machine", () => {
  it("is 16 MiB of zeros unless asked otherwise", () => {
    const machine = new Machine();
    expect(machine.ramSize).toBe(16 * MiB);
    expect(machine.regions).toEqual([{ address: 0n, size: 16 * MiB, kind: "ram" }]);
    expect(machine.readMemory(16 * MiB - 4, 4)).toEqual(new Uint8Array(4));
  });

  it("keeps what is written, across page borders and after growth", () => {
    const machine = new Machine({ memory: MiB });
    const bytes = Uint8Array.from({ length: 9000 }, (_, i) => (i * 7) & 0xff);
    machine.writeMemory(0xff0, bytes);
    machine.map({ kind: "ram", address: 16 * MiB, size: 4 * MiB, data: Uint8Array.of(1, 2, 3) });
    expect(machine.readMemory(0xff0, 9000)).toEqual(bytes);
    expect(machine.readMemory(16 * MiB, 4)).toEqual(Uint8Array.of(1, 2, 3, 0));
  });

  it("takes addresses above 4 GiB", () => {
    const machine = new Machine({ memory: MiB });
    machine.map({ kind: "rom", address: 0x12_3456_7000n, size: 4096, data: Uint8Array.of(0xaa) });
    expect(machine.readMemory(0x12_3456_7000n, 1)).toEqual(Uint8Array.of(0xaa));
  });

  it("writes all of a range or nothing", () => {
    const machine = new Machine({ memory: 8192 });
    expect(() => machine.writeMemory(8190, Uint8Array.of(1, 2, 3))).toThrow(MemoryMapError);
    expect(machine.readMemory(8190, 2)).toEqual(Uint8Array.of(0, 0));
  });

  it("says where nothing is mapped", () => {
    const machine = new Machine({ memory: 8192 });
    const error = catchError(() => machine.readMemory(0x1ffe, 4));
    expect(error).toBeInstanceOf(MemoryMapError);
    expect(error).toMatchObject({ address: 0x1ffen, size: 4 });
    expect(error.message).toContain("nothing is mapped at 0x2000");
  });

  it("refuses regions that overlap and names the other one", () => {
    const machine = new Machine({ memory: MiB });
    const error = catchError(() => machine.map({ kind: "ram", address: 0xff000, size: 8192 }));
    expect(error).toBeInstanceOf(MemoryMapError);
    expect(error.message).toContain("overlaps the ram at 0x0 (1048576 bytes)");
  });

  it("gives unmapped memory back, zeroed", () => {
    const machine = new Machine({ memory: 0, extraMemory: 8192 });
    for (let i = 0; i < 5; i++) {
      machine.map({ kind: "ram", address: 0, size: 8192 });
      expect(machine.readMemory(0, 8192)).toEqual(new Uint8Array(8192));
      machine.writeMemory(0, new Uint8Array(8192).fill(0xcc));
      machine.unmap(0);
    }
    expect(() => machine.readMemory(0, 1)).toThrow(MemoryMapError);
  });

  it("refuses to unmap what starts nowhere", () => {
    const machine = new Machine({ memory: MiB });
    expect(() => machine.unmap(4096)).toThrow(/no region starts at 0x1000; mapped: 0x0/);
  });

  it("holds at most 64 regions", () => {
    const machine = new Machine({ memory: 4096 });
    for (let i = 1; i < 64; i++) machine.map({ kind: "mmio", address: i * 8192, size: 4096 });
    expect(() => machine.map({ kind: "mmio", address: 0x1000_0000, size: 4096 })).toThrow(MemoryMapError);
  });

  it("refuses more than one WebAssembly memory holds, with both sizes", () => {
    const error = catchError(() => new Machine({ memory: 2 ** 32 }));
    expect(error).toBeInstanceOf(MemoryMapError);
    expect(error.message).toMatch(/4294967296 bytes of RAM and \d+ bytes of tables/);
  });

  it("refuses more extra memory than it was made for", () => {
    const machine = new Machine({ memory: 4096, extraMemory: 4096 });
    expect(() => machine.map({ kind: "ram", address: MiB, size: 8192 })).toThrow(/no room for 8192 bytes/);
  });

  it.each([
    ["a string", "4096", TypeError],
    ["NaN", Number.NaN, RangeError],
    ["a negative number", -4096, RangeError],
    ["a fraction", 4096.5, RangeError],
    ["a size inside a page", 5000, RangeError],
  ])("refuses %s as a size, with the value", (_name, value, kind) => {
    const error = catchError(() => new Machine({ memory: value as number }));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toContain(String(value));
  });

  it.each([
    ["a string", "0", TypeError],
    ["a negative number", -1, RangeError],
    ["a negative bigint", -1n, RangeError],
    ["a fraction", 0.5, RangeError],
    ["infinity", Number.POSITIVE_INFINITY, RangeError],
    ["2**64", 1n << 64n, RangeError],
    ["undefined", undefined, TypeError],
  ])("refuses %s as an address", (_name, value, kind) => {
    const machine = new Machine({ memory: 4096 });
    expect(() => machine.readMemory(value as number, 1)).toThrow(kind);
  });

  it("refuses bytes that are no Uint8Array", () => {
    const machine = new Machine({ memory: 4096 });
    expect(() => machine.writeMemory(0, [1, 2] as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => machine.writeMemory(0, "ab" as unknown as Uint8Array)).toThrow(TypeError);
  });
});

describe("dispose", () => {
  it("ends the machine", () => {
    const machine = new Machine({ memory: 4096 });
    machine[Symbol.dispose]();
    machine[Symbol.dispose]();
    expect(() => machine.readMemory(0, 1)).toThrow(StateError);
    expect(() => machine.run()).toThrow(StateError);
  });
});

function catchError(body: () => unknown): Error {
  try {
    body();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}
