// Cases: a mode, a seed for the state, and one to six instructions.
import type { OpcodeRow } from "../opcodes.ts";
import { encode, type Instruction } from "./encode.ts";
import { flagEffect } from "./flags.ts";
import { BASE, type Bits, CASE, CODE_AT, CODE_SIZE, DATA, DATA_SIZE, MAX_CODE } from "./layout.ts";
import { Random } from "./random.ts";
import { COMMON, GROUPS, nameOf, RARE } from "./rows.ts";
import { segmentCode } from "./segments.ts";
import { type State, stateOf } from "./state.ts";

export interface Case {
  readonly bits: Bits;
  readonly seed: number;
  /** What the seed makes. */
  readonly state: State;
  /** Offset of the first byte in the window. */
  readonly at: number;
  readonly code: Uint8Array;
  /** Bytes laid over the writable pages, at an offset in the window. */
  readonly patchAt: number;
  readonly patch: Uint8Array;
  /** Flags the manual leaves undefined at the end, and anywhere before: a fault may end the case early. */
  readonly undefinedAtEnd: number;
  readonly undefinedAnywhere: number;
}

/** How many instructions in 100 are on segment registers or far transfers. */
const SEGMENT_PERCENT = 6;

const NO_BYTES = new Uint8Array(0);

function row(random: Random): OpcodeRow {
  const kind = random.below(100);
  if (kind < 2) return random.pick(RARE);
  return kind < 55 ? random.pick(random.pick(GROUPS)) : random.pick(COMMON);
}

function next(random: Random, bits: Bits, state: State, offset: number): Instruction {
  for (;;) {
    const instruction = encode(random, row(random), bits, state, offset);
    if (instruction) return instruction;
  }
}

/** Case `n` of a stream. */
export function makeCase(stream: number, n: number): Case {
  const random = new Random((Math.imul(stream, 0x9e3779b1) ^ Math.imul(n, 0x85ebca6b)) | 0);
  random.u32();
  const bits: Bits = random.chance(60) ? 64 : random.chance(62) ? 32 : 16;
  const seed = random.u32();
  const state = stateOf(seed, bits);
  const length = random.chance(70) ? 1 : 2 + random.below(5);
  const code: number[] = [];
  let undefinedFlags = 0;
  let undefinedAnywhere = 0;
  let patch: Uint8Array = NO_BYTES;
  for (let i = 0, tries = 0; i < length && tries < 40; tries++) {
    if (random.chance(SEGMENT_PERCENT)) {
      const bytes = segmentCode(random, bits);
      if (code.length + bytes.length > MAX_CODE) break;
      code.push(...bytes);
      i++;
      continue;
    }
    const instruction = next(random, bits, state, code.length);
    // the state is known before the first instruction only
    const count = instruction.row.operands.endsWith("CL") && i > 0 ? undefined : instruction.count;
    const effect = flagEffect(nameOf(instruction.row), instruction.width, count);
    if (effect.noResult || effect.reads & undefinedFlags) continue;
    if (code.length + instruction.bytes.length > MAX_CODE) break;
    undefinedFlags = (undefinedFlags & ~effect.writes) | effect.undefined;
    undefinedAnywhere |= undefinedFlags;
    code.push(...instruction.bytes);
    if (instruction.stack && i === 0) patch = Uint8Array.from(instruction.stack);
    i++;
  }
  const patchAt = Number((state.gpr[4]! - (bits === 16 ? 0n : BigInt(BASE))) & 0xffffffffn);
  if (patchAt < DATA || patchAt + patch.length > DATA + DATA_SIZE) patch = NO_BYTES;
  let at = CODE_AT;
  if (random.chance(3)) at = (random.chance(50) ? 0x1000 : CODE_SIZE) - 1 - random.below(code.length);
  return {
    bits,
    seed,
    state,
    at,
    code: Uint8Array.from(code),
    patchAt: patch.length ? patchAt : 0,
    patch,
    undefinedAtEnd: undefinedFlags,
    undefinedAnywhere,
  };
}

/** Writes the record that the harness reads. */
export function writeCase(view: DataView, offset: number, c: Case): void {
  const { state } = c;
  view.setUint8(offset + CASE.bits, c.bits);
  view.setUint8(offset + CASE.length, c.code.length);
  view.setUint16(offset + CASE.at, c.at, true);
  view.setUint16(offset + CASE.patchAt, c.patchAt, true);
  view.setUint16(offset + CASE.patchLength, c.patch.length, true);
  for (let r = 0; r < 16; r++) view.setBigUint64(offset + CASE.gpr + r * 8, state.gpr[r]!, true);
  view.setBigUint64(offset + CASE.rflags, BigInt(state.rflags), true);
  view.setBigUint64(offset + CASE.fsBase, state.fsBase, true);
  view.setBigUint64(offset + CASE.gsBase, state.gsBase, true);
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  bytes.set(c.patch, offset + CASE.patch);
  bytes.set(c.code, offset + CASE.code);
}
