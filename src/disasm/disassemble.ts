// One instruction in Intel syntax, from the same table as the processor's decoder.
import { type DisassemblyMode, Fields } from "./fields.ts";
import { OperandWriter } from "./operands.ts";

export interface DisassembleOptions {
  /** Width of the code: 16 or 32 by CS.D, 64 in 64-bit mode. */
  readonly mode: DisassemblyMode;
  /** Address of the first byte, for branch targets and RIP-relative operands; default 0. */
  readonly address?: bigint | number;
}

export interface Disassembly {
  /** Bytes of the instruction; of one that is not valid, those that were looked at. */
  readonly length: number;
  /** The whole line, for example `lock add dword ptr [rax+0x8], ecx`; `(bad)` when it is not valid. */
  readonly text: string;
  /** `add`; `(bad)` when it is not valid. */
  readonly mnemonic: string;
  readonly operands: readonly string[];
  /** False: the bytes are no instruction of any processor model here, or there are too few of them. */
  readonly valid: boolean;
  /** Where a direct branch goes. */
  readonly target?: bigint;
}

/** Tokens of the bytes that follow modrm, in the order they have in memory. */
const AFTER = /^(I|J|A[p]|O)/;
const STRINGS = new Set(["movs", "cmps", "stos", "lods", "scas", "ins", "outs"]);

function operandSize(f: Fields, tokens: readonly string[], attributes: readonly string[]): number {
  const has = (name: string): boolean => attributes.includes(name);
  const narrow = tokens.some((t) => t.endsWith("y"));
  if (has("natural")) return f.mode === 64 ? 8 : 4;
  if (f.mode === 64) {
    if (has("f64")) return 8;
    if (f.rex & 8) return has("noq") ? 4 : 8;
    if (f.operand16 && !narrow) return 2;
    return has("d64") ? 8 : 4;
  }
  return narrow || (f.mode === 32) !== f.operand16 ? 4 : 2;
}

function bad(f: Fields): Disassembly {
  return { length: f.at, text: "(bad)", mnemonic: "(bad)", operands: [], valid: false };
}

/** Operands of string instructions by mnemonic; the table says them without their registers. */
const STRING_OPERANDS: Record<string, readonly string[]> = {
  movs: ["Y", "X"],
  cmps: ["X", "Y"],
  stos: ["Y"],
  lods: ["X"],
  scas: ["Y"],
  ins: ["Y", "DX"],
  outs: ["DX", "X"],
};

/**
 * Disassembles the first instruction of `bytes`.
 *
 * ```ts
 * disassemble(Uint8Array.of(0x0f, 0xa2), { mode: 64 }).text; // "cpuid"
 * ```
 */
export function disassemble(bytes: Uint8Array, options: DisassembleOptions): Disassembly {
  const f = new Fields(bytes, options.mode);
  if (!f.row || f.truncated) return bad(f);
  const [, , digit, rm, , , , names, tokenText, attributeText] = f.row;
  const attributes = attributeText.split(" ");
  const string = STRINGS.has(names);
  const byte = tokenText.endsWith("b");
  const tokens = string
    ? STRING_OPERANDS[names]!.map((t) => (t === "DX" ? t : t + (byte || /Yb|Xb/.test(tokenText) ? "b" : "v")))
    : tokenText
      ? tokenText.split(",")
      : [];
  const size = operandSize(f, tokens, attributes);
  const hasModrm = digit >= 0 || rm >= 0 || tokens.some((t) => /^(E|G|M|R|C[n]|D[n]|Sw)/.test(t) && !/^[EG]S$/.test(t));
  if (hasModrm) f.readModrm(tokens.some((t) => /^[CD]n$/.test(t)));
  if (f.truncated) return bad(f);
  if (tokens.some((t) => t.startsWith("M")) && !f.memory) return bad(f);
  if (f.lock && !(attributes.includes("lock") && f.memory)) return bad(f);
  if (f.vex && f.vvvv !== 0 && !tokens.some((t) => t.startsWith("B"))) return bad(f);

  // immediates are read first where a RIP-relative operand must know the length
  const writer = new OperandWriter(f, size, BigInt(options.address ?? 0));
  const late = new Map<string, string>();
  for (const t of tokens) if (AFTER.test(t)) late.set(t, writer.write(t));
  const operands = tokens.map((t) => late.get(t) ?? writer.write(t));
  if (f.truncated) return bad(f);

  const mnemonic = mnemonicOf(f, names, byte ? 1 : size, string, tokens);
  const shown = mnemonic === "pause" || mnemonic === "nop" ? operands.filter(() => f.opcode !== 0x90) : operands;
  const prefix = f.lock ? "lock " : string && f.repeat ? repeatName(f, names) : "";
  return {
    length: f.at,
    text: `${prefix}${mnemonic}${shown.length ? ` ${shown.join(", ")}` : ""}`,
    mnemonic,
    operands: shown,
    valid: true,
    ...(writer.target === undefined ? {} : { target: writer.target }),
  };
}

function repeatName(f: Fields, name: string): string {
  if (f.repeat === 0xf2) return "repne ";
  return name === "cmps" || name === "scas" ? "repe " : "rep ";
}

function mnemonicOf(f: Fields, names: string, size: number, string: boolean, tokens: readonly string[]): string {
  if (string) {
    const bytes = tokens.some((t) => /^[XY]b$/.test(t)) ? 1 : size;
    return names + { 1: "b", 2: "w", 4: "d", 8: "q" }[bytes];
  }
  if (names === "nop" && f.opcode === 0x90) {
    if (f.repeat === 0xf3) return "pause";
    return f.rex & 9 || f.operand16 ? "xchg" : "nop";
  }
  if (!names.includes("|")) return names;
  const by = names.startsWith("jcxz") ? f.addressBits / 8 : size;
  return names.split("|")[by === 2 ? 0 : by === 4 ? 1 : 2]!;
}
