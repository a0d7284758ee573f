import { describe, expect, test } from "vitest";
import { POLICIES, policyByName, UnknownPolicyError } from "../../src/policy/index.ts";
import { FakeVcpu } from "./fake-host.ts";
import { COLUMNS, READS, STATICS, THREAD, TOGGLES } from "./tables.ts";

describe("static bits", () => {
  for (const { host, guest, cells } of STATICS) {
    for (const name of COLUMNS) {
      test(`host ${host}, guest ${guest}, ${name}: ${cells[name]}`, () => {
        const vcpu = new FakeVcpu(policyByName(name), host, guest);
        vcpu.enter();
        const inGuest = vcpu.physical;
        vcpu.put();
        expect(`${inGuest}/${vcpu.writes}`).toBe(cells[name]);
        expect(vcpu.physical).toBe(host);
        expect(vcpu.reads).toBe(READS[name]);
      });
    }
  }
});

describe("a guest WRMSR while loaded", () => {
  for (const { host, from, to, cells } of TOGGLES) {
    for (const name of COLUMNS) {
      test(`host ${host}, guest ${from}->${to}, ${name}: ${cells[name]}`, () => {
        const vcpu = new FakeVcpu(policyByName(name), host, from);
        vcpu.enter();
        const before = vcpu.physical;
        vcpu.set(to);
        const after = vcpu.physical;
        const outcome = vcpu.cpuid();
        vcpu.put();
        expect(`${before}->${after} / ${vcpu.writes} / ${outcome}`).toBe(cells[name]);
        expect(vcpu.physical).toBe(host);
      });
    }
  }
});

describe("a CPL 3 CPUID", () => {
  for (const { host, guest, cells } of THREAD) {
    for (const name of COLUMNS) {
      test(`host ${host}, guest ${guest}, ${name}: ${cells[name]}`, () => {
        const vcpu = new FakeVcpu(policyByName(name), host, guest);
        vcpu.enter();
        expect(vcpu.cpuid()).toBe(cells[name]);
      });
    }
  }

  test("host 1, guest 0->1 under upstream is a leak before the guest turns faulting on", () => {
    const vcpu = new FakeVcpu(policyByName("upstream"), 1n, 0n);
    vcpu.enter();
    expect(vcpu.cpuid()).toBe("L");
  });
});

describe("preempted between the loaded test and the write", () => {
  test("always-hardware: the write lands unloaded and the host keeps 1 for ever", () => {
    const vcpu = new FakeVcpu(policyByName("always-hardware"), 0n, 0n);
    vcpu.enter();
    vcpu.set(1n, () => {
      const writes = vcpu.writes;
      vcpu.put();
      expect(vcpu.writes).toBe(writes);
    });
    expect(vcpu.loaded).toBe(false);
    expect(vcpu.physical).toBe(1n);
    for (let trip = 0; trip < 3; trip++) {
      vcpu.enter();
      vcpu.put();
      expect(vcpu.physical).toBe(1n);
    }
  });

  test("host-nonzero: one load restores the host's value", () => {
    const vcpu = new FakeVcpu(policyByName("host-nonzero"), 1n, 1n);
    vcpu.enter();
    vcpu.set(0n, () => vcpu.put());
    expect(vcpu.physical).toBe(0n);
    vcpu.enter();
    vcpu.put();
    expect(vcpu.physical).toBe(1n);
  });
});

describe("parameters", () => {
  test("the host value from the shadow costs no RDMSR", () => {
    const vcpu = new FakeVcpu(policyByName("always-hardware"), 0n, 1n, { hostValue: "shadow" });
    vcpu.enter();
    vcpu.put();
    expect([vcpu.reads, vcpu.writes]).toEqual([0, 2]);
  });

  test("restoreReads reads once more at the put", () => {
    const vcpu = new FakeVcpu(policyByName("clear-host"), 1n, 0n, { restoreReads: true });
    vcpu.enter();
    vcpu.put();
    expect([vcpu.reads, vcpu.writes, vcpu.physical]).toEqual([2, 2, 1n]);
  });
});

describe("registry", () => {
  test("has the five policies", () => {
    expect(POLICIES.map((policy) => policy.name)).toEqual([...COLUMNS]);
  });

  test("an unknown name lists the known ones", () => {
    expect(() => policyByName("never")).toThrow(UnknownPolicyError);
    expect(() => policyByName("never")).toThrow(/upstream, clear-host, always-hardware, host-nonzero, clear-all/);
  });
});
