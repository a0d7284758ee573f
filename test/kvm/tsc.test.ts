// KVM_SET_TSC_KHZ. The guest's TSC is (TSC x multiplier) >> 48 + offset: SDM 3C "Changes to Instruction Behavior in VMX
// Non-Root Operation" (RDTSC), "TSC Multiplier".
import { describe, expect, test } from "vitest";
import { Kvm, KvmError, type Vcpu } from "../../src/kvm/index.ts";
import { Guest, HALT } from "./guest-builder.ts";

const NOP = 0x90;
const RDTSC = [0x0f, 0x31];
const MOV_ESI_EAX = [0x89, 0xc6];
const SUB_EAX_ESI = [0x29, 0xf0];
const MSR_TSC = 0x10;

const guest = (code: readonly number[]): Guest => new Guest({ mode: "protected", cpl: 0, kernel: "6.19", code });

function errno(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof KvmError) return error.code;
    throw error;
  }
  return "ok";
}

/** Ticks that pass in the guest between two RDTSCs that 1,000 ticks of the host lie between. */
function ticks(khz: number): number {
  const code = [...RDTSC, ...MOV_ESI_EAX, ...Array<number>(998).fill(NOP), ...RDTSC, ...SUB_EAX_ESI, ...HALT];
  const { vcpu } = guest(code);
  vcpu.setTscKhz(khz);
  vcpu.setMsrs([{ index: MSR_TSC, data: 0n }]);
  expect(vcpu.run().reason).toBe("hlt");
  return Number(vcpu.getRegs().rax);
}

describe("KVM_SET_TSC_KHZ", () => {
  test.each([
    [0, 1000],
    [1_000_000, 1000],
    [2_000_000, 2000],
    [2_500_000, 2500],
    [500_000, 500],
    [1000, 1],
  ])("a guest's TSC runs at its frequency: %i kHz", (khz, expected) => {
    expect(Math.abs(ticks(khz) - expected)).toBeLessThanOrEqual(1);
  });

  test("the frequency that was set is got, 0 is the host's", () => {
    const { vcpu } = guest(HALT);
    const host = vcpu.getTscKhz();
    vcpu.setTscKhz(3_000_000);
    expect(vcpu.getTscKhz()).toBe(3_000_000);
    vcpu.setTscKhz(0);
    expect(vcpu.getTscKhz()).toBe(host);
  });

  test("what is above the kernel's limit is EINVAL", () => {
    const { vcpu } = guest(HALT);
    expect([0x7fff_ffff, -1, 1.5].map((khz) => errno(() => vcpu.setTscKhz(khz)))).toEqual([
      "EINVAL",
      "EINVAL",
      "EINVAL",
    ]);
  });

  test("of the VM is that of new vCPUs, before the first", () => {
    const vm = new Kvm().createVm();
    vm.setTscKhz(1_500_000);
    expect(vm.getTscKhz()).toBe(1_500_000);
    expect(vm.createVcpu(0).getTscKhz()).toBe(1_500_000);
    expect(errno(() => vm.setTscKhz(0))).toBe("EINVAL"); // recorded on Linux 6.18
    expect(errno(() => new Kvm({ kernel: "5.0" }).createVm().setTscKhz(0))).toBe("ENOTTY");
  });

  const getTsc = (vcpu: Vcpu): bigint => vcpu.getMsrs([MSR_TSC])[0]!.data;

  test("MSR 0x10 is the guest's TSC", () => {
    const { vcpu } = guest([...RDTSC, ...HALT]);
    vcpu.setTscKhz(2_000_000);
    vcpu.setMsrs([{ index: MSR_TSC, data: 0x1234_5678_9abcn }]);
    expect(getTsc(vcpu)).toBe(0x1234_5678_9abcn);
    vcpu.run();
    const { rax, rdx } = vcpu.getRegs();
    const read = (rdx << 32n) | rax;
    expect(Number(getTsc(vcpu) - read)).toBeGreaterThanOrEqual(0);
    expect(Number(getTsc(vcpu) - read)).toBeLessThan(10);
  });

  test("a TSC deadline is in the guest's ticks", () => {
    const kvm = new Kvm();
    const vm = kvm.createVm();
    vm.createIrqchip();
    const at = vm.allocMemory(0x10000n);
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: 0x10000n, userspaceAddr: at });
    const vcpu = vm.createVcpu(0);
    vcpu.setCpuid2(kvm.getSupportedCpuid());
    // x2APIC on, software-enabled, deadline mode with vector 0x40, deadline = RDTSC + 10,000; STI; HLT
    const hex = (text: string): Uint8Array => Uint8Array.from(text.match(/../g)!, (pair) => Number.parseInt(pair, 16));
    const code = [
      ...["66b91b00000066b8000de0fe66ba000000000f30", "66b90f08000066b8ff01000066ba000000000f30"],
      ...["66b93208000066b84000040066ba000000000f30", "0f316689c666891600096605102700006683d20066b9e00600000f30fbf4"],
    ].join("");
    vm.writeMemory(at + 0x1000n, hex(code));
    vm.writeMemory(at + 0x100n, hex("00200000"));
    vm.writeMemory(at + 0x2000n, hex("0f31e680")); // RDTSC; OUT 80h, AL
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x8000n, rflags: 2n });
    vcpu.setTscKhz(250_000);
    vcpu.setMsrs([{ index: MSR_TSC, data: 0n }]);
    expect(vcpu.run({ maxInstructions: 100n })).toMatchObject({ reason: "io", port: 0x80 });
    const { rax, rsi } = vcpu.getRegs();
    expect(Number(rax - rsi)).toBeGreaterThanOrEqual(10_000);
    expect(Number(rax - rsi)).toBeLessThan(10_020);
  });
});
