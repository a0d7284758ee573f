import { parseArgs } from "node:util";

/** Wrong input of the user: message on stderr, exit status 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

export interface OptionSpec {
  readonly type: "string" | "boolean";
  readonly short?: string;
  /** Values that completion offers; without them an option's value is a word of its own, or a file. */
  readonly values?: readonly string[];
  /** The value is a file's name. */
  readonly file?: true;
}

export interface ParsedArgs {
  readonly positionals: readonly string[];
  readonly strings: ReadonlyMap<string, string>;
  /** Every value of each option, in order; `strings` has the last. */
  readonly lists: ReadonlyMap<string, readonly string[]>;
  readonly flags: ReadonlySet<string>;
}

/** Edit distance of two short words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/** ` (did you mean X?)` when one of the names is near, else nothing. */
export function suggestion(word: string, names: Iterable<string>): string {
  let best = "";
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const name of names) {
    const d = distance(word, name);
    if (d < bestDistance) [best, bestDistance] = [name, d];
  }
  return best === "" ? "" : ` (did you mean ${best}?)`;
}

/** parseArgs with messages that name the nearest option, or `help`, the command that lists them. */
export function parseOptions(
  args: readonly string[],
  options: Readonly<Record<string, OptionSpec>>,
  help: string,
): ParsedArgs {
  const parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: false, tokens: true });
  const strings = new Map<string, string>();
  const lists = new Map<string, string[]>();
  const flags = new Set<string>();
  for (const token of parsed.tokens) {
    if (token.kind !== "option") continue;
    const spec = options[token.name];
    if (spec === undefined) {
      const names = Object.keys(options).map((name) => `--${name}`);
      throw new UsageError(`unknown option ${token.rawName}${suggestion(token.rawName, names)}; see ${help}`);
    }
    if (spec.type === "boolean") {
      if (token.value !== undefined) throw new UsageError(`option --${token.name} takes no value`);
      flags.add(token.name);
    } else {
      if (token.value === undefined || (!token.inlineValue && /^-./.test(token.value))) {
        throw new UsageError(`option --${token.name} needs a value`);
      }
      strings.set(token.name, token.value);
      lists.set(token.name, [...(lists.get(token.name) ?? []), token.value]);
    }
  }
  return { positionals: parsed.positionals, strings, lists, flags };
}

/** A whole number, decimal or 0x. */
export function parseNumber(option: string, text: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw new UsageError(`${option} needs a whole number, decimal or 0x..., not "${text}"`);
  if (value > max) throw new UsageError(`${option} ${text} is too large: at most ${max} (0x${max.toString(16)})`);
  return value;
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A number of bytes: decimal or 0x, with K, M or G for powers of 1024. */
export function parseSize(option: string, text: string): number {
  const match = /^(0x[0-9a-f]+|[0-9]+)([kmg]?)(?:i?b)?$/i.exec(text);
  if (!match) throw new UsageError(`${option} needs a size such as 16M, 512K or 0x100000, not "${text}"`);
  const value = Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  if (!Number.isSafeInteger(value)) throw new UsageError(`${option} ${text} is absurd`);
  return value;
}
