// What the instructions that encode() of the native oracle leaves out need to complete: operands in memory, a stack, registers.
import type { OpcodeRow } from "../../scripts/opcodes.ts";
import { encode } from "../../scripts/oracle/encode.ts";
import { BASE, type Bits, DATA, DATA_SIZE } from "../../scripts/oracle/layout.ts";
import { Random } from "../../scripts/oracle/random.ts";
import { nameOf } from "../../scripts/oracle/rows.ts";
import { type State, stateOf } from "../../scripts/oracle/state.ts";
import type { Start } from "./guestBench.ts";
import { AT, little, type Mode, SEL, TARGET } from "./guestWorld.ts";

/** Between the two writable pages. */
export const EDGE = DATA + DATA_SIZE / 2;

/** Operands and the stack lie at the edge of two pages or well inside one. */
export function near(random: Random, bits: Bits): bigint {
  const offset = random.chance(60) ? EDGE - 8 + random.below(12) : EDGE - 0x200 + random.below(0x400);
  return BigInt(offset + (bits === 16 ? 0 : BASE));
}

/** Registers with pointers near the edge; flags without NT, AC and TF. */
export function startingState(random: Random, bits: Bits): State {
  const plain = stateOf(random.u32(), bits);
  const gpr = plain.gpr.slice();
  gpr[4] = near(random, bits);
  for (const pointer of [6, 7]) if (random.chance(90)) gpr[pointer] = near(random, bits);
  gpr[1] = BigInt(random.below(20));
  return { ...plain, gpr, rflags: plain.rflags & ~0x44100 };
}

interface Recipe {
  /** Bytes of the memory operand. */
  operand?: number[];
  /** Where they are in the window, if encode() does not say. */
  at?: number;
  /** Bytes at the stack pointer. */
  stack?: number[];
  gpr?: Readonly<Record<number, bigint>>;
  flags?: number;
  /** The whole instruction, where encode() has no form for it. */
  code?: number[];
  delivered?: number[];
}

interface Place extends Mode {
  readonly width: number;
  readonly random: Random;
}

const user = (p: Mode, kernel: number, other: number): number => (p.cpl === 3 ? other : kernel);
const freshCode = (p: Mode): number =>
  p.bits === 64
    ? user(p, SEL.freshCode64, SEL.freshCode64User)
    : p.bits === 16
      ? user(p, SEL.freshCode16, SEL.freshCode16User)
      : user(p, SEL.freshCode, SEL.freshCodeUser);
const freshData = (p: Mode): number => user(p, SEL.freshData, SEL.freshDataUser);
const target = (p: Mode): number => TARGET + (p.bits === 16 ? 0 : BASE);
const far = (p: Place): number[] => [
  ...little(p.bits === 32 && p.width === 16 ? TARGET : target(p), p.width / 8),
  ...little(p.bits === 32 && p.width === 16 ? user(p, SEL.freshCode16, SEL.freshCode16User) : freshCode(p), 2),
];
/** To CPL 0 by a call gate, through the TSS, from CPL 3. */
const byGate = (p: Place): number[] => [...little(0, p.width / 8), ...little(p.legacy ? SEL.gateLegacy : SEL.gate, 2)];
const farOrGate = (p: Place): number[] => (p.cpl === 3 && p.random.chance(40) ? byGate(p) : far(p));
const word = (value: number): number[] => [...little(value, 2), 0x5a, 0x5a, 0x5a, 0x5a];
const prefix = (p: Place): number[] => ((p.width === 16) === (p.bits === 16) ? [] : [0x66]);

/** SS:SP of a return to CPL 3. */
const outerStack = (p: Place): number[][] => [
  little(near(p.random, p.bits), p.width / 8),
  little(p.bits === 16 ? SEL.data16User : SEL.dataUser, p.width / 8),
];
/** Code selector of a return from CPL 0 to 3, in the same kind of code. */
const outerCode = (p: Mode): number =>
  p.bits === 64 ? SEL.freshCode64User : p.bits === 16 ? SEL.freshCode16User : SEL.freshCodeUser;

function frame(p: Place, flags: boolean, extra: number): number[] {
  const n = p.width / 8;
  const outer = p.cpl === 0 && p.random.chance(50);
  const code = outer ? outerCode(p) : freshCode(p);
  const stack = outer
    ? outerStack(p)
    : flags && p.bits === 64
      ? [little(near(p.random, p.bits), n), little(user(p, SEL.data, SEL.dataUser), n)]
      : [];
  const words = [little(target(p), n), little(code, n), ...(flags ? [little(2, n)] : [])];
  return [...words.flat(), ...Array.from({ length: extra }, () => 0x11), ...stack.flat()];
}

/** IRET to vm86 from 32-bit code: EIP CS EFLAGS ESP SS ES DS FS GS. */
const toVm86 = (): number[] => [TARGET, BASE >> 4, 0x20002, 0x100, 0, 0, 0, 0, 0].flatMap((v) => little(v, 4));

const limitAndBase = (limit: number, base: number): number[] => [...little(limit, 2), ...little(base, 8)];
const port = { 2: 0xc4n } as const;

/** An XSAVE area of x87 state on two pages, at [SI]; the header is on the second one. */
const area =
  (opcode: number, digit: number, compacted = false) =>
  (p: Place): Recipe => {
    const at = EDGE - (p.bits === 16 ? 64 : 512);
    const operand = [...little(0x27f, 2), ...Array<number>(510).fill(0x11), ...little(1, 8)];
    return {
      code: [0x0f, opcode, (p.bits === 16 ? 0x04 : 0x06) | (digit << 3)],
      gpr: { 0: 1n, 2: 0n, 6: BigInt(at + (p.bits === 16 ? 0 : BASE)) },
      at,
      operand: [...operand, ...little(compacted ? (1n << 63n) | 1n : 0n, 8), ...little(0, 48)],
    };
  };

/** By mnemonic; undefined where the instruction cannot complete in that place. */
export const recipes: Readonly<Record<string, (p: Place) => Recipe | undefined>> = {
  "pop ES": (p) => ({ stack: word(freshData(p)) }),
  "pop SS": (p) => ({ stack: word(freshData(p)) }),
  "pop DS": (p) => ({ stack: word(freshData(p)) }),
  "pop FS": (p) => ({ stack: word(freshData(p)) }),
  "pop GS": (p) => ({ stack: word(freshData(p)) }),
  "mov Sw,Ew": (p) => ({ operand: word(freshData(p)) }),
  les: (p) => ({ operand: [...little(0x1234, p.width / 8), ...little(freshData(p), 2)] }),
  lds: (p) => ({ operand: [...little(0x1234, p.width / 8), ...little(freshData(p), 2)] }),
  lss: (p) => ({ operand: [...little(0x1234, p.width / 8), ...little(freshData(p), 2)] }),
  lfs: (p) => ({ operand: [...little(0x1234, p.width / 8), ...little(freshData(p), 2)] }),
  lgs: (p) => ({ operand: [...little(0x1234, p.width / 8), ...little(freshData(p), 2)] }),
  "call far Ap": (p) => ({ code: [...prefix(p), 0x9a, ...farOrGate(p)] }),
  "jmp far Ap": (p) => ({ code: [...prefix(p), 0xea, ...far(p)] }),
  "call far Mp": (p) => ({ operand: farOrGate(p) }),
  "jmp far Mp": (p) => ({ operand: far(p) }),
  "ret far Iw": (p) => ({
    code: [...(p.width === 64 ? [0x48] : p.bits === 64 && p.width === 32 ? [] : prefix(p)), 0xca, 4, 0],
    stack: frame(p, false, 4),
  }),
  "ret far ": (p) => ({ stack: frame(p, false, 0) }),
  iret: (p) => {
    const vm86 = p.legacy && p.cpl === 0 && p.width === 32 && p.random.chance(50);
    return { stack: vm86 ? toVm86() : frame(p, true, 0) };
  },
  int3: () => ({ delivered: [3] }),
  int: () => ({ code: [0xcd, 0x40] }),
  int1: () => ({ delivered: [1] }),
  into: () => ({ flags: 0xa02, delivered: [4] }),
  in: () => ({ gpr: port }),
  out: () => ({ gpr: port }),
  ins: () => ({ gpr: port }),
  outs: () => ({ gpr: port }),
  sldt: () => ({}),
  str: () => ({}),
  smsw: () => ({}),
  sgdt: () => ({}),
  sidt: () => ({}),
  lldt: () => ({ operand: word(SEL.ldt) }),
  ltr: () => ({ operand: word(SEL.tss) }),
  verr: (p) => ({ operand: word(freshData(p)) }),
  verw: (p) => ({ operand: word(freshData(p)) }),
  lar: (p) => ({ operand: word(freshData(p)) }),
  lsl: (p) => ({ operand: word(freshData(p)) }),
  lgdt: () => ({ operand: limitAndBase(0xfff, AT.gdt) }),
  lidt: (p) => ({ operand: limitAndBase(0xfff, p.legacy ? AT.idtLegacy : AT.idt) }),
  lmsw: () => ({ operand: word(0x3b) }),
  monitor: (p) => ({ gpr: { 0: near(p.random, p.bits), 1: 0n } }),
  xsave: area(0xae, 4),
  xrstor: area(0xae, 5),
  xsaveopt: area(0xae, 6),
  xrstors: area(0xc7, 3, true),
  xsavec: area(0xc7, 4),
  xsaves: area(0xc7, 5),
  invpcid: () => ({ operand: little(0, 16), gpr: { 0: 1n, 2: 1n, 3: 1n, 5: 1n } }),
};

/** Key of a row in `recipes`. */
export function recipeOf(row: OpcodeRow): ((p: Place) => Recipe | undefined) | undefined {
  const name = nameOf(row);
  return recipes[`${name} ${row.operands}`] ?? recipes[name];
}

const physicalOf = (linear: number): number => AT.window + linear - BASE;
const inData = (offset: number, size: number): boolean => offset >= DATA && offset + size <= DATA + DATA_SIZE;

/** A case of a row, undefined where the row has none in this mode or the draw was of no use. */
export function systemCase(row: OpcodeRow, mode: Mode, seed: number): Start | undefined {
  const random = new Random(seed);
  const recipe = recipeOf(row);
  if (!recipe) return undefined;
  if (row.long !== undefined && row.long !== (mode.bits === 64)) return undefined;
  const state = startingState(random, mode.bits);
  const { gpr } = state;
  // registers that the recipe sets are set before the address is made from them
  const early = recipe({ ...mode, width: 32, random: new Random(seed) })?.gpr ?? {};
  for (const [r, value] of Object.entries(early)) gpr[Number(r)] = value;
  let aimed = -1;
  const aim = (r: Random): bigint => {
    const value = near(r, mode.bits);
    aimed = Number(value) - (mode.bits === 16 ? 0 : BASE);
    return value;
  };
  const instruction = encode(random, row, mode.bits, { ...state, aim }, 0);
  if (!instruction) return undefined;
  const made = recipe({ ...mode, width: instruction.width, random });
  if (!made) return undefined;
  const code = made.code ?? instruction.bytes;
  const patches = [];
  const sp = Number(gpr[4]!) - (mode.bits === 16 ? 0 : BASE);
  for (const [offset, bytes] of [
    [made.at ?? aimed, made.operand],
    [sp, made.stack],
  ] as const) {
    if (bytes && inData(offset, bytes.length))
      patches.push({ at: physicalOf(BASE + offset), bytes: Uint8Array.from(bytes) });
  }
  return {
    ...mode,
    gpr,
    rflags: made.flags ?? 0x202,
    fsBase: state.fsBase,
    gsBase: state.gsBase,
    code: Uint8Array.from(code),
    patches,
    ...(made.delivered ? { delivered: made.delivered } : {}),
  };
}
