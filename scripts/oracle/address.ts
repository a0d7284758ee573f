// Encodes a memory operand so that it mostly falls into the data pages, whatever form of address it takes.
import { BASE, type Bits, DATA } from "./layout.ts";
import type { Random } from "./random.ts";
import { pointer, type State } from "./state.ts";

export interface Address {
  /** mod and rm of the modrm byte; reg is left zero. */
  readonly modrm: number;
  /** SIB byte and displacement. */
  readonly tail: number[];
  /** The displacement counts from the end of the instruction: `ripTarget` is the linear address. */
  readonly ripTarget?: bigint;
  readonly rexX: number;
  readonly rexB: number;
}

const SEGMENT_OF: Readonly<Record<number, "fs" | "gs" | undefined>> = { 100: "fs", 101: "gs" };

export function segmentBase(bits: Bits, state: State, prefix: number): bigint {
  const name = SEGMENT_OF[prefix];
  if (bits === 64) return name === "fs" ? state.fsBase : name === "gs" ? state.gsBase : 0n;
  if (name === "fs") return BigInt(BASE + DATA);
  return bits === 16 || name === "gs" ? BigInt(BASE) : 0n;
}

function bytesOf(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

const RM16: readonly (readonly number[])[] = [[3, 6], [3, 7], [5, 6], [5, 7], [6], [7], [5], [3]];

function address16(random: Random, state: State, target: bigint): Address {
  const rm = random.below(8);
  let mod = random.below(3);
  let sum = 0n;
  for (const r of RM16[rm]!) sum += state.gpr[r]!;
  const need = BigInt.asUintN(16, target - sum);
  if (mod === 0 && rm === 6) return { modrm: 6, tail: bytesOf(target, 2), rexX: 0, rexB: 0 };
  // mod 0 of BP alone is a displacement
  if (mod < 2 && random.chance(80))
    mod = need === 0n && rm !== 6 ? 0 : BigInt.asIntN(8, need) === BigInt.asIntN(16, need) ? 1 : 2;
  const disp = random.chance(96) ? need : random.u64();
  return { modrm: (mod << 6) | rm, tail: bytesOf(disp, mod), rexX: 0, rexB: 0 };
}

function addressWide(random: Random, state: State, bits: Bits, size: 32 | 64, target: bigint): Address {
  const extended = bits === 64;
  const value = (r: number): bigint => (size === 32 ? state.gpr[r]! & 0xffffffffn : state.gpr[r]!);
  for (let attempt = 0; attempt < 6; attempt++) {
    const rexB = extended && random.chance(40) ? 1 : 0;
    const rexX = extended && random.chance(40) ? 1 : 0;
    const rm = random.below(8);
    let mod = random.below(3);
    const tail: number[] = [];
    let sum = 0n;
    let wide = mod === 2;
    if (rm === 4) {
      const [scale, index, base] = [random.below(4), random.below(8), random.below(8)];
      tail.push((scale << 6) | (index << 3) | base);
      if (index !== 4 || rexX) sum += value(index | (rexX << 3)) << BigInt(scale);
      if (base === 5 && mod === 0) wide = true;
      else sum += value(base | (rexB << 3));
    } else if (rm === 5 && mod === 0) {
      if (bits === 64) return { modrm: 5, tail: [0, 0, 0, 0], ripTarget: target, rexX, rexB };
      wide = true;
    } else sum = value(rm | (rexB << 3));
    const need = BigInt.asIntN(size, target - sum);
    if (!wide) {
      if (mod === 0 && need !== 0n) {
        // near enough: take the operand where the registers point
        const at = need < 0n ? -need : need;
        if (at > 0x800n) mod = 2;
      } else if (mod === 1 && BigInt.asIntN(8, need) !== need) mod = 2;
      wide = mod === 2;
    }
    const fits = BigInt.asIntN(32, need) === need;
    if (wide && !fits && attempt < 5 && !random.chance(2)) continue;
    const disp = random.chance(98) ? need : random.u64();
    tail.push(...bytesOf(disp, wide ? 4 : mod === 1 ? 1 : 0));
    return { modrm: (mod << 6) | rm, tail, rexX, rexB };
  }
  throw new Error("unreachable");
}

/** `bias` is added to the address by the instruction itself (a bit string's offset). */
export function address(
  random: Random,
  state: State,
  bits: Bits,
  size: 16 | 32 | 64,
  prefix: number,
  bias: bigint,
): Address {
  let target = state.aim?.(random) ?? pointer(random, bits);
  if (bits === 16) target = (target & 0xffffn) + BigInt(BASE);
  target -= segmentBase(bits, state, prefix) + bias;
  if (size === 16) return address16(random, state, target);
  return addressWide(random, state, bits, size, target);
}
