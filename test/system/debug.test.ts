// Breakpoints, single step, general detect, ICEBP. @sdm 3B "Debug Registers", "Debug Exceptions"
import { describe, expect, it } from "vitest";
import { CODE, DATA, gate, HANDLERS, IDT, SEL, STACK0, STACK3, TSS_STACK0, World } from "./world.ts";

const NOP = 0x90;
const DR6_CLEAR = 0xffff0ff0n;

/** DR7 with breakpoint n enabled; rw: 0 code, 1 write, 2 I/O, 3 read or write; len: bytes. */
function dr7(n: number, rw: number, len = 1): bigint {
  const code = { 1: 0, 2: 1, 8: 2, 4: 3 }[len] ?? 0;
  return 0x400n | (1n << BigInt(2 * n)) | (BigInt(rw | (code << 2)) << BigInt(16 + 4 * n));
}

function watching(w: World, n: number, address: number, rw: number, len = 1): World {
  w.machine.registers.write({ [`dr${n}`]: BigInt(address), dr7: dr7(n, rw, len) });
  return w;
}

const hits = (w: World): number => Number(w.machine.registers.dr6 & 0xe00fn);

/** movb $0, [DATA + offset] etc. in 32-bit code. */
const store8 = (at: number): number[] => [0xc6, 0x05, ...word(at), 0];
const store32 = (at: number): number[] => [0xc7, 0x05, ...word(at), 1, 0, 0, 0];
const load8 = (at: number): number[] => [0xa0, ...word(at)];
const word = (v: number): number[] => [v & 0xff, (v >> 8) & 0xff, (v >> 16) & 0xff, v >>> 24];

describe("instruction breakpoints", () => {
  it("fault before the instruction, with RF clear in the frame", () => {
    const w = watching(new World("protected"), 2, CODE + 1, 0);
    expect(w.run([NOP, 0x40], 2)).toMatchObject({ vector: 1, rip: CODE + 1, flags: 2 });
    expect(w.machine.registers.dr6).toBe(DR6_CLEAR | 4n);
    expect(w.machine.registers.rax).toBe(0n);
  });

  it("do not fault again when IRET sets RF, and do the next time", () => {
    const w = watching(new World("protected"), 0, CODE, 0);
    w.machine.registers.rflags = 0x10002n;
    // inc eax; jmp back
    expect(w.run([0x40, 0xeb, 0xfd], 3)).toMatchObject({ vector: 1, rip: CODE });
    expect(w.machine.registers.rax).toBe(1n);
  });

  it("match the first byte only", () => {
    const w = watching(new World("protected"), 0, CODE + 1, 0);
    expect(w.run([0xb8, 1, 0, 0, 0], 1).vector).toBe("none");
  });

  it("a disabled one does nothing", () => {
    const w = new World("protected");
    w.machine.registers.write({ dr0: BigInt(CODE), dr7: 0x400n });
    expect(w.run([NOP]).vector).toBe("none");
  });

  it("are enabled by MOV DR7 for the next instruction", () => {
    const w = new World("protected");
    w.machine.registers.write({ dr0: BigInt(CODE + 3), rax: 0x401 });
    expect(w.run([0x0f, 0x23, 0xf8, NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 3 });
  });

  it("are inhibited after MOV SS", () => {
    const w = watching(new World("protected"), 0, CODE + 2, 0);
    w.machine.registers.rax = BigInt(SEL.data);
    expect(w.run([0x8e, 0xd0, NOP, NOP], 3).vector).toBe("none");
  });

  it("come after an external interrupt and before a fault of the instruction", () => {
    const w = watching(new World("protected"), 0, CODE, 0);
    w.machine.registers.rflags = 0x202n;
    w.machine.interrupt(0x20);
    expect(w.run([0x0f, 0x0b])).toMatchObject({ vector: 0x20, rip: CODE });
    const fault = watching(new World("protected"), 0, CODE, 0);
    expect(fault.run([0x0f, 0x0b])).toMatchObject({ vector: 1, rip: CODE });
  });

  it("compare linear addresses", () => {
    const w = watching(new World("protected"), 0, CODE, 0);
    w.machine.registers.write({ cs: { base: 0x1000n }, rip: CODE - 0x1000 });
    expect(w.run([NOP])).toMatchObject({ vector: 1, rip: CODE - 0x1000 });
  });
});

describe("data breakpoints", () => {
  it("trap after a write", () => {
    const w = watching(new World("protected"), 1, DATA, 1);
    expect(w.run([...store8(DATA), NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 7, flags: 2 });
    expect(w.machine.registers.dr6).toBe(DR6_CLEAR | 2n);
  });

  it("of writes do not see reads, of reads and writes see both, none sees a fetch", () => {
    expect(watching(new World("protected"), 0, DATA, 1).run([...load8(DATA), NOP], 2).vector).toBe("none");
    expect(watching(new World("protected"), 0, DATA, 3).run([...load8(DATA), NOP], 2)).toMatchObject({ vector: 1 });
    expect(watching(new World("protected"), 0, CODE, 3).run([NOP, NOP], 2).vector).toBe("none");
  });

  it.each<[string, number, number, number[], boolean]>([
    ["last byte of 4", DATA, 4, store8(DATA + 3), true],
    ["byte after 4", DATA, 4, store8(DATA + 4), false],
    ["byte before", DATA + 4, 4, store8(DATA + 3), false],
    ["access over the start", DATA + 4, 1, store32(DATA + 1), true],
    ["address bits below the length are ignored", DATA + 3, 4, store8(DATA), true],
    ["8 bytes", DATA, 8, store8(DATA + 7), true],
    ["the page after", DATA + 0x1000, 1, store32(DATA + 0xffd), true],
  ])("%s", (_name, address, len, code, hit) => {
    const w = watching(new World("protected"), 0, address, 1, len);
    expect(w.run([...code, NOP], 2).vector).toBe(hit ? 1 : "none");
  });

  it("see a page that was written before they were enabled", () => {
    const w = new World("protected");
    // write; mov dr7, eax; write
    w.machine.registers.write({ dr0: BigInt(DATA), rax: Number(dr7(0, 1)) });
    expect(w.run([...store8(DATA), 0x0f, 0x23, 0xf8, ...store8(DATA), NOP], 4)).toMatchObject({
      vector: 1,
      rip: CODE + 17,
    });
  });

  it("see stack accesses and read-modify-write", () => {
    const push = watching(new World("protected"), 0, STACK0 - 4, 1, 4);
    expect(push.run([0x50, NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 1 });
    const inc = watching(new World("protected"), 0, DATA, 1);
    expect(inc.run([0xfe, 0x05, ...word(DATA), NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 6 });
  });

  it("trap between the iterations of a REP, with RF in the frame", () => {
    const w = watching(new World("protected"), 0, DATA + 2, 1);
    w.machine.registers.write({ rcx: 8, rdi: DATA, rax: 0x55 });
    expect(w.run([0xf3, 0xaa, NOP], 1)).toMatchObject({ vector: 1, rip: CODE, flags: 0x10002 });
    expect([w.machine.registers.rcx, w.machine.registers.rdi]).toEqual([5n, BigInt(DATA + 3)]);
    // the last iteration: the instruction is complete
    const last = watching(new World("protected"), 0, DATA + 7, 1);
    last.machine.registers.write({ rcx: 8, rdi: DATA, rax: 0x55 });
    expect(last.run([0xf3, 0xaa, NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 2, flags: 2 });
  });

  it("wait one instruction after MOV SS", () => {
    const w = watching(new World("protected"), 0, DATA, 3, 2);
    w.write(DATA, SEL.data, 0);
    expect(w.run([0x8e, 0x15, ...word(DATA), NOP, NOP], 3)).toMatchObject({ vector: 1, rip: CODE + 7 });
  });

  it("are not reported for an instruction that faults", () => {
    const w = watching(new World("protected"), 0, DATA, 3);
    // push dword [DATA] on a stack without room
    w.machine.registers.write({ ss: { limit: 0x40000 } });
    w.setGate(12, gate(5, SEL.tss, 0));
    w.run([0xff, 0x35, ...word(DATA)], 1);
    expect(hits(w)).toBe(0);
  });

  it("several at once, and the single step", () => {
    const w = new World("protected");
    w.machine.registers.write({
      dr0: BigInt(DATA),
      dr3: BigInt(DATA + 1),
      dr7: dr7(0, 1) | dr7(3, 3),
      rflags: 0x102n,
    });
    expect(w.run([...store32(DATA), NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 10 });
    expect(hits(w)).toBe(0x4009);
  });
});

describe("I/O breakpoints", () => {
  it("trap after the access when CR4.DE is set", () => {
    const w = watching(new World("protected"), 0, 0x81, 2);
    w.machine.registers.write({ cr4: 8 });
    // in ax, 80h reaches port 81h
    expect(w.run([0x66, 0xe5, 0x80, NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 3 });
    expect(hits(w)).toBe(1);
    const out = watching(new World("protected"), 0, 0x81, 2);
    out.machine.registers.write({ cr4: 8 });
    expect(out.run([0xe6, 0x80, NOP], 2).vector).toBe("none");
  });

  it("do not exist when it is clear", () => {
    const w = watching(new World("protected"), 0, 0x80, 2);
    expect(w.run([0xe6, 0x80, NOP], 2).vector).toBe("none");
  });
});

describe("single step", () => {
  it("traps after each instruction with BS, TF in the frame and clear in the handler", () => {
    const w = new World("protected");
    w.machine.registers.rflags = 0x102n;
    expect(w.run([NOP], 2)).toMatchObject({ vector: 1, rip: CODE + 1, flags: 0x102 });
    expect(hits(w)).toBe(0x4000);
    expect(w.machine.registers.rflags & 0x100n).toBe(0n);
  });

  it("does not trap after INT n, which clears TF", () => {
    const w = new World("protected");
    w.machine.registers.rflags = 0x102n;
    w.write(HANDLERS + 0x30 * 16, NOP, 0xf4);
    expect(w.run([0xcd, 0x30], 2)).toMatchObject({ vector: 0x30, flags: 0x102 });
    expect(hits(w)).toBe(0);
  });

  it("begins after the instruction that follows POPF", () => {
    const w = new World("protected");
    w.push(4, 0x102);
    expect(w.run([0x9d, NOP, NOP], 3)).toMatchObject({ vector: 1, rip: CODE + 2 });
  });

  it("waits one instruction after MOV SS", () => {
    const w = new World("protected");
    w.machine.registers.write({ rax: SEL.data, rflags: 0x102n });
    expect(w.run([0x8e, 0xd0, NOP, NOP], 3)).toMatchObject({ vector: 1, rip: CODE + 3 });
  });

  it("with IA32_DEBUGCTL.BTF traps after taken branches only, and the trap clears BTF", () => {
    const w = new World("protected");
    w.machine.writeMsr(0x1d9, 2n);
    w.machine.registers.rflags = 0x102n;
    // nop; jz (not taken); jmp +1
    expect(w.run([NOP, 0x74, 0, 0xeb, 1, NOP, NOP], 4)).toMatchObject({ vector: 1, rip: CODE + 6 });
    expect(w.machine.readMsr(0x1d9)).toBe(0n);
  });
});

describe("ICEBP and general detect", () => {
  it("INT1 comes to the handler without a look at DPL, and changes DR6 in no bit", () => {
    const w = new World("protected", 3);
    expect(w.run([0xf1])).toMatchObject({ vector: 1, rip: CODE + 1 });
    expect(w.machine.registers.dr6).toBe(DR6_CLEAR);
    expect(Number(w.machine.registers.rsp)).toBe(TSS_STACK0 - 20);
  });

  it("MOV DR with GD is a fault with BD and RF in the frame; the handler may use the registers", () => {
    const w = new World("protected");
    w.machine.registers.write({ dr7: 0x2400n });
    expect(w.run([0x0f, 0x21, 0xc0])).toMatchObject({ vector: 1, rip: CODE, flags: 0x10002 });
    expect(hits(w)).toBe(0x2000);
    expect(w.machine.registers.dr7 & 0x2000n).toBe(0n);
  });

  it("CPL 3 has #GP(0) before general detect; DR4 with CR4.DE has #UD before both", () => {
    const w = new World("protected", 3);
    w.machine.registers.write({ dr7: 0x2400n });
    expect(w.run([0x0f, 0x21, 0xc0])).toMatchObject({ vector: 13, error: 0 });
    const ud = new World("protected", 3);
    ud.machine.registers.write({ dr7: 0x2400n, cr4: 8 });
    expect(ud.run([0x0f, 0x21, 0xe0])).toMatchObject({ vector: 6 });
  });

  it("DR4 and DR5 are DR6 and DR7 with CR4.DE clear", () => {
    const w = new World("protected");
    w.machine.registers.write({ dr7: 0x701n });
    w.run([0x0f, 0x21, 0xe8]); // mov eax, dr5
    expect(w.machine.registers.rax).toBe(0x701n);
  });
});

// @sdm 3A "Interrupt 17-Alignment Check Exception (#AC)"
describe("alignment checks", () => {
  const aligned = (level: 0 | 3, rflags = 0x40002n): World => {
    const w = new World("protected", level);
    w.machine.registers.write({ cr0: 0x40011, rflags });
    return w;
  };

  it.each<[string, number[], boolean]>([
    ["word at an odd address", [0x66, 0xa1, ...word(DATA + 1)], true],
    ["doubleword at 2", [0xa1, ...word(DATA + 2)], true],
    ["byte", load8(DATA + 1), false],
    ["aligned doubleword", [0xa1, ...word(DATA + 4)], false],
    ["store", store32(DATA + 1), true],
    ["read-modify-write", [0xff, 0x05, ...word(DATA + 3)], true],
    ["SIDT at 2 modulo 4", [0x0f, 0x01, 0x0d, ...word(DATA + 2)], false],
    ["SIDT at 0 modulo 4", [0x0f, 0x01, 0x0d, ...word(DATA)], true],
  ])("CPL 3: %s", (_name, code, faults) => {
    const outcome = aligned(3).run(code);
    if (faults) expect(outcome).toMatchObject({ vector: 17, error: 0, rip: CODE });
    else expect(outcome.vector).toBe("none");
  });

  it("need CPL 3, CR0.AM and RFLAGS.AC", () => {
    const code = [0xa1, ...word(DATA + 2)];
    expect(aligned(0).run(code).vector).toBe("none");
    expect(aligned(3, 2n).run(code).vector).toBe("none");
    const am = aligned(3);
    am.machine.registers.write({ cr0: 0x11 });
    expect(am.run(code).vector).toBe("none");
  });

  it("PUSH on a stack that is not aligned", () => {
    const w = aligned(3);
    w.machine.registers.rsp = BigInt(STACK3 - 2);
    expect(w.run([0x50])).toMatchObject({ vector: 17, error: 0, rip: CODE });
    expect(w.stack(4)).toBe(STACK3 - 2);
  });

  it("implicit accesses to tables are not checked", () => {
    const w = aligned(3);
    w.machine.registers.write({ gdtr: { base: 0x10000n } });
    w.machine.registers.write({ idtr: { base: BigInt(IDT) + 2n } });
    for (let v = 0; v < 64; v++) w.write64(IDT + 2 + v * 8, gate(14, SEL.code32, HANDLERS + v * 16));
    expect(w.run([0x0f, 0x0b])).toMatchObject({ vector: 6 });
  });
});
