// Task switches of a guest exit, after the checks of the TSS descriptor. @sdm 3C "Treatment of Task Switches"
import { beforeEach, describe, expect, it } from "vitest";
import type { Fields } from "./guests.ts";
import { protectedGuest } from "./guests.ts";
import { GDT, IDT, RAX, Running, STACK, u32 } from "./running.ts";

const vmx = new Running();
const TASK = 0x20;
const TSS = 0x9000n;
const OLD_TSS = 0x9800n;
const CALL = 0;
const IRET = 1;
const JMP = 2;
const GATE = 3;
const REASON_TASK_SWITCH = 9;

const tssDescriptor = (type: bigint, limit = 0x67n): bigint => (TSS << 16n) | (0x80n << 40n) | (type << 40n) | limit;
const taskGate = (selector: number, present = true): bigint =>
  (BigInt(selector) << 16n) | ((present ? 0x8500n : 0x0500n) << 32n);

beforeEach(() => {
  vmx.fresh();
  // 32-bit paging of the guest: one page directory of 4 MiB pages at 4000H
  vmx.fill(0x4000n, 0x1000);
  vmx.poke64(0x4000n, 0x87n);
  vmx.poke64(GDT + 0x10n, 0x00cf9b000000ffffn);
  vmx.poke64(GDT + BigInt(TASK), tssDescriptor(9n));
});

function start(code: readonly number[], set: Fields = {}, gprs: Record<number, bigint> = {}): void {
  vmx.start(
    code,
    {
      ...protectedGuest(),
      GUEST_CR4: 0x2010n,
      GUEST_IDTR_BASE: IDT,
      GUEST_GDTR_BASE: GDT,
      GUEST_GDTR_LIMIT: 0x3fn,
      GUEST_RSP: STACK,
      GUEST_TR_BASE: OLD_TSS,
      ...set,
    },
    gprs,
  );
}

/** 8-byte gate of a 32-bit IDT. */
const idt = (vector: number, low: bigint): void => vmx.poke64(IDT + 8n * BigInt(vector), low);
const far = (opcode: number): number[] => [opcode, 0, 0, 0, 0, TASK, 0];
const qualification = (source: number): bigint => BigInt(TASK) | (BigInt(source) << 30n);

describe("exit 9", () => {
  it.each<[string, number[], number]>([
    ["CALL", far(0x9a), CALL],
    ["JMP", far(0xea), JMP],
  ])("%s to a TSS", (_name, code, source) => {
    start(code);
    expect(vmx.runToExit()).toEqual({ reason: REASON_TASK_SWITCH, qualification: qualification(source) });
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(7n);
    expect(vmx.read("GUEST_RIP")).toBe(0x7000n);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
    // neither TSS nor the busy bit is touched
    expect(vmx.peek64(GDT + BigInt(TASK))).toBe(tssDescriptor(9n));
    expect(vmx.peek64(TSS)).toBe(0n);
  });

  it("CALL through a task gate reports the selector of the TSS", () => {
    vmx.poke64(GDT + 0x30n, taskGate(TASK));
    start([0x9a, 0, 0, 0, 0, 0x30, 0]);
    expect(vmx.runToExit()).toEqual({ reason: REASON_TASK_SWITCH, qualification: qualification(CALL) });
  });

  it("IRET with NT", () => {
    vmx.poke64(GDT + BigInt(TASK), tssDescriptor(11n));
    vmx.poke64(OLD_TSS, BigInt(TASK));
    start([0xcf], { GUEST_RFLAGS: 0x4002n });
    expect(vmx.runToExit()).toEqual({ reason: REASON_TASK_SWITCH, qualification: qualification(IRET) });
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(1n);
    expect(vmx.read("GUEST_RFLAGS")).toBe(0x4002n);
  });

  it("a fault through a task gate, with the event in IDT-vectoring information and RF set", () => {
    idt(13, taskGate(TASK));
    // mov ds, ax with a selector beyond the GDT
    start([0x8e, 0xd8], {}, { [RAX]: 0x7f8n });
    expect(vmx.runToExit()).toEqual({ reason: REASON_TASK_SWITCH, qualification: qualification(GATE) });
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(u32(0x80000b0d));
    expect(vmx.read("IDT_VECTORING_ERROR_CODE")).toBe(0x7f8n);
    expect(vmx.read("GUEST_RIP")).toBe(0x7000n);
    expect(vmx.read("GUEST_RFLAGS")).toBe(0x10002n);
  });

  it("INT n through a task gate, with its length", () => {
    idt(0x30, taskGate(TASK));
    start([0xcd, 0x30]);
    expect(vmx.runToExit()).toEqual({ reason: REASON_TASK_SWITCH, qualification: qualification(GATE) });
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(u32(0x80000430));
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(2n);
    expect(vmx.read("GUEST_RIP")).toBe(0x7000n);
    expect(vmx.read("GUEST_RFLAGS")).toBe(2n);
  });
});

describe("a fault comes before the exit", () => {
  const GP = u32(1 << 13, 1 << 10, 1 << 11);

  it.each<[string, bigint, number, number]>([
    ["busy TSS", tssDescriptor(11n), 13, TASK],
    ["absent TSS", tssDescriptor(9n) & ~(0x80n << 40n), 11, TASK],
    ["short TSS", tssDescriptor(9n, 0x66n), 10, TASK],
    ["gate that is absent", taskGate(TASK, false), 11, TASK],
  ])("%s", (_name, low, vector, error) => {
    vmx.poke64(GDT + BigInt(TASK), low);
    start(far(0x9a), { EXCEPTION_BITMAP: GP });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(u32(0x80000b00 | vector));
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(BigInt(error));
  });

  it("of an event's task gate: both events are recorded", () => {
    vmx.poke64(GDT + BigInt(TASK), tssDescriptor(11n));
    idt(6, taskGate(TASK));
    start([0x0f, 0x0b], { EXCEPTION_BITMAP: GP });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(u32(0x80000b0d));
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(BigInt(TASK | 1));
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(u32(0x80000306));
  });
});
