// Exceptions, interrupts, windows, injection and IDT vectoring. SDM 3C "Other Causes of VM Exits", "Event Injection",
// "Information for VM Exits That Occur During Event Delivery".
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { ACTIVITY, CR2, INTERRUPTIBILITY } from "../../assembly/abi/state.ts";
import type { Fields } from "./guests.ts";
import { HANDLER, RAX, RBX, Running, STACK, START, u32 } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

const VALID = 0x80000000n;
const pin = (...bits: number[]): Fields => ({ PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, ...bits) });
const primary = (...bits: number[]): Fields => ({ PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, ...bits) });
const inject = (type: number, vector: number, error?: bigint): Fields => ({
  ENTRY_INTERRUPTION_INFO: VALID | BigInt((type << 8) | vector) | (error === undefined ? 0n : 0x800n),
  ENTRY_EXCEPTION_ERROR_CODE: error ?? 0n,
  ENTRY_INSTRUCTION_LENGTH: 2n,
});
const bitmap = (...vectors: number[]): Fields => ({
  EXCEPTION_BITMAP: vectors.reduce((all, vector) => all | (1n << BigInt(vector)), 0n),
});
const UD2 = [0x0f, 0x0b];
const NOPS = [0x90, 0x90, 0x90, 0x90];
const RF = 0x10000n;
const handler = (vector: number) => HANDLER + 16n * BigInt(vector);

describe("exceptions", () => {
  it("exit by their bit in the exception bitmap, with RF saved as 1", () => {
    vmx.start(UD2, bitmap(6));
    expect(vmx.runToExit()).toEqual({ reason: 0, qualification: 0n });
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000306n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.read("GUEST_RFLAGS") & RF).toBe(RF);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
  });

  it("are delivered through the guest's IDT otherwise", () => {
    vmx.start(UD2, bitmap(13));
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(handler(6));
    expect(vmx.stack(5)).toEqual([START, 0x10n, RF | 2n, STACK, 0x18n]);
  });

  it("INT3 is a software exception: RIP of the instruction and its length", () => {
    vmx.start([0xcc], bitmap(3));
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000603n);
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(1n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });

  it("INT n is not subject to the exception bitmap", () => {
    vmx.start([0xcd, 0x06], bitmap(6));
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(handler(6));
  });

  it("#GP with its error code", () => {
    vmx.start([0x8e, 0xd8], bitmap(13), { [RAX]: 0x28n }); // mov ds, ax beyond the GDT limit
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0dn);
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(0x28n);
  });

  it("single step: the qualification has BS, RIP is that of the next instruction", () => {
    vmx.start(NOPS, { ...bitmap(1), GUEST_RFLAGS: 0x102n });
    expect(vmx.runToExit()).toEqual({ reason: 0, qualification: 0x4000n });
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000301n);
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
  });
});

describe("#PF", () => {
  const TOUCH = [0x48, 0x8b, 0x03]; // mov rax, [rbx]
  const LINEAR = 0x4000_0000n; // not mapped: error code 0
  const cases = [
    { bit: 1, mask: 0n, match: 0n, exits: true },
    { bit: 0, mask: 0n, match: 0n, exits: false },
    { bit: 1, mask: 0n, match: 1n, exits: false },
    { bit: 0, mask: 0n, match: 1n, exits: true },
    { bit: 1, mask: 4n, match: 0n, exits: true },
    { bit: 1, mask: 4n, match: 4n, exits: false },
    { bit: 0, mask: 1n, match: 1n, exits: true },
  ];
  it.each(cases)("bit $bit, mask $mask, match $match", ({ bit, mask, match, exits }) => {
    const set = { PAGE_FAULT_ERROR_CODE_MASK: mask, PAGE_FAULT_ERROR_CODE_MATCH: match };
    vmx.start(TOUCH, { ...(bit ? bitmap(14) : {}), ...set }, { [RBX]: LINEAR });
    vmx.write64(CR2, 0x1234n);
    const got = vmx.runToExit();
    if (exits) {
      expect(got).toEqual({ reason: 0, qualification: LINEAR });
      expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0en);
      expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(0n);
      expect(vmx.read64(CR2)).toBe(0x1234n);
    } else {
      expect(got.reason).toBe(18);
      expect(vmx.read("GUEST_RIP")).toBe(handler(14));
      expect(vmx.read64(CR2)).toBe(LINEAR);
    }
  });
});

describe("faults during delivery", () => {
  it("a #GP of the delivery exits with IDT-vectoring information of the first fault", () => {
    vmx.gate(6, handler(6), false); // #NP
    vmx.start(UD2, bitmap(11));
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0bn);
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(6n * 8n + 3n);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000306n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });

  it("INT n: IDT-vectoring information of type 4 with the instruction length", () => {
    vmx.gate(0x30, handler(0x30), false);
    vmx.start([0xcd, 0x30], bitmap(11));
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000430n);
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(2n);
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(0x30n * 8n + 2n);
  });

  it("two contributory faults exit as #DF, which has no IDT-vectoring information", () => {
    vmx.gate(13, handler(13), false);
    vmx.start([0x8e, 0xd8], bitmap(8), { [RAX]: 0x28n });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b08n);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
  });

  it("a fault of the #DF's delivery is a triple fault", () => {
    vmx.start(UD2, { GUEST_IDTR_LIMIT: 0n });
    expect(vmx.runToExit()).toEqual({ reason: 2, qualification: 0n });
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0n);
    expect(vmx.read("GUEST_ACTIVITY_STATE")).toBe(0n);
  });

  it("and a fault of the #DF's delivery that is intercepted is reported with the #DF", () => {
    vmx.gate(13, handler(13), false);
    vmx.gate(8, handler(8), false);
    vmx.gate(11, handler(11), true);
    vmx.start([0x8e, 0xd8], bitmap(11), { [RAX]: 0x28n });
    expect(vmx.runToExit().reason).toBe(0);
    // the #NP of the #GP's delivery is intercepted first
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000b0dn);
    expect(vmx.read("IDT_VECTORING_ERROR_CODE")).toBe(0x28n);
  });
});

describe("external interrupts", () => {
  it("exit whatever IF is, and stay pending without acknowledge", () => {
    vmx.start(NOPS, pin(c.PIN_EXTERNAL_INTERRUPT_EXITING));
    vmx.core.raiseInterrupt(0x30);
    expect(vmx.runToExit()).toEqual({ reason: 1, qualification: 0n });
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.enter(false).entered).toBe(true);
    expect(vmx.runToExit().reason).toBe(1);
    vmx.core.raiseInterrupt(-1);
  });

  it("acknowledge interrupt on exit takes the vector", () => {
    const exit = u32(c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE, c.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    vmx.start(NOPS, { ...pin(c.PIN_EXTERNAL_INTERRUPT_EXITING), PRIMARY_EXIT_CONTROLS: exit });
    vmx.core.raiseInterrupt(0x30);
    expect(vmx.runToExit().reason).toBe(1);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000030n);
    expect(vmx.enter(false).entered).toBe(true);
    expect(vmx.runToExit().reason).toBe(18);
  });

  it("go to the guest without the control, when IF is 1", () => {
    vmx.start(NOPS, { GUEST_RFLAGS: 0x202n });
    vmx.core.raiseInterrupt(0x30);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(handler(0x30));
  });

  it("wait for one instruction behind STI blocking", () => {
    const set = { GUEST_RFLAGS: 0x202n, GUEST_INTERRUPTIBILITY_STATE: 1n };
    vmx.start(NOPS, { ...pin(c.PIN_EXTERNAL_INTERRUPT_EXITING), ...set });
    vmx.core.raiseInterrupt(0x30);
    expect(vmx.runToExit().reason).toBe(1);
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(0n);
    vmx.core.raiseInterrupt(-1);
  });

  it("wake a guest in HLT, whose saved activity state is HLT", () => {
    vmx.start(NOPS, { ...pin(c.PIN_EXTERNAL_INTERRUPT_EXITING), GUEST_ACTIVITY_STATE: 1n });
    expect(vmx.core.run(10n, 1000n)).toBe(RunCode.Halt);
    vmx.core.raiseInterrupt(0x30);
    expect(vmx.runToExit().reason).toBe(1);
    expect(vmx.read("GUEST_ACTIVITY_STATE")).toBe(1n);
    expect(vmx.read32(ACTIVITY)).toBe(0);
    vmx.core.raiseInterrupt(-1);
  });
});

describe("interrupt window", () => {
  const WINDOW = primary(c.PRIMARY_INTERRUPT_WINDOW_EXITING);
  it("exits before the first instruction when it is open", () => {
    vmx.start(NOPS, { ...WINDOW, GUEST_RFLAGS: 0x202n });
    expect(vmx.runToExit()).toEqual({ reason: 7, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });
  it("exits one instruction after STI", () => {
    vmx.start([0xfb, ...NOPS], WINDOW);
    expect(vmx.runToExit().reason).toBe(7);
    expect(vmx.read("GUEST_RIP")).toBe(START + 2n);
  });
  it("stays shut with IF 0", () => {
    vmx.start(NOPS, WINDOW);
    expect(vmx.runToExit().reason).toBe(18);
  });
  it("comes before an external interrupt", () => {
    vmx.start(NOPS, { ...WINDOW, ...pin(c.PIN_EXTERNAL_INTERRUPT_EXITING), GUEST_RFLAGS: 0x202n });
    vmx.core.raiseInterrupt(0x30);
    expect(vmx.runToExit().reason).toBe(7);
    vmx.core.raiseInterrupt(-1);
  });
});

describe("NMI", () => {
  const VIRTUAL = pin(c.PIN_NMI_EXITING, c.PIN_VIRTUAL_NMIS);
  it("exits with NMI exiting, and blocks NMIs afterwards", () => {
    vmx.start(NOPS, pin(c.PIN_NMI_EXITING));
    vmx.core.raiseNmi();
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000202n);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(0n);
    expect(vmx.read32(INTERRUPTIBILITY)).toBe(8);
  });
  it("goes to the guest's vector 2 without", () => {
    vmx.start(NOPS);
    vmx.core.raiseNmi();
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(handler(2));
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(8n);
  });
  it("is held back by NMI blocking, but not by virtual-NMI blocking", () => {
    vmx.start(NOPS, { ...pin(c.PIN_NMI_EXITING), GUEST_INTERRUPTIBILITY_STATE: 8n });
    vmx.core.raiseNmi();
    expect(vmx.runToExit().reason).toBe(18);
    vmx.fresh();
    vmx.start(NOPS, { ...VIRTUAL, GUEST_INTERRUPTIBILITY_STATE: 8n });
    vmx.core.raiseNmi();
    expect(vmx.runToExit().reason).toBe(0);
  });
  it("the NMI window opens without virtual-NMI blocking and comes before the NMI", () => {
    const set = { ...VIRTUAL, ...primary(c.PRIMARY_NMI_WINDOW_EXITING) };
    vmx.start(NOPS, set);
    vmx.core.raiseNmi();
    expect(vmx.runToExit().reason).toBe(8);
    vmx.fresh();
    vmx.start(NOPS, { ...set, GUEST_INTERRUPTIBILITY_STATE: 8n });
    expect(vmx.runToExit().reason).toBe(18);
  });
  it("IRET ends virtual-NMI blocking", () => {
    const frame = [0x6a, 0x18, 0x54, 0x6a, 0x02, 0x6a, 0x10, 0x68, 0x40, 0x70, 0, 0, 0x48, 0xcf];
    vmx.start(frame, { ...VIRTUAL, GUEST_INTERRUPTIBILITY_STATE: 8n });
    vmx.code([0x0f, 0x01, 0xc1], 0x7040n);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(0x7040n);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(0n);
  });
});

describe("NMI unblocking due to IRET", () => {
  // an IRET whose frame has a CS beyond the GDT limit
  const bad = [0x6a, 0x18, 0x54, 0x6a, 0x02, 0x6a, 0x28, 0x6a, 0x00];
  const IRETQ = [0x48, 0xcf];
  const blocked: Fields = { GUEST_INTERRUPTIBILITY_STATE: 8n };
  it("a fault of IRET that exits reports it and the saved state has no blocking", () => {
    vmx.start([...bad, ...IRETQ], { ...blocked, ...bitmap(13) });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("GUEST_RIP")).toBe(START + 9n);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80001b0dn);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(0n);
  });
  it("not when NMIs were not blocked", () => {
    vmx.start([...bad, ...IRETQ], bitmap(13));
    vmx.runToExit();
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0dn);
  });
  it("not with NMI exiting alone, where IRET does not touch blocking", () => {
    vmx.start([...bad, ...IRETQ], { ...blocked, ...bitmap(13), ...pin(c.PIN_NMI_EXITING) });
    vmx.runToExit();
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0dn);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(8n);
  });
  it("a later fault does not report it", () => {
    const good = [0x6a, 0x18, 0x54, 0x6a, 0x02, 0x6a, 0x10, 0x68, 0x40, 0x70, 0, 0, ...IRETQ];
    vmx.start(good, { ...blocked, ...bitmap(6) });
    vmx.code(UD2, 0x7040n);
    vmx.runToExit();
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000306n);
  });
});

describe("INIT", () => {
  it("makes a guest exit", () => {
    vmx.start(NOPS);
    vmx.core.reset(1);
    expect(vmx.runToExit()).toEqual({ reason: 3, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });
});

describe("injection", () => {
  const cases = [
    { title: "external interrupt", set: { ...inject(0, 0x30), GUEST_RFLAGS: 0x202n }, vector: 0x30, flags: 0x202n },
    { title: "NMI", set: inject(2, 2), vector: 2 },
    { title: "hardware exception", set: inject(3, 6), vector: 6 },
    { title: "software interrupt", set: inject(4, 0x30), vector: 0x30, ahead: 2n },
    { title: "privileged software exception", set: inject(5, 1), vector: 1, ahead: 2n },
    { title: "software exception", set: inject(6, 3), vector: 3, ahead: 2n },
  ];
  it.each(cases)("$title: through the IDT before the first instruction", ({ set, vector, ahead, flags }) => {
    vmx.start(NOPS, { ...set, ...bitmap(1, 3, 6) });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(handler(vector));
    expect(vmx.stack(5)).toEqual([START + (ahead ?? 0n), 0x10n, flags ?? 2n, STACK, 0x18n]);
    expect(vmx.read("ENTRY_INTERRUPTION_INFO") & VALID).toBe(0n);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
  });

  it("pushes the error code, leaves CR2, and RF as the guest's RFLAGS says", () => {
    vmx.start(NOPS, { ...inject(3, 14, 0x1fn), GUEST_RFLAGS: 0x10002n });
    vmx.write64(CR2, 0x1234n);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.stack(4)).toEqual([0x1fn, START, 0x10n, 0x10002n]);
    expect(vmx.read64(CR2)).toBe(0x1234n);
  });

  it("an NMI blocks NMIs", () => {
    vmx.start(NOPS, inject(2, 2));
    vmx.runToExit();
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(8n);
  });

  it("wakes a guest in HLT", () => {
    vmx.start(NOPS, { ...inject(2, 2), GUEST_ACTIVITY_STATE: 1n });
    expect(vmx.runToExit().reason).toBe(18);
  });

  it("a fault of the delivery is intercepted, with the injected event as IDT-vectoring information", () => {
    vmx.gate(0x30, handler(0x30), false);
    vmx.start(NOPS, { ...inject(4, 0x30), ...bitmap(11) });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0bn);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000430n);
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(2n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.read("ENTRY_INTERRUPTION_INFO") & VALID).toBe(0n);
  });
});

describe("pending debug exceptions", () => {
  it("BS is a #DB before the first instruction", () => {
    vmx.start(NOPS, { ...bitmap(1), GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n });
    expect(vmx.runToExit()).toEqual({ reason: 0, qualification: 0x4000n });
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.read("GUEST_PENDING_DEBUG_EXCEPTIONS")).toBe(0n);
  });
  it("comes before an interrupt window", () => {
    const set = { GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n, GUEST_RFLAGS: 0x202n };
    vmx.start(NOPS, { ...bitmap(1), ...primary(c.PRIMARY_INTERRUPT_WINDOW_EXITING), ...set });
    expect(vmx.runToExit().reason).toBe(0);
  });
  it("is dropped by the injection of an exception", () => {
    vmx.start(NOPS, { ...bitmap(1), ...inject(3, 6), GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(handler(6));
  });
});
