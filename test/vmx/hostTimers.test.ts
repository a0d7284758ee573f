// Interrupts whose vector a controller gives, and timers of devices, while a guest runs. SDM 3C "Other Causes of VM Exits",
// "Information for VM Exits Due to Vectored Events", "VMX-Preemption Timer".
import { beforeEach, describe, expect, it, vi } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { COUNT, HOST_DEADLINE, PENDING_INTR, TIME_SKIPPED } from "../../assembly/abi/state.ts";
import { Timing } from "../../src/core/timing.ts";
import { NONE } from "./harness.ts";
import { HANDLER, Running, START, u32 } from "./running.ts";

const vmx = new Running();
const timing = new Timing(vmx);
const NOP = 0x90;
const HLT = 0xf4;
const EXTERNAL = 1;
const PREEMPTION = 52;
const exiting = { PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_EXTERNAL_INTERRUPT_EXITING) };
const exitControls = (...more: number[]) => ({
  PRIMARY_EXIT_CONTROLS: u32(c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE, ...more),
});
const acknowledging = exitControls(c.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
const open = { GUEST_RFLAGS: 0x202n };

beforeEach(() => {
  vmx.fresh();
  vmx.write64(HOST_DEADLINE, NONE);
  timing.setInterruptLine(false);
  vmx.acknowledge = vi.fn(() => 0x35);
});

describe("an interrupt of a controller", () => {
  it("is acknowledged once, when the guest takes it", () => {
    vmx.start([NOP], open);
    timing.setInterruptLine(true);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 0x350n);
    expect(vmx.acknowledge).toHaveBeenCalledTimes(1);
  });

  it("waits for IF without being acknowledged", () => {
    vmx.start([NOP, NOP]);
    timing.setInterruptLine(true);
    vmx.runToExit();
    expect(vmx.read("GUEST_RIP")).toBe(START + 2n);
    expect(vmx.acknowledge).not.toHaveBeenCalled();
  });

  it("is acknowledged on exit when the control asks for it", () => {
    vmx.start([NOP], { ...exiting, ...acknowledging });
    timing.setInterruptLine(true);
    expect(vmx.runToExit().reason).toBe(EXTERNAL);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x8000_0035n);
    expect(vmx.acknowledge).toHaveBeenCalledTimes(1);
  });

  it("stays with the controller without it", () => {
    vmx.start([NOP], { ...exiting, ...exitControls() });
    timing.setInterruptLine(true);
    expect(vmx.runToExit().reason).toBe(EXTERNAL);
    expect(vmx.read("EXIT_INTERRUPTION_INFO") & 0x8000_0000n).toBe(0n);
    expect(vmx.acknowledge).not.toHaveBeenCalled();
    expect(vmx.read32(PENDING_INTR)).not.toBe(0);
  });

  it("leaves the next one on the line for the next entry", () => {
    vmx.acknowledge = () => {
      timing.setInterruptLine(true);
      return 0x36;
    };
    vmx.start([NOP], { ...exiting, ...acknowledging });
    timing.setInterruptLine(true);
    expect(vmx.runToExit().reason).toBe(EXTERNAL);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x8000_0036n);
    expect(vmx.read32(PENDING_INTR)).not.toBe(0);
  });
});

describe("a deadline of the host", () => {
  it("ends run() at its tick, before anything at that boundary", () => {
    vmx.start([0xeb, 0xfe]);
    const start = timing.ticks;
    timing.setDeadline(start + 1000n);
    expect(vmx.core.run(100_000n, 100_000n)).toBe(RunCode.Deadline);
    expect(timing.ticks).toBe(start + 1000n);
    // it stands until it is moved
    expect(vmx.core.run(100_000n, 100_000n)).toBe(RunCode.Deadline);
    timing.setDeadline(undefined);
    expect(vmx.core.run(10n, 1000n)).toBe(RunCode.Instructions);
  });

  it("the caller's bound comes first at the same count", () => {
    vmx.start([0xeb, 0xfe]);
    timing.setDeadline(timing.ticks + 10n);
    expect(vmx.core.run(10n, 1000n)).toBe(RunCode.Instructions);
    expect(vmx.core.run(10n, 1000n)).toBe(RunCode.Deadline);
  });

  it("passes the time of HLT at once, when an interrupt can end it", () => {
    vmx.start([HLT], open);
    const start = timing.ticks;
    const tsc = vmx.core.tsc();
    timing.setDeadline(start + 1_000_000n);
    expect(vmx.core.run(100n, 1000n)).toBe(RunCode.Deadline);
    expect(timing.ticks).toBe(start + 1_000_000n);
    expect(vmx.core.tsc()).toBe(tsc + 1_000_000n);
    timing.setDeadline(undefined);
    timing.setInterruptLine(true);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.stack(1)).toEqual([START + 1n]);
  });

  it.each([
    ["IF 0", {}, false, RunCode.Halt],
    ["IF 0 and external-interrupt exiting", exiting, false, RunCode.Deadline],
    ["IF 0 and an NMI to come", {}, true, RunCode.Deadline],
  ])("HLT with %s", (_name, set, wakes, code) => {
    vmx.start([HLT], set);
    timing.setDeadline(timing.ticks + 500n, wakes);
    expect(vmx.core.run(100n, 1000n)).toBe(code);
  });

  it("and the preemption timer: the nearer one, the other one keeps its time", () => {
    const timer = {
      PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_ACTIVATE_VMX_PREEMPTION_TIMER),
      VMX_PREEMPTION_TIMER_VALUE: 1000n,
    };
    const shift = (vmx.msr(0x485) as bigint) & 31n;
    vmx.start([HLT], { ...timer, ...open });
    const end = ((vmx.core.tsc() >> shift) + 1000n) << shift;
    const skipped = vmx.read64(TIME_SKIPPED);
    timing.setDeadline(timing.ticks + 300n);
    expect(vmx.core.run(100n, 1000n)).toBe(RunCode.Deadline);
    timing.setDeadline(timing.ticks + 1_000_000n);
    const deadline = vmx.read64(HOST_DEADLINE);
    const before = vmx.read64(TIME_SKIPPED);
    expect(vmx.runToExit().reason).toBe(PREEMPTION);
    expect(vmx.core.tsc()).toBe(end);
    const passed = vmx.read64(TIME_SKIPPED) - before;
    expect(deadline - vmx.read64(HOST_DEADLINE)).toBe(passed);
    expect(vmx.read64(TIME_SKIPPED) - skipped).toBe(passed + 299n); // HLT itself took one
    expect(vmx.read64(COUNT)).toBeGreaterThan(0n);
  });
});
