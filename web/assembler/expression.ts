import type { Cursor } from "./cursor.ts";
import { LineError } from "./errors.ts";
import { stringBytes, type Token } from "./tokens.ts";

/** A number, as far as it is known in this pass. */
export interface Value {
  readonly value: bigint;
  /** A name in it had no value yet, or one that may still move. */
  readonly known: boolean;
}

/** Names of a pass. undefined: not known yet; the last pass throws then. */
export interface Scope {
  lookup(token: Token): bigint | undefined;
}

const known = (value: bigint): Value => ({ value, known: true });

type Operation = (a: bigint, b: bigint) => bigint;
const LEVELS: readonly Readonly<Record<string, Operation>>[] = [
  { "|": (a, b) => a | b },
  { "^": (a, b) => a ^ b },
  { "&": (a, b) => a & b },
  { "<<": (a, b) => a << b, ">>": (a, b) => BigInt.asUintN(64, a) >> b },
  { "+": (a, b) => a + b, "-": (a, b) => a - b },
  { "*": (a, b) => a * b, "/": (a, b) => a / b, "//": (a, b) => a / b, "%": (a, b) => a % b, "%%": (a, b) => a % b },
];
const MAX_SHIFT = 63n;

/** Little-endian number of a character string, as in `mov eax, 'abcd'`. */
function characters(token: Token): bigint {
  const bytes = stringBytes(token.text);
  if (bytes.length > 8) throw new LineError("a string of more than 8 bytes is no number", token.column, token.length);
  return bytes.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
}

function primary(cursor: Cursor, scope: Scope): Value {
  const token = cursor.next();
  if (token?.kind === "number") return known(token.value);
  if (token?.kind === "string") return known(characters(token));
  if (token?.kind === "name") {
    const value = scope.lookup(token);
    return { value: value ?? 0n, known: value !== undefined };
  }
  if (token?.kind === "mark") {
    if (token.text === "(") {
      const inner = expression(cursor, scope);
      cursor.expect(")");
      return inner;
    }
    const unary: Readonly<Record<string, (a: bigint) => bigint>> = { "-": (a) => -a, "+": (a) => a, "~": (a) => ~a };
    const apply = unary[token.text];
    if (apply) {
      const inner = primary(cursor, scope);
      return { value: apply(inner.value), known: inner.known };
    }
    throw new LineError(`a number is missing before "${token.text}"`, token.column, token.length);
  }
  throw cursor.error("a number is missing");
}

function level(cursor: Cursor, scope: Scope, depth: number): Value {
  const operations = LEVELS[depth];
  if (operations === undefined) return primary(cursor, scope);
  let left = level(cursor, scope, depth + 1);
  for (;;) {
    const token = cursor.peek();
    const operation = token?.kind === "mark" ? operations[token.text] : undefined;
    if (operation === undefined || token === undefined) return left;
    cursor.next();
    const right = level(cursor, scope, depth + 1);
    const divides = /^[/%]/.test(token.text);
    if (divides && right.value === 0n && right.known) throw new LineError("division by zero", token.column);
    const shifts = token.text === "<<" || token.text === ">>";
    if (shifts && (right.value < 0n || right.value > MAX_SHIFT)) {
      throw new LineError(`a shift by ${right.value} is not in 0 to ${MAX_SHIFT}`, token.column, token.length);
    }
    left = {
      value: divides && right.value === 0n ? 0n : operation(left.value, right.value),
      known: left.known && right.known,
    };
  }
}

/** Reads an expression of numbers, names, characters, `$`, `$$` and C's operators. */
export function expression(cursor: Cursor, scope: Scope): Value {
  return level(cursor, scope, 0);
}
