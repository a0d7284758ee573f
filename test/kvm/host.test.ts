import { beforeEach, describe, expect, test } from "vitest";
import { Ledger } from "../../src/cost/index.ts";
import {
  ARCH_GET_CPUID,
  ARCH_SET_CPUID,
  EINVAL,
  ENODEV,
  HostCpu,
  type MsrHardware,
  UncheckedMsrAccessError,
} from "../../src/kvm/host-cpu.ts";
import { HostTask } from "../../src/kvm/host-task.ts";
import { bootHost } from "../../src/kvm/host-value.ts";

/** 0x140 with two bits, bit 0 only with the feature; everything else but 0xCE is #GP. */
class FakeMsrs implements MsrHardware {
  misc: bigint | null = 0xf2n;
  constructor(readonly platformInfo = 1n << 31n) {}
  rdmsr(index: number): bigint | null {
    if (index === 0xce) return this.platformInfo;
    return index === 0x140 ? this.misc : null;
  }
  wrmsr(index: number, value: bigint): boolean {
    if (index !== 0x140) return false;
    this.misc = value;
    return true;
  }
}

let msrs: FakeMsrs;
let ledger: Ledger;
let cpu: HostCpu;
beforeEach(() => {
  msrs = new FakeMsrs();
  ledger = new Ledger();
  cpu = new HostCpu(msrs, ledger);
});

describe("boot", () => {
  test("writes 0 over every bit and finds the feature", () => {
    cpu.boot();
    expect(msrs.misc).toBe(0n);
    expect(cpu.cpuidFault).toBe(true);
    expect(ledger.wrmsr.boot).toBe(1);
  });

  test("sets bit 1 on a Xeon Phi", () => {
    cpu.boot({ ring3mwait: true });
    expect([msrs.misc, cpu.msrMiscFeaturesShadow]).toEqual([2n, 2n]);
  });

  test("does nothing where reading 0x140 faults", () => {
    msrs.misc = null;
    cpu.boot();
    expect(cpu.cpuidFault).toBe(false);
    expect(ledger.wrmsr.boot).toBe(0);
  });

  test("no feature without 0xCE bit 31", () => {
    cpu = new HostCpu(new FakeMsrs(0n), ledger);
    cpu.boot();
    expect(cpu.cpuidFault).toBe(false);
  });
});

describe("arch_prctl", () => {
  test("the codes are 0x1011 and 0x1012", () => {
    expect([ARCH_GET_CPUID, ARCH_SET_CPUID]).toEqual([0x1011, 0x1012]);
  });

  test("SET 0 makes CPUID fault, SET 1 makes it work, GET tells", () => {
    cpu.boot();
    expect(cpu.archPrctl(ARCH_GET_CPUID)).toBe(1);
    expect(cpu.archPrctl(ARCH_SET_CPUID, 0)).toBe(0);
    expect([cpu.archPrctl(ARCH_GET_CPUID), msrs.misc]).toEqual([0, 1n]);
    expect(cpu.archPrctl(ARCH_SET_CPUID, 5)).toBe(0);
    expect([cpu.archPrctl(ARCH_GET_CPUID), msrs.misc]).toEqual([1, 0n]);
    expect(ledger.wrmsr.arch_prctl).toBe(2);
  });

  test("setting what is set writes nothing", () => {
    cpu.boot();
    cpu.archPrctl(ARCH_SET_CPUID, 1);
    expect(ledger.wrmsr.arch_prctl).toBe(0);
  });

  test("ENODEV without the feature, EINVAL for another code", () => {
    cpu = new HostCpu(new FakeMsrs(0n), ledger);
    cpu.boot();
    expect(cpu.archPrctl(ARCH_SET_CPUID, 0)).toBe(-ENODEV);
    expect(cpu.archPrctl(ARCH_GET_CPUID)).toBe(1);
    expect(cpu.archPrctl(0x1013)).toBe(-EINVAL);
  });

  test("bit 1 survives, by way of the shadow, and the MSR is not read", () => {
    cpu.boot({ ring3mwait: true });
    const reads = ledger.total("rdmsr");
    cpu.archPrctl(ARCH_SET_CPUID, 0);
    expect(msrs.misc).toBe(3n);
    cpu.archPrctl(ARCH_SET_CPUID, 1);
    expect(msrs.misc).toBe(2n);
    expect(ledger.total("rdmsr")).toBe(reads);
  });
});

describe("threads", () => {
  test("fork inherits the flag, exec clears it and the MSR", () => {
    cpu.boot();
    cpu.archPrctl(ARCH_SET_CPUID, 0);
    const child = cpu.current.fork("child");
    expect(child.tifNocpuid).toBe(true);
    cpu.switchTo(child);
    expect(ledger.wrmsr.switch_to_xtra).toBe(0);
    cpu.exec();
    expect([child.tifNocpuid, msrs.misc]).toEqual([false, 0n]);
  });

  test("a context switch writes only where the flag differs", () => {
    cpu.boot({ ring3mwait: true });
    const plain = new HostTask("plain");
    const other = new HostTask("other");
    const nocpuid = new HostTask("nocpuid");
    nocpuid.tifNocpuid = true;
    cpu.switchTo(plain);
    cpu.switchTo(other);
    expect(ledger.wrmsr.switch_to_xtra).toBe(0);
    cpu.switchTo(nocpuid);
    expect(msrs.misc).toBe(3n);
    cpu.switchTo(plain);
    expect(msrs.misc).toBe(2n);
    expect(ledger.wrmsr.switch_to_xtra).toBe(2);
  });

  test("sched_out sees the old value, sched_in the new one", () => {
    cpu.boot();
    const seen: string[] = [];
    const vmm = new HostTask("vmm");
    const nocpuid = new HostTask("nocpuid");
    nocpuid.tifNocpuid = true;
    vmm.registerPreemptNotifier({
      schedOut: () => seen.push(`out ${msrs.misc}`),
      schedIn: () => seen.push(`in ${msrs.misc}`),
    });
    cpu.switchTo(vmm);
    cpu.switchTo(nocpuid);
    cpu.switchTo(vmm);
    expect(seen).toEqual(["in 0", "out 0", "in 0"]);
    expect(msrs.misc).toBe(0n);
  });
});

describe("host values", () => {
  for (const value of [0, 1, 2, 3]) {
    test(`a VMM thread with host value ${value}`, () => {
      const host = bootHost(msrs, ledger, value);
      expect([msrs.misc, host.cpu.msrMiscFeaturesShadow]).toEqual([BigInt(value), BigInt(value)]);
      expect(host.cpu.current).toBe(host.vmm);
    });
  }

  test("bit 0 is refused without the feature", () => {
    expect(() => bootHost(new FakeMsrs(0n), ledger, 1)).toThrow(/needs a CPU with CPUID faulting/);
  });

  test("an unchecked access of a missing MSR is an error that carries the index", () => {
    expect(() => cpu.wrmsrl(0xdead, 5n, "policy")).toThrow(UncheckedMsrAccessError);
  });
});
