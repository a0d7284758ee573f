// Virtual-8086 mode, and virtual interrupts under CR4.VME and CR4.PVI. @sdm 3B "8086 Emulation"
import { describe, expect, it } from "vitest";
import { type CpuModel, genericModel } from "../../src/index.ts";
import { CODE, gate, SEL, STACK0, TSS, TSS_STACK0, World } from "./world.ts";

const VM = 0x20000;
const VIF = 0x80000;
const VIP = 0x100000;
const IF = 0x200;
const TF = 0x100;
const IOPL3 = 0x3000;
const VME = 1;
const PVI = 2;

const SEGMENT = 0x3000;
const BASE = SEGMENT * 16;
const SP = 0x8000;

/** The generic model without CPUID.1:EDX.VME. */
function plainModel(): CpuModel {
  const model = genericModel();
  return { ...model, cpuid: model.cpuid.map((row) => (row.leaf === 1 ? { ...row, edx: row.edx & ~2 } : row)) };
}

/** vm86 code at 3000:0010, stack 4000:8000. */
function vm86(flags: number, cr4 = 0): World {
  const w = new World("protected");
  const segment = (selector: number) => ({ selector, base: BigInt(selector * 16), limit: 0xffff, attributes: 0xf3 });
  w.machine.registers.write({
    cr4,
    rflags: VM | 2 | flags,
    cs: segment(SEGMENT),
    ss: segment(0x4000),
    ds: segment(0x5000),
    es: segment(0x5000),
    fs: segment(0x5000),
    gs: segment(0x5000),
    rip: 0x10,
    rsp: SP,
  });
  return w;
}

function run(w: World, code: number[], n = 1): ReturnType<World["outcome"]> {
  w.write(BASE + 0x10, ...code);
  w.machine.run({ maxInstructions: n });
  return w.outcome();
}

const word = (w: World, n: number): number =>
  w.read32(0x40000 + Number(w.machine.registers.rsp & 0xffffn) + 2 * n) & 0xffff;
const flags = (w: World): number => Number(w.machine.registers.rflags);

function push(w: World, ...values: number[]): void {
  for (const value of values) {
    w.machine.registers.rsp -= 2n;
    w.write(0x40000 + Number(w.machine.registers.rsp), value & 0xff, value >> 8);
  }
}

const CLI = [0xfa];
const STI = [0xfb];
const PUSHF = [0x9c];
const POPF = [0x9d];
const IRET = [0xcf];
const INT = (n: number): number[] => [0xcd, n];
const WIDE = 0x66;

describe("IOPL 3", () => {
  it("lets CLI, STI, PUSHF, POPF, IRET and INT n act on the real flags", () => {
    const cli = vm86(IOPL3 | IF);
    expect(run(cli, CLI).vector).toBe("none");
    expect(flags(cli) & IF).toBe(0);
    const sti = vm86(IOPL3);
    run(sti, STI);
    expect(flags(sti) & IF).toBe(IF);
    const pushf = vm86(IOPL3 | IF);
    run(pushf, PUSHF);
    expect(word(pushf, 0)).toBe(IOPL3 | IF | 2);
    const popf = vm86(IOPL3);
    push(popf, IF);
    run(popf, POPF);
    // IOPL stays
    expect(flags(popf)).toBe(VM | IOPL3 | IF | 2);
    const iret = vm86(IOPL3 | IF);
    push(iret, 0x8d5, 0x1234, 0x20);
    run(iret, IRET);
    expect(flags(iret)).toBe(VM | IOPL3 | 0x8d7);
    expect(iret.machine.registers.cs).toMatchObject({ selector: 0x1234, base: 0x12340n });
    expect(iret.machine.registers.rip).toBe(0x20n);
  });

  it("INT n goes through the IDT to CPL 0 with the segments on the stack", () => {
    const w = vm86(IOPL3 | IF);
    w.setGate(0x21, gate(14, SEL.code32, 0x20000 + 0x21 * 16, 3));
    expect(run(w, INT(0x21))).toMatchObject({ vector: 0x21, rip: 0x12, cs: SEGMENT, flags: VM | IOPL3 | IF | 2 });
    expect(Number(w.machine.registers.rsp)).toBe(TSS_STACK0 - 36);
    expect([3, 4, 5, 6].map((n) => w.stack(n))).toEqual([SP, 0x4000, 0x5000, 0x5000]);
    expect(w.machine.registers.ds).toMatchObject({ selector: 0, attributes: 0x10000 });
  });

  it("needs a gate to CPL 0: another level is #GP of the selector", () => {
    const w = vm86(IOPL3);
    w.setGate(0x21, gate(14, SEL.code32User, 0x20210, 3));
    expect(run(w, INT(0x21))).toMatchObject({ vector: 13, error: SEL.code32User & ~3 });
    const conforming = vm86(IOPL3);
    conforming.setGate(0x21, gate(14, SEL.conforming, 0x20210, 3));
    expect(run(conforming, INT(0x21))).toMatchObject({ vector: 13, error: SEL.conforming });
  });
});

describe("IOPL below 3", () => {
  it.each([
    ["CLI", CLI],
    ["STI", STI],
    ["PUSHF", PUSHF],
    ["POPF", POPF],
    ["IRET", IRET],
    ["INT n", INT(0x21)],
  ])("%s is #GP(0)", (_name, code) => {
    expect(run(vm86(IF), code)).toMatchObject({ vector: 13, error: 0, rip: 0x10, cs: SEGMENT });
  });

  it("INT3 and INTO are not sensitive", () => {
    const w = vm86(0);
    w.setGate(3, gate(14, SEL.code32, 0x20030, 3));
    expect(run(w, [0xcc])).toMatchObject({ vector: 3, rip: 0x11 });
    const into = vm86(0x800);
    into.setGate(4, gate(14, SEL.code32, 0x20040, 3));
    expect(run(into, [0xce])).toMatchObject({ vector: 4, rip: 0x11 });
  });
});

describe("in vm86 at any IOPL", () => {
  it.each<[string, number[], number]>([
    ["HLT", [0xf4], 13],
    ["MOV CR0", [0x0f, 0x20, 0xc0], 13],
    ["LGDT", [0x0f, 0x01, 0x16, 0, 0], 13],
    ["CLTS", [0x0f, 0x06], 13],
    ["LLDT", [0x0f, 0x00, 0xd0], 6],
    ["LAR", [0x0f, 0x02, 0xc0], 6],
    ["ARPL", [0x63, 0xc0], 6],
    ["VERR", [0x0f, 0x00, 0xe0], 6],
  ])("%s faults", (_name, code, vector) => {
    expect(run(vm86(IOPL3), code)).toMatchObject({ vector, rip: 0x10 });
  });

  it("I/O asks the bitmap of the TSS whatever IOPL is", () => {
    expect(run(vm86(IOPL3), [0xe4, 0x80])).toMatchObject({ vector: 13, error: 0 });
    const open = vm86(0);
    open.machine.registers.write({ tr: { limit: 0x90 } });
    expect(run(open, [0xe4, 0x80]).vector).toBe("none");
  });

  it("CPL is 3, limits are 64 KiB and segments have DPL 3", () => {
    const w = vm86(0);
    expect(w.machine.registers.cpl).toBe(3);
    // mov al, [FFFFH] is the last byte; a word there is #GP(0)
    expect(run(w, [0xa0, 0xff, 0xff]).vector).toBe("none");
    expect(run(vm86(0), [0xa1, 0xff, 0xff])).toMatchObject({ vector: 13, error: 0 });
  });

  it("IRET at CPL 0 brings VIF and VIP with VM", () => {
    const w = new World("protected");
    w.push(4, 0, 0, 0, 0, 0x4000, SP, VM | VIF | IF | 2, SEGMENT, 0x10);
    expect(w.run(IRET).vector).toBe("none");
    expect(flags(w)).toBe(VM | VIF | IF | 2);
  });
});

describe("CR4.VME", () => {
  it("is reserved in a model without it", () => {
    const w = new World("protected", 0, plainModel());
    w.machine.registers.rax = 1n;
    expect(w.run([0x0f, 0x22, 0xe0])).toMatchObject({ vector: 13, error: 0, rip: CODE });
  });

  it("CLI and STI act on VIF; STI with VIP is #GP(0)", () => {
    const cli = vm86(IF | VIF, VME);
    expect(run(cli, CLI).vector).toBe("none");
    expect(flags(cli)).toBe(VM | IF | 2);
    const sti = vm86(0, VME);
    run(sti, STI);
    expect(flags(sti)).toBe(VM | VIF | 2);
    expect(run(vm86(VIP, VME), STI)).toMatchObject({ vector: 13, error: 0, rip: 0x10 });
  });

  it("PUSHF shows VIF as IF, and IOPL 3; 32 bits are #GP(0)", () => {
    const on = vm86(VIF, VME);
    run(on, PUSHF);
    expect(word(on, 0)).toBe(IOPL3 | IF | 2);
    const off = vm86(IF, VME);
    run(off, PUSHF);
    expect(word(off, 0)).toBe(IOPL3 | 2);
    expect(run(vm86(VIF, VME), [WIDE, ...PUSHF])).toMatchObject({ vector: 13, error: 0 });
  });

  it("POPF puts IF into VIF and leaves IF and IOPL alone", () => {
    const w = vm86(0, VME);
    push(w, IF | 0x8d5 | IOPL3);
    expect(run(w, POPF).vector).toBe("none");
    expect(flags(w)).toBe(VM | VIF | 0x8d7);
    expect(Number(w.machine.registers.rsp)).toBe(SP);
    const off = vm86(VIF | IF, VME);
    push(off, 0);
    run(off, POPF);
    expect(flags(off)).toBe(VM | IF | 2);
  });

  it.each<[string, number, number]>([
    ["IF while VIP is pending", VIP, IF],
    ["TF", 0, TF],
  ])("POPF and IRET of %s are #GP(0) without effect", (_name, before, image) => {
    const popf = vm86(before, VME);
    push(popf, image);
    expect(run(popf, POPF)).toMatchObject({ vector: 13, error: 0, rip: 0x10 });
    expect(popf.stack(4)).toBe(SP - 2);
    const iret = vm86(before, VME);
    push(iret, image, SEGMENT, 0x20);
    expect(run(iret, IRET)).toMatchObject({ vector: 13, error: 0, rip: 0x10 });
  });

  it("IRET goes on with VIF", () => {
    const w = vm86(0, VME);
    push(w, IF | 1, 0x1234, 0x20);
    expect(run(w, IRET).vector).toBe("none");
    expect(flags(w)).toBe(VM | VIF | 3);
    expect(w.machine.registers.cs.selector).toBe(0x1234);
  });

  describe("INT n and the redirection map", () => {
    const MAP = 0x68;

    /** I/O map after 32 bytes of redirection map; bit 21H as given. */
    function redirecting(flagBits: number, bit: number): World {
      const w = vm86(flagBits, VME);
      w.machine.registers.write({ tr: { limit: 0x200 } });
      w.write(TSS + 102, MAP + 32, 0);
      w.write(TSS + MAP, ...new Array(32).fill(0));
      w.write(TSS + MAP + 4, bit << 1);
      w.write32(0x21 * 4, 0x2222_0040);
      w.setGate(0x21, gate(14, SEL.code32, 0x20210, 3));
      return w;
    }

    it("bit 0, IOPL 3: the 8086 handler with the real IF", () => {
      const w = redirecting(IOPL3 | IF | VIF, 0);
      expect(run(w, INT(0x21)).vector).toBe("none");
      expect(w.machine.registers.cs).toMatchObject({ selector: 0x2222, base: 0x22220n });
      expect(w.machine.registers.rip).toBe(0x40n);
      expect([word(w, 0), word(w, 1), word(w, 2)]).toEqual([0x12, SEGMENT, IOPL3 | IF | 2]);
      expect(flags(w)).toBe(VM | IOPL3 | VIF | 2);
    });

    it("bit 0, IOPL 0: the 8086 handler with VIF in the place of IF", () => {
      const w = redirecting(IF | VIF, 0);
      expect(run(w, INT(0x21)).vector).toBe("none");
      expect([word(w, 0), word(w, 1), word(w, 2)]).toEqual([0x12, SEGMENT, IOPL3 | IF | 2]);
      expect(flags(w)).toBe(VM | IF | 2);
    });

    it("bit 1: the IDT with IOPL 3, #GP(0) below", () => {
      expect(run(redirecting(IOPL3, 1), INT(0x21))).toMatchObject({ vector: 0x21, rip: 0x12 });
      expect(run(redirecting(0, 1), INT(0x21))).toMatchObject({ vector: 13, error: 0, rip: 0x10 });
    });

    it("INT3 is not redirected", () => {
      const w = redirecting(0, 0);
      w.setGate(3, gate(14, SEL.code32, 0x20030, 3));
      expect(run(w, [0xcc])).toMatchObject({ vector: 3, rip: 0x11 });
    });
  });
});

describe("CR4.PVI", () => {
  const user = (flagBits: number, cr4 = PVI): World => {
    const w = new World("protected", 3);
    w.machine.registers.write({ cr4, rflags: 2 | flagBits });
    return w;
  };

  it("CLI and STI of CPL 3 act on VIF", () => {
    const cli = user(VIF | IF);
    expect(cli.run(CLI).vector).toBe("none");
    expect(flags(cli)).toBe(IF | 2);
    const sti = user(0);
    sti.run(STI);
    expect(flags(sti)).toBe(VIF | 2);
    expect(user(VIP).run(STI)).toMatchObject({ vector: 13, error: 0 });
  });

  it("does not concern POPF, IOPL 3 and CPL 0", () => {
    const popf = user(VIF);
    popf.push(4, 2);
    popf.run(POPF);
    expect(flags(popf)).toBe(VIF | 2);
    const iopl = user(IOPL3 | IF);
    iopl.run(CLI);
    expect(flags(iopl)).toBe(IOPL3 | 2);
    expect(user(IF, 0).run(CLI)).toMatchObject({ vector: 13, error: 0 });
    const zero = new World("protected");
    zero.machine.registers.write({ cr4: PVI, rflags: 2 });
    zero.run(STI);
    expect(flags(zero)).toBe(IF | 2);
    expect(Number(zero.machine.registers.rsp)).toBe(STACK0);
  });
});
