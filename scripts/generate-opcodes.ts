/** Writes what follows from scripts/opcodes.ts: the decoder's table, the dispatch switch and docs/instructions.md. */
import { type OpcodeRow, opcodeRows } from "./opcodes.ts";

const SIZES = [1, 2, 4, 8] as const;
const TYPE: Record<number, string> = { 1: "u8", 2: "u16", 4: "u32", 8: "u64" };

// entry flags (assembly/decode/entry.ts holds the same list; it is generated)
const FLAGS = {
  Byte: 1, // one-byte operands
  Sized: 2, // op + 0, 1, 2 for 16, 32, 64 bits
  MemForm: 4, // register forms first, memory forms after them
  Default64: 8,
  Force64: 16,
  Ends: 32,
  Lock: 64,
  No64: 128,
  Rm8: 256, // rm is a byte whatever the operand size
  MemOnly: 512,
  NoQuad: 1024,
  Natural: 2048,
  Only64: 4096,
} as const;
const ARRANGE = { None: 0, EG: 1, GE: 2, E: 3, Z: 4, A: 5, Seg: 6, R: 7 } as const;
const IMM = { None: 0, Ib: 1, Iz: 2, Iv: 3, Iw: 4, IwIb: 5, One: 6, Far: 7, J8: 8, Jz: 9, Offset: 10 } as const;

interface Entry {
  op: number;
  format: number;
  flags: number;
}

interface Case {
  comment: string;
  body: string;
  /** May set the stop word. */
  stops: boolean;
  ends: boolean;
}

const SHAPES: Record<string, [keyof typeof ARRANGE, keyof typeof IMM, number]> = {
  "": ["None", "None", 0],
  Fv: ["None", "None", 0],
  "Eb,Gb": ["EG", "None", FLAGS.Byte],
  "Ev,Gv": ["EG", "None", 0],
  "Gb,Eb": ["GE", "None", FLAGS.Byte],
  "Gv,Ev": ["GE", "None", 0],
  "Gv,Eb": ["GE", "None", FLAGS.Rm8],
  "Gv,Ew": ["GE", "None", 0],
  "Gv,Ed": ["GE", "None", 0],
  "Gv,M": ["GE", "None", FLAGS.MemOnly],
  "Gv,Mp": ["GE", "None", FLAGS.MemOnly],
  "AL,Ib": ["A", "Ib", FLAGS.Byte],
  "rAX,Iz": ["A", "Iz", 0],
  "eAX,Ib": ["A", "Ib", 0],
  "Ib,AL": ["A", "Ib", FLAGS.Byte],
  "Ib,eAX": ["A", "Ib", 0],
  "AL,DX": ["A", "None", FLAGS.Byte],
  "eAX,DX": ["A", "None", 0],
  "DX,AL": ["A", "None", FLAGS.Byte],
  "DX,eAX": ["A", "None", 0],
  "Eb,Ib": ["E", "Ib", FLAGS.Byte],
  "Ev,Iz": ["E", "Iz", 0],
  "Ev,Ibs": ["E", "Ib", 0],
  "Ev,Ib": ["E", "Ib", 0],
  "Eb,1": ["E", "One", FLAGS.Byte],
  "Ev,1": ["E", "One", 0],
  "Eb,CL": ["E", "None", FLAGS.Byte],
  "Ev,CL": ["E", "None", 0],
  Eb: ["E", "None", FLAGS.Byte],
  Ev: ["E", "None", 0],
  Ew: ["E", "None", 0],
  E: ["E", "None", 0],
  M: ["E", "None", FLAGS.MemOnly],
  Mp: ["E", "None", FLAGS.MemOnly],
  "Ev,Sw": ["E", "None", 0],
  "Sw,Ew": ["E", "None", 0],
  "Rd,Cd": ["R", "None", 0],
  "Rd,Dd": ["R", "None", 0],
  "Cd,Rd": ["R", "None", 0],
  "Dd,Rd": ["R", "None", 0],
  Zv: ["Z", "None", 0],
  "Zb,Ib": ["Z", "Ib", FLAGS.Byte],
  "Zv,Iv": ["Z", "Iv", 0],
  "Gv,Ev,Iz": ["GE", "Iz", 0],
  "Gv,Ev,Ibs": ["GE", "Ib", 0],
  "Ev,Gv,Ib": ["EG", "Ib", 0],
  "Ev,Gv,CL": ["EG", "None", 0],
  Jb: ["None", "J8", 0],
  Jz: ["None", "Jz", 0],
  Ap: ["None", "Far", 0],
  Iw: ["None", "Iw", 0],
  "Iw,Ib": ["None", "IwIb", 0],
  Iz: ["None", "Iz", 0],
  Ib: ["None", "Ib", 0],
  Ibs: ["None", "Ib", 0],
  "AL,Ob": ["A", "Offset", FLAGS.Byte],
  "rAX,Ov": ["A", "Offset", 0],
  "Ob,AL": ["A", "Offset", FLAGS.Byte],
  "Ov,rAX": ["A", "Offset", 0],
  "Yb,DX": ["None", "None", FLAGS.Byte],
  "Yv,DX": ["None", "None", 0],
  "DX,Xb": ["None", "None", FLAGS.Byte],
  "DX,Xv": ["None", "None", 0],
};
for (const pair of ["Y,X", "X,Y", "Y,A", "A,X", "A,Y"]) {
  SHAPES[`${pair}b`] = ["None", "None", FLAGS.Byte];
  SHAPES[`${pair}v`] = ["None", "None", 0];
}
for (const seg of ["ES", "CS", "SS", "DS", "FS", "GS"]) SHAPES[seg] = ["Seg", "None", 0];

const cases: Case[] = [];
const known = new Map<string, number>();

/** The numbers of a run of cases, made once for each distinct run. */
function numbers(key: string, make: () => Case[]): number {
  const at = known.get(key);
  if (at !== undefined) return at;
  const first = cases.length;
  cases.push(...make());
  known.set(key, first);
  return first;
}

function single(name: string, ends: boolean, body: string): number {
  return numbers(name, () => [{ comment: name, body, stops: true, ends }]);
}

const OP_UD = single("(undefined)", true, "raise(6);");
const OP_TODO = single("(not built)", true, "stopHost(RunCode.Unimplemented);");
single("(end of block)", true, "");
single("(over 15 bytes)", true, "raiseError(13, 0);");

/** Register-only forms cannot stop; families whose register form is plain. */
const PLAIN = new Set(["alu", "mov", "unary", "shift", "set", "bit", "bitImm"]);
const STOPLESS = new Set([
  "lea<T>",
  "cbw<T>",
  "cwd<T>",
  "bswap<T>",
  "xchgAccumulator<T>",
  "nop",
  "sahf",
  "lahf",
  "clc",
  "stc",
  "cmc",
  "cld",
  "std",
  "daa",
  "das",
  "aaa",
  "aas",
  "aad",
  "salc",
  "fence",
]);

function call(row: OpcodeRow, form: string, size: number): string {
  const [family, member] = row.handler.split(":") as [string, string | undefined];
  const type = TYPE[size] ?? "u32";
  if (member === undefined && family !== "mov") return `${family.replace("<T>", `<${type}>`)}(rec);`;
  const base = family.replace("<T>", "");
  switch (base) {
    case "alu":
      return `Alu.${form}<${type}>(rec, AluOp.${member});`;
    case "mov":
      return `Mov.${form}<${type}>(rec);`;
    case "unary":
      return `Unary.${form}<${type}>(rec, UnaryOp.${member});`;
    case "shift":
      return `Shift.${form}<${type}>(rec, ShiftOp.${member}, ${row.operands.endsWith("CL") ? "load<u8>(RCX)" : "load<u8>(rec, R_IMM)"});`;
    case "doubleShift":
      return `${member}<${type}>(rec, ${row.operands.endsWith("CL") ? "load<u8>(RCX)" : "load<u8>(rec, R_IMM)"});`;
    case "bit":
      return `Bit.${form}<${type}>(rec, BitOp.${member});`;
    case "bitImm":
      return `Bit.${form}Imm<${type}>(rec, BitOp.${member});`;
    case "jcc":
      return `if (Cond.test(${member})) jump(rec);`;
    case "set":
      return `setByte${form === "reg" ? "" : "Mem"}(rec, Cond.test(${member}));`;
    case "cmov":
      return `cmov<${type}>(rec, Cond.test(${member}));`;
    default:
      throw new Error(`opcode table: unknown family in ${row.handler}`);
  }
}

function entryOf(row: OpcodeRow): Entry {
  const shape = SHAPES[row.operands];
  if (!shape) throw new Error(`opcode table: unknown operands "${row.operands}" of ${row.mnemonic}`);
  const [arrange, imm, shapeFlags] = shape;
  let flags = shapeFlags;
  const has = (a: string): boolean => row.attributes.includes(a);
  if (has("d64")) flags |= FLAGS.Default64;
  if (has("f64")) flags |= FLAGS.Force64;
  if (has("ends")) flags |= FLAGS.Ends;
  if (has("lock")) flags |= FLAGS.Lock;
  if (has("no64")) flags |= FLAGS.No64;
  if (has("only64")) flags |= FLAGS.Only64;
  if (has("noq")) flags |= FLAGS.NoQuad;
  if (has("natural")) flags |= FLAGS.Natural;
  const format = ARRANGE[arrange] | (IMM[imm] << 3);
  if (row.handler === "todo") return { op: OP_TODO, format, flags };
  const ends = has("ends");
  const [family, member] = row.handler.split(":") as [string, string | undefined];
  const byte = (flags & FLAGS.Byte) !== 0;
  if (!family.endsWith("<T>") && family !== "mov" && (member === undefined || family === "jcc")) {
    return {
      op: numbers(row.handler, () => [
        { comment: row.handler, body: call(row, "", 0), stops: !STOPLESS.has(row.handler), ends },
      ]),
      format,
      flags,
    };
  }
  const formNames: [string, string] =
    family === "alu" || family === "mov"
      ? arrange === "EG"
        ? ["rr", "mr"]
        : arrange === "GE"
          ? ["rr", "rm"]
          : ["ri", "mi"]
      : family === "bit" || family === "bitImm" || family === "unary" || family === "shift" || family === "set"
        ? ["reg", "mem"]
        : ["", ""];
  const withMem = formNames[0] !== "" && (arrange === "EG" || arrange === "GE" || arrange === "E");
  if (withMem) flags |= FLAGS.MemForm;
  const sizes = byte ? [1] : SIZES.slice(1);
  if (!byte) flags |= FLAGS.Sized;
  const operandKey =
    family === "shift" || family === "doubleShift"
      ? row.operands.replace(/,(Ib|1)$/, ",I")
      : withMem || formNames[0]
        ? formNames.join()
        : "";
  const key = `${row.handler} ${operandKey} ${byte ? "b" : "v"}${withMem ? " m" : ""}`;
  const op = numbers(key, () => {
    const out: Case[] = [];
    for (const form of withMem ? formNames : [formNames[0]]) {
      for (const size of sizes) {
        const plainRegister = PLAIN.has(family) && form === formNames[0];
        out.push({
          comment: `${row.handler} ${form}${size * 8}`,
          body: call(row, form, size),
          stops: !(plainRegister || STOPLESS.has(row.handler)),
          ends,
        });
      }
    }
    return out;
  });
  return { op, format, flags };
}

const UNDEFINED: Entry = { op: OP_UD, format: 0, flags: FLAGS.Ends };
const GROUP = 0xffff;

function tables(): { bytes: number[]; groups: number } {
  const maps: Record<OpcodeRow["map"], (Entry | undefined)[]> = { one: Array(256), "0f": Array(256) };
  const groups: Entry[][] = [];
  const registerForms: Entry[] = Array(64).fill(UNDEFINED);
  const groupOf = new Map<string, number>();
  for (const row of opcodeRows) {
    if (row.modrm !== undefined) {
      registerForms[row.modrm - 0xc0] = entryOf(row);
      continue;
    }
    if (row.digit === undefined) {
      maps[row.map][row.opcode] = entryOf(row);
      continue;
    }
    const key = `${row.map} ${row.opcode}`;
    let g = groupOf.get(key);
    if (g === undefined) {
      g = groups.length;
      groups.push(Array(8).fill(UNDEFINED));
      groupOf.set(key, g);
      maps[row.map][row.opcode] = { op: g, format: GROUP, flags: 0 };
    }
    groups[g]![row.digit] = entryOf(row);
  }
  // group 7 looks at the register forms first
  const seven = maps["0f"][0x01];
  if (seven) seven.flags = 1;
  const all = [...maps.one, ...maps["0f"], ...registerForms, ...groups.flat()];
  const bytes: number[] = [];
  for (let i = 0; i < all.length; i++) {
    const e = all[i] ?? UNDEFINED;
    bytes.push(e.op & 255, e.op >> 8, e.format & 255, e.format >> 8, e.flags & 255, e.flags >> 8);
  }
  return { bytes, groups: groups.length };
}

const HEADER = "// Generated by `npm run generate` from scripts/opcodes.ts. Do not edit.\n";

function tableFile(bytes: number[]): string {
  const lines: string[] = [];
  for (let i = 0; i < bytes.length; i += 36) lines.push(`  ${bytes.slice(i, i + 36).join(", ")},`);
  const constants = [
    ...Object.entries(FLAGS).map(([k, v]) => `export const F_${k.toUpperCase()}: u32 = ${v};`),
    ...Object.entries(ARRANGE).map(([k, v]) => `export const ARRANGE_${k.toUpperCase()}: u32 = ${v};`),
    ...Object.entries(IMM).map(([k, v]) => `export const IMM_${k.toUpperCase()}: u32 = ${v};`),
  ].join("\n");
  return `${HEADER}// Entries of 6 bytes {u16 op, u16 format, u16 flags}: one-byte map, 0F map, register forms of 0F 01 (modrm C0-FF), groups.
${constants}

export const OP_UNDEFINED: u32 = 0;
export const OP_TODO: u32 = 1;
export const OP_END: u32 = 2;
export const OP_TOO_LONG: u32 = 3;
export const OP_COUNT: u32 = ${cases.length};
export const FORMAT_GROUP: u32 = ${GROUP};
export const ENTRY_BYTES: u32 = 6;
export const OPCODES: usize = memory.data<u8>([
${lines.join("\n")}
]);
export const OPCODES_0F: usize = OPCODES + 256 * 6;
export const OPCODES_REGISTER: usize = OPCODES + 512 * 6;
export const OPCODES_GROUPS: usize = OPCODES + 576 * 6;
`;
}

const SOURCES: Record<string, string[]> = {
  "./alu": ["Alu", "AluOp", "Unary", "UnaryOp"],
  "./mov": ["Mov"],
  "./shift": ["Shift", "ShiftOp"],
  "./bits": ["Bit", "BitOp"],
  "./condition": ["Cond"],
};

/** `exportsOf` maps a handler's name to the module that exports it. */
function dispatchFile(exportsOf: ReadonlyMap<string, string>): string {
  const imports = new Map<string, Set<string>>();
  const add = (module: string, name: string): void => {
    const set = imports.get(module) ?? new Set<string>();
    set.add(name);
    imports.set(module, set);
  };
  for (const [module, names] of Object.entries(SOURCES)) for (const n of names) add(module, n);
  const missing: string[] = [];
  for (const c of cases) {
    const name = /(?:^|; |\) )([a-z]\w*)(?:<\w+>)?\(rec/.exec(c.body)?.[1];
    if (!name) continue;
    const module = exportsOf.get(name);
    if (module) add(module, name);
    else missing.push(name);
  }
  if (missing.length) throw new Error(`no handler for ${[...new Set(missing)].join(", ")} in assembly/execute`);
  const lines: string[] = [];
  for (const [i, c] of cases.entries()) {
    const after = c.ends ? "return rec;" : c.stops ? "break;" : "rec += RECORD_SIZE; continue;";
    const before = c.ends ? "store<u64>(RIP, nextRip(rec)); " : "";
    lines.push(`      case ${i}: // ${c.comment}\n        ${before}${c.body} ${after}`);
  }
  return `${HEADER}import { RCX, RIP, STOP } from "../abi/state";
import { R_IMM, R_OP, RECORD_SIZE } from "../abi/record";
import { RunCode } from "../abi/run";
import { raise, raiseError, stopHost } from "../state/stop";
import { nextRip } from "./operands";
${[...imports].map(([m, names]) => `import { ${[...names].sort().join(", ")} } from "${m}";`).join("\n")}

/**
 * Runs decoded records from \`rec\` on, until the block ends or the stop word is set. Returns the record that ended it.
 * RIP is exact only when that record ends its block.
 */
export function dispatch(rec: usize): usize {
  for (;;) {
    switch (load<u16>(rec, R_OP)) {
${lines.join("\n")}
      default:
        return rec;
    }
    if (load<u32>(STOP)) return rec;
    rec += RECORD_SIZE;
  }
  return unreachable();
}
`;
}

function instructionsFile(): string {
  const rows = opcodeRows.map((r) => {
    const code = `${r.map === "0f" ? "0F " : ""}${r.opcode.toString(16).toUpperCase().padStart(2, "0")}${r.digit === undefined ? "" : ` /${r.digit}`}${r.modrm === undefined ? "" : ` ${r.modrm.toString(16).toUpperCase()}`}`;
    return `| ${code} | ${r.mnemonic} ${r.operands} | ${r.handler === "todo" ? "no" : "yes"} | ${r.attributes.filter((a) => a !== "ends").join(" ")} |`;
  });
  return `# Instructions

Generated by \`npm run generate\` from scripts/opcodes.ts. "no" means that the opcode exists but is not built yet: a run
stops with \`unimplemented\`. Opcodes that are not listed raise #UD.

| opcode | instruction | built | notes |
|---|---|---|---|
${rows.join("\n")}
`;
}

/** Path -> contents of every generated file. */
export function generateOpcodes(exportsOf: ReadonlyMap<string, string>): Map<string, string> {
  const { bytes } = tables();
  return new Map([
    ["assembly/decode/table.generated.ts", tableFile(bytes)],
    ["assembly/execute/dispatch.generated.ts", dispatchFile(exportsOf)],
    ["docs/instructions.md", instructionsFile()],
  ]);
}
