// Page tables as a debugger reads them: whatever the privilege, and nothing is marked accessed.
import type { RegisterValues } from "../machine/index.ts";
import { fromLittleEndian } from "./hex.ts";

const CR0_PG = 1n << 31n;
const CR4_PSE = 1n << 4n;
const CR4_PAE = 1n << 5n;
const EFER_LMA = 1n << 10n;
const PRESENT = 1n;
const LARGE = 1n << 7n;
const FRAME = 0x000f_ffff_ffff_f000n;

type ReadPhysical = (address: bigint, size: number) => Uint8Array | undefined;

interface Level {
  /** Bit of the linear address where the index ends. */
  readonly shift: bigint;
  readonly bits: bigint;
}

const LEVELS_4: readonly Level[] = [39n, 30n, 21n, 12n].map((shift) => ({ shift, bits: 9n }));
const LEVELS_PAE: readonly Level[] = [
  { shift: 30n, bits: 2n },
  { shift: 21n, bits: 9n },
  { shift: 12n, bits: 9n },
];
const LEVELS_32: readonly Level[] = [22n, 12n].map((shift) => ({ shift, bits: 10n }));

/** Physical address by the tables at CR3; undefined: not mapped. @sdm 3A "Paging" */
export function walkTables(read: ReadPhysical, values: RegisterValues, linear: bigint): bigint | undefined {
  const { cr0, cr3, cr4, efer } = values;
  if ((cr0 & CR0_PG) === 0n) return linear & 0xffff_ffffn;
  const long = (efer & EFER_LMA) !== 0n;
  const pae = long || (cr4 & CR4_PAE) !== 0n;
  const levels = long ? LEVELS_4 : pae ? LEVELS_PAE : LEVELS_32;
  const entrySize = pae ? 8 : 4;
  let table = long ? cr3 & FRAME : pae ? cr3 & 0xffff_ffe0n : cr3 & 0xffff_f000n;
  for (const [depth, { shift, bits }] of levels.entries()) {
    const index = (linear >> shift) & ((1n << bits) - 1n);
    const bytes = read(table + index * BigInt(entrySize), entrySize);
    if (bytes === undefined) return undefined;
    const entry = fromLittleEndian(bytes);
    if ((entry & PRESENT) === 0n) return undefined;
    const last = shift === 12n;
    // a PAE directory pointer and a level-4 entry map no page; 4 MiB pages want CR4.PSE
    const mayBeLarge = pae ? shift === 21n || (long && depth === 1) : (cr4 & CR4_PSE) !== 0n;
    if (last || (mayBeLarge && (entry & LARGE) !== 0n)) {
      const offset = (1n << shift) - 1n;
      const high = !pae && !last ? ((entry >> 13n) & 0xffn) << 32n : 0n;
      const frame = pae ? entry & FRAME & ~offset : (entry & 0xffff_f000n & ~offset) | high;
      return frame | (linear & offset);
    }
    table = pae ? entry & FRAME : entry & 0xffff_f000n;
  }
  return undefined;
}
