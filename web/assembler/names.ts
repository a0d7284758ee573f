// What an instruction may be called, and the rows of the opcode table that a name stands for.
import { opcodeRows, type Row } from "../../src/disasm/opcodeRows.ts";

export type Mode = 16 | 32 | 64;

/** A row under one of its names. `size`: the operand size that the name fixes, 0: none. */
export interface Form {
  readonly row: Row;
  readonly size: number;
  /** The name means the default operand size of the mode. */
  readonly plain: boolean;
  /** A string instruction: the registers are not written. */
  readonly string: boolean;
  readonly tokens: readonly string[];
  readonly attributes: ReadonlySet<string>;
}

/** Rows that stand for opcodes without a name of their own. */
const NAMELESS = new Set(["x87", "simd", "prefetch_reserved"]);
const STRINGS = new Set(["movs", "cmps", "stos", "lods", "scas", "ins", "outs"]);
const SUFFIXES = ["b", "w", "d", "q"] as const;
/** By operand size, but written without a suffix in the default one. */
const BY_DEFAULT = new Set(["pusha", "popa", "pushf", "popf", "iret", "sysret", "sysexit"]);
const CONDITIONS: Readonly<Record<string, string>> = {
  z: "e",
  nz: "ne",
  c: "b",
  nc: "ae",
  nae: "b",
  nb: "ae",
  na: "be",
  nbe: "a",
  pe: "p",
  po: "np",
  nge: "l",
  nl: "ge",
  ng: "le",
  nle: "g",
};
const ALIASES: Readonly<Record<string, string>> = {
  loopz: "loope",
  loopnz: "loopne",
  sal: "shl",
  xlatb: "xlat",
  retn: "ret",
  retf: "ret far",
  icebp: "int1",
  wait: "fwait",
};

function formsByName(): Map<string, Form[]> {
  const forms = new Map<string, Form[]>();
  const add = (name: string, row: Row, size: number, plain = false, string = false) => {
    const list = forms.get(name) ?? [];
    const tokens = row[8] ? row[8].split(",") : [];
    list.push({ row, size, plain, string, tokens, attributes: new Set(row[9].split(" ")) });
    forms.set(name, list);
  };
  for (const row of opcodeRows()) {
    const names = row[7];
    if (NAMELESS.has(names)) continue;
    if (STRINGS.has(names)) {
      const byte = row[8].includes("b");
      for (const [k, suffix] of SUFFIXES.entries()) {
        if (byte === (k === 0) && !(suffix === "q" && row[9].includes("noq")))
          add(names + suffix, row, 1 << k, false, true);
      }
    } else if (names.includes("|")) {
      const [word = "", double = "", quad = ""] = names.split("|");
      if (BY_DEFAULT.has(word)) {
        add(word, row, 0, true);
        if (!word.startsWith("sys")) add(`${word}w`, row, 2);
        if (double && double !== word) add(double, row, 4);
        if (quad && quad !== word) add(quad, row, 8);
      } else if (word === double) {
        add(word, row, 0, true);
        add(quad, row, 8);
      } else {
        for (const [k, name] of [word, double, quad].entries()) if (name) add(name, row, 2 << k);
      }
    } else if (names === "nop" && row[8] === "Zv,rAX") add("xchg", row, 0);
    else add(names, row, 0);
  }
  for (const [alias, name] of Object.entries(ALIASES)) forms.set(alias, forms.get(name) ?? []);
  for (const [alias, condition] of Object.entries(CONDITIONS)) {
    for (const stem of ["j", "set", "cmov"]) forms.set(stem + alias, forms.get(stem + condition) ?? []);
  }
  forms.delete("");
  return forms;
}

export const FORMS: ReadonlyMap<string, readonly Form[]> = formsByName();

/** Bytes that stand for themselves: NOP and PAUSE share their opcode with XCHG. */
export const FIXED: Readonly<Record<string, readonly number[]>> = { nop: [0x90], pause: [0xf3, 0x90] };

export const PREFIXES: Readonly<Record<string, number>> = {
  lock: 0xf0,
  rep: 0xf3,
  repe: 0xf3,
  repz: 0xf3,
  repne: 0xf2,
  repnz: 0xf2,
  es: 0x26,
  cs: 0x2e,
  ss: 0x36,
  ds: 0x3e,
  fs: 0x64,
  gs: 0x65,
};
/** `o16` and the like: operand and address size in bits. */
export const SIZE_PREFIX = /^([oa])(16|32|64)$/;

export function isInstruction(name: string): boolean {
  return FORMS.has(name) || name in FIXED || name in PREFIXES || SIZE_PREFIX.test(name);
}
