// A VMM as its author writes it against the API alone: in-kernel interrupt controllers and timer, two vCPUs that the guest
// starts with INIT and SIPI, port I/O, the dirty log, KVM_NMI to a halted vCPU; ticks of the 8254, a device in a window of
// addresses, an AbortSignal.
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

/** A device behind addresses: what is written is kept, four bytes on it reads as a letter. */
class LetterDevice {
  readonly base = 0xd000n;
  readonly size = 0x10n;
  readonly written: number[] = [];

  serve(exit: Extract<KvmExit, { reason: "mmio" }>): void {
    const offset = exit.physAddr - this.base;
    if (offset < 0n || offset >= this.size) throw new Error(`nothing at 0x${exit.physAddr.toString(16)}`);
    if (exit.isWrite) this.written.push(exit.data[Number(offset)]!);
    else exit.data.fill(0x40 + this.written.length);
  }
}

test("a guest of ticks, a device and an endless loop, which an AbortSignal ends", async () => {
  const vm = new Kvm({ hostOptions: { memory: 1 << 20 } }).createVm();
  const memorySize = 0x8000n;
  const userspaceAddr = vm.allocMemory(memorySize);
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize, userspaceAddr });
  const put = (at: number, hex: string): void =>
    vm.writeMemory(userspaceAddr + BigInt(at), Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex")));
  put(0x80, "0020 0000"); // vector 20h: 0:2000h
  // 8259: vectors from 20h, line 0 only
  put(0x1000, "b011 e620 b020 e621 b004 e621 b001 e621 b0fe e621");
  // 8254: channel 0, mode 2, 1193 counts; STI
  put(0x1014, "b034 e643 b0a9 e640 b004 e640 fb");
  // L: HLT; CMP BYTE [500h], 5; JB L; CLI; JMP $; HLT
  put(0x1021, "f4 803e000505 72f8 fa ebfe f4");
  // PUSH AX; INC BYTE [500h]; MOV AL, [500h]; MOV [D000h], AL; MOV AL, [D004h]; OUT 80h, AL; EOI; POP AX; IRET
  put(0x2000, "50 fe060005 a00005 a200d0 a004d0 e680 b020e620 58 cf");
  vm.createIrqchip();
  vm.createPit2();
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x7000n, rflags: 2n });

  const device = new LetterDevice();
  const controller = new AbortController();
  const times: bigint[] = [];
  let text = "";
  let exit = await vcpu.runAsync({ signal: controller.signal });
  for (; exit.reason !== "intr"; exit = await vcpu.runAsync({ signal: controller.signal })) {
    if (exit.reason === "mmio") device.serve(exit);
    else if (exit.reason === "io" && exit.port === 0x80) {
      text += String.fromCharCode(...exit.data);
      times.push(vcpu.getMsrs([0x10])[0]!.data);
    } else throw new Error(exit.reason);
    // the guest is in its endless loop when this comes
    if (text.length === 5) setTimeout(() => controller.abort(), 20);
  }
  expect([text, device.written]).toEqual(["ABCDE", [1, 2, 3, 4, 5]]);
  expect(exit).toEqual({ reason: "intr", why: "signal" });
  expect(vcpu.getRegs().rip).toBe(0x102an);
  // 1193 counts at the 8254's 1,193,182 Hz are 999.85 us; the TSC runs at 1 GHz
  for (const [i, time] of times.entries()) {
    if (i > 0) expect(Math.abs(Number(time - times[i - 1]!) - 999_850)).toBeLessThan(1_000);
  }

  // the VMM takes it past the loop: with IF off nothing can wake it
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x102cn });
  expect(await vcpu.runAsync()).toEqual({ reason: "intr", why: "idle" });
  expect(vcpu.getMpState()).toBe(3); // HALTED
});

test("ticks that pass while the VMM is elsewhere come one after the other, and are one without reinjection", () => {
  const ticks = (pitReinject: boolean): number => {
    const kvm = new Kvm({ hostOptions: { memory: 1 << 20 } });
    const vm = kvm.createVm();
    const userspaceAddr = vm.allocMemory(0x8000n);
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: 0x8000n, userspaceAddr });
    const put = (at: number, hex: string): void =>
      vm.writeMemory(userspaceAddr + BigInt(at), Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex")));
    put(0x80, "0020 0000");
    // the same 8259 and 8254; OUT 80h, AL; STI; NOP 100 times by LOOP; CLI; HLT
    put(0x1000, "b011 e620 b020 e621 b004 e621 b001 e621 b0fe e621 b034 e643 b0a9 e640 b004 e640");
    put(0x1020, "e680 fb b96400 90 e2fd fa f4");
    put(0x2000, "50 fe060005 b020e620 58 cf"); // INC BYTE [500h]; EOI
    vm.createIrqchip();
    vm.createPit2();
    vm.reinjectControl({ pitReinject });
    const vcpu = vm.createVcpu(0);
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x7000n, rflags: 2n });
    expect(vcpu.run()).toMatchObject({ reason: "io", port: 0x80 });
    kvm.host.passTime(7_500_000n);
    expect(vcpu.run()).toEqual({ reason: "intr", why: "idle" });
    return vm.readMemory(userspaceAddr + 0x500n, 1)[0]!;
  };
  expect([ticks(true), ticks(false)]).toEqual([7, 1]);
});
