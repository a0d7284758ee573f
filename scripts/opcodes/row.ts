/** One row of the opcode table and the notation its places are written in. */

export type OpcodeMap = "one" | "0f" | "0f38" | "0f3a" | "vex0f38" | "vex0f3a";
/** Mandatory prefix: none, 66, F3, F2; the last F3 or F2 beats 66. */
export type Prefix = 0 | 1 | 2 | 3;

export interface OpcodeRow {
  readonly map: OpcodeMap;
  readonly opcode: number;
  /** modrm.reg of a group member. */
  readonly digit?: number | undefined;
  /** modrm.rm of an instruction that is one modrm byte. */
  readonly rm?: number | undefined;
  /** Only the memory or only the register forms. */
  readonly mod?: "mem" | "reg" | undefined;
  /** Prefixes the row answers for; all when absent. */
  readonly prefixes?: readonly Prefix[] | undefined;
  /** Valid in 64-bit mode only (true) or outside it only (false). */
  readonly long?: boolean | undefined;
  readonly mnemonic: string;
  readonly operands: string;
  readonly handler: string;
  readonly attributes: readonly string[];
  /** CPUID feature that the row needs. */
  readonly feature?: Feature | undefined;
}

/** CPUID leaf, register and bit. */
export const FEATURES = {
  tsc: [1, "EDX", 4],
  msr: [1, "EDX", 5],
  cx8: [1, "EDX", 8],
  clfsh: [1, "EDX", 19],
  sse: [1, "EDX", 25],
  sse2: [1, "EDX", 26],
  monitor: [1, "ECX", 3],
  sse42: [1, "ECX", 20],
  movbe: [1, "ECX", 22],
  popcnt: [1, "ECX", 23],
  xsave: [1, "ECX", 26],
  rdrand: [1, "ECX", 30],
  fsgsbase: [7, "EBX", 0],
  bmi1: [7, "EBX", 3],
  bmi2: [7, "EBX", 8],
  invpcid: [7, "EBX", 10],
  rdseed: [7, "EBX", 18],
  adx: [7, "EBX", 19],
  smap: [7, "EBX", 20],
  clflushopt: [7, "EBX", 23],
  clwb: [7, "EBX", 24],
  rdpid: [7, "ECX", 22],
  lahf64: [0x80000001, "ECX", 0],
  lzcnt: [0x80000001, "ECX", 5],
  rdtscp: [0x80000001, "EDX", 27],
  cmov: [1, "EDX", 15],
} as const satisfies Record<string, readonly [number, string, number]>;
export type Feature = keyof typeof FEATURES;

export const opcodeRows: OpcodeRow[] = [];

/** Opcodes without any row that have a modrm byte; all of the 0F38 and 0F3A maps do. */
export const UNDEFINED_WITH_MODRM: Readonly<Partial<Record<OpcodeMap, readonly number[]>>> = {
  "0f": [0x7a, 0x7b, 0xa6, 0xa7],
};

const PREFIXES: Record<string, readonly Prefix[]> = { np: [0, 1], n0: [0], "66": [1], f3: [2], f2: [3] };

/**
 * A place: `[vex] [prefix] [0f [38|3a]] opcode [/digit] [modrm] [mem|reg]`.
 * prefix: np neither F3 nor F2 (66 is the operand size), n0 none, 66, f3, f2; nothing: any.
 */
export function row(code: string, mnemonic: string, operands: string, handler: string, attributes = ""): void {
  const parts: string[] = code.split(" ");
  const vex = parts[0] === "vex";
  if (vex) parts.shift();
  let prefixes: readonly Prefix[] | undefined;
  if (parts.length > 1 && PREFIXES[parts[0]!]) prefixes = PREFIXES[parts.shift()!];
  let map = "one";
  if (parts.length > 1 && parts[0] === "0f") {
    parts.shift();
    const escaped = parts.length > 1 && /^3[8a]$/.test(parts[0]!) ? parts.shift()! : "";
    map = `0f${escaped}`;
  }
  if (vex) map = `vex${map}`;
  const opcode = Number.parseInt(parts.shift() ?? "", 16);
  let digit: number | undefined;
  let rm: number | undefined;
  let mod: "mem" | "reg" | undefined;
  for (const p of parts) {
    if (p.startsWith("/")) digit = Number(p.slice(1));
    else if (p === "mem" || p === "reg") mod = p;
    else {
      const modrm = Number.parseInt(p, 16);
      mod = "reg";
      digit = (modrm >> 3) & 7;
      rm = modrm & 7;
    }
  }
  const list = attributes ? attributes.split(" ") : [];
  const feature = list.find((a) => a in FEATURES) as Feature | undefined;
  const long = list.includes("only64") ? true : list.includes("no64") ? false : undefined;
  const place = { map: map as OpcodeMap, opcode, digit, rm, mod, prefixes, long };
  opcodeRows.push({ ...place, mnemonic, operands, handler, attributes: list, feature });
}

export const hex = (n: number): string => n.toString(16).padStart(2, "0");
export const cc = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
