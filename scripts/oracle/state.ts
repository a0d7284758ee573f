// The registers, flags and memory a case starts from: all of it follows from one seed and the mode.
import { BASE, type Bits, DATA, DATA_SIZE, IMAGE_SIZE } from "./layout.ts";
import { Random } from "./random.ts";

export interface State {
  readonly gpr: BigUint64Array;
  readonly rflags: number;
  readonly fsBase: bigint;
  readonly gsBase: bigint;
  /** Where memory operands go; anywhere in the data pages when absent. */
  readonly aim?: (random: Random) => bigint;
}

const MASK64 = (1n << 64n) - 1n;
/** CF PF AF ZF SF DF OF; bit 1 is always set and IF is set at CPL 3. */
const ARITHMETIC = 0x8d5;
const ALWAYS = 0x202;
const DF = 0x400;
const NT = 0x4000;
const AC = 0x40000;
const ID = 0x200000;

/** Values on the edges of an operand size, small ones, and any. */
export function interesting(random: Random): bigint {
  const kind = random.below(10);
  if (kind < 2) return random.u64();
  if (kind < 4) return BigInt(random.u32());
  if (kind < 5) return BigInt(random.below(256));
  if (kind < 6) return BigInt(-random.below(256)) & MASK64;
  const size = BigInt(8 << random.below(4));
  const edge = random.pick([1n << (size - 1n), (1n << (size - 1n)) - 1n, (1n << size) - 1n, 1n << size, 0n, 1n]);
  const high = random.chance(30) ? random.u64() << size : 0n;
  return (edge + high) & MASK64;
}

/** An address in the writable pages, as the mode sees it. */
export function pointer(random: Random, bits: Bits, room = 64): bigint {
  const offset = random.chance(4)
    ? random.pick([DATA - 2, DATA, DATA + 0xffd, DATA + DATA_SIZE - 3, DATA - 0x1000])
    : DATA + random.below(DATA_SIZE - room) + (random.chance(30) ? room : 0);
  const value = BigInt(random.chance(60) ? offset & ~7 : offset);
  if (bits === 16) return value | (random.chance(30) ? BigInt(random.below(0x10000)) << 16n : 0n);
  return BigInt(BASE) + value;
}

const RSP = 4;
const POINTERS = 0b1100_1000; // RBX RSI RDI are pointers more often

export function stateOf(seed: number, bits: Bits): State {
  const random = new Random(seed);
  const gpr = new BigUint64Array(16);
  for (let r = 0; r < 16; r++) {
    const points = random.chance((POINTERS >> r) & 1 ? 60 : 25);
    gpr[r] = points ? pointer(random, bits) : interesting(random);
  }
  if (random.chance(45)) gpr[1] = BigInt(random.below(70)) | (random.chance(10) ? random.u64() << 8n : 0n);
  // dividends whose quotient fits
  if (random.chance(40)) gpr[2] = random.chance(50) ? BigInt(random.below(40)) : MASK64;
  if (random.chance(95)) {
    const sp = BigInt(DATA + 128 + (random.below(DATA_SIZE - 256) & (random.chance(85) ? ~7 : ~0)));
    gpr[RSP] = bits === 16 ? sp : BigInt(BASE) + sp;
  }
  // bits 31:16 of ESP are not loaded by a return to a 16-bit stack
  if (bits === 16) gpr[RSP]! &= 0xffffn;
  if (bits !== 64) for (let r = 0; r < 16; r++) gpr[r] = r < 8 ? gpr[r]! & 0xffffffffn : 0n;
  const rflags =
    ALWAYS |
    (random.u32() & ARITHMETIC) |
    (random.chance(25) ? DF : 0) |
    (random.chance(2) ? NT : 0) |
    (random.chance(2) ? AC : 0) |
    (random.chance(10) ? ID : 0);
  const base = () =>
    random.chance(80) ? BigInt(BASE + DATA + random.below(64)) : random.chance(50) ? 0n : random.u64() >> 20n;
  return { gpr, rflags, fsBase: base(), gsBase: base() };
}

/** The read-only and the writable pages before every case. */
export function initialImage(): Uint8Array<ArrayBuffer> {
  const random = new Random(0x1f2e3d4c);
  const bytes = new Uint8Array(IMAGE_SIZE);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < IMAGE_SIZE; i += 8) {
    view.setBigUint64(i, random.chance(50) ? random.u64() : interesting(random), true);
  }
  return bytes;
}
