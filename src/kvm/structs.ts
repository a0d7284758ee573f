// The kernel's structs in bytes, little-endian: what kvm_run.s holds.
import type { Regs, Sregs } from "./registers.ts";
import type { DescriptorTable, Segment } from "./segments.ts";
import type { VcpuEvents } from "./vcpu-events.ts";

/** struct kvm_regs: 144 bytes. */
const REGS_ORDER = [
  ...(["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"] as const),
];
export const REGS_BYTES = 144;

export function writeRegs(view: DataView, regs: Regs): void {
  REGS_ORDER.forEach((name, i) => {
    view.setBigUint64(8 * i, regs[name], true);
  });
}

export function readRegs(view: DataView): Regs {
  return Object.fromEntries(REGS_ORDER.map((name, i) => [name, view.getBigUint64(8 * i, true)])) as Regs;
}

/** struct kvm_sregs: 8 segments of 24 bytes, 2 tables of 16, 7 registers, a bitmap of 256 interrupts. */
const SEGMENTS_ORDER = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"] as const;
const SEGMENT_BYTES = 24;
const SEGMENT_FLAGS = ["type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable"] as const;
const TABLES_ORDER = ["gdt", "idt"] as const;
const TABLE_BYTES = 16;
const CONTROL_ORDER = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apicBase"] as const;
const TABLES_AT = SEGMENTS_ORDER.length * SEGMENT_BYTES;
const CONTROL_AT: number = TABLES_AT + TABLES_ORDER.length * TABLE_BYTES;
const BITMAP_AT: number = CONTROL_AT + CONTROL_ORDER.length * 8;
export const SREGS_BYTES = 312;

export function writeSregs(view: DataView, sregs: Sregs): void {
  SEGMENTS_ORDER.forEach((name, i) => {
    const at = i * SEGMENT_BYTES;
    const segment = sregs[name];
    view.setBigUint64(at, segment.base, true);
    view.setUint32(at + 8, segment.limit, true);
    view.setUint16(at + 12, segment.selector, true);
    SEGMENT_FLAGS.forEach((flag, j) => {
      view.setUint8(at + 14 + j, segment[flag]);
    });
  });
  TABLES_ORDER.forEach((name, i) => {
    view.setBigUint64(TABLES_AT + i * TABLE_BYTES, sregs[name].base, true);
    view.setUint16(TABLES_AT + i * TABLE_BYTES + 8, sregs[name].limit, true);
  });
  CONTROL_ORDER.forEach((name, i) => {
    view.setBigUint64(CONTROL_AT + 8 * i, sregs[name], true);
  });
  sregs.interruptBitmap.forEach((word, i) => {
    view.setBigUint64(BITMAP_AT + 8 * i, word, true);
  });
}

export function readSregs(view: DataView): Sregs {
  const segment = (i: number): Segment => {
    const at = i * SEGMENT_BYTES;
    const flags = Object.fromEntries(SEGMENT_FLAGS.map((flag, j) => [flag, view.getUint8(at + 14 + j)]));
    const base = view.getBigUint64(at, true);
    const limit = view.getUint32(at + 8, true);
    return { base, limit, selector: view.getUint16(at + 12, true), ...flags } as Segment;
  };
  const table = (i: number): DescriptorTable => {
    const at = TABLES_AT + i * TABLE_BYTES;
    return { base: view.getBigUint64(at, true), limit: view.getUint16(at + 8, true) };
  };
  return Object.fromEntries([
    ...SEGMENTS_ORDER.map((name, i) => [name, segment(i)]),
    ...TABLES_ORDER.map((name, i) => [name, table(i)]),
    ...CONTROL_ORDER.map((name, i) => [name, view.getBigUint64(CONTROL_AT + 8 * i, true)]),
    ["interruptBitmap", [0, 8, 16, 24].map((at) => view.getBigUint64(BITMAP_AT + at, true))],
  ]) as Sregs;
}

export const EVENTS_BYTES = 64;

/** struct kvm_vcpu_events: exception at 0, interrupt 8, nmi 12, sipi_vector 16, flags 20, smi 24, triple fault 28, payload 56. */
export function writeEvents(view: DataView, events: VcpuEvents): void {
  const { exception: e, interrupt: i, nmi } = events;
  [e.injected, e.nr, e.hasErrorCode, e.pending].forEach((value, at) => {
    view.setUint8(at, value);
  });
  view.setUint32(4, e.errorCode, true);
  [i.injected, i.nr, i.soft, i.shadow, nmi.injected, nmi.pending, nmi.masked].forEach((value, at) => {
    view.setUint8(8 + at, value);
  });
  view.setUint32(16, events.sipiVector, true);
  view.setUint32(20, events.flags, true);
  view.setUint8(28, events.tripleFault);
  view.setUint8(55, e.hasPayload ?? 0);
  view.setBigUint64(56, e.payload ?? 0n, true);
}

export function readEvents(view: DataView): VcpuEvents {
  const u8 = (at: number): number => view.getUint8(at);
  return {
    exception: {
      ...{ injected: u8(0), nr: u8(1), hasErrorCode: u8(2), pending: u8(3), errorCode: view.getUint32(4, true) },
      ...{ hasPayload: u8(55), payload: view.getBigUint64(56, true) },
    },
    interrupt: { injected: u8(8), nr: u8(9), soft: u8(10), shadow: u8(11) },
    nmi: { injected: u8(12), pending: u8(13), masked: u8(14) },
    sipiVector: view.getUint32(16, true),
    flags: view.getUint32(20, true),
    tripleFault: u8(28),
  };
}
