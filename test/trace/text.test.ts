import { expect, test } from "vitest";
import { formatTraceEvent, type TraceEvent } from "../../src/trace/index.ts";
import { CPUID, Guest, UD2, wrmsr } from "../kvm/guest-builder.ts";

// The texts are the printk formats of arch/x86/kvm/trace.h.
test.each<[string, TraceEvent]>([
  ["kvm_entry:            vcpu 0, rip 0x7c00", { name: "kvm_entry", vcpu: 0, rip: 0x7c00n }],
  [
    "kvm_exit:             reason CPUID rip 0x100 info 0 0",
    { name: "kvm_exit", vcpu: 0, reason: 10, reasonName: "CPUID", rip: 0x100n, info1: 0n, info2: 0n },
  ],
  [
    "kvm_msr:              msr_write 140 = 0x2 (#GP)",
    { name: "kvm_msr", write: true, index: 0x140, data: 2n, exception: true },
  ],
  ["kvm_inj_exception:    #GP (0x0)", { name: "kvm_inj_exception", vector: 13, errorCode: 0 }],
  [
    "kvm_pio:              pio_write at 0xe9 size 1 count 1",
    { name: "kvm_pio", write: true, port: 0xe9, size: 1, count: 1 },
  ],
  ["host_msr:             wrmsr 140 = 0x1 by policy", { name: "host_msr", write: true, value: 1n, cause: "policy" }],
])("%s", (text, event) => {
  expect(formatTraceEvent(event)).toBe(text);
});

test("a faulting CPUID: exit, injection, entry at the same RIP", () => {
  const guest = new Guest({ mode: "long", cpl: 3, code: [...CPUID, ...UD2] });
  guest.vcpu.setMsrs([{ index: 0x140, data: 1n }]);
  const events: TraceEvent[] = [];
  guest.kvm.host.trace = (event) => events.push(event);
  guest.vcpu.run();
  const exit = events.findIndex((e) => e.name === "kvm_exit" && e.reasonName === "CPUID");
  expect(events.slice(exit, exit + 3).map((event) => event.name)).toEqual([
    "kvm_exit",
    "kvm_inj_exception",
    "kvm_entry",
  ]);
  const [left, , entered] = events.slice(exit, exit + 3) as [{ rip: bigint }, unknown, { rip: bigint }];
  expect(entered.rip).toBe(left.rip);
});

test("the policy's accesses are in the trace, in order", () => {
  const guest = new Guest({ mode: "long", cpl: 0, code: [...wrmsr(0x140, 1n), ...UD2], policy: "always-hardware" });
  const lines: string[] = [];
  guest.kvm.host.trace = (event) => {
    if (event.name === "host_msr") lines.push(formatTraceEvent(event).slice(22));
  };
  guest.vcpu.run();
  expect(lines).toEqual(["rdmsr 140 = 0x0 by policy", "wrmsr 140 = 0x1 by policy", "wrmsr 140 = 0x0 by policy"]);
});
