/** Encodings to compare: every opcode of every map, with prefixes, every modrm form, and arbitrary bytes behind it. */
import type { DisassemblyMode } from "../../src/disasm/index.ts";

export interface Encoding {
  readonly mode: DisassemblyMode;
  /** 15 bytes. */
  readonly bytes: Uint8Array;
}

export interface EncodingOptions {
  readonly modes?: readonly DisassemblyMode[];
  /** One in `every` of all encodings, spread evenly. */
  readonly every: number;
  readonly seed: number;
}

const PREFIXES: readonly (readonly number[])[] = [
  [],
  [0x66],
  [0xf2],
  [0xf3],
  [0x67],
  [0xf0],
  [0x66, 0xf2],
  [0x66, 0xf3],
  [0xf3, 0xf2],
  [0xf2, 0xf3],
  [0xf0, 0x66],
  [0xf0, 0xf2],
  [0xf0, 0xf3],
  [0x64],
  [0x2e, 0x66, 0x67],
  [0x36, 0x65, 0x67],
  [0x66, 0x66, 0x66, 0x26],
  [0x67, 0x67, 0x67, 0x67, 0x67, 0x67, 0x67, 0x67, 0x67, 0x67],
  [0x3e, 0xf0, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66],
];
const REX_PREFIXES: readonly (readonly number[])[] = [
  [0x40],
  [0x41],
  [0x42],
  [0x44],
  [0x48],
  [0x4f],
  [0x66, 0x48],
  [0x66, 0x41],
  [0xf3, 0x48],
  [0xf2, 0x4d],
  [0x48, 0x66],
  [0x4f, 0x41],
  [0xf0, 0x4c],
  [0x67, 0x43],
  [0x66, 0xf2, 0x48],
];
const ESCAPES: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
/** Two-byte and three-byte VEX prefixes by what varies: inverted R X B and map, then W vvvv L pp. */
const VEX: readonly (readonly number[])[] = [
  [0xc5, 0xf8],
  [0xc5, 0x79],
  [0xc5, 0xfe],
  ...[0xe1, 0xe2, 0xe3, 0x42, 0xc2, 0xa2, 0x02, 0xe0, 0xe4, 0xff].flatMap((second) =>
    [0x78, 0x79, 0x7a, 0x7b, 0xf8, 0xfb, 0x38, 0x3a, 0x7c, 0x00, 0x81, 0x43].map((third) => [0xc4, second, third]),
  ),
];

/** A small deterministic generator (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

function* heads(mode: DisassemblyMode): Generator<readonly number[]> {
  const prefixes = mode === 64 ? [...PREFIXES, ...REX_PREFIXES] : PREFIXES;
  for (const opcode of ESCAPES) for (const prefix of prefixes) yield [...prefix, ...opcode];
  for (const vex of VEX) yield vex;
  for (const prefix of [[0x66], [0xf3], [0xf0], [0x48], [0x67], [0x64]]) yield [...prefix, 0xc4, 0xe2, 0x78];
}

/** How many encodings there are before sampling. */
export function total(modes: readonly DisassemblyMode[] = [16, 32, 64]): number {
  return modes.reduce((sum, mode) => sum + [...heads(mode)].length * 65536, 0);
}

export function* encodings(options: EncodingOptions): Generator<Encoding> {
  const random = generator(options.seed);
  let wait = random() % options.every;
  for (const mode of options.modes ?? [16, 32, 64]) {
    for (const head of heads(mode)) {
      for (let n = wait; n < 65536; n += options.every) {
        const bytes = new Uint8Array(15);
        bytes.set(head);
        const at = head.length;
        for (let i = at; i < 15; i++) bytes[i] = random();
        bytes[at] = n >> 8;
        bytes[at + 1] = n;
        wait = n + options.every - 65536;
        yield { mode, bytes };
      }
      if (wait >= 65536) wait -= 65536;
    }
  }
}
