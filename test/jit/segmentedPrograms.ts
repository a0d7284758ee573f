// Random programs in segments with bases and limits: 16- and 32-bit code, both sizes of operands, addresses and stack
// pointers, segment overrides and loads, far and near calls, interrupts, string operations, code and stack pointer that come
// round at 64K, faults. Each piece begins by saying where the next one is, and a fault goes on there.
import type { Random } from "./programs.ts";
import {
  assembled,
  COUNTER,
  chooseWorld,
  END,
  image,
  labelOf,
  NEXT,
  POINTERS,
  SERVICE,
  type SegmentedWorld,
  type World,
} from "./segmentedWorld.ts";

export interface SegmentedTraits {
  readonly kind: World;
  readonly paged?: boolean;
  /** The code lies on both sides of offset 64K. */
  readonly wraps?: boolean;
  /** Stores into the code of the loop. */
  readonly selfModifying?: boolean;
  readonly rounds: number;
}

const NAMES: Readonly<Record<number, readonly string[]>> = {
  1: ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"],
  2: ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"],
  4: ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"],
};
const SIZES: Readonly<Record<number, string>> = { 1: "byte", 2: "word", 4: "dword" };
const SUFFIX: Readonly<Record<number, string>> = { 1: "b", 2: "w", 4: "d" };
const CONDITIONS = ["o", "no", "c", "nc", "z", "nz", "na", "a", "s", "ns", "p", "np", "l", "nl", "ng", "g"];
const AX = 0;
const CX = 1;
const DX = 2;
const BX = 3;
const BP = 5;
const SI = 6;
const DI = 7;
const FAR_FUNCTIONS = 3;

class SegmentedProgram {
  readonly #random: Random;
  readonly #traits: SegmentedTraits;
  readonly #world: SegmentedWorld & { descriptors: number[] };
  readonly #lines: string[] = [];
  #labels = 0;
  /** In a counted loop: the counter stays. */
  #counted = false;
  /** The stack must be balanced and the segments stay, for a return. */
  #returns = false;
  /** Labels of 2-byte immediates. */
  readonly #patchable: string[] = [];

  constructor(random: Random, traits: SegmentedTraits) {
    this.#random = random;
    this.#traits = traits;
    const { kind, paged = false, wraps = false } = traits;
    this.#world = chooseWorld(random, { kind, paged, wraps });
  }

  get #bits(): 16 | 32 {
    return this.#traits.kind === "protected32" ? 32 : 16;
  }

  get #native(): 2 | 4 {
    return this.#bits === 32 ? 4 : 2;
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#random(list.length)]!;
  }

  #put(...lines: string[]): void {
    this.#lines.push(...lines);
  }

  #fresh(): string {
    return `l${this.#labels++}`;
  }

  #size(): 1 | 2 | 4 {
    return this.#one([1, 2, 2, 4, 4]);
  }

  #wordSize(): 2 | 4 {
    return this.#one([2, 4]);
  }

  /** A register that may change: seldom one that addresses. */
  #target(size: number): string {
    if (size === 1) return NAMES[1]![this.#one(this.#counted ? [0, 2, 4, 6] : [0, 1, 2, 4, 5, 6])]!;
    const free = [AX, DX, ...(this.#counted ? [AX, DX] : [CX, CX]), AX, DX, BP, this.#one([BX, SI, DI])];
    return NAMES[size]![this.#one(free)]!;
  }

  #source(size: number): string {
    return NAMES[size]![this.#random(8)]!;
  }

  #immediate(size: number): number {
    const mask = 2 ** (8 * size) - 1;
    const kinds = [0, 1, mask, 2 ** (8 * size - 1), this.#random(256), this.#random(0x10000)];
    return this.#one(kinds) % (mask + 1);
  }

  /** A number that offsets have: small, in the middle, next to 64K. */
  #offset(): number {
    return this.#one([
      this.#random(16),
      this.#random(0x2000),
      0x1000 + this.#random(0x1000),
      0xfff0 + this.#random(16),
    ]);
  }

  #displacement(): string {
    const kind = this.#random(6);
    if (kind < 2) return "";
    if (kind < 4) return `+${this.#random(64)}`;
    return kind === 4 ? `-${1 + this.#random(32)}` : `+${this.#offset()}`;
  }

  /** An operand in memory, with either size of addresses. */
  #memory(size: number, prefix = true): string {
    const segment = this.#random(3) === 0 ? `${this.#one(["es", "es", "fs", "ss", "ds", "cs"])}:` : "";
    const wide = this.#random(4) === 0 ? this.#bits === 16 : this.#bits === 32;
    let address: string;
    if (this.#random(12) === 0) address = `${wide ? "dword " : "word "}${this.#offset()}`;
    else if (wide) {
      const base = this.#one(["ebx", "esi", "edi", "ebp"]);
      const index = this.#random(4) ? "" : `+${this.#one(["ebx", "esi", "edi", "eax"])}*${this.#one([1, 2, 4, 8])}`;
      address = base + index + this.#displacement();
    } else {
      address = this.#one(["bx", "si", "di", "bp", "bx+si", "bx+di", "bp+si", "bp+di"]) + this.#displacement();
    }
    const text = address.startsWith("dword ")
      ? `[dword ${segment}${address.slice(6)}]`
      : address.startsWith("word ")
        ? `[word ${segment}${address.slice(5)}]`
        : `[${segment}${address}]`;
    return prefix ? `${SIZES[size]} ${text}` : text;
  }

  #place(size: number): string {
    return this.#random(2) ? this.#memory(size) : this.#target(size);
  }

  /** One instruction, or a few that belong together. */
  #instruction(): void {
    const random = this.#random;
    const size = this.#size();
    const word = this.#wordSize();
    switch (random(34)) {
      case 0:
      case 1:
      case 2: {
        const name = this.#one(["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"]);
        if (random(2)) this.#put(`${name} ${this.#target(size)}, ${this.#memory(size)}`);
        else this.#put(`${name} ${this.#place(size)}, ${this.#source(size)}`);
        break;
      }
      case 3:
      case 4:
        this.#put(`${this.#one(["add", "and", "sub", "cmp", "adc"])} ${this.#place(size)}, ${this.#immediate(size)}`);
        break;
      case 5:
      case 6:
        this.#put(`mov ${this.#target(size)}, ${this.#memory(size)}`);
        break;
      case 7:
      case 8:
        this.#put(`mov ${this.#memory(size)}, ${this.#source(size)}`);
        break;
      case 9:
        this.#put(`mov ${this.#place(size)}, ${this.#immediate(size)}`);
        break;
      case 10:
        this.#put(`${this.#one(["inc", "dec", "not", "neg"])} ${this.#place(size)}`);
        break;
      case 11: {
        const name = this.#one(["rol", "ror", "rcl", "rcr", "shl", "shr", "sar"]);
        this.#put(`${name} ${this.#place(size)}, ${this.#one(["1", "cl", String(random(40))])}`);
        break;
      }
      case 12:
        this.#put(`${this.#one(["mul", "imul"])} ${this.#place(size)}`);
        break;
      case 13:
        this.#put(`imul ${this.#target(word)}, ${this.#random(2) ? this.#memory(word) : this.#source(word)}`);
        break;
      case 14:
        this.#put(`${this.#one(["div", "idiv"])} ${this.#place(size)}`);
        break;
      case 15:
        this.#put(`${this.#one(["movzx", "movsx"])} ${this.#target(word)}, ${this.#memory(word === 4 ? 2 : 1)}`);
        break;
      case 16:
        this.#put(`set${this.#one(CONDITIONS)} ${this.#place(1)}`);
        break;
      case 17:
        this.#put(`cmov${this.#one(CONDITIONS)} ${this.#target(word)}, ${this.#memory(word)}`);
        break;
      case 18:
        this.#put(`lea ${this.#target(word)}, ${this.#memory(word, false)}`);
        break;
      case 19:
        this.#put(`${this.#one(["bt", "bts", "btr", "btc"])} ${this.#memory(word)}, ${this.#source(word)}`);
        break;
      case 20:
        this.#put(`${this.#one(["shld", "shrd"])} ${this.#place(word)}, ${this.#source(word)}, ${random(34)}`);
        break;
      case 21:
        this.#put(`${this.#one(["xadd", "cmpxchg"])} ${this.#memory(size)}, ${this.#target(size)}`);
        break;
      case 22:
        this.#put(`xchg ${this.#target(size)}, ${this.#memory(size)}`);
        break;
      case 23:
      case 24:
        this.#string();
        break;
      case 25:
      case 26:
        this.#stack(word);
        break;
      case 27:
        this.#put(`${this.#one(["daa", "das", "aaa", "aas", "aam 10", "aad 10", "salc", "xlatb", "es xlatb"])}`);
        break;
      case 28:
        this.#put(`${this.#one(["lahf", "sahf", "cbw", "cwde", "cwd", "cdq", "clc", "stc", "cmc", "cld", "nop"])}`);
        break;
      case 29:
        if (this.#returns) this.#put("cld");
        else this.#segmentLoad();
        break;
      case 30:
        this.#put(
          `mov ${this.#random(2) ? this.#target(word) : this.#memory(2)}, ${this.#one(["es", "cs", "ss", "ds"])}`,
        );
        break;
      case 31:
        this.#put(`mov ${this.#one(["bx", "si", "di", "bp"])}, ${this.#offset()}`);
        break;
      case 32:
        this.#put(`test ${this.#place(size)}, ${this.#source(size)}`);
        break;
      default:
        this.#patchableImmediate();
        break;
    }
  }

  #patchableImmediate(): void {
    const label = this.#fresh();
    // mov ax or eax, imm: the bytes before the next label
    const size = this.#wordSize();
    this.#put(`mov ${NAMES[size]![AX]}, ${0x1234}`, `${label}:`);
    this.#patchable.push(`${label} - ${size}`);
  }

  /** mov e?i, offset; (rep) string, with prefixes of all kinds. */
  #string(): void {
    const name = this.#one(["movs", "movs", "stos", "lods", "cmps", "scas"]);
    const repeat = this.#one(["", "rep ", this.#one(["repe ", "repne "])]);
    const segment = name === "stos" || name === "scas" ? "" : this.#one(["", "", "es ", "ss ", "fs ", "cs "]);
    const address = this.#random(4) === 0 ? (this.#bits === 16 ? "a32 " : "a16 ") : "";
    const counter = this.#native === 4 ? "ecx" : "cx";
    const compares = name === "cmps" || name === "scas";
    const lines = [`mov ${this.#native === 4 ? "esi" : "si"}, ${this.#offset()}`];
    lines.push(`mov ${this.#native === 4 ? "edi" : "di"}, ${this.#offset()}`);
    if (this.#random(8) === 0) lines.push("std");
    const whole = repeat && !compares ? "rep " : repeat;
    if (whole) lines.push(`push ${counter}`, `mov ecx, ${this.#random(4) ? this.#random(12) : this.#random(300)}`);
    lines.push(`${address}${whole}${segment}${name}${SUFFIX[this.#size()]}`);
    if (whole) lines.push(`pop ${counter}`);
    lines.push("cld");
    this.#put(...lines);
  }

  #stack(size: 2 | 4): void {
    const flags = size === 4 ? ["pushfd", "popfd"] : ["pushfw", "popfw"];
    const all = size === 4 ? ["pushad", "popad"] : ["pushaw", "popaw"];
    const name = SIZES[size]!;
    const to = this.#target(size);
    switch (this.#random(this.#returns ? 5 : 8)) {
      case 0:
        this.#put(`push ${this.#source(size)}`, `pop ${to}`);
        break;
      case 1:
        this.#put(`push ${name} ${this.#immediate(1)}`, `pop ${to}`);
        break;
      case 2:
        this.#put(`push ${this.#memory(size)}`, `pop ${to}`);
        break;
      case 3:
        this.#put(...flags);
        break;
      case 4:
        if (this.#counted) this.#put(`push ${this.#source(size)}`, `pop ${to}`);
        else this.#put(...all);
        break;
      case 5:
        this.#put(`push ${this.#source(size)}`, `pop ${this.#memory(size)}`);
        break;
      case 6:
        this.#put(`enter ${this.#random(32)}, ${this.#random(4) ? 0 : this.#random(4)}`);
        this.#instruction();
        this.#put("leave");
        break;
      default:
        this.#put(`${this.#one(["push", "push", "pop"])} ${this.#one(["ax", "dx", "eax", "edx"])}`);
        break;
    }
  }

  #segmentLoad(): void {
    const { data, alias } = this.#world;
    const register = this.#one(["ds", "es", "es", "fs"]);
    const { selector } = this.#random(8) === 0 ? alias : this.#one(this.#random(2) ? data : data.slice(0, 2));
    switch (this.#random(5)) {
      case 0:
        this.#put(`push ${SIZES[this.#wordSize()]} ${selector}`, `pop ${register}`);
        break;
      case 1:
        if (this.#random(2)) this.#put("push ds", "pop es");
        else this.#put("push es", "push fs", "pop es", "pop fs");
        break;
      case 2:
        this.#put(`l${register} ${NAMES[this.#wordSize()]![this.#one([SI, DI, AX])]}, ${this.#memory(2, false)}`);
        break;
      default:
        this.#put(`mov ax, ${selector}`, `mov ${register}, ax`);
        break;
    }
  }

  #straight(most: number): void {
    for (let n = 1 + this.#random(most); n > 0; n--) this.#instruction();
  }

  #innerLoop(): void {
    const counter = NAMES[this.#one([2, 4, this.#native])]![CX]!;
    const top = this.#fresh();
    const before = this.#counted;
    this.#put(`mov ecx, ${1 + this.#random(14)}`, `${top}:`);
    this.#counted = true;
    this.#straight(5);
    if (this.#random(3) === 0) this.#branch();
    this.#counted = before;
    const over = this.#fresh();
    // the body may be too long for LOOP
    if (this.#random(2)) this.#put(`dec ${counter}`, `jnz near ${top}`);
    else
      this.#put(
        `${counter === "ecx" ? "a32" : "a16"} loop ${over}_`,
        `jmp ${over}`,
        `${over}_: jmp ${top}`,
        `${over}:`,
      );
  }

  #branch(): void {
    const over = this.#fresh();
    const wide = this.#random(4) === 0 ? (this.#bits === 16 ? "dword " : "") : "";
    this.#put(`j${this.#one(CONDITIONS)} near ${wide}${over}`.replace("near dword", "dword"));
    this.#straight(4);
    this.#put(`${over}:`);
  }

  #store(): void {
    if (this.#patchable.length === 0) return;
    const label = this.#one(this.#patchable);
    const real = this.#traits.kind === "real" || this.#traits.kind === "vm86";
    const segment = real ? "cs" : "es";
    if (!real) this.#put(`mov dx, ${this.#world.alias.selector}`, "mov es, dx");
    this.#put(`mov byte [${segment}:((${label}) & 0xffff) + ${this.#random(2)}], al`);
    if (!real) this.#put(`mov dx, ${this.#world.data[1]!.selector}`, "mov es, dx");
  }

  #call(functions: readonly string[]): void {
    const { far } = this.#world;
    const name = this.#one(functions);
    const native = NAMES[this.#native]!;
    const offset = 16 * this.#random(FAR_FUNCTIONS);
    switch (this.#random(8)) {
      case 0:
      case 1:
        this.#put(`call ${name}`);
        break;
      case 2:
        this.#put(`mov ${native[AX]}, ${name} & 0xffff`, `call ${native[AX]}`);
        break;
      case 3:
        this.#put(
          `mov ${native[SI]}, ${2 * this.#native}`,
          `call [cs:${native[SI]} + (table & 0xffff) - ${this.#native}]`,
        );
        break;
      case 4:
        this.#put(`call ${far.selector}:${offset}`);
        break;
      case 5:
        this.#put(`call far [gs:${POINTERS + 8 * this.#random(FAR_FUNCTIONS)}]`);
        break;
      case 6:
        this.#put("push cs", `call ${name}_far`);
        break;
      default:
        this.#put(`int ${SERVICE}`);
        break;
    }
  }

  /** The stack pointer's first value: with room on both sides, or next to where it comes round. */
  #stackPointer(): number {
    // 32 bits wide it does not come round: a push below 0 would fail again as the fault is delivered
    const low = this.#world.stackBits === 32 ? [0x40, 0x1000, 0x10000] : [0, 2, 4, 8];
    return this.#one([0x2000, 0x8000, 0x100, 0xfffe, 0xfffc, 0x7001, ...low]);
  }

  #piece(functions: readonly string[]): void {
    const next = this.#fresh();
    const native = NAMES[this.#native]!;
    const to = this.#traits.kind === "real" ? "word" : "dword";
    this.#put(`mov ${to} [gs:${NEXT}], ${next} & 0xffff`);
    if (this.#random(3) === 0) {
      const value = this.#stackPointer();
      this.#put(`mov ${this.#world.stackBits === 32 ? "esp" : "sp"}, ${value}`);
    }
    for (const register of [BX, SI, DI, BP]) {
      if (this.#random(2)) this.#put(`mov ${native[register]}, ${this.#offset()}`);
    }
    switch (this.#random(this.#traits.selfModifying ? 8 : 7)) {
      case 0:
      case 1:
        this.#innerLoop();
        break;
      case 2:
        this.#branch();
        break;
      case 3:
      case 4:
        this.#call(functions);
        break;
      case 7:
        this.#store();
        break;
      default:
        this.#straight(6);
        break;
    }
    this.#put(`${next}:`);
  }

  #function(name: string, end: string): void {
    this.#put(`${name}:`);
    this.#returns = true;
    this.#straight(5);
    if (this.#random(2)) this.#branch();
    this.#put(end);
    this.#returns = false;
  }

  /** Functions for far calls, at offsets 0, 16 and 32: jumps to what they do. */
  #farSegment(): Uint8Array {
    const { length } = this.#lines;
    const names = Array.from({ length: FAR_FUNCTIONS }, () => this.#fresh());
    this.#put(`bits ${this.#bits}`, "org 0");
    for (const name of names) this.#put(`jmp near ${name}`, `times ${15 - this.#native} nop`);
    for (const name of names) this.#function(name, this.#one(["retf", "retf", "nop\nretf"]));
    const source = this.#lines.splice(length).join("\n");
    return assembled(source);
  }

  whole(): Uint8Array {
    const { kind, wraps = false, rounds } = this.#traits;
    const far = this.#farSegment();
    this.#patchable.length = 0; // those of the other segment
    const functions = Array.from({ length: 2 + this.#random(2) }, () => this.#fresh());
    const origin = wraps ? 0xff00 - this.#random(0x300) : 0x100 + this.#random(0x1000);
    this.#put(`bits ${this.#bits}`, `org ${origin}`, "first:");
    for (let n = 4 + this.#random(6); n > 0; n--) this.#piece(functions);
    const done = this.#fresh();
    this.#put(`dec word [gs:${COUNTER}]`, `jz near ${done}`, "jmp near first", `${done}:`);
    this.#put(kind === "vm86" ? `int ${END}` : "hlt");
    for (const name of functions) {
      this.#function(name, "ret");
      this.#function(`${name}_far`, "retf");
    }
    this.#function("service", this.#world.wideGates ? "iretd" : "iretw");
    this.#put("table:");
    for (const name of functions) this.#put(`${this.#native === 4 ? "dd" : "dw"} ${name} & 0xffff`);
    const source = this.#lines.join("\n");
    return image(this.#world, {
      code: assembled(source),
      origin,
      far,
      first: origin,
      service: (origin + labelOf(source, "service")) & 0xffff,
      pointers: Array.from({ length: FAR_FUNCTIONS }, (_, i) => 16 * i),
      rounds,
      sp: 0x8000,
    });
  }
}

/** The image of a random program, from address 0 on. */
export function segmentedProgram(random: Random, traits: SegmentedTraits): Uint8Array {
  return new SegmentedProgram(random, traits).whole();
}
