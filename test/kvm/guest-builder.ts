// A guest of a few bytes in any mode and privilege level. The VMM writes its tables, so that the guest holds nothing but
// the instructions under test.
import {
  GPR_NAMES,
  Kvm,
  type KvmOptions,
  type Regs,
  type Segment,
  type Sregs,
  type Vcpu,
  type Vm,
} from "../../src/kvm/index.ts";

export type Mode = "real" | "protected" | "compat" | "long";

export interface GuestOptions extends KvmOptions {
  readonly mode: Mode;
  readonly cpl: 0 | 3;
  readonly code: readonly number[];
  readonly regs?: Partial<Regs>;
  /** "long" starts a compatibility guest in 64-bit code at CPL 0, with `enter` as the frame of its first IRETQ. */
  readonly startIn?: "here" | "cpl0";
}

const MEMORY = 0x20_0000;
const GDT = 0x1000;
const IDT = 0x2000;
const TSS = 0x3000;
const PML4 = 0x4000;
const STACK0 = 0x9000;
const FRAME = 0x9800;
const STACK3 = 0xb000;
const HANDLERS = 0xc000;
export const CODE = 0xe000;
/** Code of CPL 3 that the IRET of a `startIn: "cpl0"` guest goes to. */
export const CODE3 = 0xf000;

const CS32 = 0x08;
const DS0 = 0x10;
const CS32_USER = 0x1b;
const DS_USER = 0x23;
const CS64 = 0x28;
const CS64_USER = 0x33;
const TR = 0x38;
const HLT = 0xf4;
const IOPL3 = 0x3000n;

/** Selectors by mode and privilege level. */
export function codeSelector(mode: Mode, cpl: number): number {
  if (mode === "real") return 0;
  if (mode === "long") return cpl ? CS64_USER : CS64;
  return cpl ? CS32_USER : CS32;
}

const code = (selector: number, dpl: number, long: boolean): Segment => ({
  base: 0n,
  limit: 0xffff_ffff,
  selector,
  type: 11,
  present: 1,
  dpl,
  db: long ? 0 : 1,
  s: 1,
  l: long ? 1 : 0,
  g: 1,
  avl: 0,
  unusable: 0,
});
const data = (selector: number, dpl: number): Segment => ({ ...code(selector, dpl, false), type: 3 });

/** 8-byte descriptors: null, code 32, data, code 32 and data of CPL 3, code 64, code 64 of CPL 3. */
const DESCRIPTORS = [
  0n,
  0x00cf_9b00_0000_ffffn,
  0x00cf_9300_0000_ffffn,
  0x00cf_fb00_0000_ffffn,
  0x00cf_f300_0000_ffffn,
  0x00af_9b00_0000_ffffn,
  0x00af_fb00_0000_ffffn,
];

export class Guest {
  readonly kvm: Kvm;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly #memory: bigint;

  constructor(readonly options: GuestOptions) {
    this.kvm = new Kvm({ kernel: "5.0", ...options });
    this.vm = this.kvm.createVm();
    this.#memory = this.vm.allocMemory(BigInt(MEMORY));
    this.vm.setUserMemoryRegion({
      slot: 0,
      guestPhysAddr: 0n,
      memorySize: BigInt(MEMORY),
      userspaceAddr: this.#memory,
    });
    this.vcpu = this.vm.createVcpu(0);
    this.#tables();
    this.write(CODE, options.code);
    this.vcpu.setSregs(this.#sregs());
    this.vcpu.setRegs(this.#regs());
  }

  /** Bytes at a physical address. */
  write(address: number, bytes: readonly number[] | Uint8Array): void {
    this.vm.writeMemory(this.#memory + BigInt(address), Uint8Array.from(bytes));
  }

  read(address: number, size: number): DataView {
    const bytes = this.vm.readMemory(this.#memory + BigInt(address), size);
    return new DataView(bytes.buffer, bytes.byteOffset, size);
  }

  write64(address: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.write(address, bytes);
  }

  get #paged(): boolean {
    return this.options.mode === "compat" || this.options.mode === "long";
  }

  #tables(): void {
    DESCRIPTORS.forEach((value, i) => {
      this.write64(GDT + 8 * i, value);
    });
    // each vector's handler is one HLT at an address of its own
    for (let vector = 0; vector < 32; vector++) this.write(HANDLERS + vector * 16, [HLT]);
    if (this.options.mode === "real") {
      for (let vector = 0; vector < 32; vector++) {
        const at = HANDLERS + vector * 16;
        this.write(4 * vector, [at & 0xff, at >> 8, 0, 0]);
      }
      return;
    }
    const selector = BigInt(this.#paged ? CS64 : CS32);
    for (let vector = 0; vector < 32; vector++) {
      const at = BigInt(HANDLERS + vector * 16);
      const gate = (at & 0xffffn) | (selector << 16n) | (0x8e00n << 32n) | ((at >> 16n) << 48n);
      this.write64(IDT + vector * (this.#paged ? 16 : 8), gate);
    }
    if (this.#paged) {
      this.write64(TSS + 4, BigInt(STACK0));
      this.write64(PML4, BigInt(PML4 + 0x1000) | 7n);
      this.write64(PML4 + 0x1000, BigInt(PML4 + 0x2000) | 7n);
      this.write64(PML4 + 0x2000, 0x87n);
    } else {
      this.write64(TSS + 4, BigInt(STACK0) | (BigInt(DS0) << 32n));
    }
  }

  #sregs(): Sregs {
    const { mode, cpl, startIn = "here" } = this.options;
    const before = this.vcpu.getSregs();
    const table = { base: BigInt(GDT), limit: 8 * DESCRIPTORS.length - 1 };
    if (mode === "real") {
      const flat16 = { ...before.ds, base: 0n, selector: 0 };
      const cs = { ...before.cs, base: 0n, selector: 0, limit: 0xffff };
      const idt = { base: 0n, limit: 0x3ff };
      return {
        ...before,
        cs,
        ds: flat16,
        es: flat16,
        ss: flat16,
        idt,
        cr0: 0x10n,
      };
    }
    const now = startIn === "cpl0" ? 0 : cpl;
    const long = mode === "long" || (mode === "compat" && startIn === "cpl0");
    const stack = now ? data(DS_USER, 3) : data(DS0, 0);
    const selector = long ? (now ? CS64_USER : CS64) : codeSelector(mode, now);
    const common: Sregs = {
      ...before,
      cs: code(selector, now, long),
      ss: stack,
      ds: stack,
      es: stack,
      fs: stack,
      gs: stack,
      tr: { ...code(TR, 0, false), base: BigInt(TSS), limit: 0x67, type: 11, s: 0, db: 0, g: 0 },
      gdt: table,
      idt: { base: BigInt(IDT), limit: this.#paged ? 0x1ff : 0xff },
      cr0: 0x11n,
    };
    if (!this.#paged) return common;
    return { ...common, cr0: 0x8000_0011n, cr3: BigInt(PML4), cr4: 0x20n, efer: 0x500n };
  }

  #regs(): Regs {
    const { cpl, startIn = "here", regs = {} } = this.options;
    const zero = Object.fromEntries(GPR_NAMES.map((name) => [name, 0n])) as Regs;
    const user = cpl === 3 && startIn === "here";
    if (startIn === "cpl0" && cpl === 3) this.#iretFrame();
    const rsp = startIn === "cpl0" && cpl === 3 ? BigInt(FRAME) : BigInt(user ? STACK3 : STACK0);
    return { ...zero, rsp, rip: BigInt(CODE), rflags: user ? 2n | IOPL3 : 2n, ...regs };
  }

  /** What IRET (32-bit) or IRETQ takes to CPL 3 code at CODE3. */
  #iretFrame(): void {
    const frame = [
      BigInt(CODE3),
      BigInt(codeSelector(this.options.mode, 3)),
      2n | IOPL3,
      BigInt(STACK3),
      BigInt(DS_USER),
    ];
    const bytes = this.#paged ? 8 : 4;
    frame.forEach((value, i) => {
      this.write(
        FRAME + bytes * i,
        Array.from({ length: bytes }, (_, b) => Number((value >> BigInt(8 * b)) & 0xffn)),
      );
    });
  }

  /** IRET of the mode the guest starts in. */
  get iret(): number[] {
    return this.#paged ? [0x48, 0xcf] : [0xcf];
  }

  /** After an HLT exit: the vector whose handler halted, or undefined when it was the guest's own HLT. */
  haltedVector(): number | undefined {
    const at = Number(this.vcpu.getRegs().rip) - 1 - HANDLERS;
    return at >= 0 && at < 32 * 16 ? at / 16 : undefined;
  }

  /** What the exception pushed; the error code where its vector has one. */
  frame(vector: number): { error: number; rip: number; cs: number; flags: number } {
    const { rsp } = this.vcpu.getRegs();
    const bytes = this.options.mode === "real" ? 2 : this.#paged ? 8 : 4;
    const hasError = bytes > 2 && [8, 10, 11, 12, 13, 14, 17].includes(vector);
    const view = this.read(Number(rsp), 8 * 8);
    const word = (i: number): number => (bytes === 2 ? view.getUint16(2 * i, true) : view.getUint32(bytes * i, true));
    const first = hasError ? 1 : 0;
    return { error: hasError ? word(0) : 0, rip: word(first), cs: word(first + 1), flags: word(first + 2) };
  }
}

/** MOV ECX, index; MOV EAX, low; XOR EDX, EDX; WRMSR, in 32- and 64-bit code. */
export function wrmsr(index: number, value: bigint): number[] {
  const imm = (n: bigint): number[] => Array.from({ length: 4 }, (_, i) => Number((n >> BigInt(8 * i)) & 0xffn));
  return [0xb9, ...imm(BigInt(index)), 0xb8, ...imm(value), 0x31, 0xd2, 0x0f, 0x30];
}

export const CPUID = [0x0f, 0xa2];
export const UD2 = [0x0f, 0x0b];
export const HALT = [HLT];
