// VMX-preemption timer, monitor trap flag, TSC scaling. SDM 3C "VMX-Preemption Timer", "Monitor Trap Flag", "Changes to
// Instruction Behavior in VMX Non-Root Operation".
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { COUNT, TSC_BASE } from "../../assembly/abi/state.ts";
import type { Fields } from "./guests.ts";
import { HANDLER, RAX, RCX, RDI, RDX, Running, START, u32 } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

const NOP = 0x90;
const nops = (n: number) => Array.from({ length: n }, () => NOP);
const PREEMPTION = 52;
const MONITOR_TRAP = 37;

describe("VMX-preemption timer", () => {
  /** IA32_VMX_MISC[4:0]: the timer counts once in 2^X ticks. */
  const shift = () => (vmx.msr(0x485) as bigint) & 31n;
  const timer = (value: bigint, more: Fields = {}): Fields => ({
    PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_ACTIVATE_VMX_PREEMPTION_TIMER),
    VMX_PREEMPTION_TIMER_VALUE: value,
    ...more,
  });
  const saving: Fields = {
    PRIMARY_EXIT_CONTROLS: u32(c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE, c.EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE),
  };

  it("0 exits before the first instruction", () => {
    vmx.start(nops(4), timer(0n));
    expect(vmx.runToExit()).toEqual({ reason: PREEMPTION, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });

  it("0 exits after an injected event is delivered", () => {
    vmx.start(nops(4), timer(0n, { ENTRY_INTERRUPTION_INFO: 0x80000306n }));
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 0x60n);
  });

  it.each([1n, 2n, 3n])("%d: exits when that many changes of the TSC bit have come", (value) => {
    vmx.write64(TSC_BASE, 7n);
    vmx.start(nops(200), timer(value));
    const tsc = vmx.core.tsc();
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    const end = ((tsc >> shift()) + value) << shift();
    expect(vmx.core.tsc()).toBe(end);
    expect(vmx.read("GUEST_RIP")).toBe(START + (end - tsc));
  });

  it("a loop is stopped at the exact count", () => {
    vmx.start([0xeb, 0xfe], timer(1000n));
    const count = vmx.read64(COUNT);
    const tsc = vmx.core.tsc();
    expect(vmx.runToExit(1_000_000n).reason).toBe(PREEMPTION);
    expect(vmx.read64(COUNT) - count).toBe((((tsc >> shift()) + 1000n) << shift()) - tsc);
  });

  it("a caller's bound comes first and the timer goes on", () => {
    vmx.start([0xeb, 0xfe], timer(2n));
    expect(vmx.core.run(5n, 1000n)).toBe(RunCode.Instructions);
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
  });

  it("is saved on exit only by its control, as what is left", () => {
    vmx.start(nops(40), timer(100n, saving));
    const tsc = vmx.core.tsc();
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("VMX_PREEMPTION_TIMER_VALUE")).toBe((tsc >> shift()) + 100n - ((tsc + 40n) >> shift()));
    vmx.fresh();
    vmx.start(nops(40), timer(100n));
    vmx.runToExit();
    expect(vmx.read("VMX_PREEMPTION_TIMER_VALUE")).toBe(100n);
  });

  it("is saved as 0 when it has run out", () => {
    vmx.start(nops(60), timer(1n, saving));
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    expect(vmx.read("VMX_PREEMPTION_TIMER_VALUE")).toBe(0n);
  });

  it("ends HLT, with the activity state saved", () => {
    vmx.start([0xf4], timer(1000n));
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    expect(vmx.read("GUEST_ACTIVITY_STATE")).toBe(1n);
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
  });

  it("ends shutdown too, which is saved", () => {
    vmx.start([], timer(1000n, { GUEST_ACTIVITY_STATE: 2n }));
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    expect(vmx.read("GUEST_ACTIVITY_STATE")).toBe(2n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });

  it("comes after a pending debug trap", () => {
    vmx.start([NOP], timer(0n, { GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n }));
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 0x10n);
  });

  it("does not run without its control", () => {
    vmx.start(nops(60), { VMX_PREEMPTION_TIMER_VALUE: 0n });
    expect(vmx.runToExit().reason).toBe(18);
  });
});

describe("monitor trap flag", () => {
  const trap = (more: Fields = {}): Fields => ({
    PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_MONITOR_TRAP_FLAG),
    ...more,
  });

  it("exits after one instruction, each time", () => {
    vmx.start(nops(3), trap());
    expect(vmx.runToExit()).toEqual({ reason: MONITOR_TRAP, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
    expect(vmx.enter(false).entered).toBe(true);
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_RIP")).toBe(START + 2n);
  });

  it("a faulting instruction exits after the delivery", () => {
    vmx.start([0x0f, 0x0b], trap());
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 0x60n);
  });

  it("another exit of the instruction takes its place", () => {
    vmx.start([], trap());
    expect(vmx.runToExit().reason).toBe(18);
  });

  it("an injected event exits before the first instruction of its handler", () => {
    vmx.start([NOP], trap({ ENTRY_INTERRUPTION_INFO: 0x80000306n }));
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 0x60n);
  });

  it("an injected pending exit comes at once, with the control 0", () => {
    vmx.start([NOP], { ENTRY_INTERRUPTION_INFO: 0x80000700n });
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });

  it("a REP string instruction exits after one iteration", () => {
    vmx.start([0xf3, 0xaa], trap(), { [RCX]: 3n, [RDI]: 0x9000n, [RAX]: 0n });
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.gpr(RCX)).toBe(2n);
  });

  it("HLT exits from the HLT state", () => {
    vmx.start([0xf4], trap());
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_ACTIVITY_STATE")).toBe(1n);
  });

  it("comes before the single-step trap, which stays pending", () => {
    vmx.start([NOP], trap({ GUEST_RFLAGS: 0x102n }));
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
    expect(vmx.read("GUEST_PENDING_DEBUG_EXCEPTIONS")).toBe(0x4000n);
  });

  it("is not blocked by MOV SS", () => {
    vmx.start([0x8e, 0xd0], trap(), { [RAX]: 0x18n });
    expect(vmx.runToExit().reason).toBe(MONITOR_TRAP);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(2n);
  });
});

describe("TSC scaling", () => {
  const RDTSC = [0x0f, 0x31];
  const scaling = (multiplier: bigint, offset: bigint, offsetting = true): Fields => ({
    PRIMARY_PROC_BASED_CONTROLS: u32(
      c.PRIMARY_REQUIRED,
      c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS,
      offsetting ? c.PRIMARY_USE_TSC_OFFSETTING : 0,
    ),
    SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_USE_TSC_SCALING, c.SECONDARY_ENABLE_RDTSCP),
    TSC_MULTIPLIER: multiplier,
    TSC_OFFSET: offset,
  });
  const read = () => (BigInt.asUintN(32, vmx.gpr(RDX)) << 32n) | BigInt.asUintN(32, vmx.gpr(RAX));

  it.each([1n << 48n, 3n << 47n, 0x1_2345_6789_abcdn, 0xffff_ffff_ffff_ffffn, 0n])("multiplier %d", (multiplier) => {
    vmx.write64(TSC_BASE, 0x1234_5678_9abc_def0n);
    vmx.start(RDTSC, scaling(multiplier, 5n));
    const tsc = BigInt.asUintN(64, vmx.core.tsc());
    vmx.runToExit();
    expect(read()).toBe(BigInt.asUintN(64, ((tsc * multiplier) >> 48n) + 5n));
  });

  it("does nothing without TSC offsetting", () => {
    vmx.start(RDTSC, scaling(3n << 48n, 5n, false));
    const tsc = vmx.core.tsc();
    vmx.runToExit();
    expect(read()).toBe(tsc);
  });
});

describe("instructions that need a secondary control", () => {
  const RDTSCP = [0x0f, 0x01, 0xf9];
  const INVPCID = [0x66, 0x0f, 0x38, 0x82, 0x07]; // invpcid rax, [rdi]
  const with_ = (...bits: number[]): Fields => ({
    PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
    SECONDARY_PROC_BASED_CONTROLS: u32(...bits),
    EXCEPTION_BITMAP: 0x40n,
  });

  it.each([
    ["RDTSCP", RDTSCP, c.SECONDARY_ENABLE_RDTSCP],
    ["INVPCID", INVPCID, c.SECONDARY_ENABLE_INVPCID],
  ] as const)("%s is #UD without it and completes with it", (_, code, bit) => {
    vmx.start(code, with_(), { [RDI]: 0x9000n, [RAX]: 2n });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000306n);
    vmx.fresh();
    vmx.start(code, with_(bit), { [RDI]: 0x9000n, [RAX]: 2n });
    expect(vmx.runToExit().reason).toBe(18);
  });
});
