import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { formatTraceEvent, type TraceEvent, type TraceKernel } from "../../src/trace/index.ts";
import { CPUID, Guest, UD2, wrmsr } from "../kvm/guest-builder.ts";

const entry = { name: "kvm_entry", vcpu: 1, rip: 0x7c00n, intrInfo: 0x8000_0b0d | 0, errorCode: 0x18 } as const;
const exit: TraceEvent & { name: "kvm_exit" } = {
  ...({ name: "kvm_exit" } as const),
  ...{ vcpu: 1, reason: 10, reasonName: "CPUID", rip: 0x100n, qualification: 5n },
  ...{ idtVectoringInfo: 0x8000_0030 | 0, intrInfo: 0x8000_0b0e | 0, errorCode: 2 },
};
const failed = { ...exit, reason: 0x8000_0021 | 0, reasonName: "INVALID_STATE" };
const registers = { eax: 1, ebx: 0xabcd, ecx: 0, edx: 0xffff_ffff };
const cpuid = {
  name: "kvm_cpuid",
  function: 0x1234,
  index: 7,
  ...registers,
  found: false,
  usedMaxBasic: true,
} as const;
const fault = { name: "kvm_page_fault", vcpu: 1, rip: 0x10n, address: 0xfee0_0000n, errorCode: 0x181n } as const;
const gp = { name: "kvm_inj_exception", vector: 13, errorCode: 0, reinjected: false } as const;
const ud = { name: "kvm_inj_exception", vector: 6, errorCode: undefined, reinjected: true } as const;
const irq = { name: "kvm_inj_virq", vector: 0x30, soft: false, reinjected: false } as const;
const soft = { name: "kvm_inj_virq", vector: 0x80, soft: true, reinjected: true } as const;
const outs = { name: "kvm_pio", write: true, port: 0xe9, size: 1, count: 1, value: 0x41 } as const;
const ins = { name: "kvm_pio", write: false, port: 0x1f0, size: 2, count: 8, value: 0x1234 } as const;
const mmio = { name: "kvm_mmio", type: "write", address: 0xd000_0000n, size: 8, value: 0x1122334455667788n } as const;
const msr = { name: "kvm_msr", write: true, index: 0x140, data: 2n, exception: true } as const;
const user = { name: "kvm_userspace_exit", reason: 2, reasonName: "KVM_EXIT_IO", error: 0 } as const;

const { formats } = JSON.parse(
  readFileSync(new URL("../../fixtures/kvm/tracepoints.json", import.meta.url), "utf8"),
) as { formats: Record<string, string> };

/** printf for the conversions of the tracepoints. */
function printf(format: string, args: readonly (string | number | bigint)[]): string {
  const left = [...args];
  const text = format.replace(/%(0?\d*)(?:ll|l)?([xuds])/g, (_, width: string, conversion: string) => {
    const value = left.shift()!;
    const digits = conversion === "x" ? value.toString(16) : String(value);
    return width === "" ? digits : digits.padStart(Number(width), "0");
  });
  expect(left).toEqual([]);
  return text;
}

// fixtures/kvm/tracepoints.json has the formats that tracefs of Linux 6.18 shows, here with the arguments of each
describe("the formats of 6.18", () => {
  test.each<[TraceEvent, (string | number | bigint)[]]>([
    [entry, [1, 0x7c00n, 0x8000_0b0d, 0x18, ""]],
    [exit, [1, "CPUID", "", "", 0x100n, 5n, 0x8000_0030, 0x8000_0b0e, 2, 0]],
    [failed, [1, "INVALID_STATE", " ", "FAILED_VMENTRY", 0x100n, 5n, 0x8000_0030, 0x8000_0b0e, 2, 0]],
    [cpuid, [0x1234, 7, 1, 0xabcd, 0, 0xffff_ffff, "not found", ", used max basic"]],
    [{ ...cpuid, found: true, usedMaxBasic: false }, [0x1234, 7, 1, 0xabcd, 0, 0xffff_ffff, "found", ""]],
    [msr, ["write", 0x140, 2n, " (#GP)"]],
    [irq, ["IRQ", 0x30, ""]],
    [soft, ["Soft/INTn", 0x80, " [reinjected]"]],
    [gp, ["#GP", " (", "0x0", ")", ""]],
    [ud, ["#UD", "", "", "", " [reinjected]"]],
    [{ ...ud, vector: 21, reinjected: false }, ["#CP", "", "", "", ""]],
    [outs, ["write", 0xe9, 1, 1, 0x41, ""]],
    [ins, ["read", 0x1f0, 2, 8, 0x1234, "(...)"]],
    [mmio, ["write", 8, 0xd000_0000n, 0x1122334455667788n]],
    [fault, [1, 0x10n, 0xfee0_0000n, 0x181n]],
    [user, ["KVM_EXIT_IO", 2]],
    [{ ...user, error: 11 }, ["error", 11]],
  ])("%o", (event, args) => {
    for (const kernel of ["6.19", "7.1"] as const) {
      expect(formatTraceEvent(event, kernel)).toBe(
        `${`${event.name}:`.padEnd(22)}${printf(formats[event.name]!, args)}`,
      );
    }
  });
});

// arch/x86/kvm/trace.h of 5.0: before "Report rip in kvm_entry" (5.8), "Add intr/vectoring info and error code to
// kvm_exit" (5.10), "Improve CPUID tracepoint" (5.7), "Trace re-injected exceptions" (5.19)
test.each<[string, TraceEvent]>([
  ["kvm_entry:            vcpu 1", entry],
  ["kvm_exit:             reason CPUID rip 0x100 info 5 80000b0e", exit],
  ["kvm_cpuid:            func 1234 rax 1 rbx abcd rcx 0 rdx ffffffff, cpuid entry not found", cpuid],
  ["kvm_inj_virq:         irq 48", irq],
  ["kvm_inj_exception:    #GP (0x0)", gp],
  ["kvm_inj_exception:    #UD (0x0)", ud],
  ["kvm_inj_exception:    0x15 (0x0)", { ...ud, vector: 21 }],
  ["kvm_page_fault:       address fee00000 error_code 181", fault],
  ["kvm_msr:              msr_write 140 = 0x2 (#GP)", msr],
  ["kvm_pio:              pio_write at 0xe9 size 1 count 1 val 0x41 ", outs],
  ["kvm_userspace_exit:   reason restart (4)", { ...user, error: 4 }],
])("5.0: %s", (text, event) => {
  expect(formatTraceEvent(event, "5.0")).toBe(text);
});

test("an access of the host to 0x140 has no tracepoint of the kernel", () => {
  const event = { name: "host_msr", write: true, value: 1n, cause: "policy" } as const;
  expect(formatTraceEvent(event)).toBe("host_msr:             wrmsr 140 = 0x1 by policy");
});

function events(guest: Guest): TraceEvent[] {
  const all: TraceEvent[] = [];
  guest.kvm.host.trace = (event) => all.push(event);
  guest.vcpu.run();
  return all;
}

test.each<TraceKernel>(["5.0", "6.19"])("a faulting CPUID on %s: exit, injection, entry at the same RIP", (kernel) => {
  const guest = new Guest({ mode: "long", cpl: 3, kernel, code: [...CPUID, ...UD2] });
  guest.vcpu.setMsrs([{ index: 0x140, data: 1n }]);
  const all = events(guest);
  const at = all.findIndex((e) => e.name === "kvm_exit" && e.reasonName === "CPUID");
  const [left, injected, entered] = all.slice(at, at + 3);
  expect(injected).toEqual({ name: "kvm_inj_exception", vector: 13, errorCode: 0, reinjected: false });
  if (left?.name !== "kvm_exit" || entered?.name !== "kvm_entry") throw new Error("not an exit and an entry");
  expect(entered.rip).toBe(left.rip);
  // valid, error code, hardware exception, vector 13
  expect([entered.intrInfo >>> 0, entered.errorCode]).toEqual([0x8000_0b0d, 0]);
});

test("the policy's accesses are in the trace, in order", () => {
  const guest = new Guest({ mode: "long", cpl: 0, code: [...wrmsr(0x140, 1n), ...UD2], policy: "always-hardware" });
  const lines = events(guest).flatMap((event) =>
    event.name === "host_msr" ? [formatTraceEvent(event).slice(22)] : [],
  );
  expect(lines).toEqual(["rdmsr 140 = 0x0 by policy", "wrmsr 140 = 0x1 by policy", "wrmsr 140 = 0x0 by policy"]);
});
