// When the policy's hooks run, what a preemption costs, and the race between the test and the write in vmx_set_msr.
import { describe, expect, test } from "vitest";
import { HostTask, type SchedulePoint } from "../../src/kvm/index.ts";
import { CPUID, Guest, type GuestOptions, UD2, wrmsr } from "./guest-builder.ts";

const MISC = 0x140;
const OUT80 = [0xe6, 0x80];

function guest(code: readonly number[], options: Partial<GuestOptions> = {}): Guest {
  const made = new Guest({ mode: "long", cpl: 0, code, ...options });
  made.kvm.host.ledger.restart();
  return made;
}

describe("load and put", () => {
  test("ioctls that do not enter the guest load and put, and cost no MSR access", () => {
    const { vcpu, kvm } = guest(UD2, { policy: "always-hardware", hostOptions: { hostValue: 1 } });
    vcpu.getRegs();
    vcpu.getSregs();
    vcpu.setMsrs([{ index: MISC, data: 0n }]);
    const { ledger } = kvm.host;
    expect(ledger.counts).toMatchObject({ loads: 3, puts: 3, entering_loads: 0, host_state_reload: 0 });
    expect([ledger.rdmsr.policy, ledger.wrmsr.policy]).toEqual([0, 0]);
  });

  test("a user-space exit is a put and the next KVM_RUN a load: two writes a trip", () => {
    const { vcpu, kvm } = guest([...OUT80, ...OUT80, ...OUT80, ...UD2], {
      policy: "clear-host",
      hostOptions: { hostValue: 1 },
    });
    for (let trip = 0; trip < 3; trip++) expect(vcpu.run().reason).toBe("io");
    const { ledger } = kvm.host;
    expect(ledger.counts).toMatchObject({ entering_loads: 3, host_state_reload: 3, userspace_round_trips: 3 });
    expect([ledger.rdmsr.policy, ledger.wrmsr.policy]).toEqual([3, 6]);
    expect(kvm.host.cpu.peekMiscFeatures()).toBe(1n);
  });

  test("exits that KVM handles stay in one load", () => {
    const { vcpu, kvm } = guest([...CPUID, ...CPUID, ...CPUID, ...UD2], {
      policy: "clear-host",
      hostOptions: { hostValue: 1 },
    });
    vcpu.run();
    expect(kvm.host.ledger.counts.exits).toBeGreaterThan(3);
    expect(kvm.host.ledger.wrmsr.policy).toBe(2);
  });

  test("KVM_SET_MSRS stores the value and leaves hardware alone", () => {
    const { vcpu, kvm } = guest(UD2, { policy: "always-hardware" });
    expect(vcpu.setMsrs([{ index: MISC, data: 1n }])).toBe(1);
    expect(kvm.host.cpu.peekMiscFeatures()).toBe(0n);
    expect(vcpu.getMsrs([MISC])[0]?.data).toBe(1n);
  });

  test("a refused guest WRMSR changes nothing", () => {
    const { vcpu, kvm } = guest([...wrmsr(MISC, 2n), ...UD2], { policy: "always-hardware" });
    vcpu.run();
    expect(vcpu.getMsrs([MISC])[0]?.data).toBe(0n);
    expect(kvm.host.ledger.wrmsr.policy).toBe(0);
  });

  test("RDMSR of the guest reads its own value, never the hardware's", () => {
    const rdmsr = [0xb9, 0x40, 1, 0, 0, 0x0f, 0x32];
    const { vcpu } = guest([...rdmsr, ...UD2], { policy: "upstream", hostOptions: { hostValue: 1 } });
    vcpu.run();
    expect(vcpu.getRegs().rax).toBe(0n);
  });
});

describe("a host CPU without CPUID faulting", () => {
  test("no policy touches the MSR, and the guest still has faulting", () => {
    const made = guest([...CPUID, ...UD2], { cpl: 3, policy: "always-hardware", hostOptions: { cpuidFault: false } });
    made.vcpu.setMsrs([{ index: MISC, data: 1n }]);
    expect(made.vcpu.getMsrs([0xce])[0]?.data).toBe(1n << 31n);
    made.vcpu.run();
    expect(made.haltedVector()).toBe(13);
    const { ledger } = made.kvm.host;
    expect([ledger.rdmsr.policy, ledger.wrmsr.policy, ledger.counts.emulated_cpuid_faults]).toEqual([0, 0, 1]);
  });
});

/** Preempts the VMM once, at the n-th passage of a point. */
function preemptAt(made: Guest, point: SchedulePoint, other: HostTask, times = 1): void {
  let left = times;
  made.kvm.host.onSchedulePoint = (at) => {
    if (at !== point || left === 0) return;
    left -= 1;
    made.kvm.host.preempt(other);
  };
}

describe("preemption", () => {
  test("is a put and a load; the next entry prepares again", () => {
    const made = guest([...CPUID, ...UD2], { policy: "clear-host", hostOptions: { hostValue: 1 } });
    preemptAt(made, "handle_exit_done", new HostTask("other"));
    made.vcpu.run();
    const { counts, wrmsr, rdmsr } = made.kvm.host.ledger;
    expect(counts).toMatchObject({ loads: 2, entering_loads: 2, host_state_reload: 2 });
    expect([wrmsr.policy, rdmsr.policy]).toEqual([4, 2]);
  });

  test("Linux's own writes are kept apart from the policy's", () => {
    const made = guest([...CPUID, ...UD2], { policy: "clear-host", hostOptions: { hostValue: 1 } });
    // the other thread has CPUID on: the switch to it and the switch back write once each
    preemptAt(made, "handle_exit_done", new HostTask("other"));
    made.vcpu.run();
    expect(made.kvm.host.ledger.wrmsr).toMatchObject({ policy: 4, switch_to_xtra: 2, arch_prctl: 1 });
    expect(made.kvm.host.cpu.peekMiscFeatures()).toBe(1n);
  });

  test("before the first entry costs nothing", () => {
    const made = guest(UD2, { policy: "clear-host", hostOptions: { hostValue: 1 } });
    preemptAt(made, "vcpu_load", new HostTask("other"));
    made.vcpu.run();
    expect(made.kvm.host.ledger.wrmsr.policy).toBe(2);
  });
});

describe("preempted between the loaded test and the write of vmx_set_msr", () => {
  test("always-hardware, host 0, guest 0->1: the host keeps 1 for ever", () => {
    const made = guest([...wrmsr(MISC, 1n), ...OUT80, ...OUT80, ...OUT80, ...UD2], { policy: "always-hardware" });
    preemptAt(made, "vmx_set_msr", new HostTask("other"));
    for (let trip = 0; trip < 3; trip++) {
      expect(made.vcpu.run().reason).toBe("io");
      expect(made.kvm.host.cpu.peekMiscFeatures()).toBe(1n);
    }
    // put wrote nothing, then W(1) landed unloaded; every later read takes 1 for the host's
    expect(made.kvm.host.ledger.wrmsr.policy).toBe(1);
    expect(made.kvm.host.cpu.msrMiscFeaturesShadow).toBe(0n);
  });

  test("without the preemption the host has 0 again", () => {
    const made = guest([...wrmsr(MISC, 1n), ...OUT80, ...UD2], { policy: "always-hardware" });
    made.vcpu.run();
    expect(made.kvm.host.cpu.peekMiscFeatures()).toBe(0n);
  });

  test("host-nonzero, host 1, guest 1->0: healed after one load", () => {
    const made = guest([...wrmsr(MISC, 0n), ...OUT80, ...UD2], {
      policy: "host-nonzero",
      hostOptions: { hostValue: 1 },
    });
    made.vcpu.setMsrs([{ index: MISC, data: 1n }]);
    const other = new HostTask("other");
    other.tifNocpuid = true; // no write of Linux's own in between
    preemptAt(made, "vmx_set_msr", other);
    const seen: bigint[] = [];
    const hook = made.kvm.host.onSchedulePoint!;
    made.kvm.host.onSchedulePoint = (point, vcpu) => {
      hook(point, vcpu);
      if (point === "handle_exit_done") seen.push(made.kvm.host.cpu.peekMiscFeatures());
    };
    made.vcpu.run();
    // the stale write cleared the hardware while nothing was loaded
    expect(seen).toContain(0n);
    expect(made.kvm.host.cpu.peekMiscFeatures()).toBe(1n);
  });
});

describe("two vCPUs on one CPU", () => {
  test("keep their registers and their own 0x140", () => {
    const made = guest([0x48, 0xff, 0xc0, ...OUT80, 0xeb, 0xf9]); // L: INC RAX; OUT 80h; JMP L
    const second = made.vm.createVcpu(1);
    second.setSregs(made.vcpu.getSregs());
    second.setRegs({ ...made.vcpu.getRegs(), rax: 100n, r15: 7n });
    second.setMsrs([{ index: MISC, data: 1n }]);
    for (let turn = 1n; turn <= 3n; turn++) {
      expect(made.vcpu.run()).toMatchObject({ reason: "io", data: Uint8Array.of(Number(turn)) });
      expect(second.run()).toMatchObject({ reason: "io", data: Uint8Array.of(100 + Number(turn)) });
    }
    expect([made.vcpu.getRegs().r15, second.getRegs().r15]).toEqual([0n, 7n]);
    expect([made.vcpu, second].map((vcpu) => vcpu.getMsrs([MISC])[0]!.data)).toEqual([0n, 1n]);
  });
});
