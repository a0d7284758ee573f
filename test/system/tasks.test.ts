// Hardware task switches. @sdm 3A "Task Switching", table "Exception Conditions Checked During a Task Switch"
import { describe, expect, it } from "vitest";
import { CODE, DATA, descriptor, GDT, gate, HANDLERS, SEL, STACK0, TABLES, TSS, World } from "./world.ts";

const TSS2 = 0x15000;
const TSS3 = 0x16000;
const TASK2 = SEL.free;
const TASK3 = SEL.free2;
const ENTRY2 = 0x110000;
const ENTRY3 = 0x118000;
const STACK2 = 0xa0000;
const STACK3 = 0xb0000;
const REGISTERS = [0xa0, 0xc1, 0xd2, 0xb3, STACK2, 0xb5, 0x56, 0xd7];

/** Offsets in a 32-bit TSS. */
const AT = {
  link: 0,
  cr3: 0x1c,
  eip: 0x20,
  eflags: 0x24,
  eax: 0x28,
  esp: 0x38,
  es: 0x48,
  cs: 0x4c,
  ss: 0x50,
  ds: 0x54,
  fs: 0x58,
  gs: 0x5c,
  ldt: 0x60,
  trap: 0x64,
};

function task32(w: World, base: number, entry: number, stack: number): void {
  w.write32(base + AT.eip, entry);
  w.write32(base + AT.eflags, 2);
  for (const [i, value] of REGISTERS.entries()) w.write32(base + AT.eax + 4 * i, value);
  w.write32(base + AT.esp, stack);
  for (const seg of [AT.es, AT.ss, AT.ds, AT.fs, AT.gs]) w.write32(base + seg, SEL.data);
  w.write32(base + AT.cs, SEL.code32);
  w.write32(base + AT.ldt, 0);
  w.write32(base + AT.trap, 0x680000);
}

function world(level: 0 | 3 = 0): World {
  const w = new World("protected", level);
  w.setDescriptor(TASK2, descriptor(level ? 0xe9 : 0x89, 0, TSS2, 0x67));
  w.setDescriptor(SEL.tss, descriptor(0x8b, 0, TSS, 0x67));
  w.setDescriptor(TASK3, descriptor(0x89, 0, TSS3, 0x67));
  task32(w, TSS2, ENTRY2, STACK2);
  task32(w, TSS3, ENTRY3, STACK3);
  w.write(ENTRY3, 0xf4);
  return w;
}

const jmp = (selector: number): number[] => [0xea, 0, 0, 0, 0, selector & 0xff, selector >> 8];
const call = (selector: number): number[] => [0x9a, 0, 0, 0, 0, selector & 0xff, selector >> 8];
const IRET = [0xcf];
const UD2 = [0x0f, 0x0b];

const typeOf = (w: World, selector: number): number => w.machine.readMemory(GDT + (selector & ~7) + 5, 1)[0]! & 0x1f;
const tss = (w: World): Uint8Array => w.machine.readMemory(TSS, 0x68);
const go = (w: World, n = 1): void => void w.machine.run({ maxInstructions: n });

describe("JMP to a TSS", () => {
  it("saves the old task, loads the new one, and moves the busy bit", () => {
    const w = world();
    const { registers } = w.machine;
    registers.write({ rax: 0x11111111, rbp: 0x55555555, rdi: 0x77777777, rflags: 0xad7 });
    expect(w.run(jmp(TASK2)).vector).toBe("none");
    expect([typeOf(w, SEL.tss), typeOf(w, TASK2)]).toEqual([9, 11]);
    expect(registers.tr).toMatchObject({ selector: TASK2, base: BigInt(TSS2), limit: 0x67, attributes: 0x8b });
    expect(Number(registers.rip)).toBe(ENTRY2);
    expect([registers.rax, registers.rcx, registers.rdx, registers.rbx].map(Number)).toEqual(REGISTERS.slice(0, 4));
    expect([registers.rsp, registers.rbp, registers.rsi, registers.rdi].map(Number)).toEqual(REGISTERS.slice(4));
    expect(registers.rflags).toBe(2n);
    expect(registers.cr0 & 8n).toBe(8n);
    // the old task
    expect([w.read32(TSS + AT.eip), w.read32(TSS + AT.eflags)]).toEqual([CODE + 7, 0xad7]);
    expect([w.read32(TSS + AT.eax), w.read32(TSS + AT.eax + 20), w.read32(TSS + AT.eax + 28)]).toEqual([
      0x11111111, 0x55555555, 0x77777777,
    ]);
    expect(w.read32(TSS + AT.esp)).toBe(STACK0);
    expect([AT.es, AT.cs, AT.ss, AT.gs].map((at) => w.read32(TSS + at))).toEqual([
      SEL.data,
      SEL.code32,
      SEL.data,
      SEL.data,
    ]);
    expect(w.read32(TSS2)).toBe(0);
  });

  it("writes 16 bits of each selector slot", () => {
    const w = world();
    w.write32(TSS + AT.fs, 0xabcd1234);
    w.run(jmp(TASK2));
    expect(w.read32(TSS + AT.fs)).toBe((0xabcd0000 | SEL.data) >>> 0);
  });

  it("clears L0-L3 and LE of DR7, keeps G0-G3", () => {
    const w = world();
    w.machine.registers.write({ dr7: 0x7ff });
    w.run(jmp(TASK2));
    expect(w.machine.registers.dr7).toBe(0x6aan);
  });

  it("loads the LDT", () => {
    const w = world();
    w.write32(TSS2 + AT.ldt, SEL.ldt);
    w.write32(TSS2 + AT.gs, 4);
    w.write64(DATA, descriptor(0x92, 0xc, 0x1000));
    w.run(jmp(TASK2));
    expect(w.machine.registers.ldtr).toMatchObject({ selector: SEL.ldt, base: BigInt(DATA) });
    // selector 4 names entry 0 of the LDT and is not null
    expect(w.machine.registers.gs).toMatchObject({ selector: 4, base: 0x1000n });
  });

  it("raises #DB with DR6.BT before the first instruction of a task with T set", () => {
    const w = world();
    w.write32(TSS2 + AT.trap, 1);
    expect(w.run(jmp(TASK2), 2)).toMatchObject({ vector: 1, rip: ENTRY2 });
    expect(w.machine.registers.dr6 & 0xe00fn).toBe(0x8000n);
  });

  it("loads CR3 when paging is on", () => {
    const w = world();
    for (const root of [TABLES, TABLES + 0x2000]) {
      w.write32(root, (root + 0x1000) | 7);
      for (let i = 0; i < 1024; i++) w.write32(root + 0x1000 + 4 * i, (i << 12) | 7);
    }
    w.write32(TSS2 + AT.cr3, TABLES + 0x2000);
    w.machine.registers.write({ cr0: 0x80000011, cr3: TABLES });
    w.run(jmp(TASK2));
    expect(w.machine.registers.cr3).toBe(BigInt(TABLES + 0x2000));
    // CR3 of the old task is not saved
    expect(w.read32(TSS + AT.cr3)).toBe(0);
  });
});

describe("CALL and IRET", () => {
  it("nest: link, NT, both busy; IRET goes back", () => {
    const w = world();
    const { registers } = w.machine;
    registers.rflags = 0x8d7n;
    w.write(ENTRY2, ...IRET);
    expect(w.run(call(TASK2)).vector).toBe("none");
    expect([typeOf(w, SEL.tss), typeOf(w, TASK2)]).toEqual([11, 11]);
    expect(w.read32(TSS2) & 0xffff).toBe(SEL.tss);
    expect(registers.rflags).toBe(0x4002n);
    go(w);
    expect([typeOf(w, SEL.tss), typeOf(w, TASK2)]).toEqual([11, 9]);
    expect(Number(registers.rip)).toBe(CODE + 7);
    expect(registers.rflags).toBe(0x8d7n);
    expect(Number(registers.rsp)).toBe(STACK0);
    // saved for the next call: past the IRET, NT clear
    expect([w.read32(TSS2 + AT.eip), w.read32(TSS2 + AT.eflags)]).toEqual([ENTRY2 + 1, 2]);
  });

  it("go through task gates of the GDT, whose DPL counts and not that of the TSS", () => {
    const w = world(3);
    w.setDescriptor(TASK2, descriptor(0x89, 0, TSS2, 0x67));
    w.setDescriptor(TASK3, gate(5, TASK2, 0, 3));
    expect(w.run(call(TASK3 | 3)).vector).toBe("none");
    expect(w.machine.registers.tr.selector).toBe(TASK2);
    expect(w.machine.registers.cpl).toBe(0);
  });

  it("IRET of a task whose link is itself reloads what it has just saved", () => {
    const w = world();
    w.write32(TSS, SEL.tss);
    w.machine.registers.rflags = 0x4002n;
    // clearing busy of the old task leaves an available TSS in TR
    expect(w.run(IRET).vector).toBe("none");
    expect(Number(w.machine.registers.rip)).toBe(CODE + 1);
    expect(w.machine.registers.rflags).toBe(2n);
  });
});

describe("task gates in the IDT", () => {
  it("a fault saves the faulting EIP with RF set, and pushes its error code in the new task", () => {
    const w = world();
    w.setGate(6, gate(5, TASK2, 0));
    w.run(UD2);
    expect(Number(w.machine.registers.rip)).toBe(ENTRY2);
    expect([w.read32(TSS + AT.eip), w.read32(TSS + AT.eflags)]).toEqual([CODE, 0x10002]);
    expect(Number(w.machine.registers.rsp)).toBe(STACK2);
    expect(w.machine.registers.rflags).toBe(0x4002n);

    const gp = world();
    gp.setGate(13, gate(5, TASK2, 0));
    gp.machine.registers.rax = 0x7f8n;
    gp.run([0x8e, 0xd8]); // mov ds, ax
    expect(Number(gp.machine.registers.rsp)).toBe(STACK2 - 4);
    expect(gp.stack(0)).toBe(0x7f8);
  });

  it("INT n saves the next EIP, with the DPL of the gate checked", () => {
    const w = world(3);
    w.setGate(0x30, gate(5, TASK2, 0, 3));
    w.run([0xcd, 0x30]);
    expect(w.machine.registers.tr.selector).toBe(TASK2);
    expect(w.read32(TSS + AT.eip)).toBe(CODE + 2);
    expect(w.read32(TSS + AT.cs)).toBe(SEL.code32User);
    const low = world(3);
    low.setGate(0x30, gate(5, TASK2, 0, 0));
    expect(low.run([0xcd, 0x30])).toMatchObject({ vector: 13, error: (0x30 << 3) | 2 });
  });

  it("an external interrupt enters a task", () => {
    const w = world();
    w.setGate(0x20, gate(5, TASK2, 0));
    w.machine.registers.rflags = 0x202n;
    w.machine.interrupt(0x20);
    w.run([0x90]);
    expect(Number(w.machine.registers.rip)).toBe(ENTRY2);
    expect([w.read32(TSS + AT.eip), w.read32(TSS + AT.eflags)]).toEqual([CODE, 0x202]);
  });

  it("a task gate in IA-32e mode is #GP", () => {
    const w = new World("long");
    w.setGate(6, gate(5, SEL.tss, 0));
    expect(w.run(UD2)).toMatchObject({ vector: 13, error: (6 << 3) | 3, rip: CODE });
  });
});

describe("checks before the switch", () => {
  const unchanged = (w: World, before: Uint8Array): void => {
    expect(tss(w)).toEqual(before);
    expect(w.machine.registers.tr.selector).toBe(SEL.tss);
  };

  it.each<[string, (w: World) => void, number, number]>([
    ["busy TSS", (w) => w.setDescriptor(TASK2, descriptor(0x8b, 0, TSS2, 0x67)), 13, TASK2],
    ["absent TSS", (w) => w.setDescriptor(TASK2, descriptor(0x09, 0, TSS2, 0x67)), 11, TASK2],
    ["short 32-bit TSS", (w) => w.setDescriptor(TASK2, descriptor(0x89, 0, TSS2, 0x66)), 10, TASK2],
    ["short 16-bit TSS", (w) => w.setDescriptor(TASK2, descriptor(0x81, 0, TSS2, 0x2a)), 10, TASK2],
    ["gate to a selector beyond the GDT", (w) => w.setDescriptor(TASK2, gate(5, 0x7f0, 0)), 13, 0x7f0],
    ["gate to the LDT", (w) => w.setDescriptor(TASK2, gate(5, TASK3 | 4, 0)), 13, TASK3 | 4],
    ["gate to null", (w) => w.setDescriptor(TASK2, gate(5, 0, 0)), 13, 0],
    ["gate to data", (w) => w.setDescriptor(TASK2, gate(5, SEL.data, 0)), 13, SEL.data],
    ["absent gate", (w) => w.setDescriptor(TASK2, gate(5, TASK3, 0) & ~(0x80n << 40n)), 11, TASK2],
    ["short old TSS", (w) => w.machine.registers.write({ tr: { limit: 0x60 } }), 10, SEL.tss],
  ])("CALL: %s", (_name, prepare, vector, error) => {
    const w = world();
    prepare(w);
    const before = tss(w);
    expect(w.run(call(TASK2))).toMatchObject({ vector, error, rip: CODE });
    unchanged(w, before);
  });

  it.each<[string, number]>([
    ["DPL below CPL", TASK3 | 3],
    ["RPL above DPL", SEL.tss | 3],
  ])("JMP at CPL 3: %s", (_name, selector) => {
    const w = world(3);
    expect(w.run(jmp(selector))).toMatchObject({ vector: 13, error: selector & ~3, rip: CODE });
  });

  it.each<[string, number, (w: World) => void, number, number]>([
    ["link to an available TSS", TASK2, () => {}, 10, TASK2],
    ["link beyond the GDT", 0x7f0, () => {}, 10, 0x7f0],
    ["null link", 0, () => {}, 10, 0],
    ["link to the LDT", TASK2 | 4, () => {}, 10, TASK2 | 4],
    ["absent TSS", TASK2, (w) => w.setDescriptor(TASK2, descriptor(0x0b, 0, TSS2, 0x67)), 11, TASK2],
    ["short TSS", TASK2, (w) => w.setDescriptor(TASK2, descriptor(0x8b, 0, TSS2, 0x20)), 10, TASK2],
  ])("IRET: %s", (_name, link, prepare, vector, error) => {
    const w = world();
    w.write32(TSS, link);
    prepare(w);
    w.machine.registers.rflags = 0x4002n;
    expect(w.run(IRET)).toMatchObject({ vector, error, rip: CODE });
  });

  it("EXT is set in the error code when an exception comes to a bad task", () => {
    const w = world();
    w.setDescriptor(TASK2, descriptor(0x89, 0, TSS2, 0x20));
    w.setGate(6, gate(5, TASK2, 0));
    expect(w.run(UD2)).toMatchObject({ vector: 10, error: TASK2 | 1, rip: CODE });
    const soft = world();
    soft.setDescriptor(TASK2, descriptor(0x89, 0, TSS2, 0x20));
    soft.setGate(0x30, gate(5, TASK2, 0));
    expect(soft.run([0xcd, 0x30])).toMatchObject({ vector: 10, error: TASK2 });
  });

  it.each(["old", "new"])("a page fault of the %s TSS leaves no effect", (which) => {
    const w = world();
    w.write32(TABLES, (TABLES + 0x1000) | 7);
    for (let i = 0; i < 1024; i++) w.write32(TABLES + 0x1000 + 4 * i, (i << 12) | 7);
    // the second page of a TSS that crosses a page
    const base = 0xc0fd0;
    w.write32(TABLES + 0x1000 + 4 * 0xc1, 0);
    w.write32(TSS2 + AT.cr3, TABLES);
    if (which === "new") w.setDescriptor(TASK2, descriptor(0x89, 0, base, 0x67));
    else w.machine.registers.write({ tr: { base: BigInt(base) } });
    w.machine.registers.write({ cr0: 0x80000011, cr3: TABLES });
    const before = [typeOf(w, TASK2), typeOf(w, SEL.tss), ...w.machine.readMemory(base, 0x30), ...tss(w)];
    expect(w.run(jmp(TASK2))).toMatchObject({ vector: 14, rip: CODE });
    expect(w.machine.registers.cr2).toBe(0xc1000n);
    expect([typeOf(w, TASK2), typeOf(w, SEL.tss), ...w.machine.readMemory(base, 0x30), ...tss(w)]).toEqual(before);
  });
});

describe("faults of the new task", () => {
  // their handlers are a third task, since the stack of the new one may not be loaded
  it.each<[string, (w: World) => void, number, number]>([
    ["LDT that is no LDT", (w) => w.write32(TSS2 + AT.ldt, SEL.data), 10, SEL.data],
    ["LDT selector with TI", (w) => w.write32(TSS2 + AT.ldt, SEL.ldt | 4), 10, SEL.ldt | 4],
    [
      "absent LDT",
      (w) => {
        w.setDescriptor(SEL.ldt, descriptor(0x02, 0, DATA, 0xf));
        w.write32(TSS2 + AT.ldt, SEL.ldt);
      },
      10,
      SEL.ldt,
    ],
    ["null CS", (w) => w.write32(TSS2 + AT.cs, 0), 10, 0],
    ["CS of data", (w) => w.write32(TSS2 + AT.cs, SEL.data), 10, SEL.data],
    ["CS with RPL other than DPL", (w) => w.write32(TSS2 + AT.cs, SEL.code32 | 3), 10, SEL.code32],
    ["absent CS", (w) => w.write32(TSS2 + AT.cs, SEL.codeAbsent), 11, SEL.codeAbsent],
    ["null SS", (w) => w.write32(TSS2 + AT.ss, 0), 10, 0],
    ["read-only SS", (w) => w.write32(TSS2 + AT.ss, SEL.readOnly), 10, SEL.readOnly],
    ["SS of another DPL", (w) => w.write32(TSS2 + AT.ss, SEL.dataUser), 10, SEL.dataUser & ~3],
    ["absent SS", (w) => w.write32(TSS2 + AT.ss, SEL.dataAbsent), 12, SEL.dataAbsent],
    ["DS not readable", (w) => w.write32(TSS2 + AT.ds, SEL.executeOnly), 10, SEL.executeOnly],
    ["absent ES", (w) => w.write32(TSS2 + AT.es, SEL.dataAbsent), 11, SEL.dataAbsent],
    ["FS beyond the GDT", (w) => w.write32(TSS2 + AT.fs, 0x7f8), 10, 0x7f8],
  ])("%s", (_name, prepare, vector, error) => {
    const w = world();
    prepare(w);
    for (const v of [10, 11, 12]) w.setGate(v, gate(5, TASK3, 0));
    expect(w.run(jmp(TASK2), 2).vector).toBe("none");
    const { registers } = w.machine;
    expect(registers.tr.selector).toBe(TASK3);
    expect(w.read32(TSS3) & 0xffff).toBe(TASK2);
    expect([Number(registers.rip), Number(registers.rsp), w.stack(0)]).toEqual([ENTRY3, STACK3 - 4, error]);
    // the switch itself is complete; the fault is before the first instruction of the new task
    expect([typeOf(w, SEL.tss), typeOf(w, TASK2)]).toEqual([9, 11]);
    expect([w.read32(TSS2 + AT.eip), w.read32(TSS2 + AT.eflags)]).toEqual([ENTRY2, 0x10002]);
    expect(vector).toBeGreaterThan(9);
  });

  it("comes to an interrupt gate on the stack of the new task once SS is loaded", () => {
    const w = world();
    w.write32(TSS2 + AT.ds, SEL.executeOnly);
    expect(w.run(jmp(TASK2), 2)).toMatchObject({ vector: 10, error: SEL.executeOnly, rip: ENTRY2, cs: SEL.code32 });
    expect(Number(w.machine.registers.rsp)).toBe(STACK2 - 16);
    expect(Number(w.machine.registers.rip)).toBe(HANDLERS + 160);
  });

  it("an EIP beyond the limit is #GP(0) in the new task", () => {
    const w = world();
    w.write32(TSS2 + AT.cs, SEL.code16);
    expect(w.run(jmp(TASK2), 2)).toMatchObject({ vector: 13, error: 0, rip: ENTRY2 });
  });
});

describe("16-bit TSS", () => {
  const TSS16 = 0x17000;
  const WORDS = [0x100, 0x0246, 0xa0, 0xc1, 0xd2, 0xb3, 0x8000, 0xb5, 0x56, 0xd7];

  function world16(): World {
    const w = world();
    w.setDescriptor(TASK2, descriptor(0x81, 0, TSS16, 0x2b));
    const words = [...WORDS, SEL.data, SEL.code16, SEL.data, SEL.data, 0];
    for (const [i, value] of words.entries()) w.write(TSS16 + 0x0e + 2 * i, value & 0xff, value >> 8);
    return w;
  }

  it("takes 16 bits of each register and makes FS and GS null", () => {
    const w = world16();
    expect(w.run(jmp(TASK2)).vector).toBe("none");
    const { registers } = w.machine;
    expect([registers.rip, registers.rflags].map(Number)).toEqual(WORDS.slice(0, 2));
    expect([registers.rax, registers.rcx, registers.rdi].map((r) => Number(r & 0xffffn))).toEqual([0xa0, 0xc1, 0xd7]);
    expect(registers.fs).toMatchObject({ selector: 0, attributes: 0x10000 });
    expect(registers.tr.attributes).toBe(0x83);
    expect(w.machine.codeMode).toBe(16);
  });

  it("is saved in words and returned to", () => {
    const w = world16();
    w.write(0x100, 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xcf); // mov eax, 12345678h; iret
    expect(w.run(call(TASK2), 3).vector).toBe("none");
    expect(Number(w.machine.registers.rip)).toBe(CODE + 7);
    expect(w.read32(TSS16)).toBe(SEL.tss);
    // IP, FLAGS without NT, AX
    expect([w.read32(TSS16 + 0x0e), w.read32(TSS16 + 0x12) & 0xffff]).toEqual([0x02460107, 0x5678]);
    expect(typeOf(w, TASK2)).toBe(1);
  });
});

it("a task may run in vm86", () => {
  const w = world();
  w.write32(TSS2 + AT.eflags, 0x23002);
  w.write32(TSS2 + AT.cs, 0x3000);
  w.write32(TSS2 + AT.ds, 0x4000);
  w.write32(TSS2 + AT.eip, 0x10);
  expect(w.run(jmp(TASK2)).vector).toBe("none");
  const { registers } = w.machine;
  expect(registers.cs).toMatchObject({ selector: 0x3000, base: 0x30000n, limit: 0xffff, attributes: 0xf3 });
  expect(registers.ds.base).toBe(0x40000n);
  expect(registers.cpl).toBe(3);
});
