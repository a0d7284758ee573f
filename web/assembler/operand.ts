// Operands of an instruction in NASM's syntax.
import type { Cursor } from "./cursor.ts";
import { LineError } from "./errors.ts";
import { expression, type Scope, type Value } from "./expression.ts";
import { REGISTERS, type Register } from "./registers.ts";
import type { Token } from "./tokens.ts";

/** `base + index * scale + displacement`; register numbers, -1: none, 16: RIP. */
export interface Address {
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: Value;
  /** Bytes of the registers: 2, 4, 8; 0 when there is none. */
  readonly size: number;
  /** Segment override, -1: none. */
  readonly segment: number;
  /** Relative to RIP. */
  readonly relative: boolean;
}

interface Place {
  readonly column: number;
  readonly length: number;
}

export type Operand = Place &
  (
    | { readonly kind: "register"; readonly register: Register; readonly text: string }
    | { readonly kind: "memory"; readonly address: Address; readonly size: number; readonly far: boolean }
    | {
        readonly kind: "immediate";
        readonly value: Value;
        readonly size: number;
        readonly distance: "" | "short" | "near" | "far";
      }
    | { readonly kind: "far"; readonly selector: Value; readonly offset: Value; readonly size: number }
  );

export const SIZES: Readonly<Record<string, number>> = {
  byte: 1,
  word: 2,
  dword: 4,
  fword: 6,
  qword: 8,
  tword: 10,
  tbyte: 10,
  oword: 16,
};
const SIZE_NAMES = Object.keys(SIZES);

const registerOf = (token: Token | undefined): Register | undefined =>
  token?.kind === "name" ? REGISTERS.get(token.text.toLowerCase()) : undefined;

interface Term {
  readonly n: number;
  readonly size: number;
  scale: number;
  readonly token: Token;
}

/** The number that a register is multiplied with: `eax*4` or `4*eax`. */
function scaleAfter(cursor: Cursor, scope: Scope): number {
  if (!cursor.take("*")) return 1;
  const token = cursor.peek();
  const value =
    token?.kind === "number" ? cursor.next()!.value : token?.kind === "name" ? scope.lookup(cursor.next()!) : undefined;
  if (value === undefined) throw cursor.error("a register is scaled by a number: 1, 2, 4 or 8");
  return Number(value);
}

/** Splits off the registers; what is left is one expression. */
function terms(cursor: Cursor, scope: Scope): { registers: Term[]; displacement: Value } {
  const registers: Term[] = [];
  let displacement: Value = { value: 0n, known: true };
  let sign = 1n;
  for (let first = true; ; first = false) {
    if (!first || cursor.peek()?.text === "-" || cursor.peek()?.text === "+") {
      if (cursor.take("-")) sign = -1n;
      else if (cursor.take("+")) sign = 1n;
      else return { registers, displacement };
    }
    const token = cursor.peek();
    const scaled = token?.kind === "number" && cursor.peek(1)?.text === "*" ? registerOf(cursor.peek(2)) : undefined;
    const register = scaled ?? registerOf(token);
    if (register === undefined) {
      const part = product(cursor, scope);
      displacement = {
        value: displacement.value + sign * part.value,
        known: displacement.known && part.known,
      };
      continue;
    }
    let scale = 1;
    if (scaled) {
      scale = Number(cursor.next()!.value);
      cursor.next();
    }
    const name = cursor.next()!;
    if (sign < 0n) throw new LineError("a register cannot be subtracted in an address", name.column, name.length);
    if (register.kind === "rip") {
      registers.push({ n: 16, size: 8, scale, token: name });
      continue;
    }
    if (register.kind !== "gpr" || register.size === 1) {
      throw new LineError(`${name.text} cannot be part of an address`, name.column, name.length);
    }
    if (!scaled) scale = scaleAfter(cursor, scope);
    registers.push({ n: register.n, size: register.size, scale, token: name });
  }
}

/** A summand without registers: the operators that bind tighter than + and -. */
function product(cursor: Cursor, scope: Scope): Value {
  const start = cursor.position;
  let depth = 0;
  for (let i = 0; ; i++) {
    const token = cursor.peek(i);
    if (!token) break;
    if (token.text === "(" && token.kind === "mark") depth++;
    if (token.text === ")" && token.kind === "mark") depth--;
    if (token.kind === "mark" && depth === 0 && i > 0 && /^[-+\]]$/.test(token.text)) {
      return limited(cursor, scope, start, i);
    }
  }
  return expression(cursor, scope);
}

/** An expression of exactly `count` tokens from here. */
function limited(cursor: Cursor, scope: Scope, start: number, count: number): Value {
  const part = cursor.tokens.slice(start, start + count);
  const inner = cursor.sub(part);
  const value = expression(inner, scope);
  if (!inner.done) throw inner.error("an operator is missing");
  cursor.skip(count);
  return value;
}

/** Base and index from the registers as NASM chooses them. */
function fromTerms(list: readonly Term[]): { base: number; index: number; scale: number; size: number } {
  const [a, b] = list;
  if (a === undefined) return { base: -1, index: -1, scale: 1, size: 0 };
  const odd = list.find((term) => term.size !== a.size);
  if (odd) throw new LineError("registers of an address have one size", odd.token.column, odd.token.length);
  if (list.length > 2) {
    const extra = list[2]!.token;
    throw new LineError("an address has two registers at most", extra.column, extra.length);
  }
  const { size } = a;
  if (b === undefined) {
    // reg*2 is shorter as reg+reg; 3, 5 and 9 need the sum
    if ([2, 3, 5, 9].includes(a.scale) && size > 2) return { base: a.n, index: a.n, scale: a.scale - 1, size };
    if (a.scale === 1) return { base: a.n, index: -1, scale: 1, size };
    return { base: -1, index: a.n, scale: a.scale, size };
  }
  const swap = a.scale !== 1 || (b.scale === 1 && b.n === 4 && size > 2);
  const [base, index] = swap ? [b, a] : [a, b];
  if (base.scale !== 1) {
    throw new LineError("only one register of an address is scaled", base.token.column, base.token.length);
  }
  return { base: base.n, index: index.n, scale: index.scale, size };
}

function memory(cursor: Cursor, scope: Scope, size: number, far: boolean): Operand {
  const open = cursor.next()!;
  cursor.takeName(...SIZE_NAMES);
  const relative = cursor.takeName("rel") !== undefined;
  cursor.takeName("abs");
  let segment = -1;
  const prefix = registerOf(cursor.peek());
  if (prefix?.kind === "segment" && cursor.peek(1)?.text === ":") {
    segment = prefix.n;
    cursor.next();
    cursor.next();
  }
  const { registers, displacement } = terms(cursor, scope);
  const close = cursor.peek();
  cursor.expect("]");
  const place = { column: open.column, length: (close?.column ?? open.column) - open.column + 1 };
  const { base, index, scale, size: width } = fromTerms(registers);
  const rip = base === 16;
  if (![1, 2, 4, 8].includes(scale)) {
    throw new LineError(`a register is scaled by 1, 2, 4 or 8, not ${scale}`, place.column, place.length);
  }
  if (relative && base >= 0) throw new LineError("rel is for addresses without registers", place.column, place.length);
  const address = {
    base: relative ? 16 : base,
    index,
    scale,
    displacement,
    size: rip || relative ? 8 : width,
    segment,
    relative,
  };
  return { kind: "memory", address, size, far, ...place };
}

/** Reads one operand. */
export function operand(cursor: Cursor, scope: Scope): Operand {
  const first = cursor.peek();
  if (!first) throw cursor.error("an operand is missing");
  let size = 0;
  let distance: "" | "short" | "near" | "far" = "";
  for (;;) {
    const name = cursor.takeName(...SIZE_NAMES, "short", "near", "far", "strict", "ptr");
    if (name === undefined) break;
    if (name === "short" || name === "near" || name === "far") distance = name;
    else if (name in SIZES) size = SIZES[name]!;
  }
  const token = cursor.peek();
  if (!token) throw cursor.error("an operand is missing");
  const place = { column: token.column, length: token.length };
  const register = registerOf(token);
  if (register && !(register.kind === "segment" && cursor.peek(1)?.text === ":")) {
    if (register.kind === "rip") throw new LineError("rip is only part of an address", place.column, place.length);
    cursor.next();
    return { kind: "register", register, text: token.text.toLowerCase(), ...place };
  }
  if (token.kind === "mark" && token.text === "[") return memory(cursor, scope, size, distance === "far");
  const value = expression(cursor, scope);
  if (cursor.take(":")) return { kind: "far", selector: value, offset: expression(cursor, scope), size, ...place };
  return { kind: "immediate", value, size, distance, ...place };
}
