// Encodes one instruction of a row of the opcode table at random: prefixes, operand size, registers or memory, immediates.
import type { OpcodeRow } from "../opcodes.ts";
import { address, segmentBase } from "./address.ts";
import { BASE, type Bits, CODE, CODE_AT, CODE_SIZE, DATA, DATA_SIZE, MAX_CODE } from "./layout.ts";
import type { Random } from "./random.ts";
import { interesting, type State } from "./state.ts";

export interface Instruction {
  readonly row: OpcodeRow;
  readonly bytes: number[];
  /** Operand size in bits. */
  readonly width: number;
  /** Shift count as far as the state before the case tells it. */
  readonly count: number | undefined;
  /** Bytes to lay at the top of the stack. */
  readonly stack?: number[];
}

const SEGMENTS = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const STRINGS = new Set(["movs", "cmps", "stos", "lods", "scas"]);

function little(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

interface Sizes {
  readonly width: 8 | 16 | 32 | 64;
  readonly prefix66: boolean;
  readonly rexW: boolean;
}

function sizes(random: Random, row: OpcodeRow, operands: readonly string[], bits: Bits): Sizes {
  const has = (a: string): boolean => row.attributes.includes(a);
  const byte = /^(?:[EGMZIXYO]b|AL)/.test(operands[0]!);
  // 66 is the operand size where the row answers for it, or a part of the opcode
  const mandatory = row.prefixes?.length === 1 && row.prefixes[0] === 1;
  const free = row.prefixes === undefined || row.prefixes.includes(1) || row.prefixes[0]! > 1;
  const prefix66 = mandatory || (free && random.chance(byte ? 5 : 28));
  const rexW = bits === 64 && random.chance(byte ? 10 : 35);
  if (byte) return { width: 8, prefix66, rexW };
  const doubleword = operands.some((o) => /^[GE]y$/.test(o));
  if (doubleword) return { width: rexW ? 64 : 32, prefix66, rexW };
  if (bits !== 64) return { width: (bits === 16) === prefix66 ? 32 : 16, prefix66, rexW };
  if (has("natural") || has("f64")) return { width: 64, prefix66, rexW };
  if (rexW && !has("noq")) return { width: 64, prefix66, rexW };
  return { width: prefix66 ? 16 : has("d64") ? 64 : 32, prefix66, rexW };
}

/** Is there a modrm byte? */
const usesModrm = (row: OpcodeRow, operands: readonly string[]): boolean =>
  row.digit !== undefined || operands.some((o) => /^(?:[EGMR][a-z]*|RvMw|Sw|[CD]n)$/.test(o));

/** C4 or C5, whichever the fields allow; `rex` holds W R X B. */
function vexPrefix(random: Random, row: OpcodeRow, rex: number, vvvv: number): number[] {
  const pp = row.prefixes?.[0] ?? 0;
  const l = random.chance(2) ? 4 : 0;
  const low = ((~vvvv & 15) << 3) | l | pp;
  const map = row.map === "vex0f38" ? 2 : 3;
  return [0xc4, ((~rex & 7) << 5) | map, ((rex & 8) << 4) | low];
}

const ESCAPES: Readonly<Record<string, readonly number[]>> = {
  one: [],
  "0f": [0x0f],
  "0f38": [0x0f, 0x38],
  "0f3a": [0x0f, 0x3a],
};

/** A displacement that leaves the bytes of the case, or goes to the next instruction. */
function branch(random: Random, offset: number, length: number, size: number): bigint {
  const kind = random.below(10);
  if (kind < 5) return 0n;
  if (kind < 8) return BigInt(MAX_CODE + 6 + random.below(127 - MAX_CODE - 6));
  const back = -BigInt(offset + length + 1 + random.below(30));
  if (kind < 9 || size === 1) return back < -128n && size === 1 ? 0n : back;
  return random.u64();
}

/** A return address: mostly in the code pages, outside the case. */
function landing(random: Random, bits: Bits, width: number): number[] {
  const offset = random.chance(50) ? random.below(CODE_AT - 64) : CODE_AT + MAX_CODE + 16 + random.below(CODE_SIZE / 2);
  let value = BigInt(CODE + offset);
  if (bits !== 16) value += BigInt(BASE);
  if (random.chance(6)) value = random.u64();
  return little(value, width / 8);
}

export function encode(
  random: Random,
  row: OpcodeRow,
  bits: Bits,
  state: State,
  offset: number,
): Instruction | undefined {
  const has = (a: string): boolean => row.attributes.includes(a);
  if (row.long !== undefined && row.long !== (bits === 64)) return undefined;
  const operands = row.operands.split(",");
  const vex = row.map.startsWith("vex");
  const { width, prefix66, rexW } = sizes(random, row, operands, bits);
  const string = STRINGS.has(row.mnemonic);
  const modrmOperand = usesModrm(row, operands);
  const register = row.mod === "reg" || operands.some((o) => /^(?:R[a-z]|[CD]n)$/.test(o));
  const memoryOnly = row.mod === "mem" || operands.some((o) => /^M/.test(o));
  const memory = modrmOperand && !register && (memoryOnly || (operands[0] !== "" && random.chance(50)));

  const prefixes: number[] = [];
  if (prefix66 && !vex) prefixes.push(0x66);
  const usesAddress = memory || string || operands.some((o) => /^O/.test(o)) || row.mnemonic === "xlat";
  const prefix67 = random.chance(usesAddress ? 12 : 3);
  if (prefix67) prefixes.push(0x67);
  const size = bits === 64 ? (prefix67 ? 32 : 64) : (bits === 16) === prefix67 ? 32 : 16;
  let segment = 0;
  if (random.chance(usesAddress ? (bits === 32 && size === 16 ? 70 : 12) : 2)) {
    segment = random.chance(60) ? random.pick([0x64, 0x65]) : random.pick(SEGMENTS);
    prefixes.push(segment);
  }
  const mandatory = vex ? 0 : (row.prefixes?.[0] ?? 0);
  const anyPrefix = row.prefixes === undefined && row.map === "one" && row.opcode !== 0x90;
  if (mandatory > 1) prefixes.push(mandatory === 2 ? 0xf3 : 0xf2);
  else if (string ? random.chance(55) : anyPrefix && random.chance(2)) prefixes.push(random.pick([0xf2, 0xf3]));
  else if (memory && random.chance(vex ? 0 : has("lock") ? 12 : 1)) prefixes.push(0xf0);
  for (let i = prefixes.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [prefixes[i], prefixes[j]] = [prefixes[j]!, prefixes[i]!];
  }

  // a VEX prefix has the same bits
  let rex = bits === 64 && (rexW || vex || random.chance(35)) ? 0x40 | (rexW ? 8 : 0) : 0;
  const reg = row.digit ?? random.below(8);
  const tail: number[] = [];
  let ripTarget: bigint | undefined;
  let modrm: number | undefined;
  if (modrmOperand) {
    if (rex && row.digit === undefined && random.chance(40)) rex |= 4;
    if (memory) {
      let bias = 0n;
      if (/^bt[src]?$/.test(row.mnemonic) && operands[1] === "Gv") {
        const n = BigInt.asIntN(width, state.gpr[reg | (rex & 4 ? 8 : 0)]!);
        bias = (n & ~BigInt(width - 1)) >> 3n;
      }
      const a = address(random, state, bits, size, segment, bias);
      modrm = a.modrm | (reg << 3);
      tail.push(...a.tail);
      ripTarget = a.ripTarget;
      if (a.rexX | a.rexB) rex |= 0x40 | (rexW ? 8 : 0);
      rex |= (a.rexX << 1) | a.rexB;
    } else {
      modrm = 0xc0 | (reg << 3) | (row.rm ?? random.below(8));
      if (rex && row.rm === undefined && random.chance(40)) rex |= 1;
    }
  } else if (rex && operands[0]?.startsWith("Z") && random.chance(50)) rex |= 1;

  const vvvv = operands.some((o) => o.startsWith("B")) ? random.below(bits === 64 ? 16 : 8) : random.chance(98) ? 0 : 5;
  const opcode = vex ? vexPrefix(random, row, rex & 15, vvvv) : [...(rex ? [rex] : []), ...(ESCAPES[row.map] ?? [])];
  const head = [...prefixes, ...opcode, row.opcode];
  if (modrm !== undefined) head.push(modrm, ...tail);
  const z = width === 16 ? 2 : 4;
  let count: number | undefined;
  const end: number[] = [];
  for (const operand of operands) {
    const before = head.length + end.length;
    if (operand === "Ib" || operand === "Ibs") end.push(Number(interesting(random) & 0xffn));
    else if (operand === "Iw")
      end.push(...little(row.mnemonic === "enter" ? BigInt(random.below(256)) : interesting(random), 2));
    else if (operand === "Iz") end.push(...little(interesting(random), z));
    else if (operand === "Iv") end.push(...little(interesting(random), width / 8));
    else if (operand === "Jb") end.push(...little(branch(random, offset, before + 1, 1), 1));
    else if (operand === "Jz") end.push(...little(branch(random, offset, before + z, z), z));
    else if (operand.startsWith("O")) {
      const target = BigInt(BASE + DATA + random.below(DATA_SIZE - 8)) - segmentBase(bits, state, segment);
      end.push(...little(random.chance(97) ? target : random.u64(), size / 8));
    }
    if (operand === "1") count = 1;
    else if (operand === "CL") count = Number(state.gpr[1]! & 0xffn);
  }
  if (operands.at(-1) === "Ib" && end.length === 1) count = end[0];
  const bytes = [...head, ...end];
  if (bytes.length > 15) return undefined;
  if (ripTarget !== undefined) {
    const next = BigInt(BASE + CODE_AT + offset + bytes.length);
    const at = head.length - 4;
    little(ripTarget - next, 4).forEach((b, i) => {
      bytes[at + i] = b;
    });
  }
  const stack = /^ret/.test(row.mnemonic) && random.chance(90) ? landing(random, bits, width) : undefined;
  return { row, bytes, width, count, ...(stack ? { stack } : {}) };
}
