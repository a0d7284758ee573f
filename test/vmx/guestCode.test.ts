// VMX instructions as code in root operation: the faults before their operands, operand widths, single step.
// What they do is in instructions.test.ts; whole programs are in hypervisor.test.ts. SDM 3C "VMX Instruction Reference".
import { describe, expect, it } from "vitest";
import { genericModel } from "../../src/index.ts";
import { CODE, DATA, SEL, TABLES, World } from "../system/world.ts";

const VMXE = 0x2000;
const FEATURE_CONTROL = 0x3a;
const REGION = 0x200000;
const VMCS = 0x201000;

/** Instructions on a memory operand at [RSI]. */
const MEMORY = {
  vmxon: [0xf3, 0x0f, 0xc7, 0x36],
  vmptrld: [0x0f, 0xc7, 0x36],
  vmclear: [0x66, 0x0f, 0xc7, 0x36],
  vmptrst: [0x0f, 0xc7, 0x3e],
  invept: [0x66, 0x0f, 0x38, 0x80, 0x06],
  invvpid: [0x66, 0x0f, 0x38, 0x81, 0x06],
};
const BARE = {
  vmcall: [0x0f, 0x01, 0xc1],
  vmlaunch: [0x0f, 0x01, 0xc2],
  vmresume: [0x0f, 0x01, 0xc3],
  vmxoff: [0x0f, 0x01, 0xc4],
};
const FIELD = {
  "vmread rax, rcx": [0x0f, 0x78, 0xc8],
  "vmwrite rcx, rax": [0x0f, 0x79, 0xc8],
};
const ALL: [string, number[]][] = Object.entries({ ...MEMORY, ...BARE, ...FIELD });

const CF = 1n;
const ZF = 0x40n;

/** A processor that may do VMXON; on: it has done so with REGION. */
function world(kind: "protected" | "long" | "compatibility", level: 0 | 3 = 0, on = false): World {
  const w = new World(kind, level, genericModel({ vmx: true }));
  const { registers } = w.machine;
  registers.write({ cr0: registers.cr0 | 0x20n, cr4: registers.cr4 | BigInt(VMXE) });
  w.machine.writeMsr(FEATURE_CONTROL, 5n);
  const revision = Number((w.machine.readMsr(0x480) ?? 0n) & 0x7fffffffn);
  w.write32(REGION, revision);
  w.write32(VMCS, revision);
  registers.rsi = BigInt(DATA);
  if (on) {
    // paging is on in VMX operation
    const before = { cs: registers.cs, cr0: registers.cr0, cr3: registers.cr3, rip: registers.rip };
    w.write64(DATA, BigInt(REGION));
    w.write64(DATA + 8, BigInt(VMCS));
    run(w, MEMORY.vmxon);
    expect(registers.rflags & CF).toBe(0n);
    registers.write({ rip: before.rip });
  }
  return w;
}

function run(w: World, code: number[]): ReturnType<World["run"]> {
  w.machine.registers.rip = BigInt(CODE);
  return w.run(code);
}

/** Makes VMCS current. */
function select(w: World): void {
  w.write64(DATA, BigInt(VMCS));
  for (const code of [MEMORY.vmclear, MEMORY.vmptrld]) {
    run(w, code);
    expect(w.machine.registers.rflags & (CF | ZF)).toBe(0n);
  }
}

describe("#UD", () => {
  it.each(ALL.filter(([name]) => name !== "vmxon"))("%s outside VMX operation", (_name, code) => {
    expect(run(world("long"), code)).toMatchObject({ vector: 6, rip: CODE });
    // before the privilege check
    expect(run(world("long", 3), code)).toMatchObject({ vector: 6, rip: CODE });
  });

  it("VMXON with CR4.VMXE clear", () => {
    const w = world("long");
    w.machine.registers.write({ cr4: 0x20 });
    expect(run(w, MEMORY.vmxon)).toMatchObject({ vector: 6, rip: CODE });
  });

  it.each(ALL)("%s in compatibility mode", (_name, code) => {
    const w = world("long", 0, true);
    const { registers } = w.machine;
    registers.write({ cs: { ...registers.cs, selector: SEL.code32, attributes: 0xc09b } });
    expect(run(w, code)).toMatchObject({ vector: 6, rip: CODE });
  });

  it.each([
    ["VMXON", [0xf3, 0x0f, 0xc7, 0xf0]],
    ["VMREAD with F3", [0xf3, 0x0f, 0x78, 0xc8]],
    ["VMPTRST with F3", [0xf3, 0x0f, 0xc7, 0x3e]],
    ["LOCK VMPTRLD", [0xf0, 0x0f, 0xc7, 0x36]],
  ])("register form or prefix: %s", (_name, code) => {
    expect(run(world("long", 0, true), code)).toMatchObject({ vector: 6, rip: CODE });
  });

  it("VMXON in real mode", () => {
    const w = world("protected");
    const { registers } = w.machine;
    registers.write({ cr0: 0x30, idtr: { base: 0n, limit: 0x3ff }, cs: { selector: 0, base: 0n }, rsp: 0x7000 });
    w.write32(6 * 4, 0x9000);
    w.write(0x8000, ...MEMORY.vmxon);
    registers.rip = 0x8000n;
    w.machine.run({ maxInstructions: 1 });
    expect(registers.rip).toBe(0x9000n);
  });
});

describe("#GP(0)", () => {
  it.each(ALL)("%s at CPL 3", (_name, code) => {
    const w = world("long", 0, true);
    const { registers } = w.machine;
    const user = (attributes: number) => ({ base: 0n, limit: 0xffffffff, attributes });
    registers.write({
      cs: { selector: SEL.code64User, ...user(0xa0fb) },
      ss: { selector: SEL.dataUser, ...user(0xc0f3) },
    });
    expect(registers.cpl).toBe(3);
    expect(run(w, code)).toMatchObject({ vector: 13, error: 0, rip: CODE });
  });

  it.each([
    ["feature control not locked", (w: World) => w.machine.writeMsr(FEATURE_CONTROL, 4n)],
    ["CR0.NE clear", (w: World) => w.machine.registers.write({ cr0: 0x80000011 })],
    ["paging off", (w: World) => w.machine.registers.write({ cr0: 0x31 })],
  ] as const)("VMXON with %s", (name, prepare) => {
    const w = new World(name === "paging off" ? "protected" : "long", 0, genericModel({ vmx: true }));
    const { registers } = w.machine;
    registers.write({ cr0: registers.cr0 | 0x20n, cr4: registers.cr4 | BigInt(VMXE) });
    if (!name.startsWith("feature")) w.machine.writeMsr(FEATURE_CONTROL, 5n);
    prepare(w);
    registers.rsi = BigInt(DATA);
    expect(run(w, MEMORY.vmxon)).toMatchObject({ vector: 13, error: 0, rip: CODE });
  });

  it("VMXON with feature control locked but VMXON off", () => {
    const w = new World("long", 0, genericModel({ vmx: true }));
    const { registers } = w.machine;
    registers.write({ cr0: registers.cr0 | 0x20n, cr4: registers.cr4 | BigInt(VMXE) });
    w.machine.writeMsr(FEATURE_CONTROL, 1n);
    registers.rsi = BigInt(DATA);
    expect(run(w, MEMORY.vmxon)).toMatchObject({ vector: 13, error: 0, rip: CODE });
    // and the lock holds
    expect(w.machine.writeMsr(FEATURE_CONTROL, 5n)).toBe(false);
  });

  it("MOV CR4 with VMXE when the model has no VMX", () => {
    const w = new World("long");
    w.machine.registers.rax = BigInt(VMXE | 0x20);
    expect(run(w, [0x0f, 0x22, 0xe0])).toMatchObject({ vector: 13, error: 0 });
  });

  it.each([
    ["CR4 without VMXE", 0x20n, [0x0f, 0x22, 0xe0]],
    ["CR0 without NE", 0x80000011n, [0x0f, 0x22, 0xc0]],
    ["CR0 without PG", 0x31n, [0x0f, 0x22, 0xc0]],
  ])("MOV %s in VMX operation", (_name, value, code) => {
    const w = world("long", 0, true);
    w.machine.registers.rax = value;
    expect(run(w, code)).toMatchObject({ vector: 13, error: 0, rip: CODE });
  });
});

describe("operands", () => {
  it("a page fault of the operand comes before any effect", () => {
    for (const code of [MEMORY.vmxon, MEMORY.vmclear, MEMORY.vmptrld, MEMORY.vmptrst]) {
      const w = world("long", 0, code !== MEMORY.vmxon);
      w.machine.registers.rsi = 0x800000n; // not mapped
      const flags = w.machine.registers.rflags;
      expect(run(w, code)).toMatchObject({ vector: 14, rip: CODE, flags: Number(flags) | 0x10000 });
    }
  });

  it("VMREAD to memory faults before the flags change; a failing one does not touch memory", () => {
    const w = world("long", 0, true);
    select(w);
    const { registers } = w.machine;
    registers.rsi = 0x800000n;
    registers.rcx = 0x681en;
    registers.rflags = 0x8d7n;
    expect(run(w, [0x0f, 0x78, 0x0e])).toMatchObject({ vector: 14, flags: 0x108d7 });
    registers.rcx = 0x6ffen;
    expect(run(w, [0x0f, 0x78, 0x0e]).vector).toBe("none");
    expect(registers.rflags & ZF).toBe(ZF);
  });

  it("VMWRITE without a VMCS fails before its operand is read", () => {
    const w = world("long", 0, true);
    w.machine.registers.rsi = 0x800000n;
    expect(run(w, [0x0f, 0x79, 0x0e]).vector).toBe("none");
    expect(w.machine.registers.rflags & CF).toBe(CF);
  });

  it("64 bits of a field number count in 64-bit mode", () => {
    const w = world("long", 0, true);
    select(w);
    const { registers } = w.machine;
    registers.rcx = 0x1_0000_681en;
    expect(run(w, FIELD["vmread rax, rcx"]).vector).toBe("none");
    expect(registers.rflags & ZF).toBe(ZF);
    registers.rcx = 0x681en;
    registers.rax = 0x1122334455667788n;
    run(w, [0x0f, 0x79, 0xc8]);
    registers.rax = 0n;
    run(w, [0x0f, 0x78, 0xc8]);
    expect(registers.rax).toBe(0x1122334455667788n);
  });

  it("32-bit mode uses 32 bits of both operands", () => {
    const w = world("long", 0, true);
    select(w);
    const { registers } = w.machine;
    registers.rcx = 0x681en;
    registers.rax = 0x1122334455667788n;
    // vmwrite rcx, rax
    run(w, [0x0f, 0x79, 0xc8]);
    // leave long mode for 32-bit protected mode with paging: CR0.PG stays set in VMX operation, so by state
    registers.write({
      cr4: 0x2000,
      cr3: TABLES + 0x4000,
      efer: 0,
      cs: { selector: SEL.code32, base: 0n, limit: 0xffffffff, attributes: 0xc09b },
    });
    w.write32(TABLES + 0x4000, TABLES + 0x5000 + 7);
    for (let i = 0; i < 1024; i++) w.write32(TABLES + 0x5000 + i * 4, (i << 12) | 7);
    registers.write({ idtr: { base: 0x13000n, limit: 0x3ff } });
    registers.rcx = 0x681en;
    run(w, [0x0f, 0x78, 0xc8]);
    expect(registers.rflags & (ZF | CF)).toBe(0n);
    expect(registers.rax).toBe(0x55667788n);
    registers.rsi = BigInt(DATA);
    w.write64(DATA, -1n & 0xffffffffffffffffn);
    run(w, [0x0f, 0x78, 0x0e]);
    expect([w.read32(DATA), w.read32(DATA + 4)]).toEqual([0x55667788, 0xffffffff]);
  });
});

it("66 REX.W 0F C7 /6 is VMCLEAR all the same", () => {
  const w = world("long", 0, true);
  select(w);
  w.write64(DATA, BigInt(VMCS));
  run(w, [0x66, 0x48, 0x0f, 0xc7, 0x36]);
  run(w, MEMORY.vmptrst);
  expect([w.read32(DATA), w.read32(DATA + 4)]).toEqual([0xffffffff, 0xffffffff]);
});

// RAX holds the type, [RSI] the descriptor
describe("INVEPT and INVVPID", () => {
  const EPTP = 0x30_001en;

  function invalidate(code: number[], type: bigint, low: bigint, high = 0n): bigint | number {
    const w = world("long", 0, true);
    select(w);
    w.write64(DATA, low);
    w.write64(DATA + 8, high);
    w.machine.registers.rax = type;
    expect(run(w, code).vector).toBe("none");
    const failed = w.machine.registers.rflags & (CF | ZF);
    if (!failed) return 0;
    w.machine.registers.rcx = 0x4400n;
    run(w, FIELD["vmread rax, rcx"]);
    return w.machine.registers.rax;
  }

  it.each<[string, number[], bigint, bigint, bigint]>([
    ["INVEPT single context", MEMORY.invept, 1n, EPTP, 0n],
    ["INVEPT all contexts", MEMORY.invept, 2n, 0n, 0n],
    ["INVVPID address", MEMORY.invvpid, 0n, 1n, 0x1000n],
    ["INVVPID single context", MEMORY.invvpid, 1n, 1n, 0n],
    ["INVVPID all contexts", MEMORY.invvpid, 2n, 0n, 0n],
    ["INVVPID single context but globals", MEMORY.invvpid, 3n, 1n, 0n],
  ])("%s succeeds", (_name, code, type, low, high) => {
    expect(invalidate(code, type, low, high)).toBe(0);
  });

  it.each<[string, number[], bigint, bigint, bigint]>([
    ["INVEPT type 0", MEMORY.invept, 0n, EPTP, 0n],
    ["INVEPT type 3", MEMORY.invept, 3n, EPTP, 0n],
    ["64 bits of type", MEMORY.invept, (1n << 32n) | 1n, EPTP, 0n],
    ["a bad EPTP", MEMORY.invept, 1n, EPTP | 1n, 0n],
    ["INVVPID type 4", MEMORY.invvpid, 4n, 1n, 0n],
    ["VPID 0", MEMORY.invvpid, 1n, 0n, 0n],
    ["reserved bits", MEMORY.invvpid, 1n, 0x10001n, 0n],
    ["an address that is not canonical", MEMORY.invvpid, 0n, 1n, 1n << 47n],
  ])("%s is error 28", (_name, code, type, low, high) => {
    expect(invalidate(code, type, low, high)).toBe(28n);
  });

  it("read their descriptor for each legal type, and not for another", () => {
    for (const [code, type] of [
      [MEMORY.invept, 2n],
      [MEMORY.invvpid, 2n],
    ] as const) {
      const w = world("long", 0, true);
      w.machine.registers.write({ rsi: 0x800000, rax: type });
      expect(run(w, code)).toMatchObject({ vector: 14, rip: CODE });
      w.machine.registers.write({ rsi: 0x800000, rax: 9 });
      w.machine.registers.rsp = 0x50000n;
      expect(run(w, code).vector).toBe("none");
    }
  });
});

it("VMLAUNCH that fails is followed by the single-step trap", () => {
  const w = world("long", 0, true);
  w.machine.registers.rflags = 0x102n;
  w.machine.registers.rip = BigInt(CODE);
  expect(w.run(BARE.vmlaunch, 2)).toMatchObject({ vector: 1, rip: CODE + 3 });
});

it("no current VMCS: VMLAUNCH and VMRESUME fail without a number", () => {
  for (const code of [BARE.vmlaunch, BARE.vmresume]) {
    const w = world("long", 0, true);
    run(w, code);
    expect(w.machine.registers.rflags & 0x8d5n).toBe(CF);
  }
});
