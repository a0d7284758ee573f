// A processor in one of its modes, with handlers that loop, to ask which exception one instruction raises.
import { allFeatures } from "../../scripts/oracle/kernel.ts";
import type { CpuModel, RegisterUpdate, RegisterValues } from "../../src/index.ts";
import { DATA, HANDLERS, SEL, STACK0, STACK3, TABLES, World } from "../system/world.ts";

export type Mode = "real" | "vm86" | "protected" | "compatibility" | "64-bit";
export const MODES: readonly Mode[] = ["real", "vm86", "protected", "compatibility", "64-bit"];

export interface Outcome {
  /** "none": the instruction completed; "lost": the processor shut down. */
  readonly vector: number | "none" | "lost";
  readonly error?: number;
  /** The saved instruction pointer is that of the instruction: a fault. */
  readonly fault?: boolean;
}

/** Of the memory operand, in the data segment. */
export const OPERAND = DATA + 0x100;
/** Not mapped where there is paging: above the 4 MiB of RAM. */
export const NOT_PRESENT = 0x40_0000;
const REAL_CODE = 0x3000;
const REAL_STACK = 0x4000;
const REAL_DATA = DATA >> 4;
const REAL_SP = 0x8000;
const REAL_START = 0x10;
const LOOP = [0xeb, 0xfe];
const LOOP_AT = 0x40;
/** MOV AL, AL: something before the instruction that generated code does by itself. */
const BEFORE = [0x88, 0xc0, 0x88, 0xc0];
const BUDGET = 24;
/** Everything but the code and the page above 4 MiB that is not there. */
const KEPT = 0x9_a000;
const PAGE = 4096;
const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17];
const VM = 0x20000;
const TABLES_32 = TABLES + 0x8000;

const real = (selector: number, attributes: number) => ({
  selector,
  base: BigInt(selector * 16),
  limit: 0xffff,
  attributes,
});

export class Place {
  readonly world: World;
  readonly mode: Mode;
  readonly cpl: 0 | 3;
  /** Default operand size. */
  readonly bits: 16 | 32 | 64;
  readonly #fresh: RegisterValues;
  readonly #freshMemory: Uint8Array;
  /** What set() cannot put back was changed: the place is not to be used again. */
  tainted = false;
  #before: RegisterValues | undefined;
  #memory: Uint8Array | undefined;
  #start = 0n;

  constructor(mode: Mode, cpl: 0 | 3, cpu: CpuModel = allFeatures({ vmx: true })) {
    this.mode = mode;
    this.cpl = mode === "vm86" ? 3 : mode === "real" ? 0 : cpl;
    this.bits = mode === "64-bit" ? 64 : mode === "protected" || mode === "compatibility" ? 32 : 16;
    const kind = mode === "64-bit" ? "long" : mode === "compatibility" ? mode : "protected";
    this.world = new World(kind, mode === "vm86" || mode === "real" ? 0 : cpl, cpu);
    const { machine } = this.world;
    machine.onPortIn([0, 0xffff], () => 0);
    machine.onPortOut([0, 0xffff], () => true);
    for (let v = 0; v < 64; v++) this.world.write(HANDLERS + 16 * v, ...LOOP);
    if (this.bits === 16) this.#sixteen(mode === "vm86");
    const data = this.bits === 16 ? 0x100 : OPERAND;
    this.set({ rax: 0, rbx: 0, rcx: 0, rdx: 0, rsi: data, rdi: data, rbp: data });
    this.#fresh = this.registers.read();
    this.#freshMemory = this.world.machine.readMemory(0, KEPT);
  }

  #sixteen(vm86: boolean): void {
    const attributes = vm86 ? 0xf3 : 0x93;
    const data = real(REAL_DATA, attributes);
    const stack = real(REAL_STACK, attributes);
    this.set({ cs: real(REAL_CODE, vm86 ? 0xf3 : 0x9b), ss: stack, ds: data, es: data, fs: data, gs: data });
    if (vm86) this.set({ rflags: VM | 2, rip: REAL_START, rsp: REAL_SP });
    else {
      for (let v = 0; v < 256; v++) this.world.write32(v * 4, ((HANDLERS >> 4) << 16) | ((v & 63) * 16));
      const idtr = { base: 0n, limit: 0x3ff };
      this.set({ cr0: 0x10, idtr, rip: REAL_START, rsp: REAL_SP });
    }
  }

  set(update: RegisterUpdate): void {
    this.world.machine.registers.write(update);
  }

  get registers(): World["machine"]["registers"] {
    return this.world.machine.registers;
  }

  /** Linear address of the first byte of code. */
  get code(): number {
    return Number(this.registers.cs.base + this.registers.rip);
  }

  /** Linear address of the stack's top, and the width of what a far transfer of the mode pops. */
  get stackTop(): number {
    return Number((this.bits === 64 ? 0n : this.registers.ss.base) + this.registers.rsp);
  }

  get selectors(): { code: number; data: number } {
    const user = this.cpl === 3;
    if (this.bits === 16) return { code: REAL_CODE, data: REAL_DATA };
    const code32 = user ? SEL.code32User : SEL.code32;
    return {
      code: this.bits === 64 ? (user ? SEL.code64User : SEL.code64) : code32,
      data: user ? SEL.dataUser : SEL.data,
    };
  }

  /** Linear address of an endless loop behind the code. */
  loop(): number {
    this.world.write(this.code + LOOP_AT, ...LOOP);
    return this.code + LOOP_AT;
  }

  /** Bits in CR4, or without them. */
  cr4(on: number, off = 0): void {
    this.set({ cr4: (this.registers.cr4 | BigInt(on)) & ~BigInt(off) });
  }

  flags(on: number): void {
    this.set({ rflags: this.registers.rflags | BigInt(on) });
  }

  msr(index: number, value: bigint | number): void {
    this.tainted = true;
    if (!this.world.machine.writeMsr(index, value)) throw new Error(`WRMSR ${index.toString(16)} was refused`);
  }

  /** A part of a data segment register; `unusable`: a null selector. */
  segment(name: "ds" | "es" | "fs" | "gs" | "ss", change: "unusable" | "read-only" | { limit: number }): void {
    const now = this.registers[name];
    if (change === "unusable") this.set({ [name]: { ...now, selector: this.cpl, attributes: 0x10000 } });
    else if (change === "read-only") this.set({ [name]: { ...now, attributes: now.attributes & ~2 } });
    else this.set({ [name]: { ...now, limit: change.limit } });
  }

  /** Identity paging with 4 MiB pages, for what needs it in protected mode and vm86. */
  paging(): void {
    if (this.mode === "real" || this.world.long) return;
    this.world.write32(TABLES_32, 0x87);
    this.set({ cr3: TABLES_32, cr4: this.registers.cr4 | 0x10n, cr0: this.registers.cr0 | 0x8000_0000n });
  }

  /** Words at the operand, or at the top of the stack. */
  put(at: number, width: number, ...values: (number | bigint)[]): void {
    values.forEach((value, i) => {
      const bytes = Array.from({ length: width }, (_, b) => Number((BigInt(value) >> BigInt(8 * b)) & 0xffn));
      this.world.write(at + i * width, ...bytes);
    });
  }

  /** Lays the code and keeps the state from which it runs. */
  prepare(code: readonly number[]): void {
    this.world.write(this.code, ...BEFORE, ...code, ...LOOP);
    this.#start = this.registers.rip + BigInt(BEFORE.length);
    this.#before = this.registers.read();
    this.#memory = this.world.machine.readMemory(0, KEPT);
  }

  /** Puts everything back but the code. `prepare` makes once more what is neither in registers nor in memory: MSRs, VMX. */
  restore(prepare: () => void): void {
    this.set(this.#fresh);
    prepare();
    this.#restoreMemory(this.#memory!);
    this.set(this.#before!);
  }

  /** As it was made. */
  reset(): void {
    this.#restoreMemory(this.#freshMemory);
    this.set(this.#fresh);
  }

  #restoreMemory(memory: Uint8Array): void {
    const now = this.world.machine.readMemory(0, KEPT);
    for (let at = 0; at < KEPT; at += PAGE) {
      const page = memory.subarray(at, at + PAGE);
      if (Buffer.compare(page, now.subarray(at, at + PAGE))) this.world.machine.writeMemory(at, page);
    }
  }

  run(): Outcome {
    const { reason } = this.world.machine.run({ maxInstructions: BUDGET });
    return reason === "instructions" || reason === "halt" ? this.#outcome() : { vector: "lost" };
  }

  #outcome(): Outcome {
    const { registers } = this;
    const offset = Number(registers.cs.base + registers.rip) - HANDLERS;
    if (offset < 0 || offset >= 64 * 16) return { vector: "none" };
    const vector = offset >> 4;
    const start = Number(this.#start);
    if (this.mode === "real") {
      const at = Number(registers.ss.base + registers.rsp);
      return { vector, fault: (this.world.read32(at) & 0xffff) === start };
    }
    const first = WITH_ERROR.includes(vector) ? 1 : 0;
    const fault = this.world.stack(first) === start;
    return first ? { vector, error: this.world.stack(0), fault } : { vector, fault };
  }
}

/** Stacks of the levels, to look for what a transfer left there. */
export const STACKS = { 0: STACK0, 3: STACK3 } as const;
