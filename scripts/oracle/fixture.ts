// Recorded cases: the seed of the state, the code and what the processor left behind, packed and compressed.
import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { Case } from "./cases.ts";
import { type Bits, REACHED_END } from "./layout.ts";
import type { Result } from "./result.ts";
import { stateOf } from "./state.ts";

export interface Recorded {
  readonly case: Case;
  readonly result: Result;
}

class Writer {
  #bytes = new Uint8Array(1 << 20);
  #at = 0;

  #room(n: number): void {
    if (this.#at + n <= this.#bytes.length) return;
    const bigger = new Uint8Array(this.#bytes.length * 2);
    bigger.set(this.#bytes);
    this.#bytes = bigger;
  }
  number(value: number, size: number): void {
    this.#room(size);
    for (let i = 0; i < size; i++) this.#bytes[this.#at++] = value / 2 ** (8 * i);
  }
  bytes(value: Uint8Array): void {
    this.#room(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }
  u64(value: bigint): void {
    this.number(Number(value & 0xffffffffn), 4);
    this.number(Number(value >> 32n), 4);
  }
  get all(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }
  number(size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value += this.#bytes[this.#at++]! * 2 ** (8 * i);
    return value;
  }
  bytes(n: number): Uint8Array {
    this.#at += n;
    return this.#bytes.slice(this.#at - n, this.#at);
  }
  u64(): bigint {
    return BigInt(this.number(4)) | (BigInt(this.number(4)) << 32n);
  }
  get done(): boolean {
    return this.#at === this.#bytes.length;
  }
}

/** Registers are kept where they changed; faults without error code, CR2 or changed memory take no room for them. */
function writeOne(out: Writer, { case: c, result: r }: Recorded): void {
  const before = c.state.gpr;
  out.number(c.bits, 1);
  out.number(c.code.length, 1);
  out.bytes(c.code);
  out.number(c.seed, 4);
  out.number(c.at, 2);
  out.number(c.undefinedAtEnd, 2);
  out.number(c.undefinedAnywhere, 2);
  out.number(c.patch.length, 1);
  if (c.patch.length) {
    out.number(c.patchAt, 2);
    out.bytes(c.patch);
  }
  out.number(r.vector === REACHED_END ? 0xff : r.vector, 1);
  if (r.vector !== REACHED_END) {
    out.number(r.error, 4);
    out.u64(r.rip);
    if (r.vector === 14) out.u64(r.cr2);
  }
  let changed = 0;
  for (let i = 0; i < 16; i++) if (before[i] !== r.gpr[i]) changed |= 1 << i;
  out.number(changed, 2);
  for (let i = 0; i < 16; i++) if ((changed >> i) & 1) out.u64(r.gpr[i]!);
  out.number(r.rflags, 4);
  for (const selector of r.selectors) out.number(selector, 2);
  out.number(r.words.length, 2);
  for (const word of r.words) {
    out.number(word.index, 2);
    out.u64(word.value);
  }
}

function readOne(from: Reader): Recorded {
  const bits = from.number(1) as Bits;
  const code = from.bytes(from.number(1));
  const seed = from.number(4);
  const at = from.number(2);
  const undefinedAtEnd = from.number(2);
  const undefinedAnywhere = from.number(2);
  const patchLength = from.number(1);
  const patchAt = patchLength ? from.number(2) : 0;
  const patch = from.bytes(patchLength);
  const kind = from.number(1);
  const ended = kind === 0xff;
  const error = ended ? 0 : from.number(4);
  const rip = ended ? 0n : from.u64();
  const cr2 = kind === 14 ? from.u64() : 0n;
  const state = stateOf(seed, bits);
  const gpr = state.gpr.slice();
  const changed = from.number(2);
  for (let i = 0; i < 16; i++) if ((changed >> i) & 1) gpr[i] = from.u64();
  const rflags = from.number(4);
  const selectors = Uint16Array.from({ length: 6 }, () => from.number(2));
  const words = Array.from({ length: from.number(2) }, () => ({ index: from.number(2), value: from.u64() }));
  return {
    case: { bits, seed, state, at, code, patchAt, patch, undefinedAtEnd, undefinedAnywhere },
    result: { vector: ended ? REACHED_END : kind, error, cr2, rip, gpr, rflags, selectors, words },
  };
}

export function pack(list: readonly Recorded[]): Uint8Array {
  const out = new Writer();
  for (const one of list) writeOne(out, one);
  return deflateRawSync(out.all, { level: 9 });
}

export function unpack(bytes: Uint8Array): Recorded[] {
  const from = new Reader(inflateRawSync(bytes));
  const list: Recorded[] = [];
  while (!from.done) list.push(readOne(from));
  return list;
}
