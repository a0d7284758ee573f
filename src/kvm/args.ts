// What a caller gives, checked as the kernel's structs would hold it: anything else is EINVAL with the value in it.
import { GPR_NAMES } from "../core/index.ts";
import { KvmError } from "./errors.ts";

function shown(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  return typeof value === "object" && value !== null
    ? "an object"
    : typeof value === "function"
      ? "a function"
      : `${value as number}`;
}

function bad(call: string, what: string, value: unknown, wanted: string): never {
  throw new KvmError(call, "EINVAL", `${what} is ${shown(value)}, not ${wanted}`);
}

/** Widths of fields: 64 a bigint, 8 to 32 a number, "bool" either boolean; an object is a struct in the struct. */
type Width = 8 | 16 | 32 | 64 | "bool" | Shape;
export interface Shape {
  readonly [field: string]: Width;
}

/** __u64 */
export function checkU64(call: string, what: string, value: unknown): void {
  if (typeof value !== "bigint" || BigInt.asUintN(64, value) !== value) {
    bad(call, what, value, "a bigint from 0 to 2^64 - 1");
  }
}

/** __u8, __u16 or __u32 */
export function checkUint(call: string, what: string, value: unknown, bits: 8 | 16 | 32): void {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= 2 ** bits) {
    bad(call, what, value, `a whole number from 0 to ${bits === 32 ? "2^32 - 1" : 2 ** bits - 1}`);
  }
}

export function checkObject(call: string, what: string, value: unknown): void {
  if (typeof value !== "object" || value === null) bad(call, what, value, "an object");
}

function checkList(call: string, what: string, value: unknown): void {
  if (!Array.isArray(value)) bad(call, what, value, "an array");
}

export function checkBytes(call: string, what: string, value: unknown): void {
  if (!(value instanceof Uint8Array)) bad(call, what, value, "a Uint8Array");
}

/** Every field of a struct; `what` is the struct's name in errors, "" for none. */
export function checkStruct(call: string, what: string, value: unknown, shape: Shape): void {
  checkObject(call, what === "" ? "the argument" : what, value);
  for (const [field, width] of Object.entries(shape)) {
    const name = what === "" ? field : `${what}.${field}`;
    const one = (value as Record<string, unknown>)[field];
    if (width === 64) checkU64(call, name, one);
    else if (width === "bool") {
      if (typeof one !== "boolean") bad(call, name, one, "true or false");
    } else if (typeof width === "number") checkUint(call, name, one, width);
    else checkStruct(call, name, one, width);
  }
}

const struct = (width: Width, ...names: readonly string[]): Shape =>
  Object.fromEntries(names.map((name) => [name, width]));

export const REGS: Shape = struct(64, ...GPR_NAMES, "rip", "rflags");

const SEGMENT: Shape = {
  ...{ base: 64, limit: 32, selector: 16 },
  ...struct(8, "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable"),
};
/** What struct kvm_sregs and kvm_sregs2 have in common. */
export const SREGS: Shape = {
  ...struct(SEGMENT, "cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"),
  ...struct({ base: 64, limit: 16 }, "gdt", "idt"),
  ...struct(64, "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apicBase"),
};

export const VCPU_EVENTS: Shape = {
  exception: { ...struct(8, "injected", "nr", "hasErrorCode", "pending"), errorCode: 32 },
  interrupt: struct(8, "injected", "nr", "soft", "shadow"),
  nmi: struct(8, "injected", "pending", "masked"),
  ...{ sipiVector: 32, flags: 32, tripleFault: 8 },
};

export const CPUID_ENTRY: Shape = {
  ...struct(32, "function", "index", "eax", "ebx", "ecx", "edx"),
  significantIndex: "bool",
};
export const MSR_ENTRY: Shape = { index: 32, data: 64 };
export const MEMORY_REGION: Shape = { slot: 32, guestPhysAddr: 64, memorySize: 64, userspaceAddr: 64 };
export const CLEAR_DIRTY_LOG: Shape = struct(32, "slot", "firstPage", "numPages");
export const MSI: Shape = struct(32, "addressLo", "data");
export const MSR_FILTER_RANGE: Shape = struct(32, "flags", "base", "nmsrs");
export const PIC_STATE: Shape = struct(
  8,
  ...["lastIrr", "irr", "imr", "isr", "priorityAdd", "irqBase", "readRegSelect", "poll", "specialMask", "initState"],
  ...["autoEoi", "rotateOnAutoEoi", "specialFullyNestedMode", "init4", "elcr"],
);
export const IOAPIC_STATE: Shape = { baseAddress: 64, ...struct(32, "ioregsel", "id", "irr") };
export const PIT_CHANNEL: Shape = {
  ...{ count: 32, latchedCount: 16, countLoadTime: 64 },
  ...struct(8, "countLatched", "statusLatched", "status", "readState", "writeState", "writeLatch", "rwMode", "mode"),
  ...struct(8, "bcd", "gate"),
};

/** Every element of a list by one check. */
export function checkEach(
  call: string,
  what: string,
  value: unknown,
  check: (name: string, one: unknown) => void,
): void {
  checkList(call, what, value);
  (value as readonly unknown[]).forEach((one, i) => {
    check(`${what}[${i}]`, one);
  });
}

/** So many __u64. */
export function checkWords(call: string, what: string, value: unknown, count: number): void {
  checkEach(call, what, value, (name, one) => checkU64(call, name, one));
  if ((value as readonly unknown[]).length !== count) bad(call, what, value, `one of ${count}`);
}

/** Bounds of KVM_RUN: bigints that are not negative, where they are given. */
export function checkBounds(bounds: { readonly [name: string]: unknown }): void {
  checkObject("KVM_RUN", "the argument", bounds);
  for (const name of ["maxInstructions", "work", "slice", "preemptEvery"]) {
    const value = bounds[name];
    if (value === undefined) continue;
    const least = name === "preemptEvery" ? 1n : 0n;
    if (typeof value !== "bigint" || value < least) bad("KVM_RUN", name, value, `a bigint from ${least}`);
  }
}
