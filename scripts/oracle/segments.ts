// Instructions on segment registers and far transfers, for cases: each brings its selector or far pointer along in a
// register or on the stack. They run at CPL 3, so no gate or TSS takes part.
import { BASE, type Bits, CODE, CODE_AT, CODE_SIZE, DATA, DATA_SIZE, MAX_CODE, SELECTOR } from "./layout.ts";
import type { Random } from "./random.ts";

/** Data, code, absent and read-only segments, those of the kernel, null ones, and ones past the end of the tables. */
const SELECTORS = [
  ...Object.values(SELECTOR),
  ...[0, 1, 3, 0x08, 0x10, 0x18, 0x20, 0x28, 0x2a, 0x0c, 0x5f, 0x83, 0xfff8, 0xffff],
];
const CODE_SELECTORS = [
  ...[SELECTOR.code32, SELECTOR.code64, SELECTOR.code16, SELECTOR.executeOnly],
  ...[SELECTOR.code32, SELECTOR.code64, SELECTOR.code16, SELECTOR.absentCode],
];

const WIDE = 0x66;
const REX_W = 0x48;
const [AX, SP] = [0, 4];

const little = (value: bigint | number, size: number): number[] =>
  Array.from({ length: size }, (_, i) => Number((BigInt.asUintN(64, BigInt(value)) >> BigInt(8 * i)) & 0xffn));

/** Bytes of `mov rax, value` or a shorter form. */
function movAx(bits: Bits, value: bigint): number[] {
  if (bits === 64) return [REX_W, 0xb8, ...little(value, 8)];
  return [0xb8, ...little(value, bits / 8)];
}

/** Pushes a value as wide as the mode's stack slots. */
const push = (bits: Bits, value: bigint): number[] => [...movAx(bits, value), 0x50 + AX];

/** modrm and SIB of [rSP], with the prefix that it takes in 16-bit code. */
function onStack(bits: Bits, reg: number): { readonly prefix: number[]; readonly modrm: number[] } {
  return { prefix: bits === 16 ? [0x67] : [], modrm: [(reg << 3) | SP, 0x24] };
}

interface Size {
  readonly prefix: number[];
  readonly bytes: 2 | 4 | 8;
}

/** An operand size; 64 bits by REX.W. */
function size(random: Random, bits: Bits): Size {
  if (bits === 64 && random.chance(40)) return { prefix: [REX_W], bytes: 8 };
  const swap = random.chance(30);
  return { prefix: swap ? [WIDE] : [], bytes: (bits === 16) === swap ? 4 : 2 };
}

/** An offset for a code segment: mostly in the code pages, before or after the case. */
function landing(random: Random, selector: number): bigint {
  if (random.chance(5)) return random.u64();
  const offset = random.chance(50) ? random.below(CODE_AT - 64) : CODE_AT + MAX_CODE + 16 + random.below(CODE_SIZE / 2);
  return BigInt(CODE + offset + ((selector & ~3) === (SELECTOR.code16 & ~3) ? 0 : BASE));
}

/** Values in memory one after the other from [rSP] up, each of `bytes` bytes. */
function layOnStack(bits: Bits, values: readonly bigint[], bytes: number): number[] {
  const slot = bits / 8;
  let whole = 0n;
  for (const [i, value] of values.entries()) whole |= BigInt.asUintN(bytes * 8, value) << BigInt(8 * bytes * i);
  const slots = Math.ceil((values.length * bytes) / slot);
  const out: number[] = [];
  for (let i = slots - 1; i >= 0; i--) out.push(...push(bits, BigInt.asUintN(slot * 8, whole >> BigInt(8 * slot * i))));
  return out;
}

type Maker = (random: Random, bits: Bits) => number[];
const selector = (random: Random): number => random.pick(SELECTORS);
/** Mostly a segment register that can be loaded: ES SS DS FS GS. */
const segmentRegister = (random: Random): number => (random.chance(5) ? random.below(8) : random.pick([0, 2, 3, 4, 5]));

const movFromRegister: Maker = (random, bits) => [
  ...movAx(bits, BigInt(selector(random))),
  ...size(random, bits).prefix,
  0x8e,
  0xc0 | (segmentRegister(random) << 3),
];

const movFromMemory: Maker = (random, bits) => {
  const { prefix, modrm } = onStack(bits, segmentRegister(random));
  return [...push(bits, BigInt(selector(random))), ...prefix, 0x8e, ...modrm];
};

const pop: Maker = (random, bits) => {
  const code = random.pick(
    bits === 64
      ? [
          [0x0f, 0xa1],
          [0x0f, 0xa9],
        ]
      : [[0x07], [0x17], [0x1f], [0x0f, 0xa1], [0x0f, 0xa9]],
  );
  return [...push(bits, BigInt(selector(random))), ...(random.chance(20) ? [WIDE] : []), ...code];
};

/** LAR, LSL, VERR, VERW. */
const ask: Maker = (random, bits) => {
  const memory = random.chance(40);
  const code = random.pick([
    [0x0f, 0x02, 1],
    [0x0f, 0x03, 1],
    [0x0f, 0x00, 4],
    [0x0f, 0x00, 5],
  ]);
  const { prefix, modrm } = onStack(bits, code[2]!);
  const before = memory ? push(bits, BigInt(selector(random))) : movAx(bits, BigInt(selector(random)));
  const head = [...(memory ? prefix : []), ...size(random, bits).prefix, code[0]!, code[1]!];
  return [...before, ...head, ...(memory ? modrm : [0xc0 | (code[2]! << 3)])];
};

/** LES, LDS (but in 64-bit mode), LSS, LFS, LGS. */
const loadFar: Maker = (random, bits) => {
  const code = random.pick([[0x0f, 0xb2], [0x0f, 0xb4], [0x0f, 0xb5], ...(bits === 64 ? [] : [[0xc4], [0xc5]])]);
  const { prefix, bytes } = size(random, bits);
  const { prefix: address, modrm } = onStack(bits, 1);
  const pointer = layOnStack(bits, [random.u64(), BigInt(selector(random))], bytes);
  return [...pointer, ...address, ...prefix, ...code, ...modrm];
};

const codeSelector = (random: Random): number => random.pick(random.chance(75) ? CODE_SELECTORS : SELECTORS);

/** CALL and JMP with a far pointer in the instruction or in memory. */
const far: Maker = (random, bits) => {
  const { prefix, bytes } = size(random, bits);
  const to = codeSelector(random);
  const call = random.chance(50);
  // a CALL pushes as the target sees the stack: 64-bit code needs the window's linear address in ESP
  const wide = bits === 16 && call && (to & ~3) === (SELECTOR.code64 & ~3);
  const sp = wide ? [WIDE, 0xbc, ...little(BASE + DATA + 128 + random.below(DATA_SIZE - 256), 4)] : [];
  if (bits !== 64 && random.chance(50)) {
    return [...sp, ...prefix, call ? 0x9a : 0xea, ...little(landing(random, to), bytes), ...little(to, 2)];
  }
  const { prefix: address, modrm } = onStack(bits, call ? 3 : 5);
  const pointer = layOnStack(bits, [landing(random, to), BigInt(to)], bytes);
  return [...sp, ...pointer, ...address, ...prefix, 0xff, ...modrm];
};

const ret: Maker = (random, bits) => {
  const { prefix, bytes } = size(random, bits);
  const to = codeSelector(random);
  const frame = layOnStack(bits, [landing(random, to), BigInt(to)], bytes);
  return random.chance(50) ? [...frame, ...prefix, 0xcb] : [...frame, ...prefix, 0xca, random.below(32), 0];
};

/** CF PF AF ZF SF DF OF and ID, with IF, IOPL and VM as CPL 3 cannot change them; never NT, TF, AC or RF. */
const flags = (random: Random): bigint => BigInt((random.u32() & 0x203cd5) | 2);

const iret: Maker = (random, bits) => {
  const { prefix, bytes } = size(random, bits);
  const to = codeSelector(random);
  const sp = BigInt((bits === 16 ? 0 : BASE) + DATA + 128 + random.below(DATA_SIZE - 256));
  const ss = BigInt(random.chance(70) ? random.pick([SELECTOR.data, SELECTOR.data16]) : selector(random));
  // 64-bit mode pops a stack too
  const stack = bits === 64 ? [sp, ss] : [];
  return [...layOnStack(bits, [landing(random, to), BigInt(to), flags(random), ...stack], bytes), ...prefix, 0xcf];
};

const MAKERS: readonly Maker[] = [movFromRegister, movFromMemory, pop, ask, ask, loadFar, far, far, ret, iret];

/** Bytes of a sequence that ends with one such instruction. */
export function segmentCode(random: Random, bits: Bits): number[] {
  return random.pick(MAKERS)(random, bits);
}
