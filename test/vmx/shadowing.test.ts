// VMREAD and VMWRITE of a guest that has a shadow VMCS; PAUSE-loop exiting.
// SDM 3C "VMCS Types: Ordinary and Shadow", "VMREAD", "VMWRITE", "Instructions That Cause VM Exits Conditionally".
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { VmxResult } from "../../assembly/abi/run.ts";
import { TSC_RATIO } from "../../assembly/abi/state.ts";
import { type Fields, longGuest, writeFields } from "./guests.ts";
import { field, NONE } from "./harness.ts";
import { RAX, RBX, RCX, RDI, Running, START, u32 } from "./running.ts";

const vmx = new Running();
const READS = 0x11000n;
const WRITES = 0x12000n;
const SHADOW = 0x13000n;
const INDICATOR = 0x80000000;
const VMREAD = [0x0f, 0x78, 0xc8]; // vmread rax, rcx
const VMREAD_MEMORY = [0x0f, 0x78, 0x0f]; // vmread [rdi], rcx
const VMWRITE = [0x0f, 0x79, 0xc8]; // vmwrite rcx, rax
const VMWRITE_MEMORY = [0x0f, 0x79, 0x0f];
const CF = 1n;
const ZF = 0x40n;
const RIP_FIELD = BigInt(field("GUEST_RIP").encoding);

const SECOND = u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS);
const shadowing = (): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_VMCS_SHADOWING),
  VMREAD_BITMAP_ADDRESS: READS,
  VMWRITE_BITMAP_ADDRESS: WRITES,
  VMCS_LINK_POINTER: SHADOW,
});
const forbid = (bitmap: bigint, encoding: bigint) => vmx.poke(bitmap + (encoding >> 3n), [1 << Number(encoding & 7n)]);
/** A field of the shadow VMCS, which an ordinary VMPTRLD makes current for a moment. */
function inShadow<T>(use: () => T): T {
  vmx.core.vmptrld(SHADOW);
  const result = use();
  vmx.core.vmptrld(vmx.vmcs);
  return result;
}
function exit(code: readonly number[], encoding: bigint, set: Fields = {}, value = 0x1234_5678_9abcn) {
  vmx.start(code, { ...shadowing(), ...set }, { [RCX]: encoding, [RAX]: value, [RDI]: 0x15000n });
  return vmx.runToExit().reason;
}
const flags = () => vmx.read("GUEST_RFLAGS") & 0x8d5n;

beforeEach(() => {
  vmx.fresh();
  vmx.formatRegion(SHADOW, vmx.revision | INDICATOR);
  vmx.core.vmclear(SHADOW);
  inShadow(() => vmx.write("GUEST_RIP", 0x1111_2222_3333n));
});

describe("a shadow VMCS", () => {
  it("can be current, read and written in root operation, but not entered", () => {
    expect(vmx.core.vmptrld(SHADOW)).toBe(VmxResult.Succeed);
    writeFields(vmx, longGuest());
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.enter()).toEqual({ result: VmxResult.FailInvalid, entered: false });
  });
  it("cannot be the VMXON region", () => {
    vmx.core.vmxoff();
    expect(vmx.core.vmxon(SHADOW)).toBe(VmxResult.FailInvalid);
  });
  it("another revision with the indicator is error 11", () => {
    vmx.formatRegion(SHADOW, (vmx.revision + 1) | INDICATOR);
    expect(vmx.outcome(vmx.core.vmptrld(SHADOW))).toEqual({ result: VmxResult.FailValid, error: 11 });
  });
});

describe("VMREAD and VMWRITE in a guest", () => {
  it("act on the shadow VMCS", () => {
    expect(exit(VMREAD, RIP_FIELD)).toBe(18);
    expect(vmx.gpr(RAX)).toBe(0x1111_2222_3333n);
    expect(flags()).toBe(0n);
    vmx.fresh();
    vmx.formatRegion(SHADOW, vmx.revision | INDICATOR);
    expect(exit(VMWRITE, RIP_FIELD)).toBe(18);
    expect(inShadow(() => vmx.read("GUEST_RIP"))).toBe(0x1234_5678_9abcn);
    expect(vmx.read("GUEST_RIP")).toBe(START + 3n);
  });
  it("with memory operands", () => {
    expect(exit(VMREAD_MEMORY, RIP_FIELD)).toBe(18);
    expect(vmx.peek64(0x15000n)).toBe(0x1111_2222_3333n);
    vmx.write("GUEST_RIP", START);
    vmx.code([...VMWRITE_MEMORY, 0x0f, 0x01, 0xc1]);
    vmx.poke64(0x15000n, 0x77n);
    expect(vmx.enter(false).entered).toBe(true);
    vmx.setGpr(RCX, RIP_FIELD);
    vmx.setGpr(RDI, 0x15000n);
    expect(vmx.runToExit().reason).toBe(18);
    expect(inShadow(() => vmx.read("GUEST_RIP"))).toBe(0x77n);
  });
  it("widths and high halves are those of VMWRITE in root operation", () => {
    exit(VMWRITE, BigInt(field("TSC_OFFSET").encoding + 1), {}, 0xaabb_ccdd_1122_3344n);
    expect(inShadow(() => vmx.read("TSC_OFFSET"))).toBe(0x1122_3344_0000_0000n);
    vmx.fresh();
    vmx.formatRegion(SHADOW, vmx.revision | INDICATOR);
    exit(VMWRITE, BigInt(field("VPID").encoding), {}, 0xaabb_ccdd_1122_3344n);
    expect(inShadow(() => vmx.read("VPID"))).toBe(0x3344n);
  });
  it.each([
    ["VMREAD", VMREAD, READS, 23],
    ["VMWRITE", VMWRITE, WRITES, 25],
  ] as const)(
    "%s exits where its bitmap says so, and for encodings of more than 15 bits",
    (_, code, bitmap, reason) => {
      forbid(bitmap, RIP_FIELD);
      expect(exit(code, RIP_FIELD)).toBe(reason);
      expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(3n);
      // register 0 as operand, encoding in register 1
      expect(vmx.read("EXIT_INSTRUCTION_INFO")).toBe(0x1000_0400n);
      for (const encoding of [0x8000n, 1n << 63n, (1n << 32n) | RIP_FIELD]) {
        vmx.write("GUEST_RIP", START);
        vmx.enter(false);
        vmx.setGpr(RCX, encoding);
        expect(vmx.runToExit().reason).toBe(reason);
      }
    },
  );
  it("each bitmap governs its own instruction", () => {
    forbid(WRITES, RIP_FIELD);
    expect(exit(VMREAD, RIP_FIELD)).toBe(18);
    vmx.fresh();
    vmx.formatRegion(SHADOW, vmx.revision | INDICATOR);
    forbid(READS, RIP_FIELD);
    expect(exit(VMWRITE, RIP_FIELD)).toBe(18);
  });
  it("always exit without the control", () => {
    expect(exit(VMREAD, RIP_FIELD, { SECONDARY_PROC_BASED_CONTROLS: 0n, VMCS_LINK_POINTER: NONE })).toBe(23);
  });
  it("fail invalid without a link pointer", () => {
    expect(exit(VMREAD, RIP_FIELD, { VMCS_LINK_POINTER: NONE })).toBe(18);
    expect(flags()).toBe(CF);
    vmx.fresh();
    expect(exit(VMWRITE_MEMORY, RIP_FIELD, { VMCS_LINK_POINTER: NONE })).toBe(18);
    expect(flags()).toBe(CF);
  });
  it("a field that does not exist is error 12, one that is read-only error 13", () => {
    expect(exit(VMREAD, 0x6ffen)).toBe(18);
    expect(flags()).toBe(ZF);
    // VMfailValid writes the current VMCS, not the one accessed (SDM 3C "Conventions"; Bochs alike: hypervisor-edges)
    expect(vmx.read("VM_INSTRUCTION_ERROR")).toBe(12n);
    inShadow(() => expect(vmx.read("VM_INSTRUCTION_ERROR")).toBe(0n));
    vmx.fresh();
    vmx.formatRegion(SHADOW, vmx.revision | INDICATOR);
    expect(exit(VMWRITE, BigInt(field("EXIT_REASON").encoding))).toBe(18);
    expect(flags()).toBe(ZF);
    expect(vmx.read("VM_INSTRUCTION_ERROR")).toBe(13n);
  });
  it("CPL 3: exit first, #GP(0) where the instruction does not exit", () => {
    const user: Fields = {
      GUEST_CS_SELECTOR: 0x13n,
      GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
      GUEST_SS_SELECTOR: 0x1bn,
      GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
      EXCEPTION_BITMAP: 0x2000n,
    };
    expect(exit(VMREAD, RIP_FIELD, user)).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0dn);
    vmx.fresh();
    vmx.formatRegion(SHADOW, vmx.revision | INDICATOR);
    forbid(READS, RIP_FIELD);
    expect(exit(VMREAD, RIP_FIELD, user)).toBe(23);
  });
  it("what a guest wrote counts when the VMCS is entered later", () => {
    // the shadow is a VMCS that has been entered before; the guest makes its CR4 invalid
    vmx.formatRegion(SHADOW, vmx.revision);
    inShadow(() => {
      vmx.core.vmclear(SHADOW);
      vmx.core.vmptrld(SHADOW);
      vmx.code([0x0f, 0x01, 0xc1]);
      writeFields(vmx, longGuest());
      expect(vmx.enter().entered).toBe(true);
      vmx.runToExit();
    });
    vmx.poke64(SHADOW, BigInt((vmx.revision | INDICATOR) >>> 0));
    expect(exit(VMWRITE, BigInt(field("GUEST_CR4").encoding), {}, 0n)).toBe(18);
    vmx.poke64(SHADOW, BigInt(vmx.revision));
    inShadow(() => expect(vmx.enter(false)).toMatchObject({ entered: false, reason: 0x80000021 }));
  });
});

describe("PAUSE-loop exiting", () => {
  const PAUSE = [0xf3, 0x90];
  const NOP = [0x90];
  const loop = (gap: bigint, window: bigint, more = 0): Fields => ({
    PRIMARY_PROC_BASED_CONTROLS: SECOND | u32(more),
    SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_PAUSE_LOOP_EXITING),
    PLE_GAP: gap,
    PLE_WINDOW: window,
  });
  const pauses = (count: number, between: number[] = []) =>
    Array.from({ length: count }, () => [...PAUSE, ...between]).flat();

  // one tick an instruction: PAUSE n of a loop is at tick n - 1
  it("exits when the loop is older than the window", () => {
    vmx.write32(TSC_RATIO, 1);
    vmx.start(pauses(20), loop(1n, 10n));
    expect(vmx.runToExit().reason).toBe(40);
    // the 12th PAUSE comes 11 ticks after the first
    expect(vmx.read("GUEST_RIP")).toBe(START + 22n);
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(2n);
  });
  it("a gap begins a new loop", () => {
    vmx.start(pauses(20, NOP), loop(1n, 10n));
    expect(vmx.runToExit().reason).toBe(18);
    vmx.fresh();
    vmx.start(pauses(20, NOP), loop(2n, 10n));
    expect(vmx.runToExit().reason).toBe(40);
  });
  it("VM entry begins a new loop", () => {
    vmx.start(pauses(40), loop(1n, 10n));
    expect(vmx.runToExit().reason).toBe(40);
    const first = vmx.read("GUEST_RIP");
    expect(vmx.enter(false).entered).toBe(true);
    expect(vmx.runToExit().reason).toBe(40);
    expect(vmx.read("GUEST_RIP") - first).toBe(22n);
  });
  it("not at CPL 3", () => {
    const user: Fields = {
      GUEST_CS_SELECTOR: 0x13n,
      GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
      GUEST_SS_SELECTOR: 0x1bn,
      GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
    };
    vmx.start(pauses(20), { ...loop(1n, 10n), ...user });
    expect(vmx.runToExit().reason).toBe(18);
    vmx.fresh();
    vmx.start(pauses(20), { ...loop(1n, 10n, c.PRIMARY_PAUSE_EXITING), ...user });
    expect(vmx.runToExit().reason).toBe(40);
  });
  it("PAUSE exiting goes before", () => {
    vmx.start(pauses(3), loop(1n, 10n, c.PRIMARY_PAUSE_EXITING), { [RBX]: 0n });
    expect(vmx.runToExit().reason).toBe(40);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });
});
