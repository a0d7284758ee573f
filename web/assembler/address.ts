// modrm, sib and displacement of a memory operand. @sdm 2A "ModR/M and SIB Bytes"
import type { Mode } from "./names.ts";
import type { Address } from "./operand.ts";

/** One way to encode an address. */
export interface AddressBytes {
  /** mod and rm in their places. */
  readonly modrm: number;
  readonly sib: number | undefined;
  readonly displacement: bigint;
  /** Bytes of the displacement. */
  readonly width: number;
  /** Bits of REX: X and B. */
  readonly rex: number;
  /** Address size differs from the mode's. */
  readonly prefix: boolean;
  /** The displacement counts from the next instruction. */
  readonly relative: boolean;
}

const DEFAULT: Readonly<Record<Mode, number>> = { 16: 2, 32: 4, 64: 8 };
/** rm of the 16-bit forms by base and index. */
const PAIRS: readonly (readonly [base: number, index: number, rm: number])[] = [
  [3, 6, 0],
  [3, 7, 1],
  [5, 6, 2],
  [5, 7, 3],
];
const SINGLE: Readonly<Record<number, number>> = { 6: 4, 7: 5, 5: 6, 3: 7 };

const fits = (value: bigint, bytes: number): boolean => BigInt.asIntN(8 * bytes, value) === value;

/** Why an address cannot be encoded. */
export class AddressError extends Error {}

function shapes(value: bigint, wide: number, need: boolean): { mod: number; width: number }[] {
  const list: { mod: number; width: number }[] = [];
  if (value === 0n && !need) list.push({ mod: 0, width: 0 });
  if (fits(value, 1)) list.push({ mod: 1, width: 1 });
  list.push({ mod: 2, width: wide });
  return list;
}

function address16(address: Address): Pick<AddressBytes, "modrm" | "width" | "displacement">[] {
  const { base, index, scale } = address;
  const value = BigInt.asIntN(16, address.displacement.value);
  if (base < 0 && index < 0) return [{ modrm: 6, width: 2, displacement: value }];
  let rm: number | undefined;
  if (scale === 1 && index >= 0) {
    rm = PAIRS.find(([b, i]) => (b === base && i === index) || (b === index && i === base))?.[2];
  } else if (index < 0) rm = SINGLE[base];
  if (rm === undefined) {
    throw new AddressError("16-bit addresses are made of BX or BP and SI or DI: [bx+si], [bp+di+4], [si]");
  }
  const found = rm;
  return shapes(value, 2, rm === 6).map(({ mod, width }) => ({
    modrm: (mod << 6) | found,
    width,
    displacement: value,
  }));
}

/** All encodings, shortest first. `forced`: an address size that a prefix of the source asks for. */
export function encodeAddress(address: Address, mode: Mode, forced: number): AddressBytes[] {
  const size = address.size || forced || DEFAULT[mode];
  if (mode !== 64 && size === 8) throw new AddressError("64-bit addresses exist in 64-bit code only");
  if (mode === 64 && size === 2) throw new AddressError("16-bit addresses do not exist in 64-bit code");
  const common = { prefix: size !== DEFAULT[mode], relative: false, rex: 0, sib: undefined };
  const { base, index, scale, displacement } = address;
  if (size === 2) return address16(address).map((one) => ({ ...common, ...one }));
  if (base === 16) {
    if (mode !== 64) throw new AddressError("addresses relative to RIP exist in 64-bit code only");
    if (index >= 0) throw new AddressError("RIP goes with a displacement only");
    // [rel label] counts from the next instruction, [rip+8] says the distance itself
    return [{ ...common, modrm: 5, width: 4, displacement: displacement.value, relative: address.relative }];
  }
  const value = size === 4 ? BigInt.asIntN(32, displacement.value) : BigInt.asIntN(64, displacement.value);
  if (displacement.known && !fits(value, 4)) {
    throw new AddressError(`0x${displacement.value.toString(16)} does not fit into the 32 bits of a displacement`);
  }
  if (index === 4) throw new AddressError("the stack pointer cannot be scaled");
  const rex = (index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0);
  if (base < 0) {
    const wide = { ...common, rex, width: 4, displacement: value };
    if (index < 0 && mode !== 64) return [{ ...wide, modrm: 5 }];
    const scaled = index < 0 ? 0x20 : (Math.log2(scale) << 6) | ((index & 7) << 3);
    return [{ ...wide, modrm: 4, sib: scaled | 5 }];
  }
  const needsSib = index >= 0 || (base & 7) === 4;
  const sib = needsSib ? (Math.log2(scale) << 6) | ((index < 0 ? 4 : index & 7) << 3) | (base & 7) : undefined;
  return shapes(value, 4, (base & 7) === 5).map(({ mod, width }) => ({
    ...common,
    rex,
    sib,
    width,
    displacement: value,
    modrm: (mod << 6) | (needsSib ? 4 : base & 7),
  }));
}
