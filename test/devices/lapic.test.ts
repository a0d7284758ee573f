// Behaviour from the SDM, volume 3A, "Advanced Programmable Interrupt Controller (APIC)".
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApicBus, IoApic, LocalApic } from "../../src/devices/index.ts";
import { TestClock } from "./time.ts";

const REG = {
  id: 0x20,
  version: 0x30,
  tpr: 0x80,
  ppr: 0xa0,
  eoi: 0xb0,
  ldr: 0xd0,
  dfr: 0xe0,
  svr: 0xf0,
  /** Requests of vectors 40-5F. */
  irr2: 0x220,
  esr: 0x280,
  icr: 0x300,
  icr2: 0x310,
  timer: 0x320,
  lint0: 0x350,
  lint1: 0x360,
  error: 0x370,
  initial: 0x380,
  current: 0x390,
  divide: 0x3e0,
} as const;
const SELF = 0x44000;
const BASE = 0xfee00000n;

let clock: TestClock;
let bus: ApicBus;
let apic: LocalApic;
let nmi: ReturnType<typeof vi.fn<() => void>>;
let init: ReturnType<typeof vi.fn<() => void>>;

const get = (register: keyof typeof REG) => apic.readPage(REG[register]);
const set = (register: keyof typeof REG, value: number) => apic.writePage(REG[register], value);
const self = (vector: number) => set("icr", SELF | vector);

beforeEach(() => {
  clock = new TestClock();
  bus = new ApicBus();
  nmi = vi.fn<() => void>();
  init = vi.fn<() => void>();
  apic = new LocalApic({ clock, bus, id: 3, bsp: true, nmi, init });
  bus.add(apic);
  set("svr", 0x1ff);
});

describe("after reset", () => {
  it("has masked local vectors, all model bits, vector FF and is disabled by software", () => {
    apic.reset();
    expect([get("svr"), get("dfr"), get("ldr"), get("tpr"), get("icr")]).toEqual([0xff, 0xffff_ffff, 0, 0, 0]);
    for (const lvt of ["timer", "lint0", "lint1", "error"] as const) expect(get(lvt)).toBe(0x10000);
    expect([get("id"), get("version")]).toEqual([0x03000000, 0x50014]);
    expect(apic.base).toBe(BASE | 0x900n);
  });
});

describe("priorities", () => {
  it("takes the highest request above the processor's priority class", () => {
    self(0x41);
    self(0x52);
    expect(apic.pending()).toBe(0x52);
    set("tpr", 0x50);
    expect(apic.pending()).toBe(-1);
    set("tpr", 0x4f);
    expect(apic.pending()).toBe(0x52);
    expect(apic.acknowledge()).toBe(0x52);
    expect(get("ppr")).toBe(0x50);
    expect(apic.pending()).toBe(-1);
    set("eoi", 0);
    expect(get("ppr")).toBe(0x4f);
    expect(apic.pending()).toBe(-1); // 41 is of TPR's class
    set("tpr", 0x30);
    expect(apic.acknowledge()).toBe(0x41);
  });

  it("shows TPR as PPR only while its class is not below the one in service", () => {
    self(0x61);
    apic.acknowledge();
    set("tpr", 0x62);
    expect(get("ppr")).toBe(0x62);
    set("tpr", 0x5f);
    expect(get("ppr")).toBe(0x60);
  });

  it("gives the spurious vector when nothing is left, with nothing in service", () => {
    set("svr", 0x1ef);
    expect(apic.acknowledge()).toBe(0xef);
    expect(get("ppr")).toBe(0);
  });
});

describe("errors", () => {
  it("are latched in the ESR by a write, and interrupt", () => {
    set("error", 0x99);
    self(0x0f);
    expect(get("esr")).toBe(0);
    set("esr", 0);
    expect(get("esr")).toBe(0x20); // send illegal vector
    expect(apic.acknowledge()).toBe(0x99);
    set("esr", 0);
    expect(get("esr")).toBe(0);
  });

  it("come from received vectors below 16 and from registers that do not exist", () => {
    bus.send({ vector: 5, delivery: 0, level: false, destination: 3, logical: false });
    apic.readPage(0x40);
    set("esr", 0);
    expect(get("esr")).toBe(0xc0);
  });
});

describe("software disable", () => {
  it("masks the local vectors for as long as it lasts, and takes no interrupts", () => {
    set("timer", 0x40);
    set("svr", 0xff);
    expect(get("timer")).toBe(0x10040);
    set("timer", 0x41);
    expect(get("timer")).toBe(0x10041);
    self(0x50);
    set("svr", 0x1ff);
    expect(get("timer")).toBe(0x10041);
    expect(apic.pending()).toBe(-1);
  });

  it("still takes NMI and INIT", () => {
    set("svr", 0xff);
    bus.send({ vector: 0, delivery: 4, level: false, destination: 3, logical: false });
    bus.send({ vector: 0, delivery: 5, level: false, destination: 3, logical: false });
    expect([nmi.mock.calls.length, init.mock.calls.length]).toEqual([1, 1]);
  });
});

describe("destinations", () => {
  const reaches = (destination: number, logical: boolean) => {
    const before = apic.pending();
    bus.send({ vector: 0xf0, delivery: 0, level: false, destination, logical });
    const came = apic.pending() === 0xf0 && before !== 0xf0;
    if (came) {
      apic.acknowledge();
      set("eoi", 0);
    }
    return came;
  };

  it("physical: the ID, or FF for all", () => {
    expect([3, 2, 0xff].map((id) => reaches(id, false))).toEqual([true, false, true]);
  });

  it("logical, flat model: a common bit", () => {
    set("ldr", 0x14000000);
    expect([0x04, 0x10, 0xeb, 0xff].map((id) => reaches(id, true))).toEqual([true, true, false, true]);
  });

  it("logical, cluster model: the cluster and a common bit", () => {
    set("dfr", 0x0fffffff);
    set("ldr", 0x24000000);
    expect([0x24, 0x2f, 0x14, 0x23, 0xff].map((id) => reaches(id, true))).toEqual([true, true, false, false, true]);
  });

  it("shorthands: others leave the sender out", () => {
    set("icr", 0xc4050);
    expect(apic.pending()).toBe(-1);
    set("icr", 0x84050);
    expect(apic.pending()).toBe(0x50);
  });

  it("lowest priority goes to the one with the lowest PPR", () => {
    const other = new LocalApic({ clock, bus, id: 4 });
    bus.add(other);
    other.writePage(REG.svr, 0x1ff);
    other.writePage(REG.tpr, 0x20);
    bus.send({ vector: 0x80, delivery: 1, level: false, destination: 0xff, logical: true });
    expect([apic.pending(), other.pending()]).toEqual([0x80, -1]);
    set("tpr", 0x30);
    bus.send({ vector: 0x81, delivery: 1, level: false, destination: 0xff, logical: true });
    expect(other.pending()).toBe(0x81);
  });
});

describe("timer", () => {
  beforeEach(() => {
    set("timer", 0x40);
    set("divide", 0x0b); // by 1
  });

  it("one-shot: counts down once", () => {
    set("initial", 100);
    clock.ticks = 40n;
    expect(get("current")).toBe(60);
    expect(apic.next()).toBe(100n);
    clock.ticks = 100n;
    apic.sync();
    expect(apic.acknowledge()).toBe(0x40);
    expect([get("current"), apic.next()]).toEqual([0, undefined]);
  });

  it("periodic: reloads", () => {
    set("timer", 0x20040);
    set("initial", 100);
    clock.ticks = 250n;
    apic.sync();
    expect(get("current")).toBe(50);
    expect(apic.next()).toBe(300n);
    expect(apic.pending()).toBe(0x40);
  });

  it("goes on from what is left when the divisor changes, and with whole periods after it", () => {
    set("timer", 0x20040);
    set("initial", 100);
    clock.ticks = 60n;
    set("divide", 0); // by 2
    expect(apic.next()).toBe(140n);
    clock.ticks = 140n;
    apic.sync();
    expect(apic.next()).toBe(340n);
  });

  it.each([
    [0x0, 2n],
    [0x1, 4n],
    [0x2, 8n],
    [0x3, 16n],
    [0x8, 32n],
    [0x9, 64n],
    [0xa, 128n],
    [0xb, 1n],
  ])("divide configuration %i", (code, by) => {
    set("divide", code);
    set("initial", 10);
    expect(apic.next()).toBe(10n * by);
  });

  it("masked: counts, interrupts nobody", () => {
    set("timer", 0x10040);
    set("initial", 100);
    expect(apic.next()).toBeUndefined();
    clock.ticks = 30n;
    expect(get("current")).toBe(70);
    clock.ticks = 200n;
    apic.sync();
    expect(apic.pending()).toBe(-1);
  });

  it("0 stops it", () => {
    set("initial", 100);
    set("initial", 0);
    expect([apic.next(), get("current")]).toEqual([undefined, 0]);
  });

  it("TSC deadline: armed by the MSR, read as 0 once it is over, without effect in other modes", () => {
    apic.tscDeadline = 500n;
    expect(apic.tscDeadline).toBe(0n);
    set("timer", 0x40040);
    apic.tscDeadline = 500n;
    expect([apic.tscDeadline, apic.next()]).toEqual([500n, 500n]);
    clock.ticks = 500n;
    apic.sync();
    expect([apic.pending(), apic.tscDeadline]).toEqual([0x40, 0n]);
    set("initial", 100);
    expect([get("initial"), get("current")]).toEqual([0, 0]);
    apic.tscDeadline = 1n; // in the past: at once
    apic.acknowledge();
    expect(get("current")).toBe(0);
    apic.tscDeadline = 9999n;
    set("timer", 0x40); // leaving the mode disarms
    expect(apic.next()).toBeUndefined();
  });
});

describe("x2APIC", () => {
  beforeEach(() => apic.setBase(BASE | 0xd00n));

  it("derives the logical ID and has 32-bit destinations", () => {
    expect(apic.readMsr(0x802)).toBe(3n);
    expect(apic.readMsr(0x80d)).toBe(0x8n);
    bus.send({ vector: 0x70, delivery: 0, level: false, destination: 8, logical: true, wide: true });
    expect(apic.pending()).toBe(0x70);
  });

  it("self-IPI and the 64-bit ICR", () => {
    expect(apic.writeMsr(0x83f, 0x44n)).toBe(true);
    expect(apic.pending()).toBe(0x44);
    expect(apic.writeMsr(0x830, 0x3_0000_4055n)).toBe(true);
    expect(apic.readMsr(0x830)).toBe(0x3_0000_4055n);
    expect(apic.pending()).toBe(0x55);
  });

  it.each([
    [0x802, 1n],
    [0x803, 1n],
    [0x808, 0x100n],
    [0x80b, 1n],
    [0x80e, 0n],
    [0x828, 1n],
    [0x830, 1n << 13n],
    [0x831, 0n],
    [0x832, 1n << 19n],
    [0x839, 0n],
    [0x83f, 0x100n],
    [0x840, 0n],
  ])("write of MSR 0x%x with %i is #GP", (index, value) => {
    expect(apic.writeMsr(index, value)).toBe(false);
  });

  it.each([0x80b, 0x80e, 0x831, 0x83f, 0x840])("read of MSR 0x%x is #GP", (index) => {
    expect(apic.readMsr(index)).toBeUndefined();
  });
});

describe("LINT pins", () => {
  it("LINT1 as NMI, edge", () => {
    set("lint1", 0x400);
    apic.setLint(1, true);
    apic.setLint(1, true);
    apic.setLint(1, false);
    apic.setLint(1, true);
    expect(nmi).toHaveBeenCalledTimes(2);
  });

  it("LINT0 level-triggered keeps remote IRR until EOI", () => {
    set("lint0", 0x8045);
    apic.setLint(0, true);
    expect(get("lint0")).toBe(0xc045);
    expect(apic.acknowledge()).toBe(0x45);
    set("eoi", 0);
    expect(apic.pending()).toBe(0x45); // still high
    apic.setLint(0, false);
    apic.acknowledge();
    set("eoi", 0);
    expect([get("lint0"), apic.pending()]).toEqual([0x8045, -1]);
  });

  it("ExtINT passes the 8259s on, and so does an APIC that is off", () => {
    expect(apic.extInt).toBe(false);
    set("lint0", 0x700);
    expect(apic.extInt).toBe(true);
    set("lint0", 0x10700);
    expect(apic.extInt).toBe(false);
    apic.setBase(BASE | 0x100n);
    expect(apic.extInt).toBe(true);
  });
});

// Intel 82093AA data sheet
describe("I/O APIC", () => {
  let ioapic: IoApic;
  const entry = (pin: number, low: number, destination = 3) => {
    ioapic.write(0, 0x11 + 2 * pin);
    ioapic.write(0x10, destination << 24);
    ioapic.write(0, 0x10 + 2 * pin);
    ioapic.write(0x10, low);
  };
  const low = (pin: number) => {
    ioapic.write(0, 0x10 + 2 * pin);
    return ioapic.read(0x10);
  };
  beforeEach(() => {
    ioapic = new IoApic({ bus });
  });

  it("has 24 masked entries after reset", () => {
    ioapic.write(0, 1);
    expect(ioapic.read(0x10)).toBe(0x00170011);
    expect([low(0), low(23)]).toEqual([0x10000, 0x10000]);
    ioapic.write(0, 0x40);
    expect(ioapic.read(0x10)).toBe(0);
  });

  it("edge: one message a rise, none while masked or afterwards", () => {
    entry(4, 0x40);
    ioapic.setIrq(4, true);
    expect(apic.acknowledge()).toBe(0x40);
    set("eoi", 0);
    ioapic.setIrq(4, true);
    expect(apic.pending()).toBe(-1);
    ioapic.setIrq(4, false);
    entry(4, 0x10040);
    ioapic.setIrq(4, true);
    entry(4, 0x40);
    expect(apic.pending()).toBe(-1);
  });

  it("level: remote IRR until EOI, again while it is high, later when unmasked", () => {
    entry(9, 0x8050);
    ioapic.setIrq(9, true);
    expect(low(9)).toBe(0xc050);
    apic.acknowledge();
    ioapic.setIrq(9, true);
    expect(apic.pending()).toBe(-1);
    expect(get("irr2")).toBe(0);
    set("eoi", 0);
    expect(apic.pending()).toBe(0x50);
    ioapic.setIrq(9, false);
    apic.acknowledge();
    set("eoi", 0);
    expect(low(9)).toBe(0x8050);
    entry(9, 0x18050);
    ioapic.setIrq(9, true);
    expect(apic.pending()).toBe(-1);
    entry(9, 0x8050);
    expect(apic.pending()).toBe(0x50);
  });

  it("keeps read-only bits and sends NMI", () => {
    entry(5, 0xffff_ffff);
    expect(low(5)).toBe(0x1afff);
    entry(6, 0x400);
    ioapic.setIrq(6, true);
    expect(nmi).toHaveBeenCalledTimes(1);
  });
});

describe("state", () => {
  it("is the same after save and restore, in the middle of everything", () => {
    set("timer", 0x20040);
    set("divide", 3);
    set("initial", 1000);
    clock.ticks = 1234n;
    self(0x66);
    apic.acknowledge();
    self(0x77);
    const other = new LocalApic({ clock, bus: new ApicBus(), id: 3, bsp: true });
    other.restore(structuredClone(apic.save()));
    clock.ticks = 5000n;
    expect(other.registers()).toEqual(apic.registers());
    expect(other.next()).toBe(apic.next());
    expect(other.acknowledge()).toBe(apic.acknowledge());
    expect(() => new LocalApic({ clock, bus, id: 9 }).restore(apic.save())).toThrow(/local APIC 3, not of 9/);
  });

  it("crosses as the registers of KVM_GET_LAPIC", () => {
    set("tpr", 0x30);
    self(0x66);
    const page = apic.registers();
    expect(page.length).toBe(1024);
    expect([page[0x80], page[0x230]]).toEqual([0x30, 0x40]);
    const other = new LocalApic({ clock, bus: new ApicBus(), id: 3 });
    other.setRegisters(page);
    expect(other.pending()).toBe(0x66);
    expect(() => other.setRegisters(new Uint8Array(10))).toThrow(/1024 bytes, not 10/);
  });
});
