// Random programs for comparing the tiers: an outer loop around pieces of random instructions, inner loops, calls direct,
// through registers and through a table, stores into the code of the loop, faults with handlers. They end with HLT.
import { type Bits, Code } from "./code.ts";

export const LOAD = 0x8000;
const DATA = 0xa000;
const STACK = 0x7c00;
const IDT = 0x6000;
/** Physical addresses of two page directories whose low 12 bits are clear and that differ in bit 12 alone. */
export const PAGE_DIRECTORIES = [0x20000, 0x21000] as const;
/** The header lies on the second of two pages. */
const XSAVE_AREA = 0x28e00;
/** Bytes to skip when an instruction faults. */
const SKIP = 0x5ff0;

export type Random = (below: number) => number;

/** What a program may hold. */
export interface Traits {
  readonly bits: Bits;
  /** Stores that change immediates and opcodes of the loop. */
  readonly selfModifying?: boolean;
  /** #DE and #UD with handlers that skip the instruction. */
  readonly faults?: boolean;
  /** MSR accesses, CPUID, the XSAVE feature set, and changes of CR3 between PAGE_DIRECTORIES. 32-bit code. */
  readonly system?: boolean;
  /** Passes of the outer loop. */
  readonly rounds: number;
}

class Program {
  readonly code: Code;
  readonly #random: Random;
  readonly #traits: Traits;
  /** Places of 4-byte immediates in the outer loop. */
  readonly #patchable: string[] = [];

  constructor(random: Random, traits: Traits) {
    this.#random = random;
    this.#traits = traits;
    this.code = new Code(traits.bits);
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#random(list.length)]!;
  }

  /** Neither the pointer (3), the stack pointer (4) nor, in a loop, the counter (1). */
  #register(): number {
    return this.#one(this.#traits.bits === 64 ? [0, 2, 5, 6, 7, 8, 9, 13, 15] : [0, 2, 5, 6, 7]);
  }

  #immediate(bytes: number): number[] {
    const kind = this.#random(4);
    return Array.from({ length: bytes }, () => (kind === 0 ? 0 : kind === 1 ? 0xff : this.#random(256)));
  }

  /** An instruction with a modrm byte: a register pair, or a place in the data page, sometimes over its end. */
  #modrm(opcode: readonly number[], size: number, reg: number, memory = this.#random(3) === 0, tail: number[] = []) {
    const { code } = this;
    if (memory)
      code.op(
        opcode,
        { size, reg, displacement: this.#random(8) === 0 ? -1 - this.#random(9) : this.#random(64) },
        tail,
      );
    else code.op(opcode, { size, reg, rm: this.#register() }, tail);
  }

  instruction(): void {
    const { code } = this;
    const random = this.#random;
    const size = this.#one(this.#traits.bits === 64 ? [1, 2, 4, 4, 8, 8] : [1, 2, 4, 4, 4]);
    const w = size === 1 ? 0 : 1;
    const reg = size === 1 && this.#traits.bits !== 64 ? this.#one([0, 2, 4, 6]) : this.#register();
    const imm = Math.min(size, 4);
    switch (random(39)) {
      case 0:
      case 1:
      case 2:
        this.#modrm([random(8) * 8 + this.#one([0, 2]) + w], size, reg);
        break;
      case 3:
      case 4:
        this.#modrm([0x80 + w], size, random(8), undefined, this.#immediate(imm));
        break;
      case 5:
        this.#modrm([0x83], Math.max(size, 2), random(8), undefined, this.#immediate(1));
        break;
      case 6: {
        // add, or, sbb, sub, xor eax, imm: immediates and opcodes that stores may change
        const label = code.fresh();
        code.raw([...(this.#traits.bits === 16 ? [0x66] : []), this.#one([0x05, 0x0d, 0x1d, 0x2d, 0x35])]);
        code.label(label);
        code.raw(this.#immediate(4));
        this.#patchable.push(label);
        break;
      }
      case 7:
        this.#modrm([0xc0 + w], size, random(8), undefined, [random(256)]);
        break;
      case 8:
        this.#modrm([0xd2 + w], size, random(8));
        break;
      case 9:
        this.#modrm([0xfe + w], size, random(2));
        break;
      case 10:
        this.#modrm([0xf6 + w], size, 2 + random(4));
        break;
      case 11:
        this.#modrm([0x0f, 0xaf], Math.max(size, 2), reg);
        break;
      case 12:
        this.#modrm([0x0f, this.#one([0xb6, 0xb7, 0xbe, 0xbf])], Math.max(size, 2), reg);
        break;
      case 13:
        this.#modrm([0x0f, 0x90 + random(16)], 1, 0);
        break;
      case 14:
        this.#modrm([0x0f, 0x40 + random(16)], Math.max(size, 2), reg);
        break;
      case 15:
      case 16:
        this.#modrm([this.#one([0x88, 0x8a]) + w], size, reg, true);
        break;
      case 17:
        code.raw([0x50 + this.#one([0, 2, 5, 6, 7]), 0x58 + this.#one([0, 2, 5, 6, 7])]);
        break;
      case 18:
        this.#modrm([0xf6 + w], size, 4 + random(2));
        break;
      case 19:
        this.#modrm([0x0f, this.#one([0xa3, 0xab, 0xb3, 0xbb])], Math.max(size, 2), reg, false);
        break;
      case 20:
        this.#modrm([0x0f, 0xba], Math.max(size, 2), 4 + random(4), undefined, [random(256)]);
        break;
      case 21:
        this.#modrm([0x0f, this.#one([0xbc, 0xbd])], Math.max(size, 2), reg);
        break;
      case 22:
        if (random(2)) this.#modrm([0x0f, this.#one([0xa5, 0xad])], Math.max(size, 2), reg);
        else this.#modrm([0x0f, this.#one([0xa4, 0xac])], Math.max(size, 2), reg, undefined, [random(256)]);
        break;
      case 23:
        this.#modrm([this.#one([0x84, 0x86]) + w], size, reg);
        break;
      case 24:
        this.#modrm([0x0f, this.#one([0xb0, 0xc0]) + w], size, reg);
        break;
      case 25:
        this.#modrm([0x8d], Math.max(size, 2), reg, true);
        break;
      case 26: {
        // mov e?i, DATA + n; push ecx; mov ecx, n; (rep) string; pop ecx
        // within a page or, now and then, to the next; overlapping or not; up or down
        code.loadRegister(6, DATA + this.#one([0x100, 0x1f0, 0xfe0]) + random(0x40));
        code.loadRegister(7, DATA + this.#one([0x200, 0x200, 0xfe0]) + random(0x40));
        code.raw([0x51]);
        code.loadRegister(1, this.#one([random(9), random(40)]));
        const down = random(3) === 0;
        const repeat = this.#one([[], [0xf3], [0xf2]]);
        const opcode = this.#one([0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
        const wide = this.#traits.bits === 64 && random(3) === 0 ? [0x48] : [];
        code.raw([...(down ? [0xfd] : []), ...repeat, ...wide, opcode, ...(down ? [0xfc] : []), 0x59]);
        break;
      }
      case 27:
        code.raw(this.#one([[0x9c, 0x9d], [0x9f], [0x9e], [0x66, 0x99], [0xd7], [0xfd, 0xfc], [0x9e, 0x9c, 0x58]]));
        break;
      case 36:
        this.#flagsAndSegments(size);
        break;
      case 37:
        // daa, das, aaa, aas, aam, aad, salc; crc32 in 64-bit code
        if (this.#traits.bits !== 64) {
          code.raw(
            this.#one([[0x27], [0x2f], [0x37], [0x3f], [0xd4, 10], [0xd5, 10], [0xd4, 1 + random(255)], [0xd6]]),
          );
        } else
          code.op([0x0f, 0x38, 0xf0 + w], { size: size === 8 ? 8 : 4, reg, rm: this.#register(), prefix: 0xf2 }, []);
        break;
      case 28:
        // popcnt, tzcnt, lzcnt
        this.#count(this.#one([0xb8, 0xbc, 0xbd]), Math.max(size, 2), reg);
        break;
      case 29:
        this.#modrm([0x0f, 0x38, 0xf0 + random(2)], Math.max(size, 2), reg, true); // MOVBE
        break;
      case 30:
        this.#modrm([this.#one([0xd0, 0xd2]) + w], size, 2 + random(2)); // RCL, RCR
        break;
      case 31:
        // mov esi, -64..63; bt family [ebx + n], esi: a bit of the string before or after it
        if (this.#traits.bits === 64) code.loadRegister(6, random(64));
        else code.loadRegister(6, (random(128) - 64) >>> 0);
        this.#modrm([0x0f, this.#one([0xa3, 0xab, 0xb3, 0xbb])], Math.max(size, 2), 6, true);
        break;
      case 32:
        this.#divide(size);
        break;
      case 33:
      case 34:
        if (this.#traits.bits === 16) code.raw([0x0f, 0xc8]);
        else this.#vex(size === 8 ? 8 : 4, reg);
        break;
      default:
        code.raw([this.#one([0xf8, 0xf9, 0xf5, 0x98, 0x99, 0x90, 0xfc])]);
        break;
    }
  }

  /** PUSH imm, POPF; PUSHA, POPA; PUSH and MOV of segment registers. */
  #flagsAndSegments(size: number): void {
    const { code } = this;
    const random = this.#random;
    const long = this.#traits.bits === 64;
    const prefix = size === 2 ? [0x66] : [];
    const segment = this.#one(long ? [0, 3] : [0, 1, 2, 3]);
    switch (random(4)) {
      case 0: {
        // CF PF AF ZF SF IF DF OF; in 16-bit code the immediate has 2 bytes
        const image = [random(256) & 0xd5, random(256) & 0x0e];
        code.raw([0x68, ...image, ...(this.#traits.bits === 16 ? [] : [0, 0]), 0x9d]);
        break;
      }
      case 1:
        if (!long) code.raw([...prefix, 0x60, ...prefix, 0x61]);
        break;
      case 2:
        if (long) code.raw([0x0f, 0xa0, 0x58]);
        else code.raw([0x06 + segment * 8, 0x58]);
        break;
      default:
        this.#modrm([0x8c], Math.max(size, 2), segment);
        break;
    }
  }

  /** DIV or IDIV that cannot raise #DE: of a small positive number by an odd one. */
  #divide(size: number): void {
    const { code } = this;
    const divisor = this.#one([6, 7]);
    if (size === 1) code.op([0x0f, 0xb6], { size: this.#traits.bits === 16 ? 2 : 4, reg: 0, rm: 0 }, []); // movzx eax, al
    code.op([0xd1], { size: Math.max(size, 2), reg: 5, rm: 0 }, []); // shr eax, 1
    if (size !== 1) code.op([0x31], { size, reg: 2, rm: 2 }, []); // xor edx, edx
    code.op([0x83], { size: Math.max(size, 2), reg: 1, rm: size === 1 ? 2 : divisor }, [1]); // or divisor, 1
    code.op([0xf6 + (size === 1 ? 0 : 1)], { size, reg: 6 + this.#random(2), rm: size === 1 ? 2 : divisor }, []);
  }

  #count(opcode: number, size: number, reg: number): void {
    const rm = this.#register();
    if (this.#random(3)) this.code.op([0x0f, opcode], { size, reg, rm, prefix: 0xf3 }, []);
    else this.code.op([0x0f, opcode], { size, reg, displacement: this.#random(64), prefix: 0xf3 }, []);
  }

  /** BMI1 and BMI2, ADCX and ADOX. */
  #vex(size: number, reg: number): void {
    const { code } = this;
    const memory = this.#random(4) === 0;
    const operands = {
      size,
      reg,
      vvvv: this.#register(),
      ...(memory ? { displacement: this.#random(64) } : { rm: this.#register() }),
    };
    switch (this.#random(8)) {
      case 6:
        code.vex(2, 2 + this.#random(2), 0xf5, operands); // pext, pdep
        break;
      case 0:
        code.vex(2, 0, 0xf2, operands); // andn
        break;
      case 1:
        code.vex(2, 0, 0xf3, { ...operands, reg: 1 + this.#random(3) }); // blsr, blsmsk, blsi
        break;
      case 2:
        code.vex(2, 0, this.#one([0xf5, 0xf7]), operands); // bzhi, bextr
        break;
      case 3:
        code.vex(2, 1 + this.#random(3), 0xf7, operands); // shlx, sarx, shrx
        break;
      case 4:
        code.vex(2, 3, 0xf6, operands); // mulx
        break;
      case 5:
        code.vex(3, 3, 0xf0, { ...operands, vvvv: 0 }, [this.#random(256)]); // rorx
        break;
      default: {
        const { vvvv: _, ...plain } = operands;
        code.op([0x0f, 0x38, 0xf6], { ...plain, prefix: this.#one([0x66, 0xf3]) }, []); // adcx, adox
        break;
      }
    }
  }

  #straight(most: number): void {
    for (let n = 1 + this.#random(most); n > 0; n--) this.instruction();
  }

  /** A counted loop around some instructions; the counter is saved. */
  #innerLoop(): void {
    const { code } = this;
    const top = code.fresh();
    code.raw([0x51]);
    code.loadRegister(1, 1 + this.#random(12));
    code.label(top);
    this.#straight(5);
    if (this.#random(2)) code.loop(top);
    else {
      code.decrement(1);
      code.jump(0x85, top);
    }
    code.raw([0x59]);
  }

  #branch(): void {
    const over = this.code.fresh();
    this.code.jump(0x80 + this.#random(16), over);
    this.#straight(4);
    this.code.label(over);
  }

  #store(): void {
    if (this.#patchable.length === 0) return;
    const label = this.#one(this.#patchable);
    // mov byte [immediate], al, or its opcode
    if (this.#random(4) === 0) this.code.storeImmediate(label, -1, this.#one([0x05, 0x0d, 0x1d, 0x2d, 0x35]));
    else this.code.storeAl(label, this.#random(4));
  }

  #fault(): void {
    const { code } = this;
    const start = code.fresh();
    const end = code.fresh();
    code.setSkip(SKIP, start, end);
    code.label(start);
    if (this.#random(2)) code.raw([0x0f, 0x0b]);
    else code.op([0xf6 + this.#random(2)], { size: 4, reg: 6 + this.#random(2), rm: this.#one([2, 5, 6, 7]) }, []);
    code.label(end);
  }

  /** System instructions at CPL 0; EAX, ECX and EDX change. */
  #system(): void {
    const { code } = this;
    const random = this.#random;
    code.raw([0x53, 0x51]); // push ebx, ecx
    switch (random(8)) {
      case 0:
        code.raw([0x0f, 0x20, 0xd8, 0x35, 0, 0x10, 0, 0, 0x0f, 0x22, 0xd8]); // mov eax, cr3; xor eax, 1000h; mov cr3, eax
        break;
      case 1:
        code.loadRegister(0, random(3));
        code.loadRegister(1, random(2));
        code.raw([0x0f, 0xa2, 0x89, 0xda]); // cpuid; mov edx, ebx
        break;
      case 2:
        code.raw(this.#one([[0xfa], [0xfb], [0xfb, 0xfb], [0xfa, 0x90, 0xfb, 0x90]])); // cli, sti
        break;
      case 5:
      case 6:
      case 7:
        this.#extendedState();
        break;
      default:
        // IA32_SYSENTER_CS, ESP and EIP; the upper half is 0 but for CS, which has none
        code.loadRegister(1, 0x174 + random(3));
        code.raw([0x31, 0xd2]); // xor edx, edx
        if (random(2)) code.raw([0x0f, 0x30]);
        code.raw([0x0f, 0x32]);
        break;
    }
    code.raw([0x59, 0x5b]);
  }

  /** The XSAVE feature set. Each format has an area of its own; the first one lies on two pages. */
  #extendedState(): void {
    const { code } = this;
    const random = this.#random;
    const RSTOR = [0x0f, 0xae, 0x2b];
    const RSTORS = [0x0f, 0xc7, 0x1b];
    const wrmsr = (index: number, value: number): void => {
      code.loadRegister(1, index);
      code.loadRegister(0, value);
      code.raw([0x31, 0xd2, 0x0f, 0x30]); // xor edx, edx; wrmsr
    };
    const [area, save, restore] = this.#one([
      [XSAVE_AREA, [0x0f, 0xae, 0x23], RSTOR],
      [XSAVE_AREA, [0x0f, 0xae, 0x33], RSTOR],
      [XSAVE_AREA + 0x600, [0x0f, 0xc7, 0x23], RSTOR],
      [XSAVE_AREA + 0xa00, [0x0f, 0xc7, 0x2b], RSTORS],
    ] as const);
    if (random(3) === 0) wrmsr(0xda0, this.#one([0, 0x2000]));
    if (random(3) === 0) wrmsr(0xdb1, random(2));
    code.loadRegister(3, area);
    code.loadRegister(0, this.#one([0, 1, 0x2001]));
    code.raw([0x31, 0xd2, ...save]);
    // words of x87 state: mov [ebx + n], esi
    for (const at of [0, 4, 8, 20, 32, 40, 0x7c]) if (random(4) === 0) code.raw([0x89, 0x73, at]);
    if (random(2)) code.raw(restore);
    code.loadRegister(1, random(2));
    code.raw([0x0f, 0x01, 0xd0, 0x89, 0xc5]); // xgetbv; mov ebp, eax
    code.loadRegister(0, 0xd);
    code.raw([0x0f, 0xa2, 0x89, 0xda]); // cpuid; mov edx, ebx
  }

  piece(functions: readonly string[]): void {
    const { code } = this;
    if (this.#traits.system && this.#random(3) === 0) this.#system();
    switch (this.#random(this.#traits.faults ? 9 : 8)) {
      case 0:
        this.#innerLoop();
        break;
      case 1:
        this.#branch();
        break;
      case 2:
        code.call(this.#one(functions));
        break;
      case 3:
        code.callRegister(this.#one(functions));
        break;
      case 4:
        code.callTable(this.#random(functions.length));
        break;
      case 5:
        if (this.#traits.selfModifying) this.#store();
        else this.#straight(3);
        break;
      case 8:
        this.#fault();
        break;
      default:
        this.#straight(6);
        break;
    }
  }

  whole(): Uint8Array {
    const { code } = this;
    const { bits, rounds, faults } = this.#traits;
    const functions = Array.from({ length: 2 + this.#random(3) }, () => code.fresh());
    code.start({ stack: STACK, idt: faults ? IDT : 0, skip: SKIP });
    code.loadRegister(3, this.#random(2) ? DATA : DATA + 0xfd0);
    code.loadRegister(1, rounds);
    const top = code.fresh();
    code.label(top);
    for (let n = 3 + this.#random(6); n > 0; n--) this.piece(functions);
    code.decrement(1);
    code.jump(0x85, top);
    code.raw([0xf4]);
    for (const label of functions) {
      code.label(label);
      this.#straight(6);
      if (this.#random(2)) this.#branch();
      code.raw([0xc3]);
    }
    code.table(functions);
    if (bits !== 16 && faults) code.handlers();
    return code.link(LOAD);
  }
}

/** The image of a random program for LOAD. */
export function program(random: Random, traits: Traits): Uint8Array {
  return new Program(random, traits).whole();
}
