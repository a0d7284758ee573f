// UMIP, SMEP, SMAP, NX, PCID and INVPCID: each fault. @sdm 3A "Determination of Access Rights", "Process-Context Identifiers"
import { describe, expect, it } from "vitest";
import { type CpuModel, genericModel } from "../../src/index.ts";
import { CODE, DATA, GDT, HANDLERS, IDT, SEL, STACK0, TABLES, TSS, TSS_STACK0, World } from "./world.ts";

const STACK_PAGE = STACK0 - 0x1000;
const TSS_STACK_PAGE = TSS_STACK0 - 0x1000;

const UMIP = 0x800;
const PCIDE = 0x20000;
const SMEP = 0x100000;
const SMAP = 0x200000;
const PAE = 0x20;
const AC = 0x40000;

/** The generic model with PCID, INVPCID, SMEP and SMAP. */
function model(): CpuModel {
  const generic = genericModel();
  const leaf7 = (1 << 7) | (1 << 10) | (1 << 20);
  const cpuid = generic.cpuid.map((row) => {
    if (row.leaf === 7) return { ...row, ebx: row.ebx | leaf7 };
    return row.leaf === 1 ? { ...row, ecx: row.ecx | (1 << 17) } : row;
  });
  return { ...generic, cpuid };
}

/** 64-bit code; the first 2 MiB are mapped by 4 KiB pages with these rights, 7 (user) by default. */
function world(level: 0 | 3, cr4 = 0, rights: Record<number, bigint> = {}): World {
  const w = new World("long", level, model());
  const leaf = TABLES + 0x4000;
  w.write64(TABLES + 0x2000, BigInt(leaf) | 7n);
  for (let i = 0; i < 512; i++) w.write64(leaf + 8 * i, BigInt(i << 12) | 7n);
  for (const [page, value] of Object.entries(rights)) {
    w.write64(leaf + 8 * (Number(page) >> 12), BigInt(Number(page)) | value);
  }
  w.machine.registers.write({ cr4: PAE | cr4 });
  return w;
}

/** GDT, IDT, TSS, handlers, stack and code of CPL 0 as supervisor pages; DATA is a user page. */
const SUPERVISOR = {
  [GDT]: 3n,
  [IDT]: 3n,
  [TSS]: 3n,
  [HANDLERS]: 3n,
  [STACK_PAGE]: 3n,
  [TSS_STACK_PAGE]: 3n,
  [CODE]: 3n,
};
/** mov al, [DATA] and mov [DATA], al with RSI = DATA. */
const LOAD = [0x8a, 0x06];
const STORE = [0x88, 0x06];

function at(w: World, code: number[], n = 1): ReturnType<World["run"]> {
  w.machine.registers.rsi = BigInt(DATA);
  return w.run(code, n);
}

describe("UMIP", () => {
  it.each<[string, number[]]>([
    ["SGDT", [0x0f, 0x01, 0x06]],
    ["SIDT", [0x0f, 0x01, 0x0e]],
    ["SLDT", [0x0f, 0x00, 0xc0]],
    ["STR", [0x0f, 0x00, 0xc8]],
    ["SMSW", [0x0f, 0x01, 0xe0]],
  ])("%s at CPL 3 is #GP(0), at CPL 0 and without UMIP not", (_name, code) => {
    expect(at(world(3, UMIP), code)).toMatchObject({ vector: 13, error: 0, rip: CODE });
    expect(at(world(0, UMIP), code).vector).toBe("none");
    expect(at(world(3), code).vector).toBe("none");
  });
});

describe("SMEP", () => {
  it("CPL 0 does not fetch from a user page: error code 11H", () => {
    expect(at(world(0, SMEP, { [HANDLERS]: 3n, [STACK_PAGE]: 3n }), [0x90])).toMatchObject({
      vector: 14,
      error: 0x11,
      rip: CODE,
    });
    expect(at(world(0, SMEP, SUPERVISOR), [0x90]).vector).toBe("none");
    expect(at(world(3, SMEP, { [HANDLERS]: 3n }), [0x90]).vector).toBe("none");
  });
});

describe("SMAP", () => {
  it("CPL 0 does not read or write a user page while AC is 0", () => {
    expect(at(world(0, SMAP, SUPERVISOR), LOAD)).toMatchObject({ vector: 14, error: 1, rip: CODE });
    expect(at(world(0, SMAP, SUPERVISOR), STORE)).toMatchObject({ vector: 14, error: 3 });
    const ac = world(0, SMAP, SUPERVISOR);
    ac.machine.registers.rflags = BigInt(AC | 2);
    expect(at(ac, STORE).vector).toBe("none");
    expect(at(world(3, SMAP), STORE).vector).toBe("none");
  });

  it("STAC and CLAC switch it; CPL 3 has #UD", () => {
    expect(at(world(0, SMAP, SUPERVISOR), [0x0f, 0x01, 0xcb, ...LOAD], 2).vector).toBe("none");
    const clac = at(world(0, SMAP, SUPERVISOR), [0x0f, 0x01, 0xcb, ...LOAD, 0x0f, 0x01, 0xca, ...LOAD], 4);
    expect(clac).toMatchObject({ vector: 14, error: 1, rip: CODE + 8 });
    expect(at(world(3, SMAP, { ...SUPERVISOR, [CODE]: 7n }), [0x0f, 0x01, 0xcb])).toMatchObject({
      vector: 6,
      rip: CODE,
    });
  });

  it("implicit supervisor accesses ignore AC: an LDT on a user page", () => {
    const w = world(0, SMAP, SUPERVISOR);
    const ldtr = { selector: SEL.ldt, base: BigInt(DATA), limit: 0xf, attributes: 0x82 };
    w.machine.registers.write({ rflags: AC | 2, rax: 4, ldtr });
    // mov ds, ax reads the descriptor with AC set
    expect(at(w, [0x8e, 0xd8])).toMatchObject({ vector: 14, error: 1, rip: CODE });
  });

  it("does not concern fetches", () => {
    expect(at(world(0, SMAP, { [HANDLERS]: 3n, [STACK_PAGE]: 3n }), [0x90]).vector).toBe("none");
  });
});

describe("NX", () => {
  const XD = 1n << 63n;

  it("a fetch has error code bit 4", () => {
    const user = world(3, 0, { [CODE]: 7n | XD });
    user.machine.registers.write({ efer: 0xd00 });
    expect(at(user, [0x90])).toMatchObject({ vector: 14, error: 0x15, rip: CODE });
    const supervisor = world(0, 0, { [CODE]: 3n | XD });
    supervisor.machine.registers.write({ efer: 0xd00 });
    expect(at(supervisor, [0x90])).toMatchObject({ vector: 14, error: 0x11 });
  });

  it("the bit is reserved without EFER.NXE: error code bit 3, and no bit 4", () => {
    expect(at(world(3, 0, { [DATA]: 7n | XD }), LOAD)).toMatchObject({ vector: 14, error: 0xd });
    expect(at(world(3, 0, { [CODE]: 7n | XD }), [0x90])).toMatchObject({ vector: 14, error: 0xd });
  });
});

describe("PCID", () => {
  const MOV_CR3 = [0x0f, 0x22, 0xd8];
  const MOV_CR4 = [0x0f, 0x22, 0xe0];
  const MOV_CR0 = [0x0f, 0x22, 0xc0];

  it("CR3 bit 63 is not stored under PCIDE and reserved without", () => {
    const w = world(0, PCIDE);
    w.machine.registers.rax = (1n << 63n) | BigInt(TABLES) | 5n;
    expect(w.run(MOV_CR3).vector).toBe("none");
    expect(w.machine.registers.cr3).toBe(BigInt(TABLES) | 5n);
    const off = world(0);
    off.machine.registers.rax = (1n << 63n) | BigInt(TABLES);
    expect(off.run(MOV_CR3)).toMatchObject({ vector: 13, error: 0 });
  });

  it("PCIDE cannot be set while CR3[11:0] is not 0, nor outside IA-32e mode", () => {
    const w = world(0);
    w.machine.registers.write({ cr3: TABLES | 0x18, rax: PAE | PCIDE });
    expect(w.run(MOV_CR4)).toMatchObject({ vector: 13, error: 0 });
    const legacy = new World("protected", 0, model());
    legacy.machine.registers.rax = BigInt(PCIDE);
    expect(legacy.run(MOV_CR4)).toMatchObject({ vector: 13, error: 0 });
  });

  it("paging cannot be turned off while it is set", () => {
    const w = world(0, PCIDE);
    const { registers } = w.machine;
    registers.write({ cs: { ...registers.cs, selector: SEL.code32, attributes: 0xc09b }, rax: 0x11 });
    expect(w.run(MOV_CR0)).toMatchObject({ vector: 13, error: 0 });
  });

  it("page walks do not take it for an address", () => {
    const w = world(0, PCIDE);
    w.machine.registers.rax = BigInt(TABLES) | 0xfffn;
    w.run(MOV_CR3);
    w.machine.run({ maxInstructions: 0 });
    expect(at(w, LOAD).vector).toBe("none");
  });
});

describe("INVPCID", () => {
  const INVPCID = [0x66, 0x0f, 0x38, 0x82, 0x06]; // rax, [rsi]

  function invpcid(type: bigint, low: bigint, high = 0n, cr4 = PCIDE, level: 0 | 3 = 0): ReturnType<World["run"]> {
    const w = world(level, cr4);
    w.write64(DATA, low);
    w.write64(DATA + 8, high);
    w.machine.registers.rax = type;
    return at(w, INVPCID);
  }

  it.each<[string, () => ReturnType<World["run"]>]>([
    ["type 4", () => invpcid(4n, 0n)],
    ["64 bits of type count", () => invpcid(1n << 32n, 0n)],
    ["reserved bits of the descriptor", () => invpcid(1n, 0x1000n)],
    ["an address that is not canonical", () => invpcid(0n, 1n, 1n << 47n)],
    ["a PCID without PCIDE", () => invpcid(1n, 1n, 0n, 0)],
    ["CPL 3", () => invpcid(2n, 0n, 0n, PCIDE, 3)],
  ])("#GP(0): %s", (_name, run) => {
    expect(run()).toMatchObject({ vector: 13, error: 0, rip: CODE });
  });

  it("succeeds for all four types", () => {
    for (const type of [0n, 1n, 2n, 3n]) expect(invpcid(type, 5n, 0x1000n).vector).toBe("none");
  });

  it("is #UD with a register", () => {
    expect(at(world(0), [0x66, 0x0f, 0x38, 0x82, 0xc6])).toMatchObject({ vector: 6 });
  });
});

describe("global pages", () => {
  it("are dropped like others when their tables change, CR4.PGE or not", () => {
    for (const pge of [0, 0x80]) {
      const w = world(0, pge, { [DATA]: 0x107n });
      expect(at(w, LOAD).vector).toBe("none");
      w.write64(TABLES + 0x4000 + 8 * (DATA >> 12), 0n);
      w.machine.registers.rip = BigInt(CODE);
      expect(at(w, LOAD)).toMatchObject({ vector: 14, error: 0 });
    }
  });
});
