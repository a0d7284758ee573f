import { describe, expect, it } from "vitest";
import { type CpuModel, genericModel, Machine } from "../../src/index.ts";
import { CODE, DATA, GDT, SEL, World } from "./world.ts";

const gp0 = { vector: 13, error: 0, rip: CODE };
const none = { vector: "none" };
const movToCr = (cr: number) => [0x0f, 0x22, 0xc0 | (cr << 3)];
const movFromCr = (cr: number) => [0x0f, 0x20, 0xc0 | (cr << 3)];

function write(kind: "protected" | "long", code: number[], rax: bigint | number, level: 0 | 3 = 0) {
  const world = new World(kind, level);
  world.machine.registers.rax = rax;
  return { world, outcome: world.run(code) };
}

// @sdm 2B "MOV-Move to/from Control Registers"
describe("MOV CR", () => {
  it.each([
    ["CR0: NW without CD", 0, 0x2000_0011],
    ["CR0: PG without PE", 0, 0x8000_0010],
    ["CR4: reserved bit", 4, 1 << 15],
    ["CR4: feature that CPUID does not report", 4, 1 << 20],
  ])("#GP(0) for %s", (_name, cr, value) => {
    expect(write("protected", movToCr(cr), value).outcome).toMatchObject(gp0);
  });

  it.each([
    ["CR0: bits 63:32", 0, 1n << 32n],
    ["CR0: PG cleared in 64-bit mode", 0, 0x11n],
    ["CR3: above the physical width", 3, 1n << 52n],
    ["CR4: PAE cleared in IA-32e mode", 4, 0n],
    ["CR4: bits 63:32", 4, (1n << 32n) | 0x20n],
  ])("#GP(0) in 64-bit mode for %s", (_name, cr, value) => {
    expect(write("long", movToCr(cr), value).outcome).toMatchObject(gp0);
  });

  it("#UD for CR1, CR5 and CR8 outside 64-bit mode, at CPL 3 too; #GP(0) at CPL 3 for those that exist", () => {
    for (const cr of [1, 5, 6, 7]) expect(write("protected", movToCr(cr), 0, 3).outcome.vector).toBe(6);
    for (const cr of [0, 2, 3, 4]) {
      expect(write("protected", movToCr(cr), 0, 3).outcome).toMatchObject(gp0);
      expect(write("protected", movFromCr(cr), 0, 3).outcome).toMatchObject(gp0);
    }
  });

  it("keeps ET, ignores reserved bits of CR0", () => {
    const { world, outcome } = write("protected", movToCr(0), 0x1fc0_8001);
    expect(outcome).toMatchObject(none);
    expect(world.machine.registers.cr0).toBe(0x11n);
  });

  it("CR8 takes four bits", () => {
    const CR8 = [0x44, 0x0f, 0x22, 0xc0];
    expect(write("long", CR8, 16).outcome).toMatchObject(gp0);
    const { world } = write("long", CR8, 9);
    expect(world.machine.registers.cr8).toBe(9n);
  });
});

// @sdm 3A "Initializing IA-32e Mode"
describe("entering IA-32e mode", () => {
  const enable = 0x8000_0011n;

  it("sets EFER.LMA when paging is enabled with LME, and needs PAE", () => {
    for (const [cr4, expected] of [
      [0x20, none],
      [0, gp0],
    ] as const) {
      const world = new World("protected");
      world.write64(0x30000, 0x31007n);
      world.write64(0x31000, 0x32007n);
      world.write64(0x32000, 0x87n);
      world.machine.registers.write({ efer: 0x100, cr4, cr3: 0x30000, rax: enable });
      expect(world.run(movToCr(0))).toMatchObject(expected);
      expect(world.machine.registers.efer).toBe(expected === none ? 0x500n : 0x100n);
    }
  });

  it("loads the PDPTEs of PAE paging and refuses reserved bits in a present one", () => {
    for (const [entry, expected] of [
      [0x32001n, none],
      [0x32003n, gp0],
      [0x32002n, none],
    ] as const) {
      const world = new World("protected");
      world.write64(0x30000, 0x32001n);
      world.write64(0x30008, entry);
      world.write64(0x32000, 0x83n);
      world.machine.registers.write({ cr4: 0x20, cr3: 0x30000, rax: enable });
      expect(world.run(movToCr(0))).toMatchObject(expected);
    }
  });
});

// @sdm 3B "Debug Registers"
describe("MOV DR", () => {
  it("has aliases DR4 and DR5 unless CR4.DE is set", () => {
    const model = genericModel();
    const cpu: CpuModel = { ...model, cpuid: model.cpuid.map((l) => (l.leaf === 1 ? { ...l, edx: l.edx! | 4 } : l)) };
    for (const [cr4, vector] of [
      [0, "none"],
      [8, 6],
    ] as const) {
      const world = new World("protected", 0, cpu);
      world.machine.registers.write({ cr4, dr6: 0xffff_0ff1n });
      expect(world.run([0x0f, 0x21, 0xe0]).vector).toBe(vector);
      if (vector === "none") expect(world.machine.registers.rax).toBe(0xffff_0ff1n);
    }
  });

  it("is #DB with BD while DR7.GD is set, and delivery clears GD", () => {
    const world = new World("protected");
    world.machine.registers.dr7 = 0x2400;
    expect(world.run([0x0f, 0x21, 0xc0])).toMatchObject({ vector: 1, rip: CODE, flags: 0x10002 });
    expect(world.machine.registers.dr6).toBe(0xffff_2ff0n);
    expect(world.machine.registers.dr7).toBe(0x400n);
  });

  it("fixes the reserved bits of DR6 and DR7 and refuses bits 63:32", () => {
    const { world } = write("protected", [0x0f, 0x23, 0xf0], 0);
    expect(world.machine.registers.dr6).toBe(0xffff_0ff0n);
    expect(write("protected", [0x0f, 0x23, 0xf8], 0xffff_dfff).world.machine.registers.dr7).toBe(0xffff_07ffn);
    expect(write("long", [0x0f, 0x23, 0xf8], 1n << 32n).outcome).toMatchObject(gp0);
  });
});

// @sdm 4 "Model-Specific Registers"
describe("WRMSR", () => {
  const machine = () => new Machine({ memory: 4096 });
  it.each([
    ["a non-canonical SYSENTER_EIP", 0x176, 1n << 47n],
    ["a non-canonical LSTAR", 0xc0000082, 1n << 63n],
    ["a reserved bit of EFER", 0xc0000080, 2n],
    ["MSR_PLATFORM_INFO", 0xce, 0n],
    ["bit 1 of 0x140, which the model lacks", 0x140, 2n],
    ["an MSR that does not exist", 0x12345, 0n],
    ["FEATURE_CONTROL without VMX", 0x3a, 1n],
  ])("refuses %s", (_name, index, value) => {
    expect(machine().writeMsr(index, value)).toBe(false);
  });

  it("sets bit 0 of 0x140 only where 0xCE has bit 31; RESET clears it", () => {
    const m = machine();
    expect(m.writeMsr(0x140, 1)).toBe(true);
    expect(m.readMsr(0x140)).toBe(1n);
    m.reset();
    expect(m.readMsr(0x140)).toBe(0n);
    expect(m.readMsr(0xce)).toBe(0x8000_0000n);
    const without = new Machine({ memory: 4096, cpu: { ...genericModel(), platformInfo: 0n } });
    expect(without.writeMsr(0x140, 1)).toBe(false);
    expect(without.writeMsr(0x140, 0)).toBe(true);
  });

  it("locks FEATURE_CONTROL", () => {
    const m = new Machine({ memory: 4096, cpu: genericModel({ vmx: true }) });
    expect(m.writeMsr(0x3a, 4)).toBe(true);
    expect(m.writeMsr(0x3a, 5)).toBe(true);
    expect(m.writeMsr(0x3a, 5)).toBe(false);
  });

  it("leaves EFER.LMA as it is", () => {
    const m = machine();
    expect(m.writeMsr(0xc0000080, 0x500)).toBe(true);
    expect(m.readMsr(0xc0000080)).toBe(0x100n);
  });

  it("refuses a change of EFER.LME under paging", () => {
    expect(new World("long").machine.writeMsr(0xc0000080, 0x400)).toBe(false);
  });

  it("moves the TSC", () => {
    const m = machine();
    expect(m.writeMsr(0x10, 1_000_000)).toBe(true);
    expect(m.readMsr(0x10)).toBe(1_000_000n);
  });
});

describe("privileged instructions at CPL 3", () => {
  it.each([
    ["hlt", [0xf4]],
    ["rdmsr", [0x0f, 0x32]],
    ["wrmsr", [0x0f, 0x30]],
    ["clts", [0x0f, 0x06]],
    ["invd", [0x0f, 0x08]],
    ["wbinvd", [0x0f, 0x09]],
    ["lgdt", [0x0f, 0x01, 0x10]],
    ["lmsw", [0x0f, 0x01, 0xf0]],
    ["invlpg", [0x0f, 0x01, 0x38]],
    ["cli", [0xfa]],
    ["sti", [0xfb]],
    ["in al, dx", [0xec]],
    ["out dx, al", [0xee]],
    ["insb", [0x6c]],
  ])("%s is #GP(0)", (_name, code) => {
    for (const kind of ["protected", "long"] as const) expect(new World(kind, 3).run(code)).toMatchObject(gp0);
  });

  it("may use the ports that the TSS permits", () => {
    const world = new World("protected", 3);
    world.machine.registers.tr = { limit: 0x88 };
    world.write(0x14068, ...new Array(0x21).fill(0xff));
    world.write(0x14068 + 2, 0xfe); // port 16
    world.machine.registers.rdx = 16;
    expect(world.run([0xec, 0xed], 1)).toMatchObject(none);
    world.machine.run({ maxInstructions: 1 }); // in eax, dx: ports 17-19 are not permitted
    expect(world.outcome()).toMatchObject({ vector: 13, error: 0, rip: CODE + 1 });
  });
});

describe("descriptor-table registers", () => {
  it("load 24 bits of base with a 16-bit operand", () => {
    const world = new World("protected");
    world.write(DATA, 0xff, 0x00, 0x00, 0x00, 0x01, 0xab);
    world.machine.registers.rax = DATA;
    // o16 lidt [eax]
    expect(world.run([0x66, 0x0f, 0x01, 0x18])).toMatchObject(none);
    expect(world.machine.registers.idtr).toEqual({ base: 0x010000n, limit: 0xff });
  });

  it("refuse a non-canonical base in 64-bit mode, store ten bytes there", () => {
    const world = new World("long");
    world.write64(DATA + 2, 1n << 47n);
    world.machine.registers.rax = DATA;
    expect(world.run([0x0f, 0x01, 0x10])).toMatchObject(gp0);
    const stored = new World("long");
    stored.machine.registers.rax = DATA;
    expect(stored.run([0x0f, 0x01, 0x00])).toMatchObject(none);
    expect([...stored.machine.readMemory(DATA, 10)]).toEqual([
      0xff,
      0,
      GDT & 0xff,
      (GDT >> 8) & 0xff,
      GDT >> 16,
      0,
      0,
      0,
      0,
      0,
    ]);
  });
});

describe("SYSCALL and SYSRET", () => {
  function prepared(level: 0 | 3) {
    const world = new World("long", level);
    const m = world.machine;
    m.writeMsr(0xc0000080, 0x101);
    m.writeMsr(0xc0000081, (0x0030_0038n << 32n) | 0n);
    m.writeMsr(0xc0000082, 0x110000);
    m.writeMsr(0xc0000084, 0x200);
    return world;
  }

  it("go to LSTAR with flat segments and masked flags", () => {
    const world = prepared(3);
    const { registers } = world.machine;
    registers.rflags = 0x202;
    expect(world.run([0x0f, 0x05])).toMatchObject(none);
    expect(registers.read()).toMatchObject({ rip: 0x110000n, rcx: BigInt(CODE + 2), r11: 0x202n, rflags: 2n });
    expect(registers.cs).toEqual({ selector: 0x38, base: 0n, limit: 0xffffffff, attributes: 0xa09b });
    expect(registers.ss).toEqual({ selector: 0x40, base: 0n, limit: 0xffffffff, attributes: 0xc093 });
  });

  it("come back to CPL 3 in 64-bit or compatibility code", () => {
    for (const [code, mode, selector] of [
      [[0x48, 0x0f, 0x07], 64, 0x43],
      [[0x0f, 0x07], 32, 0x33],
    ] as const) {
      const world = prepared(0);
      world.machine.registers.write({ rcx: 0x123456, r11: 0x3202 });
      expect(world.run([...code])).toMatchObject(none);
      expect(world.machine.codeMode).toBe(mode);
      expect(world.machine.registers.cs.selector).toBe(selector);
      expect(world.machine.registers.rflags).toBe(0x3202n);
    }
  });

  it("are #UD without EFER.SCE or outside 64-bit mode, SYSRET of a non-canonical address is #GP(0)", () => {
    expect(new World("long", 3).run([0x0f, 0x05]).vector).toBe(6);
    expect(new World("protected", 3).run([0x0f, 0x05]).vector).toBe(6);
    const world = prepared(0);
    world.machine.registers.rcx = 1n << 47n;
    expect(world.run([0x48, 0x0f, 0x07])).toMatchObject(gp0);
  });
});

it("POPF at CPL 3 changes neither IOPL nor IF", () => {
  const world = new World("protected", 3);
  world.push(4, 0x247fd7);
  expect(world.run([0x9d])).toMatchObject(none);
  expect(world.machine.registers.rflags).toBe(0x244dd7n);
});

describe("real mode", () => {
  function real(code: number[]) {
    const machine = new Machine({ memory: 1 << 20 });
    for (let v = 0; v < 32; v++) machine.writeMemory(v * 4, Uint8Array.of((v * 16) & 0xff, 0x20 + (v >> 4), 0, 0));
    machine.writeMemory(0x7c00, Uint8Array.from(code));
    machine.registers.write({ cs: { selector: 0, base: 0n }, rip: 0x7c00, rsp: 0x7000, rflags: 0x202 });
    return machine;
  }

  it("delivers through the IVT without an error code", () => {
    const machine = real([0xcd, 0x10]);
    machine.run({ maxInstructions: 1 });
    expect(Number(machine.registers.rip)).toBe(0x2100);
    expect([...machine.readMemory(0x6ffa, 6)]).toEqual([0x02, 0x7c, 0, 0, 0x02, 0x02]);
    expect(machine.registers.rflags).toBe(2n);
  });

  it("is #GP for a vector beyond the IDT limit and shuts down when that is beyond it too", () => {
    const machine = real([0xcd, 0x1f]);
    machine.registers.idtr = { limit: 0x7b };
    machine.run({ maxInstructions: 1 });
    expect(Number(machine.registers.rip)).toBe(0x2000 + 13 * 16);
    const none = real([0xcd, 0x1f]);
    none.registers.idtr = { limit: 3 };
    expect(none.run().reason).toBe("shutdown");
  });

  it("LLDT, LTR, SLDT and STR are #UD", () => {
    for (const modrm of [0xc0, 0xc8, 0xd0, 0xd8]) {
      const machine = real([0x0f, 0x00, modrm]);
      machine.run({ maxInstructions: 1 });
      expect(Number(machine.registers.rip)).toBe(0x2060);
    }
  });

  it("keeps the limit of a segment loaded in protected mode", () => {
    const world = new World("protected");
    const { registers } = world.machine;
    registers.rax = 0x10;
    // mov cr0, eax; mov ds, bx
    world.run([0x0f, 0x22, 0xc0, 0x8e, 0xdb], 1);
    registers.rbx = 0x1234;
    world.machine.run({ maxInstructions: 1 });
    expect(registers.ds).toMatchObject({ selector: 0x1234, base: 0x12340n, limit: 0xffffffff });
    expect(SEL.data).toBe(0x10);
  });
});
