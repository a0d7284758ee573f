// Every row of vm-instruction-errors.csv, and the other outcomes of the VMX instructions. SDM 3C "VMX Instruction Reference".
import { beforeEach, describe, expect, it } from "vitest";
import { VmxResult } from "../../assembly/abi/run.ts";
import { COUNT, CPL, INTERRUPTIBILITY, SEG_CS, SEGS, SG_ATTR, SHADOW_COUNT } from "../../assembly/abi/state.ts";
import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import { table } from "../../scripts/vmx-tables.ts";
import { hostInit } from "../../src/core/hostInit.ts";
import { longGuest, writeFields } from "./guests.ts";
import { field, NONE, type Outcome, Vmx } from "./harness.ts";

const vmx = new Vmx();
const { core } = vmx;
const TOO_WIDE = 1n << BigInt(PHYSICAL_WIDTH);
const other = 0x8000n;

beforeEach(() => {
  vmx.restart();
  vmx.formatRegion(other);
  vmx.select();
});

const succeed = { result: VmxResult.Succeed };
const invalid = { result: VmxResult.FailInvalid };
const valid = (error: number) => ({ result: VmxResult.FailValid, error });
const outcome = (result: number): Outcome => vmx.outcome(result);
const entry = (fields: Record<string, bigint>) => {
  writeFields(vmx, { ...longGuest(), ...fields });
  return outcome(core.vmlaunch());
};

/** Error number -> cases that must give it. */
const errors: Record<number, Record<string, () => Outcome>> = {
  2: {
    "not aligned": () => outcome(core.vmclear(other + 8n)),
    "beyond the physical width": () => outcome(core.vmclear(TOO_WIDE)),
  },
  3: { "the VMXON region": () => outcome(core.vmclear(vmx.vmxon)) },
  4: {
    "a launched VMCS": () => {
      entry({});
      hostInit(vmx.core, 0x9000n); // leaves non-root operation, the launch state stays in the region
      core.vmptrld(vmx.vmcs);
      return outcome(core.vmlaunch());
    },
  },
  5: { "a clear VMCS": () => outcome(core.vmresume()) },
  7: { "pin-based control 1 clear": () => entry({ PIN_BASED_CONTROLS: 0n }) },
  8: { "host CS null": () => entry({ HOST_CS_SELECTOR: 0n }) },
  9: {
    "not aligned": () => outcome(core.vmptrld(other + 0x800n)),
    "beyond the physical width": () => outcome(core.vmptrld(TOO_WIDE)),
  },
  10: { "the VMXON region": () => outcome(core.vmptrld(vmx.vmxon)) },
  11: {
    "another revision": () => {
      vmx.formatRegion(other, vmx.revision + 1);
      return outcome(core.vmptrld(other));
    },
    "a shadow VMCS of another revision": () => {
      vmx.formatRegion(other, vmx.revision + 0x80000001);
      return outcome(core.vmptrld(other));
    },
    "no memory": () => outcome(core.vmptrld(0x4000_0000n)),
  },
  12: {
    "VMREAD of no field": () => outcome(core.vmread(0x7ffe)),
    "VMWRITE of no field": () => outcome(core.vmwrite(0x7ffe, 0n)),
  },
  13: { "VMWRITE of the exit reason": () => outcome(core.vmwrite(field("EXIT_REASON").encoding, 0n)) },
  15: { "VMXON in root operation": () => outcome(core.vmxon(other)) },
  26: {
    "MOV SS before VMLAUNCH": () => {
      vmx.write32(INTERRUPTIBILITY, 2);
      vmx.write64(SHADOW_COUNT, vmx.read64(COUNT));
      return entry({});
    },
  },
  28: {
    "INVEPT type 0": () => outcome(core.invept(0, 0x501en)),
    "INVEPT type 3": () => outcome(core.invept(3, 0x501en)),
    "INVEPT single context, EPTP with 2 levels": () => outcome(core.invept(1, 0x500en)),
    "INVVPID type 4": () => outcome(core.invvpid(4, 1, 0n)),
    "INVVPID of VPID 0": () => outcome(core.invvpid(1, 0, 0n)),
    "INVVPID of VPID 0, globals kept": () => outcome(core.invvpid(3, 0, 0n)),
    "INVVPID of a VPID above 16 bits": () => outcome(core.invvpid(1, 0x10001, 0n)),
    "INVVPID of a non-canonical address": () => outcome(core.invvpid(0, 1, 0x8000_0000_0000n)),
  },
};

const unreachable: Record<number, string> = {
  1: "VMCALL in root operation is an instruction of guest code",
  6: "older text of error 5; no current processor reports it",
  16: "dual-monitor treatment is not advertised",
  17: "dual-monitor treatment is not advertised",
  18: "dual-monitor treatment is not advertised",
  19: "dual-monitor treatment is not advertised",
  20: "dual-monitor treatment is not advertised",
  22: "dual-monitor treatment is not advertised",
  23: "dual-monitor treatment is not advertised",
  24: "dual-monitor treatment is not advertised",
  25: "dual-monitor treatment is not advertised",
};

describe("VM-instruction errors", () => {
  const rows = table("vm-instruction-errors").map((row) => Number(row.number));
  it.each(rows)("error %i has a case or a reason why it cannot be reached", (number) => {
    expect(number in errors !== number in unreachable).toBe(true);
  });
  const cases = Object.entries(errors).flatMap(([number, own]) =>
    Object.entries(own).map(([title, run]) => ({ number: Number(number), title, run })),
  );
  it.each(cases)("$number: $title", ({ number, run }) => {
    expect(run()).toEqual(valid(number));
  });
});

const FLAGS = 0x8d5n;
describe("flags", () => {
  it("VMsucceed clears the six, VMfailInvalid sets CF, VMfailValid sets ZF", () => {
    core.setRflags(FLAGS | 2n);
    core.vmclear(other);
    expect(core.getRflags() & FLAGS).toBe(0n);
    core.setRflags(FLAGS | 2n);
    core.vmclear(1n);
    expect(core.getRflags() & FLAGS).toBe(0x40n);
    core.vmclear(vmx.vmcs);
    core.setRflags(FLAGS | 2n);
    core.vmclear(1n);
    expect(core.getRflags() & FLAGS).toBe(1n);
  });
});

describe("without a current VMCS failures are invalid", () => {
  beforeEach(() => void core.vmclear(vmx.vmcs));
  const cases: [string, () => number][] = [
    ["VMCLEAR", () => core.vmclear(1n)],
    ["VMPTRLD", () => core.vmptrld(vmx.vmxon)],
    ["VMXON", () => core.vmxon(other)],
    ["INVEPT", () => core.invept(0, 0n)],
    ["INVVPID", () => core.invvpid(9, 0, 0n)],
    ["VMLAUNCH", () => core.vmlaunch()],
    ["VMRESUME", () => core.vmresume()],
  ];
  it.each(cases)("%s", (_, run) => {
    expect(outcome(run())).toEqual(invalid);
  });
});

describe("the current-VMCS pointer", () => {
  it("VMPTRLD sets it, VMCLEAR of it removes it, of another keeps it", () => {
    expect(BigInt.asUintN(64, core.vmptrst())).toBe(vmx.vmcs);
    core.vmclear(other);
    expect(BigInt.asUintN(64, core.vmptrst())).toBe(vmx.vmcs);
    core.vmclear(vmx.vmcs);
    expect(BigInt.asUintN(64, core.vmptrst())).toBe(NONE);
  });

  it("two VMCSs keep their fields apart", () => {
    vmx.write("GUEST_RIP", 1n);
    vmx.select(other);
    vmx.write("GUEST_RIP", 2n);
    core.vmptrld(vmx.vmcs);
    expect(vmx.read("GUEST_RIP")).toBe(1n);
  });
});

describe("INVEPT and INVVPID", () => {
  it.each([1, 2])("INVEPT type %i", (type) => {
    expect(outcome(core.invept(type, 0x501en))).toEqual(succeed);
  });
  it.each([0, 1, 2, 3])("INVVPID type %i", (type) => {
    expect(outcome(core.invvpid(type, 1, 0n))).toEqual(succeed);
  });
  it("all contexts needs no VPID", () => {
    expect(outcome(core.invvpid(2, 0, 0n))).toEqual(succeed);
  });
});

describe("faults", () => {
  const all: [string, () => number][] = [
    ["VMCLEAR", () => core.vmclear(other)],
    ["VMPTRLD", () => core.vmptrld(other)],
    ["VMREAD", () => core.vmread(0x681e)],
    ["VMWRITE", () => core.vmwrite(0x681e, 0n)],
    ["VMLAUNCH", () => core.vmlaunch()],
    ["VMRESUME", () => core.vmresume()],
    ["VMXOFF", () => core.vmxoff()],
    ["INVEPT", () => core.invept(2, 0n)],
    ["INVVPID", () => core.invvpid(2, 0, 0n)],
  ];
  it.each(all)("%s is #UD outside VMX operation", (_, run) => {
    core.vmxoff();
    expect(outcome(run())).toEqual({ result: VmxResult.Fault, vector: 6 });
  });
  it.each(all)("%s is #UD in compatibility mode", (_, run) => {
    vmx.write32(SEGS + SEG_CS + SG_ATTR, 0xc09b);
    core.stateChanged();
    expect(outcome(run())).toEqual({ result: VmxResult.Fault, vector: 6 });
  });
  it.each(all)("%s is #GP(0) at CPL 3", (_, run) => {
    vmx.write32(CPL, 3);
    core.stateChanged();
    expect(outcome(run())).toEqual({ result: VmxResult.Fault, vector: 13 });
  });
});

describe("VMXON", () => {
  beforeEach(() => void core.vmxoff());
  it("needs the revision identifier", () => {
    vmx.formatRegion(other, vmx.revision + 1);
    expect(outcome(core.vmxon(other))).toEqual(invalid);
  });
  it("needs a 4 KiB aligned address within the physical width", () => {
    expect(outcome(core.vmxon(other + 8n))).toEqual(invalid);
    expect(outcome(core.vmxon(TOO_WIDE))).toEqual(invalid);
  });
  it("is #GP(0) without IA32_FEATURE_CONTROL lock or enable", () => {
    core.reset(0);
    expect(outcome(core.vmxon(other)).vector).toBe(6);
  });
  it("leaves no current VMCS", () => {
    expect(outcome(core.vmxon(other))).toEqual(succeed);
    expect(BigInt.asUintN(64, core.vmptrst())).toBe(NONE);
  });
});
