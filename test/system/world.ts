// A processor in protected or 64-bit mode with a GDT, an IDT whose handlers do nothing but halt, a TSS, and pages that
// CPL 3 may use. A test writes a few bytes of code, runs them, and asks which event came.
import { type CpuModel, Machine } from "../../src/index.ts";

export const GDT = 0x10000;
export const IDT = 0x12000;
export const TSS = 0x14000;
export const HANDLERS = 0x20000;
export const TABLES = 0x30000;
export const STACK0 = 0x50000;
export const STACK3 = 0x60000;
export const TSS_STACK0 = 0x70000;
export const IST1 = 0x78000;
export const DATA = 0x80000;
export const CODE = 0x100000;

/** Selectors of the GDT. */
export const SEL = {
  code32: 0x08,
  data: 0x10,
  code32User: 0x1b,
  dataUser: 0x23,
  tss: 0x28,
  code64: 0x38,
  code64User: 0x43,
  code16: 0x48,
  conforming: 0x50,
  readOnly: 0x58,
  dataAbsent: 0x60,
  codeAbsent: 0x68,
  executeOnly: 0x70,
  tss16: 0x78,
  ldt: 0x80,
  free: 0x90,
  free2: 0xa0,
} as const;

export const GDT_LIMIT = 0xff;

/** Access byte, flags nibble (G D/B L AVL), base and 20-bit limit. */
export function descriptor(access: number, flags: number, base = 0, limit = 0xfffff): bigint {
  const b = BigInt(base);
  const l = BigInt(limit);
  return (
    (l & 0xffffn) |
    ((b & 0xffffffn) << 16n) |
    (BigInt(access) << 40n) |
    ((l >> 16n) << 48n) |
    (BigInt(flags) << 52n) |
    ((b >> 24n) << 56n)
  );
}

/** Low half of a gate; type: 4 12 call, 6 14 interrupt, 7 15 trap, 5 task. */
export function gate(type: number, selector: number, offset: number, dpl = 0, extra = 0): bigint {
  const o = BigInt(offset);
  return (
    (o & 0xffffn) |
    (BigInt(selector) << 16n) |
    (BigInt(extra) << 32n) |
    (BigInt(0x80 | (dpl << 5) | type) << 40n) |
    ((o >> 16n) << 48n)
  );
}

export interface Outcome {
  /** Vector of the handler that runs, or "none". */
  readonly vector: number | "none";
  /** Error code where the vector has one. */
  readonly error?: number;
  /** Return address, CS and flags of the frame. */
  readonly rip?: number;
  readonly cs?: number;
  readonly flags?: number;
}

const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17];

export class World {
  readonly machine: Machine;
  readonly long: boolean;
  readonly level: 0 | 3;

  constructor(kind: "protected" | "long" | "compatibility", level: 0 | 3 = 0, cpu?: CpuModel) {
    this.machine = new Machine({ memory: 4 << 20, ...(cpu ? { cpu } : {}) });
    this.long = kind !== "protected";
    this.level = level;
    this.#gdt();
    const handlerCode = this.long ? SEL.code64 : SEL.code32;
    for (let v = 0; v < 64; v++) {
      this.setGate(v, gate(14, handlerCode, HANDLERS + v * 16));
      this.write(HANDLERS + v * 16, 0xf4);
    }
    if (this.long) {
      this.write64(TSS + 4, BigInt(TSS_STACK0));
      this.write64(TSS + 36, BigInt(IST1));
      this.#pageTables();
    } else {
      this.write32(TSS + 4, TSS_STACK0);
      this.write32(TSS + 8, SEL.data);
    }
    this.write32(TSS + 100, 0x680000);
    this.#registers(kind);
  }

  #gdt(): void {
    this.setDescriptor(SEL.code32, descriptor(0x9a, 0xc));
    this.setDescriptor(SEL.data, descriptor(0x92, 0xc));
    this.setDescriptor(SEL.code32User, descriptor(0xfa, 0xc));
    this.setDescriptor(SEL.dataUser, descriptor(0xf2, 0xc));
    this.setDescriptor(SEL.tss, descriptor(0x89, 0, TSS, 0x67));
    this.setDescriptor(SEL.code64, descriptor(0x9a, 0xa));
    this.setDescriptor(SEL.code64User, descriptor(0xfa, 0xa));
    this.setDescriptor(SEL.code16, descriptor(0x9a, 0, 0, 0xffff));
    this.setDescriptor(SEL.conforming, descriptor(0x9e, 0xc));
    this.setDescriptor(SEL.readOnly, descriptor(0x90, 0xc));
    this.setDescriptor(SEL.dataAbsent, descriptor(0x12, 0xc));
    this.setDescriptor(SEL.codeAbsent, descriptor(0x1a, 0xc));
    this.setDescriptor(SEL.executeOnly, descriptor(0x98, 0xc));
    this.setDescriptor(SEL.tss16, descriptor(0x81, 0, TSS, 0x2b));
    this.setDescriptor(SEL.ldt, descriptor(0x82, 0, DATA, 0xf));
  }

  #pageTables(): void {
    this.write64(TABLES, BigInt(TABLES + 0x1000) | 7n);
    this.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
    for (let i = 0; i < 2; i++) this.write64(TABLES + 0x2000 + i * 8, (BigInt(i) << 21n) | 0x87n);
  }

  #registers(kind: "protected" | "long" | "compatibility"): void {
    const user = this.level === 3;
    const wide = kind === "long";
    const data = {
      selector: user ? SEL.dataUser : SEL.data,
      base: 0n,
      limit: 0xffffffff,
      attributes: user ? 0xc0f3 : 0xc093,
    };
    const code = wide ? (user ? SEL.code64User : SEL.code64) : user ? SEL.code32User : SEL.code32;
    const attributes = (wide ? 0xa09b : 0xc09b) | (user ? 0x60 : 0);
    this.machine.registers.write({
      cr0: this.long ? 0x80000011 : 0x11,
      cr3: this.long ? TABLES : 0,
      cr4: this.long ? 0x20 : 0,
      efer: this.long ? 0x100 : 0,
      cs: { selector: code, base: 0n, limit: 0xffffffff, attributes },
      ss: data,
      ds: data,
      es: data,
      fs: data,
      gs: data,
      gdtr: { base: BigInt(GDT), limit: GDT_LIMIT },
      idtr: { base: BigInt(IDT), limit: this.long ? 64 * 16 - 1 : 64 * 8 - 1 },
      tr: { selector: SEL.tss, base: BigInt(TSS), limit: 0x67, attributes: 0x8b },
      ldtr: { selector: 0, base: 0n, limit: 0, attributes: 0x10000 },
      rip: CODE,
      rsp: user ? STACK3 : STACK0,
      rflags: 2,
    });
  }

  setDescriptor(selector: number, low: bigint, high?: bigint): void {
    this.write64(GDT + (selector & ~7), low);
    if (high !== undefined) this.write64(GDT + (selector & ~7) + 8, high);
  }

  setGate(vector: number, low: bigint, high = 0n): void {
    if (this.long) {
      this.write64(IDT + vector * 16, low);
      this.write64(IDT + vector * 16 + 8, high);
    } else this.write64(IDT + vector * 8, low);
  }

  write(address: number, ...bytes: number[]): void {
    this.machine.writeMemory(address, Uint8Array.from(bytes));
  }

  write32(address: number, value: number): void {
    this.write(address, value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
  }

  write64(address: number, value: bigint): void {
    this.write32(address, Number(value & 0xffffffffn));
    this.write32(address + 4, Number(value >> 32n));
  }

  read32(address: number): number {
    const m = this.machine.readMemory(address, 4);
    return new DataView(m.buffer).getUint32(0, true);
  }

  /** Word number n of the stack, in the width of a handler's frame. */
  stack(n: number, width = this.long ? 8 : 4): number {
    return this.read32(Number(this.machine.registers.rsp) + n * width);
  }

  /** Pushes values as the width given, the last one ends up on top. */
  push(width: number, ...values: number[]): void {
    const { registers } = this.machine;
    for (const value of values) {
      registers.rsp = registers.rsp - BigInt(width);
      const at = Number(registers.rsp);
      if (width === 2) this.write(at, value & 0xff, value >> 8);
      else if (width === 4) this.write32(at, value);
      else this.write64(at, BigInt(value));
    }
  }

  /** Runs n instructions (or deliveries) of this code and says whether an exception handler is next. */
  run(code: number[], n = 1): Outcome {
    this.write(CODE, ...code);
    this.machine.run({ maxInstructions: n });
    return this.outcome();
  }

  outcome(): Outcome {
    const offset = Number(this.machine.registers.rip) - HANDLERS;
    if (offset < 0 || offset >= 64 * 16) return { vector: "none" };
    const vector = offset >> 4;
    const first = WITH_ERROR.includes(vector) ? 1 : 0;
    return {
      vector,
      ...(first ? { error: this.stack(0) } : {}),
      rip: this.stack(first),
      cs: this.stack(first + 1) & 0xffff,
      flags: this.stack(first + 2),
    };
  }
}

/** Encodings. */
export const MOV_DS_AX = [0x8e, 0xd8];
export const MOV_SS_AX = [0x8e, 0xd0];
