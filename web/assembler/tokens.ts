import { LineError } from "./errors.ts";

export type TokenKind = "name" | "number" | "string" | "mark";

export interface Token {
  readonly kind: TokenKind;
  /** As written; a string without its quotes. */
  readonly text: string;
  /** Of a number. */
  readonly value: bigint;
  /** From 1. */
  readonly column: number;
  readonly length: number;
}

const PATTERN =
  /(\s+)|(;.*)|([A-Za-z_.?@][\w.?@$#~]*)|(\$?[0-9][0-9A-Za-z_]*|\$\$|\$)|("[^"]*"|'[^']*'|`[^`]*`)|(<<|>>|\/\/|%%|[-+*/%&|^~()[\],:=])|(.)/gy;

const RADIX: readonly (readonly [RegExp, number])[] = [
  [/^0x([0-9a-f_]+)$/i, 16],
  [/^0h([0-9a-f_]+)$/i, 16],
  [/^\$([0-9][0-9a-f_]*)$/i, 16],
  [/^0b([01_]+)$/i, 2],
  [/^0[oq]([0-7_]+)$/i, 8],
  [/^([0-9][0-9a-f_]*)h$/i, 16],
  [/^([01_]+)b$/i, 2],
  [/^([0-9][0-7_]*)[oq]$/i, 8],
  [/^([0-9][0-9_]*)d?$/i, 10],
];

function numberOf(text: string): bigint | undefined {
  for (const [pattern, radix] of RADIX) {
    const digits = pattern.exec(text)?.[1]?.replaceAll("_", "");
    if (!digits) continue;
    let value = 0n;
    for (const digit of digits) value = value * BigInt(radix) + BigInt(Number.parseInt(digit, radix));
    return value;
  }
  return undefined;
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  0: "\0",
  e: "\x1b",
  "\\": "\\",
  "`": "`",
};

function unquote(text: string): string {
  const inner = text.slice(1, -1);
  return text[0] === "`" ? inner.replace(/\\(.)/g, (all, c: string) => ESCAPES[c] ?? all) : inner;
}

/** The bytes of a string, as UTF-8. */
export function stringBytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** One line without its comment. */
export function tokenize(line: string): Token[] {
  const tokens: Token[] = [];
  for (const match of line.matchAll(PATTERN)) {
    const [text, space, comment, name, number, string, mark] = match;
    const column = match.index + 1;
    const { length } = text;
    const add = (kind: TokenKind, shown = text, value = 0n) =>
      tokens.push({ kind, text: shown, value, column, length });
    if (space !== undefined) continue;
    if (comment !== undefined) break;
    if (name !== undefined) add("name");
    else if (text === "$" || text === "$$") add("name");
    else if (number !== undefined) {
      const value = numberOf(text);
      if (value === undefined) throw new LineError(`"${text}" is not a number`, column, length);
      add("number", text, value);
    } else if (string !== undefined) add("string", unquote(text));
    else if (mark !== undefined) add("mark");
    else {
      const quote = /["'`]/.test(text);
      throw new LineError(quote ? "the string has no end" : `"${text}" means nothing here`, column, length);
    }
  }
  return tokens;
}
