// Source -> bytes, in passes: sizes only grow, so the addresses settle.
import { Cursor } from "./cursor.ts";
import { encode } from "./encode.ts";
import { LineError, type SourceError } from "./errors.ts";
import { expression, type Scope, type Value } from "./expression.ts";
import { isInstruction, type Mode, PREFIXES, SIZE_PREFIX } from "./names.ts";
import { type Operand, operand } from "./operand.ts";
import { REGISTERS } from "./registers.ts";
import { stringBytes, type Token, tokenize } from "./tokens.ts";

/** Bytes of a line of the source. */
export interface AssembledLine {
  /** From 1. */
  readonly line: number;
  readonly address: number;
  readonly length: number;
  /** It holds an instruction, not data. */
  readonly code: boolean;
}

export interface Assembly {
  readonly bytes: Uint8Array;
  /** Address of the first byte. */
  readonly origin: number;
  /** Mode of the first instruction. */
  readonly mode: Mode;
  readonly lines: readonly AssembledLine[];
  readonly labels: ReadonlyMap<string, bigint>;
  readonly errors: readonly SourceError[];
}

const DATA: Readonly<Record<string, number>> = { db: 1, dw: 2, dd: 4, dq: 8 };
const RESERVE: Readonly<Record<string, number>> = { resb: 1, resw: 2, resd: 4, resq: 8 };
const ELSEWHERE = new Set([
  "section",
  "segment",
  "global",
  "extern",
  "incbin",
  "default",
  "struc",
  "endstruc",
  "istruc",
]);
const MAX_PASSES = 50;
const MAX_BYTES = 1 << 20;
const MAX_ORIGIN = 0xffff_ffffn;
/** Where a program starts that does not say: as a flat binary does. */
const ORIGIN: Readonly<Record<Mode, number>> = { 16: 0x7c00, 32: 0x100000, 64: 0x100000 };

interface SourceLine {
  readonly number: number;
  readonly tokens: readonly Token[];
  readonly end: number;
}

class Pass {
  readonly bytes: number[] = [];
  readonly lines: AssembledLine[] = [];
  readonly errors: SourceError[] = [];
  readonly symbols = new Map<string, bigint>();
  readonly lengths = new Map<string, number>();
  mode: Mode = 16;
  firstMode: Mode | undefined;
  origin: bigint | undefined;
  #global = "";
  #line = 0;
  #start = 0;

  constructor(
    readonly before: Pass | undefined,
    readonly last: boolean,
    readonly defaultOrigin: number,
  ) {}

  get base(): bigint {
    return this.origin ?? BigInt(this.defaultOrigin);
  }

  get here(): bigint {
    return this.base + BigInt(this.bytes.length);
  }

  /** `.loop` belongs to the last label without a dot. */
  #qualified(name: string): string {
    return name.startsWith(".") ? this.#global + name : name;
  }

  readonly scope: Scope = {
    lookup: (token) => {
      if (token.text === "$") return this.base + BigInt(this.#start);
      if (token.text === "$$") return this.base;
      const name = this.#qualified(token.text);
      const value = this.symbols.get(name) ?? this.before?.symbols.get(name);
      if (value !== undefined || !this.last) return value;
      const register = REGISTERS.has(token.text.toLowerCase());
      const why = register ? `the register ${token.text} cannot stand here` : `"${token.text}" is defined nowhere`;
      throw new LineError(why, token.column, token.length);
    },
  };

  run(source: readonly SourceLine[]): this {
    for (const { number, tokens, end } of source) {
      this.#line = number;
      this.#start = this.bytes.length;
      try {
        this.#statement(new Cursor(tokens, end));
      } catch (error) {
        if (!(error instanceof LineError)) throw error;
        const { message, column, length } = error;
        this.errors.push({ line: number, column, length, message });
      }
      const length = this.bytes.length - this.#start;
      if (length > 0) {
        const first = tokens.find((token) => isInstruction(token.text.toLowerCase()));
        this.lines.push({ line: number, address: Number(this.base) + this.#start, length, code: first !== undefined });
      }
    }
    return this;
  }

  #define(token: Token, value: bigint): void {
    const name = this.#qualified(token.text);
    if (this.symbols.has(name)) throw new LineError(`"${name}" is defined twice`, token.column, token.length);
    this.symbols.set(name, value);
  }

  #label(cursor: Cursor): void {
    const token = cursor.peek();
    const after = cursor.peek(1);
    if (token?.kind !== "name") return;
    const name = token.text.toLowerCase();
    const colon = after?.kind === "mark" && after.text === ":";
    if (!colon && (isInstruction(name) || this.#isDirective(name))) return;
    if (!colon && after !== undefined && !(after.kind === "name" && this.#startsStatement(after.text.toLowerCase())))
      return;
    if (REGISTERS.has(name))
      throw new LineError(`${token.text} is a register, not a label`, token.column, token.length);
    cursor.next();
    if (colon) cursor.next();
    if (cursor.takeName("equ")) {
      const value = expression(cursor, this.scope);
      if (!value.known && this.last)
        throw new LineError(`"${token.text}" cannot be worked out`, token.column, token.length);
      if (value.known) this.#define(token, value.value);
      return;
    }
    this.#define(token, this.here);
    if (!token.text.startsWith(".")) this.#global = token.text;
  }

  #isDirective(name: string): boolean {
    return (
      name in DATA || name in RESERVE || ["org", "bits", "align", "times", "cpu"].includes(name) || ELSEWHERE.has(name)
    );
  }

  #startsStatement(name: string): boolean {
    return name === "equ" || isInstruction(name) || this.#isDirective(name);
  }

  #statement(cursor: Cursor): void {
    this.#label(cursor);
    if (!cursor.done) this.#body(cursor, `${this.#line}`);
    if (!cursor.done) throw cursor.error(`"${cursor.peek()!.text}" is too much here`);
  }

  #body(cursor: Cursor, key: string): void {
    const token = cursor.next()!;
    const name = token.text.toLowerCase();
    if (token.kind !== "name") throw new LineError(`"${token.text}" starts no statement`, token.column, token.length);
    if (name in DATA) this.#data(cursor, DATA[name]!);
    else if (name in RESERVE) this.#zeros(this.#count(cursor) * RESERVE[name]!, token);
    else if (name === "bits") this.#bits(cursor);
    else if (name === "org") this.#org(cursor, token);
    else if (name === "align") this.#align(cursor, token);
    else if (name === "times") this.#times(cursor, key, token);
    else if (name === "cpu") cursor.next();
    else if (isInstruction(name)) this.#instruction(cursor, token, key);
    else {
      const why = ELSEWHERE.has(name)
        ? `${token.text} is not for this assembler, which makes flat binaries`
        : `"${token.text}" is no instruction of this processor and no directive`;
      throw new LineError(why, token.column, token.length);
    }
  }

  /** A number that must be known at once: it moves what follows. */
  #count(cursor: Cursor): number {
    const start = cursor.peek();
    const { value, known } = expression(cursor, this.scope);
    if (!known) return 0;
    if (value < 0n || value > BigInt(MAX_BYTES)) {
      throw new LineError(`${value} is not in 0 to ${MAX_BYTES}`, start?.column ?? 1, start?.length ?? 1);
    }
    return Number(value);
  }

  #emit(bytes: Iterable<number>, token: Token): void {
    for (const byte of bytes) this.bytes.push(byte);
    if (this.bytes.length > MAX_BYTES) {
      throw new LineError(`the program is longer than ${MAX_BYTES} bytes`, token.column, token.length);
    }
  }

  #zeros(count: number, token: Token): void {
    if (this.bytes.length + count > MAX_BYTES) {
      throw new LineError(`the program is longer than ${MAX_BYTES} bytes`, token.column, token.length);
    }
    this.#emit(new Uint8Array(count), token);
  }

  #bits(cursor: Cursor): void {
    const token = cursor.next();
    if (token?.text !== "16" && token?.text !== "32" && token?.text !== "64") {
      throw new LineError("bits is 16, 32 or 64", token?.column ?? cursor.end, token?.length ?? 1);
    }
    this.mode = Number(token.text) as Mode;
  }

  #org(cursor: Cursor, token: Token): void {
    const { value, known } = expression(cursor, this.scope);
    if (!known || value < 0n || value > MAX_ORIGIN) {
      throw new LineError("org is an address below 4 GiB", token.column, token.length);
    }
    if (this.bytes.length > 0)
      throw new LineError("org comes before everything that makes bytes", token.column, token.length);
    this.origin = value;
  }

  #align(cursor: Cursor, token: Token): void {
    const to = this.#count(cursor);
    if (to === 0 || (to & (to - 1)) !== 0) throw new LineError("align is a power of two", token.column, token.length);
    const fill: Value = cursor.take(",") ? expression(cursor, this.scope) : { value: 0x90n, known: true };
    const gap = (to - (Number(this.here) % to)) % to;
    this.#emit(new Uint8Array(gap).fill(Number(fill.value & 0xffn)), token);
  }

  #times(cursor: Cursor, key: string, token: Token): void {
    const count = this.#count(cursor);
    const body = cursor.tokens.slice(cursor.position);
    if (body.length === 0) throw cursor.error("times repeats a statement: times 8 db 0");
    cursor.skip(body.length);
    for (let i = 0; i < count; i++) {
      const inner = cursor.sub(body);
      this.#body(inner, `${key}.${i}`);
      if (!inner.done) throw inner.error(`"${inner.peek()!.text}" is too much here`);
      if (this.bytes.length > MAX_BYTES) {
        throw new LineError(`the program is longer than ${MAX_BYTES} bytes`, token.column, token.length);
      }
    }
  }

  #data(cursor: Cursor, width: number): void {
    do {
      const token = cursor.peek();
      if (!token) throw cursor.error("a value is missing");
      const alone = cursor.peek(1);
      if (token.kind === "string" && (alone === undefined || alone.text === ",")) {
        cursor.next();
        const bytes = [...stringBytes(token.text)];
        while (bytes.length % width !== 0) bytes.push(0);
        this.#emit(bytes, token);
        continue;
      }
      const { value } = expression(cursor, this.scope);
      const bits = BigInt(8 * width);
      if (value < -(1n << (bits - 1n)) || value >> bits > 0n) {
        throw new LineError(`${value} does not fit into ${8 * width} bits`, token.column, token.length);
      }
      this.#emit(
        Array.from({ length: width }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)),
        token,
      );
    } while (cursor.take(","));
  }

  #instruction(cursor: Cursor, first: Token, key: string): void {
    const prefixes: number[] = [];
    let operandSize = 0;
    let addressSize = 0;
    let token = first;
    for (;;) {
      const name = token.text.toLowerCase();
      const sized = SIZE_PREFIX.exec(name);
      if (sized) {
        if (sized[1] === "o") operandSize = Number(sized[2]) / 8;
        else addressSize = Number(sized[2]) / 8;
      } else if (name in PREFIXES) prefixes.push(PREFIXES[name]!);
      else break;
      const next = cursor.next();
      if (!next) throw new LineError("an instruction is missing after the prefix", token.column, token.length);
      token = next;
    }
    const name = token.text.toLowerCase();
    if (!isInstruction(name))
      throw new LineError(`"${token.text}" is no instruction of this processor`, token.column, token.length);
    const operands: Operand[] = [];
    if (!cursor.done) {
      do operands.push(operand(cursor, this.scope));
      while (cursor.take(","));
    }
    this.firstMode ??= this.mode;
    const instruction = { name, column: token.column, prefixes, operandSize, addressSize, operands };
    const atLeast = this.before?.lengths.get(key) ?? 0;
    const bytes = encode(instruction, { mode: this.mode, address: this.here, atLeast });
    this.lengths.set(key, bytes.length);
    this.#emit(bytes, token);
  }
}

const same = (a: ReadonlyMap<string, bigint>, b: ReadonlyMap<string, bigint>): boolean =>
  a.size === b.size && [...a].every(([name, value]) => b.get(name) === value);

/**
 * Assembles a program in NASM's syntax into a flat binary. It never throws for what the source says: `errors` has every
 * mistake with its place. Without `org` the program lies where a flat binary is loaded: 0x7C00 in 16-bit code, else 1 MiB.
 *
 * ```ts
 * assemble("bits 64\nmov eax, 42\nhlt").bytes; // b8 2a 00 00 00 f4
 * ```
 */
export function assemble(source: string): Assembly {
  const errors: SourceError[] = [];
  const lines: SourceLine[] = [];
  for (const [i, text] of source.split(/\r?\n/).entries()) {
    try {
      lines.push({ number: i + 1, tokens: tokenize(text), end: text.trimEnd().length + 1 });
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      errors.push({ line: i + 1, column: error.column, length: error.length, message: error.message });
    }
  }
  // where it lies without org depends on the mode, and the lengths of jumps on where it lies
  const origin = ORIGIN[new Pass(undefined, false, 0).run(lines).firstMode ?? 16];
  const pass = (before: Pass | undefined, last: boolean): Pass => new Pass(before, last, origin).run(lines);
  let before = pass(undefined, false);
  for (let i = 0; ; i++) {
    const now = pass(before, false);
    const settled =
      now.bytes.length === before.bytes.length && same(now.symbols, before.symbols) && now.base === before.base;
    before = now;
    if (settled || i === MAX_PASSES) break;
  }
  const result = pass(before, true);
  if (!same(result.symbols, before.symbols) && result.errors.length === 0) {
    errors.push({ line: 1, column: 1, length: 1, message: "the addresses of the labels do not settle" });
  }
  return {
    bytes: Uint8Array.from(result.bytes),
    origin: Number(result.base),
    mode: result.firstMode ?? 16,
    lines: result.lines,
    labels: result.symbols,
    errors: [...errors, ...result.errors].sort((a, b) => a.line - b.line || a.column - b.column),
  };
}
