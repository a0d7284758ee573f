// A VMM as its author writes it against the API alone: in-kernel interrupt controllers and timer, two vCPUs that the guest
// starts with INIT and SIPI, port I/O, the dirty log, KVM_NMI to a halted vCPU.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { KVM_MEM_LOG_DIRTY_PAGES, Kvm, KvmError, type KvmExit, type Vcpu } from "../../src/kvm/index.ts";
import { enterAt } from "../../src/lab/index.ts";
import { mixImage } from "../../src/lab/mix.ts";
import { imageMemory, startState } from "../../src/machine/index.ts";

const MEMORY = 8 << 20;
const PAGE = 4096;
const SHARED = 0x48_0000;
const RATES = { faulting: true, rounds: 40, cpuids: 0.5, exits: 0.25, writes: 0, steps: 20 };
const binary = new Uint8Array(readFileSync(new URL("../../fixtures/lab/bin/smp.bin", import.meta.url)));

/** KVM_RUN for so many instructions at most; undefined for EAGAIN. */
function run(vcpu: Vcpu, maxInstructions: bigint): KvmExit | undefined {
  try {
    return vcpu.run({ maxInstructions });
  } catch (error) {
    if (error instanceof KvmError && error.code === "EAGAIN") return undefined;
    throw error;
  }
}

test("a guest of two processors boots, works together and ends", () => {
  const kvm = new Kvm({ hostOptions: { memory: MEMORY } });
  const vm = kvm.createVm();
  const image = mixImage(binary, RATES, 2);
  const userspaceAddr = vm.allocMemory(BigInt(MEMORY));
  const slot = { slot: 0, guestPhysAddr: 0n, memorySize: BigInt(MEMORY), userspaceAddr };
  vm.setUserMemoryRegion({ ...slot, flags: KVM_MEM_LOG_DIRTY_PAGES });
  for (const { address, data } of imageMemory(image, MEMORY)) vm.writeMemory(userspaceAddr + BigInt(address), data);
  vm.createIrqchip();
  vm.createPit2();
  const vcpus = [0, 1].map((id) => {
    const vcpu = vm.createVcpu(id);
    vcpu.setCpuid2(kvm.getSupportedCpuid());
    return vcpu;
  });
  enterAt(vcpus[0]!, startState(image, MEMORY));
  expect(vcpus.map((vcpu) => vcpu.getMpState())).toEqual([0, 1]); // RUNNABLE, UNINITIALIZED
  expect(run(vcpus[1]!, 100n)).toEqual({ reason: "intr", why: "idle" });

  let text = "";
  let status: number | undefined;
  const outs = [0, 0];
  const why = new Set<string>();
  for (let turn = 0; status === undefined && turn < 10_000; turn++) {
    const index = turn & 1;
    const exit = run(vcpus[index]!, 2000n);
    if (exit === undefined) why.add("EAGAIN");
    else if (exit.reason === "intr") why.add(exit.why);
    else if (exit.reason !== "io" || exit.direction !== "out") throw new Error(exit.reason);
    else if (exit.port === 0xe9) text += String.fromCharCode(...exit.data);
    else if (exit.port === 0x80) outs[index]! += 1;
    else status = exit.data[0];
  }
  expect([status, text.replace(/, checksum .*/s, "")]).toEqual([0, "lab: vCPUs 2, cpuids 0, faults 40, shared 80 80"]);
  expect(outs).toEqual([10, 10]);
  expect(why).toContain("bound");

  const dirty = vm.getDirtyLog(0);
  const isDirty = (address: number): boolean =>
    ((dirty[Math.floor(address / PAGE / 8)]! >> ((address / PAGE) & 7)) & 1) === 1;
  expect([isDirty(SHARED), isDirty(0x70_0000)]).toEqual([true, false]);
  expect(vm.getDirtyLog(0).every((byte) => byte === 0)).toBe(true);

  expect(vcpus[1]!.getMpState()).toBe(3); // HALTED
  vcpus[1]!.nmi();
  run(vcpus[1]!, 5n);
  expect(vcpus[1]!.getMpState()).toBe(0);
});
