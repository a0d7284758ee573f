// The API's own rules: capabilities, the run page, sync regs, slices, errors. Offsets are those of the kernel's headers.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  CAPABILITIES,
  Host,
  KVM_CAP_DISABLE_QUIRKS,
  KVM_CAP_DISABLE_QUIRKS2,
  KVM_CAP_EXCEPTION_PAYLOAD,
  KVM_CAP_X86_TRIPLE_FAULT_EVENT,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_DB,
  Kvm,
  KvmError,
} from "../../src/kvm/index.ts";
import { skylakeModel } from "../../src/machine/index.ts";
import { CODE, Guest, type GuestOptions, HALT } from "./guest-builder.ts";

const guest = (code: readonly number[], options: Partial<GuestOptions> = {}): Guest =>
  new Guest({ mode: "protected", cpl: 0, kernel: "6.19", code, ...options });

function errno(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof KvmError) return error.code;
    throw error;
  }
  return "ok";
}

describe("capabilities", () => {
  const fixtures = new URL("../../fixtures/", import.meta.url);
  const programs = readFileSync(new URL("kvm/programs.txt", fixtures), "utf8");
  const own = readFileSync(new URL(import.meta.url), "utf8");
  const exits = readFileSync(new URL("exits.test.ts", import.meta.url), "utf8");
  const tsc = readFileSync(new URL("tsc.test.ts", import.meta.url), "utf8");

  test.each(CAPABILITIES.map((row) => [row.name, row] as const))("%s is affirmed and has a proof", (_name, row) => {
    expect(new Kvm().checkExtension(row.number)).toBeGreaterThan(0);
    const [file, title = ""] = row.proof.split(": ");
    const proved =
      new RegExp(`^program ${row.proof}( |$)`, "m").test(programs) ||
      row.proof.includes("record") ||
      (file === "api.test.ts" && own.includes(`"${title}`)) ||
      (file === "exits.test.ts" && exits.includes(`"${title}`)) ||
      (file === "tsc.test.ts" && tsc.includes(`"${title}`));
    expect(proved, row.proof).toBe(true);
  });

  test.each([
    "KVM_CAP_COALESCED_MMIO 15",
    "KVM_CAP_IRQFD 32",
    "KVM_CAP_XSAVE 55",
    "KVM_CAP_NESTED_STATE 157",
    "none 99999",
  ])("%s is denied", (row) => expect(new Kvm().createVm().checkExtension(Number(row.split(" ")[1]))).toBe(0));

  test("what Linux 5.0 did not have is denied under its rules", () => {
    const kvm = new Kvm({ kernel: "5.0" });
    const vm = kvm.createVm();
    expect([188, 189, 213].map((cap) => kvm.checkExtension(cap))).toEqual([0, 0, 0]);
    expect(errno(() => vm.enableCap(KVM_CAP_X86_USER_SPACE_MSR, [1]))).toBe("EINVAL");
    expect(errno(() => vm.setMsrFilter({ ranges: [] }))).toBe("ENOTTY");
  });

  test("quirks", () => {
    const vm = new Kvm({ kernel: "5.0" }).createVm();
    expect(errno(() => vm.enableCap(KVM_CAP_DISABLE_QUIRKS, [7]))).toBe("ok");
  });
});

describe("VM ioctls", () => {
  const vm = () => new Kvm().createVm();

  test("vCPU ids", () => {
    const one = vm();
    expect([4095, 4096, -1].map((id) => errno(() => one.createVcpu(id)))).toEqual(["ok", "EINVAL", "EINVAL"]);
  });

  test("slot ids end at KVM_CAP_NR_MEMSLOTS", () => {
    const one = vm();
    const userspaceAddr = one.allocMemory(0x1000n);
    const max = one.checkExtension(10);
    const at = (slot: number) => () =>
      one.setUserMemoryRegion({ slot, guestPhysAddr: 0n, memorySize: 0x1000n, userspaceAddr });
    expect([errno(at(max)), errno(at(max - 1))]).toEqual(["EINVAL", "ok"]);
  });

  test("KVM_SET_TSS_ADDR takes three pages below 4 GiB", () => {
    const one = vm();
    expect([0xffff_c000n, 0xffff_f000n].map((address) => errno(() => one.setTssAddr(address)))).toEqual([
      "ok",
      "EINVAL",
    ]);
  });

  test("KVM_SET_IDENTITY_MAP_ADDR comes before the vCPUs", () => {
    const one = vm();
    expect(errno(() => one.setIdentityMapAddr(0xfffb_c000n))).toBe("ok");
    one.createVcpu(0);
    expect(errno(() => one.setIdentityMapAddr(0xfffb_c000n))).toBe("EINVAL");
  });

  test("the VMM's writes are the guest's", () => {
    const made = guest([0xa1, 0, 0, 0x10, 0, ...HALT, 0xa1, 0, 0, 0x10, 0, ...HALT]); // MOV EAX, [100000h]
    made.vcpu.run();
    made.write(0x10_0000, [0x78, 0x56, 0x34, 0x12]);
    made.vcpu.run();
    expect(made.vcpu.getRegs().rax).toBe(0x1234_5678n);
  });
});

describe("what the kernel's structs could not hold is EINVAL with the value", () => {
  const why = (body: (made: Guest) => unknown): string => {
    try {
      body(guest(HALT));
    } catch (error) {
      if (error instanceof KvmError) return error.message;
      throw error;
    }
    return "ok";
  };
  const untyped = (value: unknown): never => value as never;
  test.each<[string, (made: Guest) => unknown, string]>([
    [
      "a number for an address",
      ({ vm }) => vm.allocMemory(untyped(4096)),
      "mmap: EINVAL: the length is 4096, not a bigint",
    ],
    [
      "more memory than there is",
      ({ vm }) => vm.allocMemory(1n << 40n),
      "mmap: ENOMEM: no room for 1099511627776 bytes",
    ],
    [
      "a slot without a size",
      ({ vm }) => vm.setUserMemoryRegion(untyped({ slot: 1, guestPhysAddr: 0n, userspaceAddr: 0n })),
      "KVM_SET_USER_MEMORY_REGION: EINVAL: memorySize is undefined, not a bigint",
    ],
    [
      "a slot by name",
      ({ vm }) => vm.setUserMemoryRegion(untyped({ slot: "1", guestPhysAddr: 0n, userspaceAddr: 0n, memorySize: 0n })),
      'KVM_SET_USER_MEMORY_REGION: EINVAL: slot is "1", not a whole number',
    ],
    [
      "an overlap",
      ({ vm }) => {
        const userspaceAddr = vm.allocMemory(0x2000n);
        vm.setUserMemoryRegion({ slot: 9, guestPhysAddr: 0xa000_0000n, memorySize: 0x2000n, userspaceAddr });
        vm.setUserMemoryRegion({ slot: 8, guestPhysAddr: 0xa000_1000n, memorySize: 0x1000n, userspaceAddr });
      },
      "KVM_SET_USER_MEMORY_REGION: EEXIST: 0xa0001000 + 0x1000 overlaps slot 9, 0xa0000000 + 0x2000",
    ],
    ["memory of nobody", ({ vm }) => vm.readMemory(0n, 8), "memory access: EFAULT: 0x0 + 0x8 is not all allocated"],
    ["a vCPU id that is no number", ({ vm }) => vm.createVcpu(Number.NaN), "KVM_CREATE_VCPU: EINVAL: the id is NaN"],
    [
      "a register that is a number",
      ({ vcpu }) => vcpu.setRegs({ ...vcpu.getRegs(), rip: untyped(1) }),
      "KVM_SET_REGS: EINVAL: rip is 1, not",
    ],
    [
      "a register of 65 bits",
      ({ vcpu }) => vcpu.setRegs({ ...vcpu.getRegs(), rax: 1n << 64n }),
      "KVM_SET_REGS: EINVAL: rax is 18446744073709551616n",
    ],
    [
      "a segment with a hole",
      ({ vcpu }) => vcpu.setSregs({ ...vcpu.getSregs(), cs: untyped({ base: 0n }) }),
      "KVM_SET_SREGS: EINVAL: cs.limit is undefined, not a whole number from 0 to 2^32 - 1",
    ],
    [
      "five debug registers",
      ({ vcpu }) => vcpu.setDebugRegs([0n, 0n, 0n, 0n, 0n]),
      "KVM_SET_DEBUGREGS: EINVAL: the list is an array of 5, not one of 6",
    ],
    [
      "no events",
      ({ vcpu }) => vcpu.setVcpuEvents(untyped({})),
      "KVM_SET_VCPU_EVENTS: EINVAL: exception is undefined, not an object",
    ],
    ["an MSR by name", ({ vcpu }) => vcpu.getMsrs(untyped(["tsc"])), 'KVM_GET_MSRS: EINVAL: indices[0] is "tsc"'],
    [
      "a negative CPUID",
      ({ vcpu, kvm }) => vcpu.setCpuid2(kvm.getSupportedCpuid().map((row) => ({ ...row, ecx: -1 }))),
      "KVM_SET_CPUID2: EINVAL: entries[0].ecx is -1",
    ],
    [
      "vector 256",
      ({ vcpu }) => vcpu.interrupt(256),
      "KVM_INTERRUPT: EINVAL: the vector is 256, not a whole number from 0 to 255",
    ],
    [
      "a bound that is a number",
      ({ vcpu }) => vcpu.run(untyped({ maxInstructions: 5 })),
      "KVM_RUN: EINVAL: maxInstructions is 5, not a bigint from 0",
    ],
    [
      "preemption after nothing",
      ({ vcpu }) => vcpu.run({ preemptEvery: 0n }),
      "KVM_RUN: EINVAL: preemptEvery is 0n, not a bigint from 1",
    ],
    [
      "a filter that is none",
      ({ vm }) => vm.setMsrFilter(untyped({})),
      "KVM_X86_SET_MSR_FILTER: EINVAL: ranges is undefined, not an array",
    ],
    [
      "an argument that is no number",
      ({ vm }) => vm.enableCap(KVM_CAP_X86_USER_SPACE_MSR, untyped(["1"])),
      'KVM_ENABLE_CAP: EINVAL: args[0] is "1"',
    ],
  ])("%s", (_name, body, message) => expect(why(body)).toContain(message));

  test("and nothing has changed", () => {
    const { vcpu } = guest(HALT);
    const [regs, sregs] = [vcpu.getRegs(), vcpu.getSregs()];
    expect(errno(() => vcpu.setRegs({ ...regs, rax: 5n, rflags: -1n }))).toBe("EINVAL");
    expect(errno(() => vcpu.setSregs({ ...sregs, cr2: 5n, efer: untyped("0") }))).toBe("EINVAL");
    expect([vcpu.getRegs(), vcpu.getSregs()]).toEqual([regs, sregs]);
  });
});

describe("struct kvm_run", () => {
  test("KVM_GET_VCPU_MMAP_SIZE is the size of the page", () => {
    const kvm = new Kvm();
    expect(kvm.createVm().createVcpu(0).runPage.bytes).toHaveLength(kvm.getVcpuMmapSize());
  });

  test("a port exit lies at the kernel's offsets, and the reply is taken from the page", () => {
    const { vcpu } = guest([0x66, 0xe5, 0x60, ...HALT]); // IN AX, 60h
    const exit = vcpu.run();
    const { view, bytes } = vcpu.runPage;
    expect(view.getUint32(8, true)).toBe(2); // KVM_EXIT_IO
    expect([view.getUint8(32), view.getUint8(33), view.getUint16(34, true), view.getUint32(36, true)]).toEqual([
      0, 2, 0x60, 1,
    ]);
    const at = Number(view.getBigUint64(40, true));
    bytes.set([0x34, 0x12], at);
    if (exit.reason === "io") expect([...exit.data]).toEqual([0x34, 0x12]);
    vcpu.run();
    expect(vcpu.getRegs().rax).toBe(0x1234n);
  });

  test("an MMIO exit lies at the kernel's offsets", () => {
    const { vcpu } = guest([0x66, 0xa3, 2, 0, 0, 0xd0, ...HALT], { regs: { rax: 0xbeefn } }); // MOV [D0000002h], AX
    vcpu.run();
    const { view } = vcpu.runPage;
    expect([view.getUint32(8, true), view.getBigUint64(32, true), view.getUint16(40, true)]).toEqual([
      6,
      0xd000_0002n,
      0xbeef,
    ]);
    expect([view.getUint32(48, true), view.getUint8(52)]).toEqual([2, 1]);
  });

  test("an internal error lies at the kernel's offsets", () => {
    const { vcpu } = guest([0xb8, 0, 0, 0, 0xd0, 0xff, 0xe0]); // MOV EAX, D0000000h; JMP EAX
    vcpu.run();
    const { view } = vcpu.runPage;
    expect([view.getUint32(8, true), view.getUint32(32, true)]).toEqual([17, 1]);
    expect([view.getUint32(36, true), view.getBigUint64(40, true)]).toEqual([6, 0n]); // flags and five words of the exit
    expect(view.getBigUint64(48, true)).toBe(48n); // EPT violation
  });

  test("sync regs", () => {
    const { vcpu } = guest([0x40, ...HALT], { regs: { rax: 5n } }); // INC EAX
    const { runPage: page } = vcpu;
    page.validRegs = 3n;
    vcpu.run();
    expect([page.syncRegs.getBigUint64(0, true), page.syncRegs.getBigUint64(128, true)]).toEqual([
      6n,
      BigInt(CODE + 2),
    ]);
    const sregs = vcpu.getSregs();
    expect(page.syncRegs.getBigUint64(144 + 224, true)).toBe(sregs.cr0);
    expect(page.syncRegs.getUint16(144 + 12, true)).toBe(sregs.cs.selector);
    page.syncRegs.setBigUint64(0, 0x41n, true);
    page.syncRegs.setBigUint64(128, BigInt(CODE), true);
    page.dirtyRegs = 1n;
    vcpu.run();
    expect([vcpu.getRegs().rax, page.dirtyRegs]).toEqual([0x42n, 0n]);
  });

  test("sync regs go around: what was stored can be set again", () => {
    const { vcpu } = guest(HALT);
    const { runPage: page } = vcpu;
    page.validRegs = 7n;
    vcpu.run();
    const [regs, sregs, events] = [vcpu.getRegs(), vcpu.getSregs(), vcpu.getVcpuEvents()];
    page.dirtyRegs = 7n;
    vcpu.run({ immediateExit: true });
    expect([vcpu.getRegs(), vcpu.getSregs(), vcpu.getVcpuEvents()]).toEqual([regs, sregs, events]);
  });

  test("unknown sync bits and a bad CR8 are EINVAL", () => {
    const { vcpu } = guest(HALT);
    vcpu.runPage.validRegs = 8n;
    expect(errno(() => vcpu.run())).toBe("EINVAL");
    vcpu.runPage.validRegs = 0n;
    vcpu.runPage.cr8 = 16n;
    expect(errno(() => vcpu.run())).toBe("EINVAL");
  });
});

describe("vCPU ioctls", () => {
  test("KVM_GET_SREGS2 has the PDPTRs that the processor holds, KVM_SET_SREGS2 sets them", () => {
    const vm = guest(HALT);
    [0x5001n, 0x6001n, 0n, 0x7001n].forEach((entry, i) => {
      vm.write64(0x8000 + 8 * i, entry);
    });
    const before = vm.vcpu.getSregs2();
    expect([before.flags, before.pdptrs]).toEqual([0, [0n, 0n, 0n, 0n]]);
    const paging = { cr0: before.cr0 | (1n << 31n), cr3: 0x8000n, cr4: 0x20n };
    vm.vcpu.setSregs({ ...vm.vcpu.getSregs(), ...paging });
    vm.write64(0x8000, 0xf001n);
    const loaded = vm.vcpu.getSregs2();
    expect([loaded.flags, loaded.pdptrs]).toEqual([1, [0x5001n, 0x6001n, 0n, 0x7001n]]);
    vm.vcpu.setSregs2({ ...loaded, pdptrs: [0x1001n, 0n, 0n, 0n] });
    expect(vm.vcpu.getSregs2().pdptrs).toEqual([0x1001n, 0n, 0n, 0n]);
    vm.vcpu.setSregs2({ ...loaded, flags: 0 });
    expect(vm.vcpu.getSregs2().pdptrs).toEqual([0xf001n, 0x6001n, 0n, 0x7001n]);
  });

  test("CPUID is frozen by the first run, but for the same table", () => {
    const { vcpu, kvm } = guest(HALT);
    const table = kvm.getSupportedCpuid();
    vcpu.setCpuid2(table);
    vcpu.run();
    expect([errno(() => vcpu.setCpuid2(table)), errno(() => vcpu.setCpuid2([]))]).toEqual(["ok", "EINVAL"]);
  });

  test("XSAVE of the processor is not passed on", () => {
    const host = new Host({ model: skylakeModel({ vmx: true }) });
    expect([(host.core.cpuid(1, 0).ecx >>> 26) & 1, host.core.cpuid(0xd, 0).eax]).toEqual([1, 1]);
    for (const kernel of ["5.0", "6.19", "7.1"]) {
      const kvm = new Kvm({ kernel, host });
      const table = kvm.getSupportedCpuid();
      expect((table.find((entry) => entry.function === 1)!.ecx >>> 26) & 3).toBe(0);
      for (const { eax, ebx, ecx, edx } of table.filter((entry) => entry.function === 0xd)) {
        expect([eax, ebx, ecx, edx]).toEqual([0, 0, 0, 0]);
      }
      expect([kvm.checkExtension(55), kvm.checkExtension(56)]).toEqual([0, 0]);
    }
  });

  test("supported CPUID is the processor's, without VMX and MONITOR, with KVM's leaves", () => {
    const kvm = new Kvm();
    const at = (kernel: string, leaf: number) =>
      new Kvm({ kernel, host: kvm.host }).getSupportedCpuid().filter((entry) => entry.function === leaf);
    const bits = { monitor: 1 << 3, vmx: 1 << 5, x2apic: 1 << 21, deadline: 1 << 24, hypervisor: 1 << 31 };
    const [old, modern] = [at("5.0", 1)[0]!, at("6.19", 1)[0]!];
    const shown = ({ ecx }: { ecx: number }) =>
      Object.entries(bits).flatMap(([name, bit]) => ((ecx & bit) !== 0 ? [name] : []));
    expect(shown(kvm.host.core.cpuid(1, 0))).toEqual(["monitor", "vmx"]);
    expect([shown(old), shown(modern)]).toEqual([["x2apic"], ["x2apic", "deadline", "hypervisor"]]);
    expect(at("6.19", 5)).toMatchObject([{ eax: 0, ebx: 0, ecx: 0, edx: 0 }]);
    expect(at("6.19", 6)).toMatchObject([{ eax: 4, ebx: 0, ecx: 0, edx: 0 }]); // ARAT
    expect(at("6.19", 7)).toMatchObject([{ index: 0, significantIndex: true }]);
    expect(at("6.19", 0x4000_0000)).toMatchObject([
      { significantIndex: false, eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d },
    ]);
  });

  test.each([
    ["5.0", 0x4000_0000, "highest"],
    ["5.0", 5, "zero"],
    ["6.19", 0x4000_0000, "highest"],
    ["6.19", 0xc000_0000, "highest"],
    ["6.19", 0x4000_0001, "highest"],
    ["6.19", 0x8000_0009, "highest"],
    ["6.19", 5, "zero"],
  ])("kernel %s: a leaf that is not in the table, 0x%s, answers %s", (kernel, leaf, answer) => {
    // leaves 0, 1, 7 and 0x80000000 only: MOV EAX, leaf; XOR ECX, ECX; CPUID; HLT
    const row = (fn: number, eax: number) => ({
      ...{ function: fn, index: 0, significantIndex: false, eax, ebx: fn + 0x100, ecx: 0, edx: 0 },
    });
    const { vcpu } = guest([0xb8, ...new Uint8Array(Uint32Array.of(leaf).buffer), 0x31, 0xc9, 0x0f, 0xa2, ...HALT], {
      kernel,
    });
    vcpu.setCpuid2([row(0, 7), row(1, 0), row(7, 0), row(0x8000_0000, 0x8000_0008)]);
    vcpu.run();
    expect(vcpu.getRegs().rbx).toBe(answer === "highest" ? 0x107n : 0n);
  });

  test("an OUT to port 0x7E has advanced RIP already, unless its quirk is off", () => {
    const rip = (quirks: number, port: number): number => {
      const { vm, vcpu } = guest([0xe6, port, ...HALT]);
      vm.enableCap(KVM_CAP_DISABLE_QUIRKS, [quirks]);
      vcpu.run();
      const at = Number(vcpu.getRegs().rip) - CODE;
      vcpu.run();
      return at;
    };
    expect([rip(0, 0x7e), rip(8, 0x7e), rip(0, 0x7f)]).toEqual([2, 0, 0]);
  });

  test("MWAIT does nothing, and is #UD where the guest has no MONITOR and the quirk is off", () => {
    const exit = (quirks: number) => {
      const made = guest([0x0f, 0x01, 0xc9, ...HALT]);
      const { vm, vcpu, kvm } = made;
      vm.enableCap(KVM_CAP_DISABLE_QUIRKS2, [quirks]);
      vcpu.setCpuid2(kvm.getSupportedCpuid());
      vcpu.run();
      return made.haltedVector();
    };
    expect([exit(0), exit(64)]).toEqual([undefined, 6]);
  });

  test("exception payload: with the capability pending and injected are told apart", () => {
    const { vm, vcpu } = guest(HALT);
    const control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB;
    vm.enableCap(KVM_CAP_EXCEPTION_PAYLOAD, [1]);
    vcpu.setGuestDebug({ control });
    expect(vcpu.getVcpuEvents()).toMatchObject({ exception: { injected: 0, pending: 1, nr: 1 }, flags: 0x1d });
    expect(errno(() => vcpu.setGuestDebug({ control }))).toBe("EBUSY");
  });

  test("triple fault event: reported and set with its capability only", () => {
    const { vm, vcpu } = guest(HALT);
    const events = { ...vcpu.getVcpuEvents(), flags: 0x20, tripleFault: 1 };
    expect(errno(() => vcpu.setVcpuEvents(events))).toBe("EINVAL");
    vm.enableCap(KVM_CAP_X86_TRIPLE_FAULT_EVENT, [1]);
    vcpu.setVcpuEvents(events);
    expect(vcpu.run()).toEqual({ reason: "shutdown" });
  });

  test("the VMCS can be dumped after a failed entry", () => {
    const { vcpu } = guest(HALT);
    vcpu.setRegs({ ...vcpu.getRegs(), rflags: 0x2_0002n }); // VM with 32-bit segments
    expect(vcpu.run()).toMatchObject({ reason: "failEntry" });
    expect(vcpu.dumpVmcs()).toContain("GUEST_RFLAGS = 0x0000000000020002");
  });

  test("MMIO during the delivery of an event is internal error 3 with the address", () => {
    const { vcpu } = guest([0x0f, 0x0b], { regs: { rsp: 0xd000_0100n } }); // UD2 with its stack outside memory
    const exit = vcpu.run();
    expect(exit).toMatchObject({ reason: "internalError", suberror: 3 });
    if (exit.reason === "internalError")
      expect(exit.data).toEqual([0x8000_0306n, 48n, expect.any(BigInt), 0xd000_00fcn, 0n]);
  });
});

describe("runAsync", () => {
  test("gives the same exits as run", async () => {
    const { vcpu } = guest([0xb9, 0, 0, 1, 0, 0xe2, 0xfe, 0xe6, 0x80, ...HALT]); // MOV ECX, 65536; LOOP; OUT 80h, AL
    expect(await vcpu.runAsync()).toMatchObject({ reason: "io", port: 0x80 });
    expect(await vcpu.runAsync()).toEqual({ reason: "hlt" });
  });

  test("an abort ends an endless guest with EINTR, and it can go on", async () => {
    const { vcpu } = guest([0xeb, 0xfe]); // JMP $
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    expect(await vcpu.runAsync({ signal: controller.signal })).toEqual({ reason: "intr", why: "signal" });
    expect(vcpu.run({ maxInstructions: 5n })).toEqual({ reason: "intr", why: "bound" });
  });

  test("an aborted signal stops the guest at once", async () => {
    const { vcpu } = guest([0xeb, 0xfe]);
    expect(await vcpu.runAsync({ signal: AbortSignal.abort() })).toEqual({ reason: "intr", why: "signal" });
  });
});
