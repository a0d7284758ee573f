// String instructions against the operation sections of the manual, element by element: few and many elements, both directions,
// overlapping operands, runs over several pages that do and do not follow each other in physical memory, both tiers.
import { describe, expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";

const CODE = 0x1000;
const DIRECTORY = 0x2000;
const TABLE = 0x3000;
/** Linear window of the data, and where it lies in physical memory. */
const WINDOW = 0x40_0000;
const RAM = 0x1_0000;
const PAGES = 16;
const BYTES = PAGES * 0x1000;
/** Frames of the window's pages: some follow each other, some do not. */
const SCRAMBLED = [0, 1, 2, 3, 9, 8, 7, 10, 11, 12, 4, 5, 6, 15, 13, 14];

type Kind = "movs" | "cmps" | "stos" | "lods" | "scas";
const OPCODES: Record<Kind, number> = { movs: 0xa4, cmps: 0xa6, stos: 0xaa, lods: 0xac, scas: 0xae };
const KINDS = Object.keys(OPCODES) as Kind[];

interface Case {
  readonly kind: Kind;
  readonly size: number;
  /** 0: none. */
  readonly prefix: number;
  readonly down: boolean;
  readonly narrow: boolean;
  readonly rax: bigint;
  readonly rcx: number;
  /** Offsets in the window. */
  readonly rsi: number;
  readonly rdi: number;
  readonly memory: Uint8Array;
}

interface Result {
  rax: bigint;
  rcx: number;
  rsi: number;
  rdi: number;
  /** Status flags; undefined: as before. */
  flags: number | undefined;
  memory: Uint8Array;
}

const CF = 1;
const STATUS = 0x8d5;

/** @sdm 1 "EFLAGS Register": the status flags of a - b. */
function compareFlags(a: bigint, b: bigint, size: number): number {
  const bits = BigInt(size * 8);
  const r = BigInt.asUintN(size * 8, a - b);
  const sign = (v: bigint): bigint => (v >> (bits - 1n)) & 1n;
  let ones = 0;
  for (let i = 0n; i < 8n; i++) ones += Number((r >> i) & 1n);
  return (
    (a < b ? CF : 0) |
    (ones % 2 === 0 ? 4 : 0) |
    ((a & 15n) < (b & 15n) ? 0x10 : 0) |
    (r === 0n ? 0x40 : 0) |
    (sign(r) ? 0x80 : 0) |
    (sign(a) !== sign(b) && sign(r) !== sign(a) ? 0x800 : 0)
  );
}

/** @sdm 2A, 2B: "Operation" of each instruction and of REP. */
function model(c: Case): Result {
  const s: Result = { rax: c.rax, rcx: c.rcx, rsi: c.rsi, rdi: c.rdi, flags: undefined, memory: c.memory.slice() };
  const view = new DataView(s.memory.buffer);
  const read = (at: number): bigint => {
    let v = 0n;
    for (let i = c.size - 1; i >= 0; i--) v = (v << 8n) | BigInt(view.getUint8(at + i));
    return v;
  };
  const write = (at: number, value: bigint): void => {
    for (let i = 0; i < c.size; i++) view.setUint8(at + i, Number((value >> BigInt(8 * i)) & 0xffn));
  };
  const by = c.down ? -c.size : c.size;
  const mask = (1n << BigInt(8 * c.size)) - 1n;
  const once = (): void => {
    if (c.kind === "movs") write(s.rdi, read(s.rsi));
    else if (c.kind === "stos") write(s.rdi, c.rax & mask);
    else if (c.kind === "lods") s.rax = c.size === 4 ? read(s.rsi) : (s.rax & ~mask) | read(s.rsi);
    else s.flags = compareFlags(c.kind === "cmps" ? read(s.rsi) : c.rax & mask, read(s.rdi), c.size);
    if (c.kind === "movs" || c.kind === "cmps" || c.kind === "lods") s.rsi += by;
    if (c.kind !== "lods") s.rdi += by;
  };
  if (!c.prefix) once();
  else {
    while (s.rcx) {
      once();
      s.rcx--;
      if (s.flags !== undefined && ((s.flags & 0x40) !== 0) !== (c.prefix === 0xf3)) break;
    }
  }
  return s;
}

function random(seed: number): (n: number) => number {
  let x = seed;
  return (n) => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 2 ** 32) * n);
  };
}

const COUNTS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 66, 100, 255, 1000, 1025, 2000];

function makeCase(pick: (n: number) => number, sizes: readonly number[], narrow: boolean): Case {
  const kind = KINDS[pick(5)]!;
  const size = sizes[pick(sizes.length)]!;
  const compares = kind === "cmps" || kind === "scas";
  const prefix = [0, 0xf3, 0xf3, compares ? 0xf2 : 0xf3][pick(4)]!;
  const down = pick(4) === 0;
  const rcx = COUNTS[pick(COUNTS.length)]!;
  const length = (prefix ? Math.max(rcx, 1) : 1) * size;
  const place = (): number => {
    // near the end of a page every other time
    const free = BYTES - 0x40 - length;
    const at = pick(2) ? pick(free) : Math.min(pick(PAGES) * 0x1000 + 0xfe0 + pick(0x40), free);
    return at + (down ? length - size : 0);
  };
  const rsi = place();
  let rdi = place();
  if (pick(3) === 0) rdi = Math.min(Math.max(rsi + pick(40) - 20, down ? length : 0), BYTES - (down ? 0x40 : length));
  const memory = Uint8Array.from({ length: BYTES }, () => pick(256));
  let rax = BigInt(pick(2 ** 31)) * 0x1_0000_0003n;
  if (compares) {
    // equal (REPE) or different (REPNE) up to somewhere
    const stop = pick(2) ? length : pick(length);
    const low = (at: number): number => (down ? at - length + size : at);
    for (let i = 0; i < length; i++) {
      const other = kind === "cmps" ? memory[low(rsi) + i]! : Number((rax >> BigInt(8 * (i % size))) & 0xffn);
      const same = (prefix === 0xf2) === (i >= stop && i < stop + 2 * size);
      const element = i % size === 0 || pick(2) === 0;
      memory[low(rdi) + i] = same || (prefix === 0xf2 && !element) ? other : other ^ (1 << pick(8));
    }
  } else if (pick(2)) rax = 0n;
  return { kind, size, prefix, down, narrow, rax, rcx, rsi, rdi, memory };
}

function bytesOf(c: Case): number[] {
  const code: number[] = [];
  if (c.narrow) code.push(0x67);
  if (c.size === 2) code.push(0x66);
  if (c.prefix) code.push(c.prefix);
  if (c.size === 8) code.push(0x48);
  code.push(OPCODES[c.kind] + (c.size === 1 ? 0 : 1), 0xf4);
  return code;
}

/** One machine for all cases of a mode: data pages are scrambled with paging, else as they are. */
class Runner {
  readonly machine: Machine;
  readonly frames: readonly number[];
  readonly window: number;

  constructor(mode: "protected" | "paged" | "long", jit: boolean) {
    const long = mode === "long";
    this.machine = new Machine({ memory: 0x80_0000, extraMemory: 0, jit: jit ? { threshold: 1 } : false });
    loadImage(
      this.machine,
      parseFlat(Uint8Array.of(0xf4), { mode: long ? "long" : "protected", load: CODE, entry: CODE }),
    );
    this.frames = mode === "paged" ? SCRAMBLED : Array.from({ length: PAGES }, (_, i) => i);
    this.window = mode === "paged" ? WINDOW : RAM;
    if (mode === "paged") {
      const entry = (at: number, value: number): void =>
        this.machine.writeMemory(at, Uint8Array.of(...[0, 8, 16, 24].map((shift) => (value >>> shift) & 255)));
      entry(DIRECTORY, 0x83); // 4 MiB as they are
      entry(DIRECTORY + 4, TABLE | 3);
      for (let i = 0; i < PAGES; i++) entry(TABLE + 4 * i, (RAM + 0x1000 * this.frames[i]!) | 3);
      this.machine.registers.write({ cr4: 0x10n, cr3: BigInt(DIRECTORY), cr0: 0x8000_0011n });
    }
  }

  run(c: Case, long: boolean, maxWork: number | undefined): Result & { count: bigint } {
    const { machine } = this;
    machine.writeMemory(CODE, Uint8Array.from(bytesOf(c)));
    for (let i = 0; i < PAGES; i++) {
      machine.writeMemory(RAM + 0x1000 * this.frames[i]!, c.memory.subarray(0x1000 * i, 0x1000 * (i + 1)));
    }
    machine.registers.write({
      rip: BigInt(CODE),
      rax: c.rax & (long ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn),
      rcx: BigInt(c.rcx),
      rsi: BigInt(this.window + c.rsi),
      rdi: BigInt(this.window + c.rdi),
      rflags: BigInt(0x2 | CF | (c.down ? 0x400 : 0)),
    });
    const before = machine.instructionCount;
    let exit = machine.run(maxWork === undefined ? {} : { maxWork });
    for (let i = 0; exit.reason === "slice" && i < 10_000; i++) exit = machine.run({ maxWork: maxWork! });
    expect(exit.reason).toBe("halt");
    const { rax, rcx, rsi, rdi, rflags } = machine.registers;
    const memory = new Uint8Array(BYTES);
    for (let i = 0; i < PAGES; i++) memory.set(machine.readMemory(RAM + 0x1000 * this.frames[i]!, 0x1000), 0x1000 * i);
    return {
      rax,
      rcx: Number(rcx),
      rsi: Number(rsi) - this.window,
      rdi: Number(rdi) - this.window,
      flags: Number(rflags) & STATUS,
      memory,
      count: machine.instructionCount - before,
    };
  }
}

function check(runner: Runner, c: Case, long: boolean, maxWork?: number): void {
  const { memory, flags, ...expected } = model(long ? c : { ...c, rax: c.rax & 0xffff_ffffn });
  const actual = runner.run(c, long, maxWork);
  const { memory: now, flags: nowFlags, count, ...registers } = actual;
  const what = `${c.prefix.toString(16)} ${c.kind} ${c.size}${c.down ? " down" : ""}, ${c.rcx} from ${c.rsi} to ${c.rdi}`;
  expect({ what, ...registers }).toEqual({ what, ...expected });
  expect({ what, flags: nowFlags }).toEqual({ what, flags: flags ?? CF });
  expect(count).toBe(2n);
  const differs = now.findIndex((byte, i) => byte !== memory[i]);
  expect({ what, differs }).toEqual({ what, differs: -1 });
}

describe.each([false, true])("string instructions do what the manual's operation says, generated code: %s", (jit) => {
  it.each(["protected", "paged", "long"] as const)("%s mode", (mode) => {
    const long = mode === "long";
    const runner = new Runner(mode, jit);
    const pick = random(mode.length + 7);
    for (let i = 0; i < 150; i++) {
      const c = makeCase(pick, long ? [1, 2, 4, 8] : [1, 2, 4], long && pick(4) === 0);
      for (let again = 0; again < (jit ? 3 : 1); again++) check(runner, c, long);
      // in slices of one unit of work
      if (i % 8 === 0) check(runner, c, long, 1);
    }
  });
});

describe("string instructions with 16-bit addresses", () => {
  it("wrap at 64 KiB", () => {
    const machine = new Machine({ memory: 0x8_0000, extraMemory: 0, jit: false });
    // a16 rep movsd; hlt
    const code = Uint8Array.of(0x67, 0xf3, 0xa5, 0xf4);
    loadImage(machine, parseFlat(code, { mode: "protected", load: CODE, entry: CODE }));
    machine.writeMemory(
      0xfff0,
      Uint8Array.from({ length: 32 }, (_, i) => i),
    );
    machine.writeMemory(
      0,
      Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i),
    );
    machine.registers.write({ rcx: 0xabc_0008n, rsi: 0x123_fff0n, rdi: 0x567_8000n });
    expect(machine.run().reason).toBe("halt");
    const low = Array.from({ length: 16 }, (_, i) => i);
    expect([...machine.readMemory(0x8000, 32)]).toEqual([...low, ...low.map((i) => 0x80 + i)]);
    const { rcx, rsi, rdi } = machine.registers;
    expect({ rcx, rsi, rdi }).toEqual({ rcx: 0xabc_0000n, rsi: 0x123_0010n, rdi: 0x567_8020n });
  });
});
