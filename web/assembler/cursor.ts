import { LineError } from "./errors.ts";
import type { Token } from "./tokens.ts";

/** Reads the tokens of a line from left to right. */
export class Cursor {
  #at = 0;

  constructor(
    readonly tokens: readonly Token[],
    /** Column after the last token, for what is missing there. */
    readonly end: number,
  ) {}

  peek(ahead = 0): Token | undefined {
    return this.tokens[this.#at + ahead];
  }

  next(): Token | undefined {
    const token = this.tokens[this.#at];
    if (token) this.#at++;
    return token;
  }

  get done(): boolean {
    return this.#at >= this.tokens.length;
  }

  get position(): number {
    return this.#at;
  }

  /** Another cursor over some of the tokens. */
  sub(tokens: readonly Token[]): Cursor {
    const last = tokens.at(-1);
    return new Cursor(tokens, last ? last.column + last.length : this.end);
  }

  skip(count: number): void {
    this.#at += count;
  }

  /** Is the next token this mark? Takes it. */
  take(mark: string): boolean {
    const token = this.peek();
    if (token?.kind !== "mark" || token.text !== mark) return false;
    this.#at++;
    return true;
  }

  /** Is the next token one of these names, in any case? Takes it. */
  takeName(...names: readonly string[]): string | undefined {
    const token = this.peek();
    if (token?.kind !== "name" || !names.includes(token.text.toLowerCase())) return undefined;
    this.#at++;
    return token.text.toLowerCase();
  }

  expect(mark: string): void {
    if (!this.take(mark)) throw this.error(`"${mark}" is missing`);
  }

  /** An error at the next token, or after the last one. */
  error(message: string): LineError {
    const token = this.peek();
    return new LineError(message, token?.column ?? this.end, token?.length ?? 1);
  }
}
