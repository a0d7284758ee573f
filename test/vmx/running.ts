// A 64-bit guest that runs code at 7000H, for tests of VM exits.
import { expect } from "vitest";
import { type Fields, identityPaging, longGuest, writeFields } from "./guests.ts";
import { type Entry, Vmx } from "./harness.ts";

export const START = 0x7000n;
export const VMCALL = [0x0f, 0x01, 0xc1];
export const IDT = 0x8000n;
export const GDT = 0x8c00n;
export const HANDLER = 0x7800n;
export const STACK = 0xff00n;

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RSI = 6;
export const RDI = 7;
export const R9 = 9;

export const u32 = (...values: number[]): bigint => values.reduce((all, value) => all | BigInt(value >>> 0), 0n);

export class Running extends Vmx {
  /** Root operation, a cleared VMCS, paging and descriptor tables; every vector leads to HANDLER + 16 * vector. */
  fresh(): void {
    this.fill(0x3000n, 0x18000);
    this.restart();
    identityPaging(this);
    this.poke64(GDT + 0x10n, 0x00af9b000000ffffn);
    this.poke64(GDT + 0x18n, 0x00cf93000000ffffn);
    for (let vector = 0; vector < 64; vector++) this.gate(vector, HANDLER + 16n * BigInt(vector));
    this.fill(HANDLER, 0x400, 0x90);
    for (let vector = 0; vector < 64; vector++) this.code(VMCALL, HANDLER + 16n * BigInt(vector));
    this.select();
  }

  /** 64-bit interrupt gate to CS 10H. */
  gate(vector: number, target: bigint, present = true): void {
    const type = present ? 0x8e00n : 0x0e00n;
    this.poke64(
      IDT + 16n * BigInt(vector),
      (target & 0xffffn) | (0x10n << 16n) | (type << 32n) | ((target >> 16n) << 48n),
    );
    this.poke64(IDT + 16n * BigInt(vector) + 8n, target >> 32n);
  }

  /** Enters longGuest() with these changes at code followed by VMCALL. */
  start(code: readonly number[], set: Fields = {}, gprs: Readonly<Record<number, bigint>> = {}): void {
    expect(this.tryStart(code, set, gprs)).toMatchObject({ entered: true });
  }

  /** The same where the entry may fail. */
  tryStart(
    code: readonly number[],
    set: Fields = {},
    gprs: Readonly<Record<number, bigint>> = {},
    before?: () => void,
  ): Entry {
    writeFields(this, {
      ...longGuest(),
      GUEST_IDTR_BASE: IDT,
      GUEST_GDTR_BASE: GDT,
      GUEST_GDTR_LIMIT: 0x1fn,
      GUEST_RSP: STACK,
      ...set,
    });
    before?.();
    this.code([...code, ...VMCALL]);
    const entry = this.enter();
    for (const [index, value] of Object.entries(gprs)) this.setGpr(Number(index), value);
    return entry;
  }

  /** The 64-bit words from the guest's stack pointer up. */
  stack(count: number): bigint[] {
    const at = this.read("GUEST_RSP");
    return Array.from({ length: count }, (_, i) => this.peek64(at + 8n * BigInt(i)));
  }
  peek64(physical: bigint): bigint {
    return this.read64(this.host(physical));
  }
}
