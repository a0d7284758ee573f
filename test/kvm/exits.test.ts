// Exits to user space, events, and what KVM makes of them.
import { describe, expect, test } from "vitest";
import { KVM_MEM_READONLY, Kvm, KvmError } from "../../src/kvm/index.ts";
import { CODE, Guest, type GuestOptions, HALT, type Mode, UD2 } from "./guest-builder.ts";

const IF = 0x200n;
const PIO_RULES = [
  ["5.0", 2n],
  ["6.19", 0n],
] as const;

function guest(code: readonly number[], options: Partial<GuestOptions> = {}): Guest {
  return new Guest({ mode: "protected", cpl: 0, code, ...options });
}

describe("port I/O", () => {
  test("the documentation's program: 3 + 3 to port 0x3F8, a newline, HLT", () => {
    // mov dx,0x3f8; add al,bl; add al,'0'; out dx,al; mov al,'\n'; out dx,al; hlt
    const code = [0xba, 0xf8, 0x03, 0x00, 0xd8, 0x04, 0x30, 0xee, 0xb0, 0x0a, 0xee, 0xf4];
    const { vcpu } = guest(code, { mode: "real", regs: { rax: 3n, rbx: 3n } });
    const bytes: number[] = [];
    for (;;) {
      const exit = vcpu.run();
      if (exit.reason !== "io") {
        expect(exit).toEqual({ reason: "hlt" });
        break;
      }
      expect(exit).toMatchObject({ direction: "out", port: 0x3f8, size: 1, count: 1 });
      bytes.push(...exit.data);
    }
    expect(String.fromCharCode(...bytes)).toBe("6\n");
  });

  for (const [kernel, past] of PIO_RULES) {
    test(`kernel ${kernel}: RIP at an OUT exit is ${past ? "past" : "on"} the instruction`, () => {
      const { vcpu } = guest([0xe6, 0x80, ...HALT], { kernel });
      vcpu.run();
      expect(vcpu.getRegs().rip).toBe(BigInt(CODE) + past);
      vcpu.run();
      expect(vcpu.getRegs().rip).toBe(BigInt(CODE) + 3n);
    });
  }

  test.each([
    ["AL", [0xe4, 0x60], 1, 0x1122_3344_5566_77aan],
    ["AX", [0x66, 0xe5, 0x60], 2, 0x1122_3344_5566_bbaan],
    ["EAX, zero-extended", [0xe5, 0x60], 4, 0xddcc_bbaan],
  ] as const)("IN to %s", (_name, code, size, rax) => {
    const { vcpu } = guest([...code, ...HALT], { mode: "long", regs: { rax: 0x1122_3344_5566_7788n } });
    const exit = vcpu.run();
    if (exit.reason !== "io") throw new Error(exit.reason);
    expect(exit).toMatchObject({ direction: "in", port: 0x60, size, count: 1 });
    exit.data.set([0xaa, 0xbb, 0xcc, 0xdd].slice(0, size));
    expect(vcpu.run()).toEqual({ reason: "hlt" });
    expect(vcpu.getRegs().rax).toBe(rax);
  });

  test("immediate exit completes an IN without entering the guest", () => {
    const { vcpu, kvm } = guest([0xe4, 0x60, ...HALT], { kernel: "6.19" });
    const exit = vcpu.run();
    if (exit.reason !== "io") throw new Error(exit.reason);
    exit.data[0] = 0x42;
    const { exits } = kvm.host.ledger.counts;
    expect(vcpu.run({ immediateExit: true })).toEqual({ reason: "intr", why: "immediateExit" });
    expect([vcpu.getRegs().rax, kvm.host.ledger.counts.exits]).toEqual([0x42n, exits]);
  });

  test("REP OUTSB is one item an exit, REP INSB one read-ahead exit", () => {
    const regs = { rcx: 3n, rdx: 0x99n, rsi: 0x10_0000n, rdi: 0x10_1000n };
    const out = guest([0xf3, 0x6e, ...HALT], { regs });
    out.write(0x10_0000, [1, 2, 3]);
    for (const byte of [1, 2, 3]) {
      expect(out.vcpu.run()).toMatchObject({ direction: "out", port: 0x99, count: 1, data: Uint8Array.of(byte) });
    }
    expect(out.vcpu.run()).toEqual({ reason: "hlt" });
    expect(out.vcpu.getRegs()).toMatchObject({ rcx: 0n, rsi: 0x10_0003n });

    const input = guest([0xf3, 0x6c, ...HALT], { regs });
    const exit = input.vcpu.run();
    if (exit.reason !== "io") throw new Error(exit.reason);
    expect(exit).toMatchObject({ direction: "in", port: 0x99, size: 1, count: 3 });
    exit.data.set([7, 8, 9]);
    expect(input.vcpu.run()).toEqual({ reason: "hlt" });
    expect([...new Uint8Array(input.read(0x10_1000, 3).buffer)]).toEqual([7, 8, 9]);
    expect(input.vcpu.getRegs()).toMatchObject({ rcx: 0n, rdi: 0x10_1003n });
  });

  test("OUTSW with DF goes down", () => {
    // std; outsw; hlt
    const made = guest([0xfd, 0x66, 0x6f, ...HALT], { regs: { rsi: 0x10_0002n } });
    made.write(0x10_0000, [1, 2, 3, 4]);
    expect(made.vcpu.run()).toMatchObject({ direction: "out", size: 2, data: Uint8Array.of(3, 4) });
    made.vcpu.run();
    expect(made.vcpu.getRegs().rsi).toBe(0x10_0000n);
  });
});

describe("events", () => {
  test("KVM_INTERRUPT delivers its vector", () => {
    const made = guest([0x90, ...HALT], { regs: { rflags: 2n | IF } });
    made.vcpu.interrupt(0x1f);
    expect(made.vcpu.run()).toEqual({ reason: "hlt" });
    expect(made.haltedVector()).toBe(0x1f);
    expect(made.frame(0x1f).rip).toBe(CODE);
  });

  test("the interrupt window opens when the guest sets IF, one instruction after STI", () => {
    const made = guest([0xfb, 0x90, 0x90, ...HALT]); // STI; NOP; NOP; HLT
    expect(made.vcpu.readyForInterruptInjection).toBe(false);
    made.vcpu.requestInterruptWindow = true;
    expect(made.vcpu.run()).toEqual({ reason: "irqWindowOpen" });
    expect(made.vcpu.getRegs().rip).toBe(BigInt(CODE + 2));
    expect(made.vcpu.readyForInterruptInjection).toBe(true);
    made.vcpu.requestInterruptWindow = false;
    made.vcpu.interrupt(0x1e);
    made.vcpu.run();
    expect([made.haltedVector(), made.frame(0x1e).rip]).toEqual([0x1e, CODE + 2]);
  });

  test("KVM_NMI delivers vector 2", () => {
    const made = guest([0x90, ...HALT]);
    made.vcpu.nmi();
    made.vcpu.run();
    expect(made.haltedVector()).toBe(2);
  });

  test("#UD exits, and is injected with RF", () => {
    const made = guest(UD2);
    made.vcpu.run();
    expect(made.haltedVector()).toBe(6);
    expect(made.frame(6)).toMatchObject({ rip: CODE, flags: 0x10002 });
    expect(made.kvm.host.ledger.counts).toMatchObject({ injected_faults: 1, hardware_faults: 0 });
  });

  test("a fault that stays in the guest is the processor's own", () => {
    const made = guest([0xf7, 0xf1], { regs: { rax: 1n, rcx: 0n } }); // DIV ECX
    made.vcpu.run();
    expect(made.haltedVector()).toBe(0);
    expect(made.kvm.host.ledger.counts).toMatchObject({ injected_faults: 0, hardware_faults: 1 });
  });

  test("an interrupt whose delivery meets memory that is not mapped yet is delivered after the EPT violation", () => {
    const made = guest([0x90, ...HALT], { regs: { rflags: 2n | IF } });
    made.vcpu.interrupt(0x1d);
    const vectoring: number[] = [];
    made.kvm.host.onSchedulePoint = (point) => {
      if (point === "handle_exit") vectoring.push(made.vcpu.vmx.idtVectoringInfo >>> 0);
    };
    made.vcpu.run();
    // valid, external interrupt, vector 1Dh: the IDT itself was not mapped
    expect(vectoring[0]).toBe(0x8000_001d);
    expect([made.haltedVector(), made.frame(0x1d).rip]).toEqual([0x1d, CODE]);
  });

  test("single step: a skipped CPUID is followed by #DB with BS", () => {
    const made = guest([0x0f, 0xa2, 0x90], { regs: { rflags: 0x102n } });
    made.vcpu.run();
    expect([made.haltedVector(), made.frame(1).rip]).toEqual([1, CODE + 2]);
    expect(made.vcpu.getDebugRegs()[4]! & 0x4000n).toBe(0x4000n);
  });
});

// @sdm 3A "Task Switching"; the bare processor's are tested in test/system/tasks.test.ts
describe("a task switch exits and is carried out", () => {
  const OLD_TSS = 0x3000;
  const NEW_TSS = 0x2_0000;
  const NEW_SELECTOR = 0x48;
  const NEW_CODE = 0x2_1000;

  function tasks(code: readonly number[], kernel = "6.19"): Guest {
    const made = guest(code, { kernel, regs: { rax: 1n, rcx: 0n } });
    const s = made.vcpu.getSregs();
    made.vcpu.setSregs({ ...s, gdt: { ...s.gdt, limit: NEW_SELECTOR + 7 } });
    // available 32-bit TSS, limit 67h
    made.write(Number(s.gdt.base) + NEW_SELECTOR, [
      0x67,
      0,
      NEW_TSS & 0xff,
      (NEW_TSS >> 8) & 0xff,
      NEW_TSS >> 16,
      0x89,
      0,
      0,
    ]);
    const tss = new DataView(new ArrayBuffer(0x68));
    tss.setUint32(0x20, NEW_CODE, true);
    tss.setUint32(0x24, 2, true);
    tss.setUint32(0x28, 0x1234_5678, true); // EAX
    tss.setUint32(0x38, 0x2_8000, true); // ESP
    for (const at of [0x48, 0x50, 0x54, 0x58, 0x5c]) tss.setUint32(at, 0x10, true);
    tss.setUint32(0x4c, 0x08, true); // CS
    made.write(NEW_TSS, [...new Uint8Array(tss.buffer)]);
    made.write(NEW_CODE, [0x40, 0xf4]); // INC EAX; HLT
    return made;
  }

  test.each(["5.0", "6.19"])("JMP to a task-state segment, Linux %s", (kernel) => {
    const made = tasks([0xea, 0, 0, 0, 0, NEW_SELECTOR, 0], kernel);
    expect(made.vcpu.run()).toEqual({ reason: "hlt" });
    expect(made.vcpu.getRegs()).toMatchObject({ rax: 0x1234_5679n, rip: BigInt(NEW_CODE + 2), rsp: 0x2_8000n });
    expect(made.vcpu.getSregs().tr).toMatchObject({ selector: NEW_SELECTOR, base: BigInt(NEW_TSS), type: 11 });
    expect(made.read(OLD_TSS + 0x20, 4).getUint32(0, true)).toBe(CODE + 7);
    expect(made.kvm.host.ledger.exitsOf(9)).toBeGreaterThan(0);
  });

  test("a fault through a task gate: NT, the link, and the error's RIP in the old task", () => {
    const made = tasks([0xf7, 0xf1]); // DIV ECX
    made.write(0x2000, [0, 0, NEW_SELECTOR, 0, 0, 0x85, 0, 0]);
    expect(made.vcpu.run()).toEqual({ reason: "hlt" });
    expect(made.vcpu.getRegs()).toMatchObject({ rax: 0x1234_5679n, rip: BigInt(NEW_CODE + 2) });
    expect(made.vcpu.getRegs().rflags & 0x4000n).toBe(0x4000n);
    expect(made.read(NEW_TSS, 4).getUint32(0, true) & 0xffff).toBe(0x38);
    expect(made.read(OLD_TSS + 0x20, 4).getUint32(0, true)).toBe(CODE);
  });
});

describe("ends", () => {
  test("a triple fault is KVM_EXIT_SHUTDOWN", () => {
    const made = guest(UD2);
    made.vcpu.setSregs({ ...made.vcpu.getSregs(), idt: { base: 0n, limit: 0 } });
    expect(made.vcpu.run()).toEqual({ reason: "shutdown" });
  });

  test("a guest state the processor refuses is KVM_EXIT_FAIL_ENTRY with reason 33", () => {
    const made = guest(HALT);
    made.vcpu.setRegs({ ...made.vcpu.getRegs(), rflags: 0x2_0002n }); // VM with 32-bit segments
    const exit = made.vcpu.run();
    expect(exit).toMatchObject({ reason: "failEntry", hardwareEntryFailureReason: 0x8000_0021n, cpu: 0 });
    if (exit.reason === "failEntry")
      expect(exit.vmcs).toMatch(/^\*\*\* Guest State \*\*\*$[\s\S]*^GUEST_CS_AR_BYTES = 0x/m);
  });

  test("an instruction outside every slot ends in internal error 1 and a queued #UD", () => {
    const made = guest([0xb8, 0, 0, 0, 0x10, 0xff, 0xe0]); // MOV EAX, 10000000h; JMP EAX
    expect(made.vcpu.run()).toMatchObject({ reason: "internalError", suberror: 1 });
    expect(made.vcpu.vmx.arch.exception).toMatchObject({ pending: true, nr: 6 });
  });

  test("a write to a read-only slot is an MMIO exit and is not done", () => {
    const made = guest([0xa3, 0, 0, 0x40, 0, ...HALT]); // MOV [400000h], EAX
    const userspaceAddr = made.vm.allocMemory(0x1000n);
    const region = { slot: 1, flags: KVM_MEM_READONLY, guestPhysAddr: 0x40_0000n, memorySize: 0x1000n, userspaceAddr };
    made.vm.setUserMemoryRegion(region);
    expect(made.vcpu.run()).toMatchObject({ reason: "mmio", isWrite: true, physAddr: 0x40_0000n, length: 4 });
    expect(made.vm.readMemory(userspaceAddr, 4)).toEqual(new Uint8Array(4));
  });

  test("maxInstructions is exact, exits included", () => {
    // L: CPUID; NOP; JMP L
    for (const limit of [1n, 2n, 3n, 50n, 1001n]) {
      const made = guest([0x0f, 0xa2, 0x90, 0xeb, 0xfb]);
      const before = made.kvm.host.core.count;
      expect(made.vcpu.run({ maxInstructions: limit })).toEqual({ reason: "intr", why: "bound" });
      expect(made.kvm.host.core.count - before).toBe(limit);
    }
  });

  test("a run can be continued after its bound", () => {
    const made = guest([0x40, 0x40, 0x40, ...HALT]); // INC EAX three times
    made.vcpu.run({ maxInstructions: 2n });
    expect(made.vcpu.getRegs()).toMatchObject({ rax: 2n, rip: BigInt(CODE + 2) });
    expect(made.vcpu.run()).toEqual({ reason: "hlt" });
    expect(made.vcpu.getRegs().rax).toBe(3n);
  });
});

describe("runs in slices", () => {
  const loop = [0xff, 0xc0, 0xeb, 0xfc]; // L: INC EAX; JMP L

  test("take no other call between two slices", () => {
    const { vcpu } = guest(loop);
    const steps = vcpu.runSteps({ slice: 100n });
    expect(steps.next().done).toBe(false);
    expect(() => vcpu.getRegs()).toThrow(/EBUSY/);
    expect(() => vcpu.run()).toThrow(/EBUSY/);
    expect(steps.next(0n)).toEqual({ done: true, value: { reason: "intr", why: "signal" } });
  });

  test("pause at an exact count, in the guest and without an exit", () => {
    const { vcpu, kvm } = guest(loop);
    const { core, ledger } = kvm.host;
    const start = core.count;
    let pauseAt = start + 1n;
    const steps = vcpu.runSteps({ pauseAt: () => pauseAt });
    const counts: bigint[] = [];
    for (let i = 0; i < 5; i++) {
      expect(steps.next().done).toBe(false);
      counts.push(core.count - start);
      pauseAt += 3n;
    }
    expect(counts).toEqual([1n, 4n, 7n, 10n, 13n]);
    expect([ledger.counts.signal_exits, ledger.counts.irq_exits]).toEqual([0, 0]);
    steps.return({ reason: "intr", why: "signal" });
    expect(vcpu.getRegs().rax).toBe(7n);
  });

  test("can be abandoned: the vCPU is out of the guest and put", () => {
    const { vcpu, kvm } = guest(loop, { policy: "clear-host", hostOptions: { hostValue: 1 } });
    const steps = vcpu.runSteps({ slice: 100n });
    steps.next();
    expect(kvm.host.cpu.peekMiscFeatures()).toBe(0n);
    steps.return({ reason: "intr", why: "signal" });
    expect(kvm.host.cpu.peekMiscFeatures()).toBe(1n);
    const { rax } = vcpu.getRegs();
    expect(rax).toBeGreaterThan(40n);
    vcpu.run({ maxInstructions: 20n });
    expect(vcpu.getRegs().rax).toBe(rax + 10n);
  });
});

describe("memory slots", () => {
  const page = 0x1000n;
  const vmWith = () => {
    const vm = new Kvm().createVm();
    return { vm, at: vm.allocMemory(4n * page) };
  };
  const code = (call: () => void): string => {
    try {
      call();
    } catch (error) {
      return (error as KvmError).code;
    }
    return "ok";
  };
  const region = (at: bigint, changes = {}) => ({
    slot: 0,
    guestPhysAddr: 0n,
    memorySize: page,
    userspaceAddr: at,
    ...changes,
  });

  test.each([
    ["a size that is not whole pages", { memorySize: 100n }, "EINVAL"],
    ["an unaligned guest address", { guestPhysAddr: 1n }, "EINVAL"],
    ["an unknown flag", { flags: 8 }, "EINVAL"],
    ["an id too large", { slot: 70_000 }, "EINVAL"],
    ["deleting an empty slot", { slot: 3, memorySize: 0n }, "EINVAL"],
    ["an overlap", { slot: 1 }, "EEXIST"],
    ["another size of a live slot", { memorySize: 2n * page }, "EINVAL"],
    ["a live slot made read-only", { flags: KVM_MEM_READONLY }, "EINVAL"],
    ["moving a live slot", { guestPhysAddr: 2n * page }, "ok"],
    ["deleting a live slot", { memorySize: 0n }, "ok"],
  ])("%s: %s", (_name, changes, want) => {
    const { vm, at } = vmWith();
    vm.setUserMemoryRegion(region(at));
    expect(code(() => vm.setUserMemoryRegion(region(at, changes)))).toBe(want);
  });

  test("a moved slot is found at its new place only", () => {
    const made = guest([0xa1, 0, 0, 0x40, 0, ...HALT]); // MOV EAX, [400000h]
    const userspaceAddr = made.vm.allocMemory(page);
    made.vm.writeMemory(userspaceAddr, Uint8Array.of(0x78, 0x56, 0x34, 0x12));
    made.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0x40_0000n, memorySize: page, userspaceAddr });
    made.vcpu.run();
    expect(made.vcpu.getRegs().rax).toBe(0x1234_5678n);
    made.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0x50_0000n, memorySize: page, userspaceAddr });
    made.vcpu.setRegs({ ...made.vcpu.getRegs(), rip: BigInt(CODE) });
    expect(made.vcpu.run()).toMatchObject({ reason: "mmio", isWrite: false, physAddr: 0x40_0000n });
  });
});

describe("guest modes", () => {
  for (const mode of ["real", "protected", "compat", "long"] as const satisfies readonly Mode[]) {
    test(`${mode}: sregs read back as they were set`, () => {
      const { vcpu } = guest(HALT, { mode });
      const sregs = vcpu.getSregs();
      vcpu.setSregs(sregs);
      expect(vcpu.getSregs()).toEqual(sregs);
      expect(vcpu.run()).toEqual({ reason: "hlt" });
    });
  }

  test("KVM_TRANSLATE walks the guest's tables", () => {
    const { vcpu } = guest(HALT, { mode: "long" });
    expect([vcpu.translate(0x1234n), vcpu.translate(0x4000_0000n)]).toEqual([0x1234n, undefined]);
  });

  test("KVM_SET_SREGS refuses LMA without paging", () => {
    const { vcpu } = guest(HALT);
    expect(() => vcpu.setSregs({ ...vcpu.getSregs(), efer: 0x500n })).toThrow(KvmError);
  });
});
