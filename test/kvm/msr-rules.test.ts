// KVM's own rules for 0xCE and 0x140, by kernel version.
import { describe, expect, test } from "vitest";
import { KERNEL_VERSIONS, KVM_CAP_MSR_PLATFORM_INFO, Kvm, KvmError, type Vcpu } from "../../src/kvm/index.ts";
import { CPUID, Guest, UD2, wrmsr } from "./guest-builder.ts";

const PLATFORM_INFO = 0xce;
const MISC = 0x140;
const BIT31 = 1n << 31n;
const GP = 13;
const UD = 6;

const vcpuOf = (kernel: string): Vcpu => new Kvm({ kernel }).createVm().createVcpu(0);
const set = (vcpu: Vcpu, index: number, data: bigint): number => vcpu.setMsrs([{ index, data }]);
const get = (vcpu: Vcpu, index: number): bigint => vcpu.getMsrs([index])[0]!.data;

for (const kernel of KERNEL_VERSIONS) {
  describe(`kernel ${kernel}`, () => {
    test("a new vCPU has 0xCE[31] and 0x140 = 0", () => {
      const vcpu = vcpuOf(kernel);
      expect([get(vcpu, PLATFORM_INFO), get(vcpu, MISC)]).toEqual([BIT31, 0n]);
    });

    test("0x140: bit 0 only, and only with 0xCE[31]", () => {
      const vcpu = vcpuOf(kernel);
      expect([0n, 1n, 2n, 3n, 1n << 32n].map((data) => set(vcpu, MISC, data))).toEqual([1, 1, 0, 0, 0]);
      expect(get(vcpu, MISC)).toBe(1n);
      set(vcpu, MISC, 0n);
      expect(set(vcpu, PLATFORM_INFO, 0n)).toBe(1);
      expect([set(vcpu, MISC, 1n), set(vcpu, MISC, 0n)]).toEqual([0, 1]);
    });

    test("the host may store any value in 0xCE", () => {
      const vcpu = vcpuOf(kernel);
      for (const data of [0n, 0x1f00n, 0xffff_ffff_ffff_ffffn]) {
        expect(set(vcpu, PLATFORM_INFO, data)).toBe(1);
        expect(get(vcpu, PLATFORM_INFO)).toBe(data);
      }
    });

    test("a batch stops at the first refusal", () => {
      const vcpu = vcpuOf(kernel);
      const done = vcpu.setMsrs([
        { index: MISC, data: 1n },
        { index: MISC, data: 2n },
        { index: MISC, data: 0n },
      ]);
      expect([done, get(vcpu, MISC)]).toEqual([1, 1n]);
      expect(vcpu.getMsrs([MISC, 0xdead, PLATFORM_INFO])).toHaveLength(1);
    });

    test("E2BIG from 256 MSRs on", () => {
      const entries = Array.from({ length: 256 }, () => ({ index: MISC, data: 0n }));
      expect(() => vcpuOf(kernel).setMsrs(entries)).toThrow(KvmError);
      expect(vcpuOf(kernel).setMsrs(entries.slice(1))).toBe(255);
    });

    test("guest WRMSR of 0xCE is #GP(0), even of the value it has", () => {
      const made = new Guest({ mode: "protected", cpl: 0, kernel, code: [...wrmsr(PLATFORM_INFO, BIT31), ...UD2] });
      made.vcpu.run();
      expect([made.haltedVector(), made.frame(GP).error]).toEqual([GP, 0]);
    });

    for (const data of [2n, 3n, 0x8000_0000n]) {
      test(`guest WRMSR of 0x140 = ${data} is #GP(0) on the instruction, with RF`, () => {
        const code = wrmsr(MISC, data);
        const made = new Guest({ mode: "long", cpl: 0, kernel, code: [...code, ...UD2] });
        made.vcpu.run();
        expect(made.haltedVector()).toBe(GP);
        const { rip, flags } = made.frame(GP);
        expect([rip, flags & 0x10000]).toEqual([0xe000 + code.length - 2, 0x10000]);
      });
    }

    test("KVM_CAP_MSR_PLATFORM_INFO off hides 0xCE from the guest and not from the host", () => {
      const rdmsr = [0xb9, PLATFORM_INFO, 0, 0, 0, 0x0f, 0x32];
      const made = new Guest({ mode: "protected", cpl: 0, kernel, code: [...rdmsr, ...UD2] });
      made.vm.enableCap(KVM_CAP_MSR_PLATFORM_INFO, [0]);
      made.vcpu.run();
      expect(made.haltedVector()).toBe(GP);
      expect(get(made.vcpu, PLATFORM_INFO)).toBe(BIT31);
    });
  });
}

describe("what changed", () => {
  test("clearing 0xCE[31] while faulting: refused in 5.0, accepted since", () => {
    for (const [kernel, rc] of [
      ["5.0", 0],
      ["6.19", 1],
      ["7.1", 1],
    ] as const) {
      const vcpu = vcpuOf(kernel);
      set(vcpu, MISC, 1n);
      expect(set(vcpu, PLATFORM_INFO, 0n), kernel).toBe(rc);
    }
  });

  test("0xCE after the first run: any value in 5.0, only its own since", () => {
    for (const [kernel, other] of [
      ["5.0", 1],
      ["6.19", 0],
      ["7.1", 0],
    ] as const) {
      const { vcpu } = new Guest({ mode: "protected", cpl: 0, kernel, code: UD2 });
      vcpu.run();
      expect([set(vcpu, PLATFORM_INFO, BIT31), set(vcpu, PLATFORM_INFO, 0n)], kernel).toEqual([1, other]);
    }
  });

  test("the /dev/kvm fd reads 0xCE as a feature MSR since 6.x", () => {
    expect(new Kvm({ kernel: "5.0" }).getMsrs([PLATFORM_INFO])).toEqual([]);
    expect(new Kvm({ kernel: "6.19" }).getMsrs([PLATFORM_INFO])).toEqual([{ index: PLATFORM_INFO, data: BIT31 }]);
  });

  test("a CPL 3 CPUID in SMM faults before 7.1 and not in it", () => {
    for (const [kernel, vector] of [
      ["5.0", GP],
      ["6.19", GP],
      ["7.1", UD],
    ] as const) {
      const made = new Guest({ mode: "protected", cpl: 3, kernel, code: [...CPUID, ...UD2] });
      set(made.vcpu, MISC, 1n);
      made.vcpu.vmx.arch.smm = true;
      made.vcpu.run();
      expect(made.haltedVector(), kernel).toBe(vector);
    }
  });

  test("an unknown version lists the known ones", () => {
    expect(() => new Kvm({ kernel: "4.4" })).toThrow(/5.0, 6.19, 7.1/);
  });
});
