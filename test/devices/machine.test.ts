// The pc profile of a machine: ports, pages, MSRs, endings, time, snapshots.
import { beforeEach, describe, expect, it } from "vitest";
import { loadImage, Machine, minimalModel, parseFlat, parseImage, Snapshot, StateError } from "../../src/index.ts";
import { bytesOf, expectedOf } from "./run.ts";

let machine: Machine;
beforeEach(() => {
  machine = new Machine({ memory: 4 << 20, extraMemory: 0, devices: "pc" });
});

/** Code at 1 MiB in flat protected mode. */
function load(...bytes: number[]): void {
  loadImage(machine, parseFlat(Uint8Array.from(bytes), { mode: "protected" }));
}
const u32 = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
const movEax = (value: number) => [0xb8, ...u32(value)];
const movDx = (port: number) => [0x66, 0xba, port & 0xff, port >> 8];
const HLT = 0xf4;
const JMP_SELF = [0xeb, 0xfe];

function input(port: number, size: 1 | 2 | 4): number {
  load(...movDx(port), ...(size === 2 ? [0x66, 0xed] : [size === 1 ? 0xec : 0xed]), HLT);
  machine.registers.rax = 0;
  expect(machine.run().reason).toBe("halt");
  return Number(machine.registers.rax);
}

describe("endings", () => {
  it.each([
    ["ACPI's S5", [...movEax(0x2000), ...movDx(0x604), 0x66, 0xef], { reason: "powerOff", port: 0x604, value: 0x2000 }],
    ["0xCF9", [...movEax(6), ...movDx(0xcf9), 0xee], { reason: "reset", port: 0xcf9, value: 6 }],
    ["the keyboard controller", [0xb0, 0xfe, 0xe6, 0x64], { reason: "reset", port: 0x64, value: 0xfe }],
    ["port 0x92", [0xb0, 0x01, 0xe6, 0x92], { reason: "reset", port: 0x92, value: 1 }],
    ["the debug exit port", [0xb0, 0x2a, 0xe6, 0xf4], { reason: "debugExit", value: 0x2a }],
  ])("%s ends the run after its instruction", (_name, code, exit) => {
    load(...code, ...JMP_SELF);
    expect(machine.run({ maxInstructions: 100 })).toMatchObject(exit);
    expect(machine.registers.rip).toBe(0x100000n + BigInt(code.length));
    expect(machine.run({ maxInstructions: 100 }).reason).toBe("instructions");
  });
});

describe("nothing there", () => {
  it("reads all ones", () => {
    expect(input(0x5555, 1)).toBe(0xff);
    expect(input(0x5555, 2)).toBe(0xffff);
    expect(input(0x5555, 4)).toBe(0xffff_ffff);
    load(0xa1, ...u32(0xfd000000), HLT);
    machine.run();
    expect(machine.registers.rax).toBe(0xffff_ffffn);
  });

  it("PCI configuration answers that no device is there", () => {
    load(...movEax(0x80000000), ...movDx(0xcf8), 0xef, 0xed, 0x89, 0xc3, ...movDx(0xcfc), 0xed, HLT);
    machine.run();
    expect(machine.registers.rbx).toBe(0x8000_0000n);
    expect(machine.registers.rax).toBe(0xffff_ffffn);
  });
});

describe("fw_cfg", () => {
  it("gives signature, memory and files", () => {
    machine = new Machine({
      memory: 4 << 20,
      extraMemory: 0,
      devices: { profile: "pc", fwCfg: { "opt/test": Uint8Array.of(7, 8, 9) } },
    });
    const read = (item: number, bytes: number) => {
      const code = [...movEax(item), ...movDx(0x510), 0x66, 0xef, 0x42];
      load(...code, 0xbf, ...u32(0x5000), 0xb9, ...u32(bytes), 0xf3, 0x6c, HLT); // rep insb
      machine.run();
      return machine.readMemory(0x5000, bytes);
    };
    expect(new TextDecoder().decode(read(0, 4))).toBe("QEMU");
    expect(Array.from(read(3, 8))).toEqual([0, 0, 0x40, 0, 0, 0, 0, 0]);
    expect(Array.from(read(5, 2))).toEqual([1, 0]);
    const directory = read(0x19, 4 + 2 * 64);
    const view = new DataView(directory.buffer);
    expect(view.getUint32(0)).toBe(2);
    expect(new TextDecoder().decode(directory.subarray(4 + 64 + 8, 4 + 64 + 16))).toBe("opt/test");
    expect(view.getUint32(4 + 64)).toBe(3);
    expect(Array.from(read(view.getUint16(4 + 64 + 4), 4))).toEqual([7, 8, 9, 0]);
  });
});

describe("ACPI", () => {
  const sum = (bytes: Uint8Array) => bytes.reduce((a, b) => (a + b) & 0xff, 0);
  const table = (address: number) => {
    const size = new DataView(machine.readMemory(address, 8).buffer).getUint32(4, true);
    return machine.readMemory(address, size);
  };

  it("is found from the RSDP, with sums of 0", () => {
    const rsdp = machine.readMemory(0xf0000, 36);
    expect(new TextDecoder().decode(rsdp.subarray(0, 8))).toBe("RSD PTR ");
    expect([sum(rsdp.subarray(0, 20)), sum(rsdp)]).toEqual([0, 0]);
    const xsdt = table(Number(new DataView(rsdp.buffer).getBigUint64(24, true)));
    expect(sum(xsdt)).toBe(0);
    const names = [];
    for (let at = 36; at < xsdt.length; at += 8) {
      const entry = table(Number(new DataView(xsdt.buffer).getBigUint64(at, true)));
      expect(sum(entry)).toBe(0);
      names.push(new TextDecoder().decode(entry.subarray(0, 4)));
    }
    expect(names).toEqual(["FACP", "APIC"]);
  });

  it("comes again after a reset", () => {
    machine.writeMemory(0xf0000, new Uint8Array(64));
    machine.reset();
    expect(new TextDecoder().decode(machine.readMemory(0xf0000, 8))).toBe("RSD PTR ");
  });
});

describe("time", () => {
  it("HLT with interrupts off, or with no timer that would interrupt, ends the run", () => {
    load(HLT);
    expect(machine.run().reason).toBe("halt");
    load(0xb0, 0xff, 0xe6, 0x21, 0xfb, HLT); // all lines masked; sti
    expect(machine.run()).toEqual({ reason: "halt", instructions: 4 });
  });

  it("HLT ends the run when the 8259s' interrupts do not reach the processor", () => {
    // the 8254 at full speed on an open line 0, sti, hlt
    const timer = [0xb0, 0x34, 0xe6, 0x43, 0xb0, 0xff, 0xe6, 0x40, 0xe6, 0x40];
    load(...timer, 0xb0, 0xfe, 0xe6, 0x21, 0xc7, 0x05, ...u32(0xfee00350), ...u32(0x10700), 0xfb, HLT);
    expect(machine.run({ maxWork: 100_000 }).reason).toBe("halt");
  });

  it("a write to the TSC does not move the devices' time", () => {
    load(0xb9, ...u32(0x10), 0x31, 0xc0, 0xba, ...u32(0x1000), 0x0f, 0x30, ...movDx(0x608), 0xed, HLT);
    machine.run();
    expect(machine.registers.rax).toBe(0n); // the PM timer: some ns after power-up
    expect(machine.tsc >> 32n).toBe(0x1000n);
  });

  it("refuses vectors from outside", () => {
    expect(() => machine.interrupt(0x20)).toThrow(StateError);
  });
});

describe("the local APIC", () => {
  const wrmsr = (index: number, high: number, low: number) => [
    ...[0xb9, ...u32(index)],
    ...movEax(low),
    ...[0xba, ...u32(high)],
    ...[0x0f, 0x30],
  ];
  const rdmsr = (index: number) => [0xb9, ...u32(index), 0x0f, 0x32];
  const loadEax = (address: number) => [0xa1, ...u32(address)];

  it("moves with IA32_APIC_BASE, and back", () => {
    load(
      ...wrmsr(0x1b, 0, 0xfd000900),
      ...[...loadEax(0xfee00030), 0x89, 0xc3],
      ...[...loadEax(0xfd000030), 0x89, 0xc6],
      ...wrmsr(0x1b, 0, 0xfee00900),
      ...[...loadEax(0xfee00030), 0x89, 0xc7],
      ...[...loadEax(0xfd000030), HLT],
    );
    machine.run();
    const { rax, rbx, rsi, rdi } = machine.registers;
    expect([rbx, rsi, rdi, rax]).toEqual([0xffff_ffffn, 0x50014n, 0x50014n, 0xffff_ffffn]);
  });

  it("lies over RAM, which keeps what it held", () => {
    machine.writeMemory(0x200030, Uint8Array.of(1, 2, 3, 4));
    load(
      ...wrmsr(0x1b, 0, 0x200900),
      ...[...loadEax(0x200030), 0x89, 0xc3],
      ...[...loadEax(0x201030), 0x89, 0xc6],
      ...wrmsr(0x1b, 0, 0xfee00900),
      ...[...loadEax(0x200030), HLT],
    );
    machine.run();
    const { rax, rbx, rsi } = machine.registers;
    expect([rbx, rsi, rax]).toEqual([0x50014n, 0n, 0x04030201n]);
  });

  it("is no APIC while it is off: the page, CPUID, x2APIC from there is #GP", () => {
    load(...wrmsr(0x1b, 0, 0xfee00100), ...loadEax(0xfee00030), 0x50, ...movEax(1), 0x0f, 0xa2, 0x58, HLT);
    machine.run();
    expect(machine.registers.rax).toBe(0xffff_ffffn);
    expect(machine.registers.rdx & 0x200n).toBe(0n);
    expect(machine.writeMsr(0x1b, 0xfee00d00)).toBe(false);
    expect(machine.writeMsr(0x1b, 0xfee00900)).toBe(true);
    expect(machine.cpuid(1).edx & 0x200).toBe(0x200);
  });

  it("in x2APIC mode has MSRs and no page", () => {
    load(...wrmsr(0x1b, 0, 0xfee00d00), ...loadEax(0xfee00030), 0x89, 0xc3, ...rdmsr(0x803), HLT);
    machine.run();
    expect(machine.registers.rbx).toBe(0xffff_ffffn);
    expect(machine.registers.rax).toBe(0x50014n);
    expect(machine.readMsr(0x802)).toBe(0n);
    expect(machine.readMsr(0x80d)).toBe(1n);
    expect(machine.writeMsr(0x802, 1)).toBe(false); // read-only
    expect(machine.writeMsr(0x80b, 1)).toBe(false); // EOI takes 0 only
    expect(machine.readMsr(0x80e)).toBeUndefined(); // no DFR
    expect(machine.writeMsr(0x1b, 0xfee00900)).toBe(false); // x2APIC to xAPIC
  });

  it("CR8 is the task priority", () => {
    machine.writeMsr(0x1b, 0xfee00d00);
    machine.writeMsr(0x808, 0x65);
    expect(machine.registers.cr8).toBe(6n);
    loadImage(machine, parseFlat(Uint8Array.of(0xb8, 9, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0, 0xf4), { mode: "long" }));
    machine.run();
    expect(machine.devices!.lapic!.taskPriority).toBe(0x90);
  });

  it("TSC deadline interrupts at the first boundary with that TSC", () => {
    // sti; spin, with the handler of vector 0x40 a HLT
    const idt = 0x110000;
    load(...wrmsr(0x6e0, 0, 5000), 0xfb, ...JMP_SELF);
    const gate = [0x00, 0x10, 0x08, 0x00, 0x00, 0x8e, 0x10, 0x00]; // 0x101000
    machine.writeMemory(idt + 8 * 0x40, Uint8Array.from(gate));
    machine.writeMemory(0x101000, Uint8Array.of(HLT));
    const gdt = [0n, 0x00cf9b000000ffffn, 0x00cf93000000ffffn];
    machine.writeMemory(0x111000, new Uint8Array(BigUint64Array.from(gdt).buffer));
    machine.registers.write({ idtr: { base: BigInt(idt), limit: 0x7ff }, gdtr: { base: 0x111000n, limit: 23 } });
    machine.devices!.lapic!.writePage(0xf0, 0x1ff);
    machine.devices!.lapic!.writePage(0x320, 0x40040);
    const start = machine.tsc;
    expect(machine.run({ maxInstructions: 100_000 }).reason).toBe("halt");
    // the boundary at TSC 5000, its delivery, HLT
    expect(machine.tsc).toBe(5002n);
    expect(start).toBe(0n);
    expect(machine.readMsr(0x6e0)).toBe(0n);
    expect(machine.devices!.lapic!.priority).toBe(0x40);
  });

  it("is absent with a CPU model that has none", () => {
    machine = new Machine({ memory: 4 << 20, extraMemory: 0, devices: "pc", cpu: minimalModel() });
    expect(machine.devices!.lapic).toBeUndefined();
    expect(machine.regions.filter(({ kind }) => kind === "mmio")).toEqual([]);
  });
});

it("goes on from a snapshot as it would have", () => {
  const run = (m: Machine) => {
    for (;;) {
      const exit = m.run();
      if (exit.reason !== "slice") return exit;
    }
  };
  let text = "";
  const serial = (byte: number) => {
    text += String.fromCharCode(byte);
  };
  const devices = { profile: "pc", serial } as const;
  const whole = new Machine({ memory: 16 << 20, extraMemory: 0, devices });
  loadImage(whole, parseImage(bytesOf("apic.bin")));
  whole.run({ maxInstructions: 150_000 });
  const snapshot = whole.snapshot();
  expect(snapshot).toBeInstanceOf(Snapshot);
  const before = text;
  expect(before.length).toBeGreaterThan(100);
  run(whole);
  expect(text).toBe(expectedOf("apic"));
  text = before;
  const copy = Machine.from(snapshot, { devices });
  run(copy);
  expect(text).toBe(expectedOf("apic"));
  expect(copy.instructionCount).toBe(whole.instructionCount);
  expect(copy.devices!.save()).toEqual(whole.devices!.save());
});
