// Debug exceptions of a guest. @sdm 3C "Exit Qualification for Debug Exceptions", "Pending Debug Exceptions"
import { beforeEach, describe, expect, it } from "vitest";
import * as controls from "../../assembly/abi/controls.ts";
import { DR0 } from "../../assembly/abi/state.ts";
import { RAX, Running, STACK, u32 } from "./running.ts";

const vmx = new Running();
const DB = u32(1 << 1);
const NOP = 0x90;

/** DR7 is loaded by entries and saved by exits. */
const DEBUG_CONTROLS = {
  ENTRY_CONTROLS: u32(controls.ENTRY_REQUIRED | controls.ENTRY_IA_32E_MODE_GUEST | controls.ENTRY_LOAD_DEBUG_CONTROLS),
  PRIMARY_EXIT_CONTROLS: u32(
    controls.EXIT_REQUIRED | controls.EXIT_HOST_ADDRESS_SPACE_SIZE | controls.EXIT_SAVE_DEBUG_CONTROLS,
  ),
};

beforeEach(() => vmx.fresh());

/** DR0 is not part of a VMCS. */
const dr0 = (address: bigint): void => {
  vmx.write64(DR0, address);
  vmx.core.stateChanged();
};

describe("a #DB exit", () => {
  it("of a data breakpoint is a trap with B0 in its qualification, DR6 unchanged", () => {
    vmx.start([0x50, NOP], { ...DEBUG_CONTROLS, EXCEPTION_BITMAP: DB, GUEST_DR7: 0x10401n });
    dr0(STACK - 8n);
    expect(vmx.runToExit()).toEqual({ reason: 0, qualification: 1n });
    expect(vmx.read("GUEST_RIP")).toBe(0x7001n);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(u32(0x80000301));
    expect(vmx.read("GUEST_PENDING_DEBUG_EXCEPTIONS")).toBe(0n);
  });

  it("of an instruction breakpoint is a fault with RF clear", () => {
    vmx.start([NOP, NOP], { ...DEBUG_CONTROLS, EXCEPTION_BITMAP: DB, GUEST_DR7: 0x401n });
    dr0(0x7001n);
    expect(vmx.runToExit()).toEqual({ reason: 0, qualification: 1n });
    expect(vmx.read("GUEST_RIP")).toBe(0x7001n);
    expect(vmx.read("GUEST_RFLAGS")).toBe(2n);
  });

  it("does not come while RF is 1", () => {
    vmx.start([NOP], { ...DEBUG_CONTROLS, EXCEPTION_BITMAP: DB, GUEST_DR7: 0x401n, GUEST_RFLAGS: 0x10002n });
    dr0(0x7000n);
    expect(vmx.runToExit().reason).toBe(18);
  });

  it("of ICEBP has type 5 and the length of the instruction", () => {
    vmx.start([0xf1], { ...DEBUG_CONTROLS, EXCEPTION_BITMAP: DB });
    expect(vmx.runToExit()).toEqual({ reason: 0, qualification: 0n });
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(u32(0x80000501));
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(1n);
    expect(vmx.read("GUEST_RIP")).toBe(0x7000n);
  });
});

it("breakpoints of the guest do not watch the host, which has DR7 = 400H", () => {
  vmx.start([NOP], { ...DEBUG_CONTROLS, GUEST_DR7: 0x401n });
  dr0(0x7100n);
  expect(vmx.runToExit().reason).toBe(18);
  expect(vmx.read("GUEST_DR7")).toBe(0x401n);
});

it("a data breakpoint of MOV SS is pending at an exit that comes before it", () => {
  // mov ss, [rax]; vmcall
  vmx.start([0x8e, 0x10], { ...DEBUG_CONTROLS, EXCEPTION_BITMAP: DB, GUEST_DR7: 0x30401n }, { [RAX]: 0x9000n });
  vmx.poke64(0x9000n, 0x18n);
  dr0(0x9000n);
  expect(vmx.runToExit().reason).toBe(18);
  expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(2n);
  expect(vmx.read("GUEST_PENDING_DEBUG_EXCEPTIONS")).toBe(0x1001n);
});
