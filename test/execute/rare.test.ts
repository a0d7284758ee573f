import { describe, expect, it } from "vitest";
import { nehalemModel, skylakeModel } from "../../src/index.ts";
import { DATA, SEL, World } from "../system/world.ts";

const ZF = 0x40n;

function world(kind: "protected" | "long", level: 0 | 3 = 0): World {
  const w = new World(kind, level, skylakeModel());
  w.machine.registers.rsi = BigInt(DATA);
  return w;
}
const zero = (w: World): boolean => (w.machine.registers.rflags & ZF) !== 0n;

describe("ARPL", () => {
  it.each([
    [0x08, 0x13, 0x0b, true],
    [0x0b, 0x10, 0x0b, false],
    [0x0a, 0x02, 0x0a, false],
  ])("%i with RPL of %i gives %i", (to, from, result, raised) => {
    const w = world("protected");
    w.machine.registers.write({ rax: BigInt(to), rcx: BigInt(from) });
    w.run([0x63, 0xc8]);
    expect(w.machine.registers.rax).toBe(BigInt(result));
    expect(zero(w)).toBe(raised);
  });

  it("is MOVSXD in 64-bit mode", () => {
    const w = world("long");
    w.machine.registers.rcx = 0x80000000n;
    w.run([0x48, 0x63, 0xc1]);
    expect(w.machine.registers.rax).toBe(0xffffffff80000000n);
  });
});

describe("BOUND", () => {
  it.each([
    [-5, "none"],
    [10, "none"],
    [-6, 5],
    [11, 5],
  ])("index %i in -5..10", (index, vector) => {
    const w = world("protected");
    w.write32(DATA, -5 >>> 0);
    w.write32(DATA + 4, 10);
    w.machine.registers.rax = BigInt(index >>> 0);
    expect(w.run([0x62, 0x06]).vector).toBe(vector);
  });
});

describe("LES, LSS, LGS", () => {
  it.each([
    ["es", [0xc4, 0x06]],
    ["ss", [0x0f, 0xb2, 0x06]],
    ["gs", [0x0f, 0xb5, 0x06]],
  ] as const)("load %s and the register", (name, code) => {
    const w = world("protected");
    w.setDescriptor(SEL.free, w.long ? 0n : 0x00cf92000000ffffn);
    w.write32(DATA, 0x12345678);
    w.write32(DATA + 4, SEL.free);
    expect(w.run([...code]).vector).toBe("none");
    expect(w.machine.registers.rax).toBe(0x12345678n);
    expect(w.machine.registers[name].selector).toBe(SEL.free);
  });

  it("leave the register alone when the selector faults", () => {
    const w = world("protected");
    w.write32(DATA, 0x12345678);
    w.write32(DATA + 4, SEL.dataAbsent);
    expect(w.run([0xc4, 0x06])).toMatchObject({ vector: 11, error: SEL.dataAbsent });
    expect(w.machine.registers.rax).toBe(0n);
  });
});

describe("LAR, LSL, VERR, VERW", () => {
  // with the limit in 19:16, as a Xeon gives it: CFFB00H and CFF300H for Linux's flat segments, which are accessed
  it.each([
    ["code32User", SEL.code32User, 0xcffa00, 0xffffffff, true, false],
    ["dataUser", SEL.dataUser, 0xcff200, 0xffffffff, true, true],
    ["LDT", SEL.ldt, 0x008200, 0xf, false, false],
    ["execute-only code", SEL.executeOnly, 0xcf9800, 0xffffffff, false, false],
    ["read-only data", SEL.readOnly, 0xcf9000, 0xffffffff, true, false],
    ["null", 0, undefined, undefined, false, false],
    ["outside the table", 0xff8, undefined, undefined, false, false],
  ])("%s", (_name, selector, rights, limit, readable, writable) => {
    const ask = (code: number[]) => {
      const w = world("protected");
      w.machine.registers.write({ rcx: BigInt(selector), rax: 0x55n });
      expect(w.run(code).vector).toBe("none");
      return { value: Number(w.machine.registers.rax), zero: zero(w) };
    };
    expect(ask([0x0f, 0x02, 0xc1])).toEqual({ value: rights ?? 0x55, zero: rights !== undefined });
    expect(ask([0x0f, 0x03, 0xc1])).toEqual({ value: limit ?? 0x55, zero: limit !== undefined });
    expect(ask([0x0f, 0x00, 0xe1]).zero).toBe(readable);
    expect(ask([0x0f, 0x00, 0xe9]).zero).toBe(writable);
  });

  it("do not see a segment of a more privileged level", () => {
    const w = world("protected", 3);
    w.machine.registers.rcx = BigInt(SEL.data);
    w.run([0x0f, 0x02, 0xc1]);
    expect(zero(w)).toBe(false);
  });
});

describe("CMPXCHG16B", () => {
  it("is #GP(0) off a 16-byte boundary", () => {
    const w = world("long");
    w.machine.registers.rsi = BigInt(DATA + 8);
    expect(w.run([0x48, 0x0f, 0xc7, 0x0e])).toMatchObject({ vector: 13, error: 0 });
  });
});

describe("RDRAND and RDSEED", () => {
  it("give the same numbers in every run, different ones in a row, CF alone set", () => {
    const values = [0, 1].map(() => {
      const w = world("long");
      w.machine.registers.rflags = 0x8d6n;
      w.run([0x48, 0x0f, 0xc7, 0xf0, 0x48, 0x0f, 0xc7, 0xf9], 2);
      expect(w.machine.registers.rflags & 0x8d5n).toBe(1n);
      return [w.machine.registers.rax, w.machine.registers.rcx];
    });
    expect(values[0]).toEqual(values[1]);
    expect(values[0]![0]).not.toBe(values[0]![1]);
  });
});

describe("FS and GS bases", () => {
  it("are #UD without CR4.FSGSBASE, else read and write the base", () => {
    expect(world("long").run([0xf3, 0x48, 0x0f, 0xae, 0xd0]).vector).toBe(6);
    const w = world("long");
    w.machine.registers.write({ cr4: 0x10020, rax: 0x7fff12345678n });
    w.run([0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x48, 0x0f, 0xae, 0xc1], 2);
    expect(w.machine.registers.fs.base).toBe(0x7fff12345678n);
    expect(w.machine.registers.rcx).toBe(0x7fff12345678n);
  });

  it("take no address that is not canonical", () => {
    const w = world("long");
    w.machine.registers.write({ cr4: 0x10020, rax: 0x800000000000n });
    expect(w.run([0xf3, 0x48, 0x0f, 0xae, 0xd8])).toMatchObject({ vector: 13, error: 0 });
  });
});

describe("MONITOR and MWAIT", () => {
  it("are #UD at CPL 3 and #GP(0) with extensions", () => {
    expect(world("protected", 3).run([0x0f, 0x01, 0xc8]).vector).toBe(6);
    const w = world("protected");
    w.machine.registers.rcx = 1n;
    expect(w.run([0x0f, 0x01, 0xc9])).toMatchObject({ vector: 13, error: 0 });
  });

  it("run at CPL 0", () => {
    const w = new World("protected", 0, nehalemModel());
    w.machine.registers.rax = BigInt(DATA);
    expect(w.run([0x0f, 0x01, 0xc8, 0x0f, 0x01, 0xc9], 2).vector).toBe("none");
  });
});

describe("STAC and CLAC", () => {
  it("change RFLAGS.AC at CPL 0 and are #UD at CPL 3", () => {
    const w = world("long");
    w.run([0x0f, 0x01, 0xcb]);
    expect(w.machine.registers.rflags & 0x40000n).toBe(0x40000n);
    expect(world("long", 3).run([0x0f, 0x01, 0xca]).vector).toBe(6);
  });
});

describe("INVPCID", () => {
  it.each([
    ["type 4", 4n, 0, 13],
    ["type 3", 3n, 0, "none"],
    ["PCID above 4095", 1n, 0x1000, 13],
    ["a PCID without CR4.PCIDE", 1n, 5, 13],
  ])("%s", (_name, type, pcid, vector) => {
    const w = world("long");
    w.write32(DATA, pcid);
    w.machine.registers.rax = type;
    expect(w.run([0x66, 0x0f, 0x38, 0x82, 0x06]).vector).toBe(vector);
  });

  it("is #GP(0) at CPL 3", () => {
    expect(world("long", 3).run([0x66, 0x0f, 0x38, 0x82, 0x06])).toMatchObject({ vector: 13, error: 0 });
  });
});

describe("VEX", () => {
  it("is #UD after 66 and with VEX.L", () => {
    const w = world("protected");
    expect(w.run([0x66, 0xc4, 0xe2, 0x78, 0xf2, 0xc1]).vector).toBe(6);
    expect(w.run([0xc4, 0xe2, 0x7c, 0xf2, 0xc1]).vector).toBe(6);
  });
});
