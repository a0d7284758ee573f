// Operands as Intel syntax writes them; the letters are those of scripts/opcodes.ts.
import type { Fields } from "./fields.ts";

const WORDS = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const BYTES = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"];
const SIZE_NAMES: Record<number, string> = {
  1: "byte ptr ",
  2: "word ptr ",
  4: "dword ptr ",
  6: "fword ptr ",
  8: "qword ptr ",
  10: "tbyte ptr ",
  16: "xmmword ptr ",
};

/** Name of a general register of 1, 2, 4 or 8 bytes. */
function register(n: number, bytes: number, rex: boolean): string {
  if (bytes === 1) {
    if (n < 4 || (n < 8 && !rex)) return BYTES[n]!;
    return n < 8 ? `${WORDS[n]}l` : `r${n}b`;
  }
  if (n >= 8) return `r${n}${bytes === 2 ? "w" : bytes === 4 ? "d" : ""}`;
  return `${bytes === 4 ? "e" : bytes === 8 ? "r" : ""}${WORDS[n]}`;
}

/** An immediate or address of `bytes` bytes, unsigned. */
function hex(value: bigint, bytes: number): string {
  return `0x${BigInt.asUintN(bytes * 8, value).toString(16)}`;
}

export class OperandWriter {
  readonly #f: Fields;
  /** Operand size in bytes. */
  readonly size: number;
  readonly #address: bigint;
  /** Target of a branch. */
  target: bigint | undefined;

  constructor(fields: Fields, size: number, address: bigint) {
    this.#f = fields;
    this.size = size;
    this.#address = address;
  }

  #bytes(letter: string): number {
    const { size } = this;
    const fixed: Record<string, number> = {
      b: 1,
      w: 2,
      d: 4,
      q: 8,
      o: 16,
      v: size,
      y: size === 8 ? 8 : 4,
      u: size === 8 ? 8 : 4,
      z: size === 2 ? 2 : 4,
      n: size,
    };
    return fixed[letter] ?? 0;
  }

  #register(n: number, bytes: number): string {
    return register(n, bytes, this.#f.rex !== 0 || this.#f.vex);
  }

  /** Address in brackets, with the segment when it is not the default one. */
  #bracket(base: string, index: string, scale: number, displacement: bigint, stack: boolean): string {
    const f = this.#f;
    const bits = f.addressBits;
    let text = base;
    if (index) text += `${text ? "+" : ""}${index}${scale || !text ? `*${1 << scale}` : ""}`;
    if (!text) text = hex(displacement, bits / 8);
    else if (displacement < 0n) text += `-0x${(-displacement).toString(16)}`;
    else if (displacement > 0n) text += `+0x${displacement.toString(16)}`;
    const usual = stack ? 2 : 3;
    // 64-bit mode ignores overrides of flat segments
    const segment = f.segment >= 0 && f.segment !== usual ? `${SEGMENTS[f.segment]}:` : "";
    return `${segment}[${text}]`;
  }

  #memory(bytes: number, segmented = true): string {
    const f = this.#f;
    const m = f.memory!;
    const width = f.addressBits / 8;
    const name = (n: number): string => (n < 0 ? "" : this.#register(n, width));
    const prefix = SIZE_NAMES[bytes] ?? "";
    const relative = m.base === 16;
    const displacement = relative ? this.#address + BigInt(f.at) + m.displacement : m.displacement;
    const stack = m.base === 4 || m.base === 5;
    const text = this.#bracket(relative ? "" : name(m.base), name(m.index), m.scale, displacement, stack);
    return `${prefix}${segmented ? text : text.replace(/^..:/, "")}`;
  }

  #string(letter: string, source: boolean): string {
    const f = this.#f;
    const name = this.#register(source ? 6 : 7, f.addressBits / 8);
    const bytes = SIZE_NAMES[this.#bytes(letter)]!;
    if (source) return `${bytes}${this.#bracket(name, "", 0, 0n, false)}`;
    return `${bytes}[${name}]`;
  }

  #branch(displacement: bigint): string {
    const bits = this.size * 8;
    const width = this.#f.mode === 64 ? 64 : bits;
    this.target = BigInt.asUintN(width, this.#address + BigInt(this.#f.at) + displacement);
    return `0x${this.target.toString(16)}`;
  }

  /** Reads what the operand needs and writes it. Memory comes first in the bytes: readModrm() has been called. */
  write(token: string): string {
    const f = this.#f;
    const kind = token[0]!;
    const letter = token.slice(1);
    switch (token) {
      case "RvMw":
        return f.memory ? this.#memory(2) : this.#register(f.rm, this.size);
      case "AL":
        return "al";
      case "rAX":
      case "eAX":
        return this.#register(0, this.size);
      case "DX":
        return "dx";
      case "CL":
        return "cl";
      case "1":
        return "0x1";
      case "ES":
      case "CS":
      case "SS":
      case "DS":
      case "FS":
      case "GS":
        return token.toLowerCase();
      case "M":
        return this.#memory(0);
      case "Ml":
        return this.#memory(0, false);
      case "Ma":
        return this.#memory(2 * this.size);
      case "Mp":
        return this.#memory(this.size + 2);
      case "Ms":
        return this.#memory(6);
      case "Mx":
        return this.#memory(this.size === 8 ? 16 : 8);
      case "E":
        return f.memory ? this.#memory(0) : this.#register(f.rm, 4);
      case "XL":
        return `byte ptr ${this.#bracket(this.#register(3, f.addressBits / 8), "", 0, 0n, false)}`;
      case "Sw":
        return SEGMENTS[f.reg & 7] ?? "?";
      case "Cn":
        return `cr${f.reg}`;
      case "Dn":
        return `dr${f.reg}`;
      case "Rn":
        return this.#register(f.rm, this.size);
      case "Ib":
        return hex(f.signed(1), 1);
      case "Ibs":
        return hex(f.signed(1), this.size);
      case "Iw":
        return hex(f.signed(2), 2);
      case "Iz":
        return hex(f.signed(this.size === 2 ? 2 : 4), this.size);
      case "Iv":
        return hex(f.signed(this.size), this.size);
      case "Jb":
        return this.#branch(f.signed(1));
      case "Jz":
        return this.#branch(f.signed(this.size === 2 ? 2 : 4));
      case "Ap": {
        const offset = hex(f.signed(this.size), this.size);
        return `${hex(f.signed(2), 2)}:${offset}`;
      }
      case "Ob":
      case "Ov": {
        const offset = f.signed(f.addressBits / 8);
        return `${SIZE_NAMES[this.#bytes(letter)]}${this.#bracket("", "", 0, offset, false)}`;
      }
    }
    switch (kind) {
      case "E":
      case "M":
        return f.memory ? this.#memory(this.#bytes(letter)) : this.#register(f.rm, this.#bytes(letter));
      case "R":
        return this.#register(f.rm, this.#bytes(letter));
      case "G":
        return this.#register(f.reg, this.#bytes(letter));
      case "B":
        return this.#register(f.vvvv, this.#bytes(letter));
      case "Z":
        return this.#register((f.opcode & 7) | ((f.rex & 1) << 3), this.#bytes(letter));
      case "X":
        return this.#string(letter, true);
      case "Y":
        return this.#string(letter, false);
    }
    throw new Error(`opcode table: unknown operand ${token}`);
  }
}
