// Policies that use another mechanism of KVM than a write at load and put, and what they are built on.
import { describe, expect, test } from "vitest";
import { addHostCpu, Host, HostTask, selectHostCpu, vmxSwitchVmcs } from "../../src/kvm/index.ts";
import { CPUID, Guest, type GuestOptions, UD2, wrmsr } from "./guest-builder.ts";

const MISC = 0x140;
const OUT80 = [0xe6, 0x80];
/** DEC ECX; JNZ back to it. */
const LOOP = [0xff, 0xc9, 0x75, 0xfc];

function guest(code: readonly number[], options: Partial<GuestOptions> = {}): Guest {
  const made = new Guest({ mode: "long", cpl: 0, code, ...options });
  made.kvm.host.ledger.restart();
  return made;
}

const physical = (made: Guest): bigint => made.kvm.host.cpu.peekMiscFeatures();

describe("autoload", () => {
  test("the lists take the host's bit away in the guest, at one MSR an entry and one an exit", () => {
    const made = guest([...CPUID, ...UD2], { cpl: 3, policy: "autoload", hostOptions: { hostValue: 1 } });
    made.vcpu.run();
    expect(made.haltedVector()).toBe(6);
    const { counts, wrmsr: writes, rdmsr } = made.kvm.host.ledger;
    expect(counts.autoload_msrs).toBe(2 * counts.exits);
    expect([writes.policy, rdmsr.policy, physical(made)]).toEqual([0, 0, 1n]);
    expect(made.vcpu.vmx.leaks.faulting).toBe(0);
  });

  test("a guest WRMSR changes the list; equal values empty it", () => {
    const made = guest([...wrmsr(MISC, 1n), ...OUT80, ...wrmsr(MISC, 0n), ...OUT80], { policy: "autoload" });
    made.vcpu.run();
    expect(made.kvm.host.ledger.counts.autoload_msrs).toBeGreaterThan(0);
    made.vcpu.run();
    made.kvm.host.ledger.restart();
    made.vcpu.run();
    expect(made.kvm.host.ledger.counts.autoload_msrs).toBe(0);
    expect(physical(made)).toBe(0n);
  });

  test("the guest's own faulting is the hardware's: no CPUID exit", () => {
    const made = guest(CPUID, { cpl: 3, policy: "autoload" });
    made.vcpu.setMsrs([{ index: MISC, data: 1n }]);
    made.vcpu.run();
    expect(made.haltedVector()).toBe(13);
    expect(made.kvm.host.ledger.counts.hardware_faults).toBe(1);
  });
});

describe("every-entry", () => {
  test("one RDMSR an entry and two WRMSRs where the values differ", () => {
    const made = guest([...CPUID, ...CPUID, ...UD2], { policy: "every-entry", hostOptions: { hostValue: 1 } });
    made.vcpu.run();
    const { counts, wrmsr: writes, rdmsr } = made.kvm.host.ledger;
    expect([rdmsr.policy, writes.policy]).toEqual([counts.exits, 2 * counts.exits]);
    expect(physical(made)).toBe(1n);
  });
});

describe("user-return", () => {
  test("writes once and skips while the value is there", () => {
    const made = guest([...wrmsr(MISC, 1n), ...CPUID, ...CPUID, ...OUT80], { policy: "user-return" });
    made.vcpu.run();
    expect(made.kvm.host.ledger.wrmsr.policy).toBe(2);
    expect(physical(made)).toBe(0n);
  });

  test("a preemption by a thread that runs in user space restores it; the next entry writes again", () => {
    const made = guest([...wrmsr(MISC, 1n), ...CPUID, ...OUT80], { policy: "user-return" });
    let left = 1;
    made.kvm.host.onSchedulePoint = (point) => {
      if (point === "handle_exit_done" && physical(made) === 1n && left-- > 0) made.kvm.host.preempt(new HostTask("x"));
    };
    made.vcpu.run();
    expect(made.kvm.host.ledger.wrmsr.policy).toBe(4);
  });

  test("a thread with TIF_NOCPUID: the host's bit acts in the guest, as KVM believes the snapshot to be there", () => {
    const made = guest([...CPUID, ...OUT80], { policy: "user-return", hostOptions: { hostValue: 1 } });
    made.vcpu.run();
    expect(made.vcpu.vmx.leaks.faulting).toBeGreaterThan(0);
  });

  test("a thread with TIF_NOCPUID loses its value once the guest has had faulting on and off", () => {
    const code = [...wrmsr(MISC, 1n), ...wrmsr(MISC, 0n), ...OUT80];
    const made = guest(code, { policy: "user-return", hostOptions: { hostValue: 1 } });
    made.vcpu.run();
    expect(physical(made)).toBe(0n);
  });
});

describe("switchPoint", () => {
  const ioctls = (switchPoint: "prepare" | "load"): number => {
    const made = guest(UD2, { policy: "clear-host", policyOptions: { switchPoint }, hostOptions: { hostValue: 1 } });
    made.vcpu.getRegs();
    made.vcpu.getSregs();
    return made.kvm.host.ledger.wrmsr.policy;
  };

  test("load: ioctls that do not enter the guest pay too", () => {
    expect([ioctls("prepare"), ioctls("load")]).toEqual([0, 4]);
  });

  test("load: KVM_SET_MSRS reaches the hardware and the put takes it away", () => {
    const made = guest(UD2, { policy: "always-hardware", policyOptions: { switchPoint: "load" } });
    made.vcpu.setMsrs([{ index: MISC, data: 1n }]);
    expect([made.kvm.host.ledger.wrmsr.policy, physical(made)]).toEqual([2, 0n]);
  });
});

describe("a put and a load between VMCSs", () => {
  test("restores and prepares again, as two trips do", () => {
    const made = guest([...CPUID, ...UD2], { policy: "clear-host", hostOptions: { hostValue: 1 } });
    let left = 1;
    made.kvm.host.onSchedulePoint = (point) => {
      if (point === "handle_exit_done" && left-- > 0) vmxSwitchVmcs(made.vcpu.vmx);
    };
    made.vcpu.run();
    expect(made.kvm.host.ledger.wrmsr.policy).toBe(4);
    expect(made.kvm.host.ledger.counts).toMatchObject({ entering_loads: 2, host_state_reload: 2 });
  });
});

describe("preemptEvery", () => {
  const code = [0xb9, 0x10, 0x27, 0, 0, ...LOOP, ...OUT80, ...UD2];

  test("yields out of the guest after every so many instructions, and changes no count of the guest's", () => {
    const plain = guest(code);
    plain.vcpu.run();
    const made = guest(code);
    const steps = made.vcpu.runSteps({ preemptEvery: 1000n });
    let yields = 0;
    for (let step = steps.next(); !step.done; step = steps.next()) yields += 1;
    // 1 MOV, 10,000 rounds of 2, 1 OUT
    expect(yields).toBe(20);
    expect(made.kvm.host.ledger.counts.irq_exits).toBe(20);
    expect(made.kvm.host.ledger.counts.instructions).toBe(plain.kvm.host.ledger.counts.instructions);
    expect(made.vcpu.getRegs()).toEqual(plain.vcpu.getRegs());
  });
});

describe("several host CPUs", () => {
  test("each holds its own 0x140 and shadow", () => {
    const host = new Host({ hostValue: 1 });
    const first = host.cpu;
    const second = addHostCpu(host, "cpu1");
    expect(first.peekMiscFeatures()).toBe(1n);
    const other = new HostTask("other");
    first.switchTo(other);
    selectHostCpu(host, second);
    expect([host.cpu, second.peekMiscFeatures()]).toEqual([second, 0n]);
    second.switchTo(host.vmm);
    expect(second.peekMiscFeatures()).toBe(1n);
    second.switchTo(new HostTask("idle"));
    selectHostCpu(host, first);
    expect([first.peekMiscFeatures(), second.msrMiscFeaturesShadow]).toEqual([0n, 0n]);
  });
});
