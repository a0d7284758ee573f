// Does an operand fit a letter of the opcode table? The letters are those of scripts/opcodes.ts.
import type { Operand } from "./operand.ts";

/** What the operands put into the instruction. */
export interface Fields {
  reg?: number;
  /** A register number or the memory operand. */
  rm?: number | Extract<Operand, { kind: "memory" }>;
  vvvv?: number;
  /** The register that the opcode byte itself names. */
  opcodeRegister?: number;
  readonly immediates: { value: bigint; known: boolean; width: number; branch: boolean }[];
  /** A register needs REX (SPL, BPL, SIL, DIL), or cannot be with one (AH to BH). */
  rex?: boolean;
  high?: boolean;
}

const IMPLICIT: Readonly<Record<string, readonly [size: number, n: number]>> = { AL: [1, 0], CL: [1, 1], DX: [2, 2] };
const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS"];

/** Bytes that a letter stands for; 0: any. */
export function letterSize(letter: string, size: number): number {
  switch (letter) {
    case "b":
      return 1;
    case "w":
      return 2;
    case "d":
      return 4;
    case "q":
      return 8;
    case "o":
      return 16;
    case "v":
    case "n":
      return size;
    case "y":
    case "u":
      return size === 8 ? 8 : 4;
    case "z":
      return size === 2 ? 2 : 4;
    case "a":
      return 2 * size;
    default:
      return 0;
  }
}

function register(operand: Operand, size: number, fields: Fields): number | undefined {
  if (operand.kind !== "register" || operand.register.kind !== "gpr") return undefined;
  const { register } = operand;
  if (size !== 0 && register.size !== size) return undefined;
  if (register.rex) fields.rex = true;
  if (register.high) fields.high = true;
  return register.n;
}

function fitsRange(value: bigint, bits: number): boolean {
  return value >= -(1n << BigInt(bits - 1)) && value < 1n << BigInt(bits);
}

function immediate(token: string, operand: Operand, size: number, fields: Fields): boolean {
  if (operand.kind !== "immediate") return false;
  const { value, known } = operand.value;
  const put = (width: number): true => {
    fields.immediates.push({ value, known, width, branch: false });
    return true;
  };
  switch (token) {
    case "Ib":
      return (!known || fitsRange(value, 8)) && put(1);
    case "Iw":
      return (!known || fitsRange(value, 16)) && put(2);
    case "Ibs": {
      if (known && !fitsRange(value, 8 * size)) return false;
      const signed = BigInt.asIntN(8 * size, value);
      return signed >= -128n && signed < 128n && put(1);
    }
    case "Iz": {
      if (operand.size === 1) return false;
      if (known && !fitsRange(value, 8 * size)) return false;
      if (known && size === 8 && BigInt.asIntN(32, value) !== BigInt.asIntN(64, value)) return false;
      return put(size === 2 ? 2 : 4);
    }
    default:
      return (!known || fitsRange(value, 8 * size)) && put(size);
  }
}

function branch(token: string, operand: Operand, size: number, fields: Fields): boolean {
  if (operand.kind !== "immediate" || operand.distance === "far") return false;
  if (operand.distance === "short" && token !== "Jb") return false;
  if (operand.distance === "near" && token !== "Jz") return false;
  const { value, known } = operand.value;
  fields.immediates.push({ value, known, width: token === "Jb" ? 1 : size === 2 ? 2 : 4, branch: true });
  return true;
}

/** What the row says beside its letters. */
interface Row {
  readonly opcode: number;
  /** Only the low 16 bits of a register operand are looked at: a wider name is as good. */
  readonly loose: boolean;
}

/** Puts an operand into the fields; false when the token does not take it at this operand size. */
export function matches(
  token: string,
  operand: Operand,
  size: number,
  fields: Fields,
  { opcode, loose }: Row,
): boolean {
  const implicit = IMPLICIT[token];
  if (implicit) return register(operand, implicit[0], {} as Fields) === implicit[1] && !isHigh(operand);
  if (token === "rAX" || token === "eAX") return register(operand, size, {} as Fields) === 0 && !isHigh(operand);
  if (token === "1") return operand.kind === "immediate" && operand.value.known && operand.value.value === 1n;
  if (SEGMENTS.includes(token)) return segment(operand) === SEGMENTS.indexOf(token);
  if (token[0] === "I") return immediate(token, operand, size, fields);
  if (token[0] === "J") return branch(token, operand, size, fields);
  switch (token) {
    case "Sw": {
      const n = segment(operand);
      if (n === undefined) return false;
      fields.reg = n;
      return true;
    }
    case "Cn":
    case "Dn": {
      const kind = token === "Cn" ? "control" : "debug";
      if (operand.kind !== "register" || operand.register.kind !== kind) return false;
      fields.reg = operand.register.n;
      return true;
    }
    case "Ap": {
      if (operand.kind !== "far" || (operand.size !== 0 && operand.size !== size)) return false;
      const { offset, selector } = operand;
      fields.immediates.push({ value: offset.value, known: offset.known, width: size, branch: false });
      fields.immediates.push({ value: selector.value, known: selector.known, width: 2, branch: false });
      return true;
    }
    case "RvMw": {
      if (operand.kind === "memory") return rm(operand, 2, fields);
      return general(operand, loose ? 0 : size, fields) && !isByte(operand);
    }
  }
  const letter = token.slice(1);
  const bytes = letterSize(letter, size);
  switch (token[0]) {
    case "G": {
      const n = register(operand, bytes, fields);
      if (n !== undefined) fields.reg = n;
      return n !== undefined;
    }
    case "B": {
      const n = register(operand, bytes, fields);
      if (n !== undefined) fields.vvvv = n;
      return n !== undefined;
    }
    case "Z": {
      const n = register(operand, bytes, fields);
      if (n !== undefined) fields.opcodeRegister = n;
      return n !== undefined && (n & 7) === (opcode & 7);
    }
    case "E":
      if (token === "Ew" && loose)
        return operand.kind === "memory" ? rm(operand, 2, fields) : general(operand, 0, fields) && !isByte(operand);
      return operand.kind === "memory" ? rm(operand, bytes, fields) : general(operand, bytes, fields);
    case "R":
      return general(operand, bytes, fields);
    case "M": {
      if (operand.kind !== "memory") return false;
      // of a far pointer the source names the offset's size
      if (letter === "p") return (operand.size === 0 || operand.size === size) && rm(operand, operand.size, fields);
      return rm(operand, bytes, fields);
    }
    case "O": {
      if (operand.kind !== "memory" || (operand.size !== 0 && operand.size !== bytes)) return false;
      return operand.address.size === 0 && !operand.address.relative && rm(operand, bytes, fields);
    }
  }
  return false;
}

function isHigh(operand: Operand): boolean {
  return operand.kind === "register" && operand.register.kind === "gpr" && operand.register.high;
}

function isByte(operand: Operand): boolean {
  return operand.kind === "register" && operand.register.kind === "gpr" && operand.register.size === 1;
}

function segment(operand: Operand): number | undefined {
  return operand.kind === "register" && operand.register.kind === "segment" ? operand.register.n : undefined;
}

function general(operand: Operand, bytes: number, fields: Fields): boolean {
  const n = register(operand, bytes, fields);
  if (n === undefined) return false;
  fields.rm = n;
  return true;
}

function rm(operand: Extract<Operand, { kind: "memory" }>, bytes: number, fields: Fields): boolean {
  if (operand.size !== 0 && bytes !== 0 && operand.size !== bytes) return false;
  fields.rm = operand;
  return true;
}
