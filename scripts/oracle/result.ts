// What a case left behind: read from the harness, packed into fixtures, compared with the emulator.
import { RESULT } from "./layout.ts";

export interface Result {
  /** Exception vector, or REACHED_END. */
  readonly vector: number;
  readonly error: number;
  /** Of page faults, else 0. */
  readonly cr2: bigint;
  /** Saved RIP; 0 at the end. */
  readonly rip: bigint;
  readonly gpr: BigUint64Array;
  readonly rflags: number;
  /** ES CS SS DS FS GS; CS is 0 at the end. */
  readonly selectors: Uint16Array;
  /** Pairs {index, value}: 8-byte words of the image that differ from the image before every case. */
  readonly words: readonly { readonly index: number; readonly value: bigint }[];
}

export function readResult(view: DataView, offset: number): { result: Result; size: number } {
  const gpr = new BigUint64Array(16);
  for (let r = 0; r < 16; r++) gpr[r] = view.getBigUint64(offset + RESULT.gpr + r * 8, true);
  const selectors = new Uint16Array(6);
  for (let s = 0; s < 6; s++) selectors[s] = view.getUint16(offset + RESULT.selectors + s * 2, true);
  const count = view.getUint32(offset + RESULT.words, true);
  const words = [];
  for (let i = 0, at = offset + RESULT.head; i < count; i++, at += RESULT.word) {
    words.push({ index: view.getUint32(at, true), value: view.getBigUint64(at + 4, true) });
  }
  const result = {
    vector: view.getUint32(offset + RESULT.vector, true),
    error: view.getUint32(offset + RESULT.error, true),
    cr2: view.getBigUint64(offset + RESULT.cr2, true),
    rip: view.getBigUint64(offset + RESULT.rip, true),
    gpr,
    rflags: Number(view.getBigUint64(offset + RESULT.rflags, true)),
    selectors,
    words,
  };
  return { result, size: RESULT.head + count * RESULT.word };
}
