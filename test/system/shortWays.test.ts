// Gates, returns and far transfers have a short way when everything they touch is cached by the TLB. Each case runs twice on
// one processor: at first nothing is cached, then everything is. The long way is what the other tests of this folder prove.
import { describe, expect, it } from "vitest";
import { generator } from "../jit/lockstep.ts";
import {
  CODE,
  DATA,
  descriptor,
  GDT,
  GDT_LIMIT,
  gate,
  HANDLERS,
  IST1,
  SEL,
  STACK0,
  STACK3,
  TABLES,
  TSS,
  World,
} from "./world.ts";

const CASES = Number(process.env.RANDOM_PROGRAMS ?? 8) * 100;
/** What a case may change: tables, stacks, and the first page. */
const RANGES = [
  [0, 0x1000],
  [GDT, 0x5000],
  ...[STACK0, STACK3, IST1, 0x90000].map((stack) => [stack - 0x1000, 0x3000] as const),
] as const;
const INNER = 0x90000;
const RETURN = HANDLERS + 0x300;

type Random = (below: number) => number;

/** One of a list; the first is the usual one and comes half of the time. */
function one<T>(random: Random, list: readonly T[]): T {
  return list[random(2) ? 0 : random(list.length)]!;
}

class Case {
  readonly world: World;
  readonly #random: Random;
  readonly #long: boolean;
  readonly #level: 0 | 3;

  constructor(random: Random, kind: "protected" | "long") {
    this.#random = random;
    this.#long = kind === "long";
    this.#level = random(2) ? 3 : 0;
    this.world = new World(kind, this.#level);
    // accessed and dirty already: what is cached does not set these bits again
    if (this.#long) {
      this.world.write64(TABLES, BigInt(TABLES + 0x1000) | 0x27n);
      this.world.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 0x27n);
      for (let i = 0n; i < 2n; i++) this.world.write64(TABLES + 0x2000 + Number(i) * 8, (i << 21n) | 0xe7n);
    }
    this.#segments();
    this.#state();
    this.world.write(CODE, ...this.#instruction());
  }

  #one<T>(list: readonly T[]): T {
    return one(this.#random, list);
  }

  /** Code and data descriptors of both levels, most of them as they are usually. */
  #segments(): void {
    const { world } = this;
    const flags = this.#long ? [0xa, 0xa, 0xc, 0xe, 0x2] : [0xc, 0xc, 0x4, 0x8, 0xe];
    const limits = [0xfffff, 0xfffff, 0x20, HANDLERS - 1, 0];
    const bases = [0, 0, 0, 0x100, 0xfff00000];
    for (const [access, selectors] of [
      [0x9b, [SEL.code32, SEL.code64]],
      [0xfb, [SEL.code32User, SEL.code64User]],
    ] as const) {
      const codes = [access, access, access, access ^ 1, access ^ 2, access ^ 4, access ^ 0x60, access ^ 0x80];
      for (const selector of selectors) {
        world.setDescriptor(
          selector,
          descriptor(this.#one(codes), this.#one(flags), this.#one(bases), this.#one(limits)),
        );
      }
    }
    for (const [access, selector] of [
      [0x93, SEL.data],
      [0xf3, SEL.dataUser],
    ] as const) {
      const data = [
        access,
        access,
        access,
        access ^ 1,
        access ^ 2,
        access ^ 4,
        access ^ 8,
        access ^ 0x60,
        access ^ 0x80,
      ];
      const limit = this.#one([0xfffff, 0xfffff, 0x7fff, 0x90]);
      world.setDescriptor(
        selector,
        descriptor(this.#one(data), this.#one([0xc, 0xc, 0x4, 0x8]), this.#one(bases), limit),
      );
    }
    const stack = this.#one([INNER, INNER, INNER + 0xff8, INNER + 0x14, INNER + 0xc, 0x10, 0]);
    world.write32(TSS + 4, stack);
    if (this.#long) {
      world.write32(TSS + 8, this.#one([0, 0, 0, 0x8000]));
      world.write32(TSS + 36, IST1 + this.#random(32));
    } else world.write32(TSS + 8, this.#one([SEL.data, SEL.data, SEL.data, SEL.data | 1, SEL.dataUser, 0, 0x7f8]));
    for (const vector of [0x20, 6, 13]) {
      const handler = this.#long ? SEL.code64 : SEL.code32;
      const user = this.#long ? SEL.code64User : SEL.code32User;
      const selector = this.#one([handler, handler, handler | 3, user, SEL.conforming, SEL.data, 0, 4]);
      const type = this.#one([14, 15, 14, 6, 12, 5]);
      const ist = this.#long ? this.#one([0, 0, 1, 2]) : 0;
      const low = gate(type, selector, HANDLERS + vector * 16, this.#one([3, 3, 0]), ist);
      const high = this.#one([0n, 0n, 0n, 0x8000n]);
      world.setGate(vector, this.#random(16) ? low : low & ~(0x80n << 40n), high);
    }
  }

  #state(): void {
    const { registers } = this.world.machine;
    const stack = this.#level ? STACK3 : STACK0;
    const places = [stack, stack, stack + 8, stack + 0xffc, stack + 4, 0x10, 4, 0];
    const flags = [2, 0x202, 0x4002, 0x40002, 0x10002, 0x3202, 0xcd7];
    registers.write({
      rsp: BigInt(this.#one(places)),
      rflags: this.#one(flags),
      cr0: registers.read().cr0 | BigInt(this.#one([0, 0x40000])),
      gdtr: { base: registers.read().gdtr.base, limit: this.#one([GDT_LIMIT, GDT_LIMIT, 0x3f, 0x1f, 0x0c]) },
      idtr: {
        base: registers.read().idtr.base,
        limit: this.#one([64 * 16 - 1, 64 * 16 - 1, 0x20 * 8 + 7, 0x20 * 8 + 6, 0x20 * 16 + 7]),
      },
      tr: {
        ...registers.read().tr,
        limit: this.#one([0x67, 0x67, 10, 8, 5]),
        attributes: this.#one([0x8b, 0x8b, 0x83]),
      },
    });
    const data = [SEL.data, SEL.dataUser | 3, 0, 3].map((selector) => ({
      selector,
      base: 0n,
      limit: 0xffffffff,
      attributes: selector > 3 ? (selector & 3 ? 0xc0f3 : 0xc093) : 0x10000,
    }));
    registers.write({ ds: this.#one(data), es: this.#one(data), fs: this.#one(data), gs: this.#one(data) });
  }

  /** Some words on the stack for a return, RIP first. */
  #frame(size: number, flags: boolean): void {
    const { world } = this;
    const user = this.#random(2) || this.#level ? 3 : 0;
    const code = this.#long ? [SEL.code64, SEL.code64User] : [SEL.code32, SEL.code32User];
    const selectors = [
      user ? code[1]! | 3 : code[0]!,
      user ? code[1]! | 3 : code[0]!,
      code[1]!,
      SEL.data,
      0,
      3,
      SEL.code16,
    ];
    const stacks = user
      ? [SEL.dataUser | 3, SEL.dataUser | 3, SEL.dataUser, SEL.data, 3, 0]
      : [SEL.data, 0, SEL.dataUser];
    const words = [
      this.#one([RETURN, RETURN, RETURN, 0x21, 0xfffffff0]),
      this.#one(selectors),
      ...(flags ? [this.#one([2, 0x202, 0x10202, 0x40202, 0x4002, 0x102, 0x20002, 0x3cd7, 0x200002, 0x180002])] : []),
      this.#one([STACK3 - 0x100, STACK3 - 0x100, 0, 0xffffffff, 0x12345678]),
      this.#one(stacks),
    ];
    let at = Number(world.machine.registers.rsp);
    for (const word of words) {
      if (size === 8) world.write64(at, BigInt(word) | (this.#random(12) ? 0n : 0x8000n << 48n));
      else if (size === 4) world.write32(at, word);
      else world.write(at, word & 0xff, (word >> 8) & 0xff);
      at += size;
    }
  }

  /** Bytes of an instruction that takes one of these ways. */
  #instruction(): number[] {
    const size = this.#one(this.#long ? [8, 8, 4, 2] : [4, 4, 2]);
    const prefix = size === 8 ? [0x48] : size === 2 ? [0x66] : [];
    const kind = this.#random(9);
    if (kind < 2) return [0xcd, 0x20]; // INT
    if (kind === 2) return [0x0f, 0x0b]; // UD2
    if (kind === 3) return [0x8e, 0xd8]; // MOV DS, AX: #GP
    if (kind < 6) {
      this.#frame(size, true);
      return [...prefix, 0xcf]; // IRET
    }
    if (kind === 6) {
      this.#frame(size, false);
      return this.#random(2) ? [...prefix, 0xcb] : [...prefix, 0xca, 0x08, 0]; // RETF
    }
    const code = this.#long ? SEL.code64 : SEL.code32;
    const user = this.#long ? SEL.code64User : SEL.code32User;
    const selector = this.#one([this.#level ? user : code, this.#level ? user | 3 : code, code | 3, user, SEL.data, 0]);
    this.world.write64(DATA, BigInt(this.#one([RETURN, RETURN, 0x21])));
    this.world.write(DATA + size, selector & 0xff, selector >> 8);
    this.world.machine.registers.write({ rbx: DATA, rax: 0x7f8 });
    return [...prefix, 0xff, this.#random(2) ? 0x2b : 0x1b]; // JMP or CALL m16:n
  }
}

describe.each(["protected", "long"] as const)("short ways in %s mode", (kind) => {
  it("do what the long ways do", () => {
    const random = generator(kind === "long" ? 77 : 78);
    let arrivals = 0;
    for (let i = 0; i < CASES; i++) {
      const { world } = new Case(random, kind);
      const { machine } = world;
      machine.registers.rax = 0x7f8n;
      const registers = machine.registers.read();
      const contents = () => RANGES.map(([first, bytes]) => Buffer.from(machine.readMemory(first, bytes)));
      const memory = contents();
      const run = () => {
        const count = machine.instructionCount;
        const exit = machine.run({ maxInstructions: 1 });
        return {
          exit,
          registers: machine.registers.read(),
          memory: Buffer.concat(contents()),
          count: machine.instructionCount - count,
        };
      };
      const long = run();
      if (long.exit.reason === "shutdown") continue; // which does not end by itself
      for (const [n, [first]] of RANGES.entries()) machine.writeMemory(first, memory[n]!);
      machine.registers.write(registers);
      const short = run();
      const at = `case ${i}`;
      expect(short.exit, at).toEqual(long.exit);
      expect(short.registers, at).toEqual(long.registers);
      expect(short.count, at).toBe(long.count);
      expect(short.memory.equals(long.memory), `${at}: memory`).toBe(true);
      if (long.registers.rip === BigInt(RETURN) || long.registers.rip === BigInt(HANDLERS + 0x200)) arrivals++;
    }
    // neither all nor none get where they want to
    expect(arrivals).toBeGreaterThan(CASES / 8);
    expect(arrivals).toBeLessThan(CASES);
  });
});
