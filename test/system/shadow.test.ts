// The interrupt shadow of STI and of loads of SS, NMI blocking, RF and what breakpoints do in a shadow.
// @sdm 3A "Masking Maskable Hardware Interrupts", "Masking Exceptions and Interrupts When Switching Stacks", "Handling
// Multiple NMIs"; 3B "Debug Exceptions"
import { describe, expect, it } from "vitest";
import { CODE, DATA, gate, HANDLERS, SEL, World } from "./world.ts";

const NOP = 0x90;
const STI = 0xfb;
const CLI = 0xfa;
const MOV_SS_AX = [0x8e, 0xd0];
const POP_SS = 0x17;
const IF = 0x200;
const TF = 0x100;
const RF = 0x10000;
const INTERRUPT = 0x20;
const NMI = 2;
const DEBUG = 1;

function world(flags = 0): World {
  const w = new World("protected");
  w.machine.registers.write({ rflags: 2 | flags, rax: BigInt(SEL.data) });
  return w;
}

/** Runs this code until a handler begins. */
function until(w: World, code: number[]): ReturnType<World["outcome"]> {
  w.write(CODE, ...code);
  for (let i = 0; i < code.length + 2; i++) {
    w.machine.step();
    const outcome = w.outcome();
    if (outcome.vector !== "none") return outcome;
  }
  return w.outcome();
}

describe("STI", () => {
  it("lets the next instruction run before a pending interrupt", () => {
    const w = world();
    w.machine.interrupt(INTERRUPT);
    expect(until(w, [STI, NOP, NOP])).toMatchObject({ vector: INTERRUPT, rip: CODE + 2, flags: IF | 2 });
  });

  it("followed by CLI leaves no window", () => {
    const w = world();
    w.machine.interrupt(INTERRUPT);
    expect(until(w, [STI, CLI, NOP, NOP]).vector).toBe("none");
  });

  it("twice casts one shadow only", () => {
    const w = world();
    w.machine.interrupt(INTERRUPT);
    expect(until(w, [STI, STI, NOP, NOP])).toMatchObject({ vector: INTERRUPT, rip: CODE + 2 });
  });

  it("with IF already set casts none", () => {
    const w = world(IF);
    w.write(CODE, STI, NOP, NOP);
    w.machine.step();
    w.machine.interrupt(INTERRUPT);
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: INTERRUPT, rip: CODE + 1 });
  });

  it("does not hold back a fault of the instruction in its shadow, whose handler the interrupt then waits for", () => {
    const w = world();
    w.machine.interrupt(INTERRUPT);
    expect(until(w, [STI, 0x0f, 0x0b])).toMatchObject({ vector: 6, rip: CODE + 1 });
  });

  it("does not hold back a single-step trap", () => {
    expect(until(world(TF), [STI, NOP])).toMatchObject({ vector: DEBUG, rip: CODE + 1 });
  });

  it("HLT in its shadow is left by the interrupt", () => {
    const w = world();
    w.machine.interrupt(INTERRUPT);
    expect(until(w, [STI, 0xf4, NOP])).toMatchObject({ vector: INTERRUPT, rip: CODE + 2 });
  });
});

describe.each([
  ["MOV SS", [...MOV_SS_AX]],
  ["POP SS", [POP_SS]],
] as const)("%s", (name, load) => {
  const end = CODE + load.length;
  const ready = (flags: number): World => {
    const w = world(flags);
    if (name === "POP SS") w.push(4, SEL.data);
    return w;
  };

  it("holds back an interrupt for one instruction", () => {
    const w = ready(IF);
    w.write(CODE, ...load, NOP, NOP);
    w.machine.step();
    w.machine.interrupt(INTERRUPT);
    w.machine.step();
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: INTERRUPT, rip: end + 1 });
  });

  it("holds back an NMI for one instruction", () => {
    const w = ready(0);
    w.write(CODE, ...load, NOP, NOP);
    w.machine.step();
    w.machine.nmi();
    w.machine.step();
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: NMI, rip: end + 1 });
  });

  it("drops the single-step trap after it: the next one comes an instruction later", () => {
    expect(until(ready(TF), [...load, NOP, NOP])).toMatchObject({ vector: DEBUG, rip: end + 1 });
  });

  it("drops an instruction breakpoint on the next instruction", () => {
    const w = ready(0);
    w.machine.registers.write({ dr0: BigInt(end), dr7: 0x401n });
    expect(until(w, [...load, NOP, NOP]).vector).toBe("none");
  });

  it("a software interrupt in its shadow is delivered", () => {
    expect(until(ready(0), [...load, 0xcc])).toMatchObject({ vector: 3, rip: end + 1 });
  });
});

describe("NMI", () => {
  it("is blocked until IRET", () => {
    const w = world();
    w.write(HANDLERS + NMI * 16, NOP, 0xcf);
    w.write(CODE, NOP, NOP);
    w.machine.nmi();
    w.machine.step();
    expect(Number(w.machine.registers.rip)).toBe(HANDLERS + NMI * 16);
    w.machine.nmi();
    w.machine.step();
    expect(Number(w.machine.registers.rip)).toBe(HANDLERS + NMI * 16 + 1);
    w.machine.step(); // IRET
    expect(Number(w.machine.registers.rip)).toBe(CODE);
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: NMI, rip: CODE });
  });

  it("blocking ends with an IRET that faults", () => {
    const w = world();
    // the handler returns to a null code segment: #GP(0)
    w.write(HANDLERS + NMI * 16, 0x6a, 0, 0x6a, 0, 0x6a, 0, 0xcf);
    w.write(HANDLERS + 13 * 16, NOP, NOP);
    w.machine.nmi();
    for (let i = 0; i < 5; i++) w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: 13, error: 0 });
    w.machine.nmi();
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: NMI, rip: HANDLERS + 13 * 16 });
  });

  it("is taken before an external interrupt, and does not ask IF", () => {
    const w = world(IF);
    w.machine.interrupt(INTERRUPT);
    w.machine.nmi();
    w.write(CODE, NOP);
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: NMI, rip: CODE });
    const off = world();
    off.machine.nmi();
    off.write(CODE, NOP);
    off.machine.step();
    expect(off.outcome().vector).toBe(NMI);
  });

  it("does not block external interrupts that its handler allows", () => {
    const w = world();
    w.write(HANDLERS + NMI * 16, STI, NOP, NOP);
    w.machine.nmi();
    w.machine.step();
    w.machine.interrupt(INTERRUPT);
    for (let i = 0; i < 3; i++) w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: INTERRUPT, rip: HANDLERS + NMI * 16 + 2 });
  });
});

describe("RF", () => {
  it("is set in the frame of a fault, clear in those of traps, interrupts and software interrupts", () => {
    expect(until(world(), [0x0f, 0x0b]).flags! & RF).toBe(RF);
    expect(until(world(TF), [NOP, NOP]).flags! & RF).toBe(0);
    expect(until(world(), [0xcc]).flags! & RF).toBe(0);
    expect(until(world(), [0xcd, INTERRUPT]).flags! & RF).toBe(0);
    const w = world(IF);
    w.machine.interrupt(INTERRUPT);
    expect(until(w, [NOP]).flags! & RF).toBe(0);
  });

  it("set by IRET keeps one instruction breakpoint away", () => {
    const w = world();
    w.machine.registers.write({ dr0: BigInt(CODE + 0x10), dr7: 0x401n });
    w.push(4, RF | 2, SEL.code32, CODE + 0x10);
    w.write(CODE + 0x10, NOP, 0xeb, 0xfd);
    w.write(CODE, 0xcf);
    for (let i = 0; i < 3; i++) w.machine.step();
    expect(w.outcome().vector).toBe("none");
    expect(Number(w.machine.registers.rip)).toBe(CODE + 0x10);
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: DEBUG, rip: CODE + 0x10 });
  });

  it("is cleared by POPF", () => {
    const w = world(RF);
    w.push(4, RF | 2);
    w.write(CODE, 0x9d);
    w.machine.step();
    expect(Number(w.machine.registers.rflags) & RF).toBe(0);
  });
});

describe("breakpoints and interrupts together", () => {
  it("a data breakpoint's trap comes before a pending interrupt, at the same address", () => {
    const w = world(IF);
    w.machine.registers.write({ dr0: BigInt(DATA), dr7: 0x10401n });
    w.write(CODE, 0xc6, 0x05, DATA & 0xff, (DATA >> 8) & 0xff, (DATA >> 16) & 0xff, 0, 1, NOP);
    w.machine.step();
    w.machine.interrupt(INTERRUPT);
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: DEBUG, rip: CODE + 7 });
  });

  it("the interrupt is taken in the trap's handler when its gate leaves IF set", () => {
    const w = world(IF);
    w.setGate(DEBUG, gate(15, SEL.code32, HANDLERS + DEBUG * 16));
    w.machine.registers.rflags = BigInt(IF | TF | 2);
    w.write(CODE, NOP, NOP);
    w.machine.step();
    w.machine.interrupt(INTERRUPT);
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: DEBUG, rip: CODE + 1 });
    w.machine.step();
    expect(w.outcome()).toMatchObject({ vector: INTERRUPT, rip: HANDLERS + DEBUG * 16 });
  });
});
