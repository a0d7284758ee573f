/** Writes what follows from scripts/opcodes.ts: the decoder's table, the dispatch switch and docs/instructions.md. */
import { ARRANGE, type Entry, FLAGS, HEADER, IMM, positionsOf, shapeOf, tableFile } from "./generate-decode-table.ts";
import { disasmFile } from "./generate-disasm.ts";
import { alwaysShort, fastCases, fastMarks, fastOf, fastTable } from "./generate-fast.ts";
import { jitKinds } from "./generate-jit.ts";
import { type Form, formsFile, type Group, kindsOf, operationsFile } from "./generate-operations.ts";
import { FEATURES, type OpcodeRow, opcodeRows } from "./opcodes.ts";

const SIZES = [1, 2, 4, 8] as const;

/** An operation: a row of the opcode table in one form and size. */
interface Case {
  /** `family:member form+bits`. */
  readonly comment: string;
  readonly byCl: boolean;
}

const cases: Case[] = [];
const groups: Group[] = [];
const known = new Map<string, number>();

/** The number of the first operation of a group, made once for each distinct key. */
function numbers(key: string, handler: string, shape: Partial<Group> = {}): number {
  const at = known.get(key);
  if (at !== undefined) return at;
  const first = cases.length;
  known.set(key, first);
  const [family = "", member] = handler.split(":");
  const group: Group = { first, family, member, forms: [""], bits: [0], byCl: false, ...shape };
  groups.push(group);
  for (const form of group.forms) {
    for (const bits of group.bits) {
      cases.push({ comment: bits ? `${handler} ${form}${bits}` : handler, byCl: group.byCl });
    }
  }
  return first;
}

const OP_UD = numbers("(undefined)", "(undefined)");
numbers("(end of block)", "(end of block)");
numbers("(over 15 bytes)", "(over 15 bytes)");

/** How a family's handler is called, where the record is not all it takes. */
const CALLS: Record<string, string> = {
  "(undefined)": "raise(6);",
  "(end of block)": "",
  "(over 15 bytes)": "raiseError(13, 0);",
  alu: "alu(rec, member, form);",
  mov: "mov(rec, form);",
  unary: "unary(rec, member, form);",
  shift: "shift(rec, member, form);",
  doubleShift: "doubleShift(rec, member, form);",
  bit: "bit(rec, member, form);",
  bitImm: "bitImm(rec, member, form);",
  jcc: "if (condition(member)) jump(rec);",
  set: "set(rec, condition(member), form);",
  "cmov<T>": "cmov(rec, condition(member));",
};

function entryOf(row: OpcodeRow): Entry {
  const { arrange, imm, flags: shapeFlags } = shapeOf(row.operands);
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
  if (has("else")) flags |= FLAGS.Else;
  const format = ARRANGE[arrange] | (IMM[imm] << 3);
  const feature = row.feature ? Object.keys(FEATURES).indexOf(row.feature) + 1 : 0;
  if (row.handler === "ud") return { op: OP_UD, format, flags, feature };
  const [family, member] = row.handler.split(":") as [string, string | undefined];
  const byte = (flags & FLAGS.Byte) !== 0;
  if (!family.endsWith("<T>") && family !== "mov" && (member === undefined || family === "jcc")) {
    return { op: numbers(row.handler, row.handler), format, flags, feature };
  }
  const formNames: [Form, Form] =
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
  const op = numbers(key, row.handler, {
    forms: withMem ? formNames : [formNames[0]],
    bits: sizes.map((size) => size * 8),
    byCl: row.operands.endsWith("CL"),
  });
  return { op, format, flags, feature };
}

const MEMBERS = ["AluOp", "UnaryOp", "ShiftOp", "BitOp"];

/** What the lines of both switches call that is no handler. */
const BUILT_IN = new Set(["load", "store", "execute"]);

function shortForm(c: Case): number {
  return fastOf(c.comment, !c.byCl);
}

/** What these lines need: members of families, and handlers; `exportsOf` maps a handler's name to the module that exports it. */
function importsOf(lines: readonly string[], exportsOf: ReadonlyMap<string, string>): string {
  const imports = new Map<string, Set<string>>();
  const add = (module: string, name: string): void => {
    const set = imports.get(module) ?? new Set<string>();
    set.add(name);
    imports.set(module, set);
  };
  const text = lines.join("\n");
  for (const n of MEMBERS) if (text.includes(`${n}.`)) add("./ops", n);
  if (text.includes("condition(") && !text.includes(".condition(")) add("./condition", "condition");
  const missing: string[] = [];
  for (const line of lines) {
    for (const [, name = ""] of line.matchAll(/(?<![.\w])([a-z]\w*)(?:<\w+>)?\(rec/g)) {
      const module = exportsOf.get(name);
      if (module) add(module, name);
      else if (!BUILT_IN.has(name)) missing.push(name);
    }
  }
  if (missing.length) throw new Error(`no handler for ${[...new Set(missing)].join(", ")} in assembly/execute`);
  return [...imports].map(([m, names]) => `import { ${[...names].sort().join(", ")} } from "${m}";`).join("\n");
}

/** execute(): the whole handlers of what has no short form, or one that can fail. */
function executeFile(exportsOf: ReadonlyMap<string, string>): string {
  const failing = new Set(
    cases
      .filter((c) => !alwaysShort(shortForm(c)))
      .map((c) => (c.comment[0] === "(" ? c.comment : c.comment.split(/[ :]/)[0]!)),
  );
  const bodies: string[] = [];
  // all of them, in order: only then the compiler makes one table of the switch
  const lines = kindsOf(groups).flatMap((kind, i) => {
    const body = failing.has(kind)
      ? `${CALLS[kind] ?? `${kind.replace("<T>", "")}(rec);`} return;`
      : "unreachable(); return;";
    bodies.push(body);
    return [`    case ${i}: // ${kind}`, `      ${body}`];
  });
  return `${HEADER}import { RIP } from "../abi/state";
import { R_FLAGS, R_OP, RecordFlag } from "../abi/record";
import { OPERATIONS } from "../abi/layout";
import { raise, raiseError } from "../state/stop";
import { nextRip } from "./operands";
${importsOf(bodies, exportsOf)}

/** Carries out one record by its whole handler. RIP is exact after it only when the record ends its block. */
export function execute(rec: usize): void {
  if (load<u8>(rec, R_FLAGS) & RecordFlag.Ends) store<u64>(RIP, nextRip(rec));
  const operation = OPERATIONS + (u32(load<u16>(rec, R_OP)) << 2);
  const member: u32 = load<u8>(operation, 1);
  const form: u32 = load<u8>(operation, 3);
  switch (load<u8>(operation)) {
${lines.join("\n")}
    default:
      unreachable();
  }
}
`;
}

/** short(): the loop over records and blocks that holds the short forms. */
function shortFile(exportsOf: ReadonlyMap<string, string>): string {
  const lines = fastCases.map((c, i) => {
    const after = /(break|continue|return .*);$/.test(c.body) ? "" : " rec += RECORD_SIZE; continue;";
    return `      case ${i}: // ${c.name}\n        ${c.body}${after}`;
  });
  const imported = importsOf(
    fastCases.map((c) => c.body),
    exportsOf,
  );
  return `${HEADER}import { TE_ADDEND, TE_READ, TE_WRITE } from "../abi/layout";
import { BLOCK_RIP, COUNT, LINEAR_MASK, RCX, RIP, RSP, SEG_SS, SEGS, SG_EFFECTIVE, SG_READ_END, SG_WRITE_END, TR_TAG } from "../abi/state";
import { R_DONE, R_FAST, R_FLAGS, R_IMM, R_INDEX, R_LEN, R_LINKS, R_OFF, R_SEG, R_SIZE, R_TAKEN, RECORD_SIZE, RecordFlag } from "../abi/record";
import { BK_BYTES, BK_HOST, BK_HOT, BK_RECORDS, BK_REGION } from "../abi/block";
import { poolEpoch } from "../blocks/cache";
import { FAST_CALL, FAST_MODIFY_ANY, FAST_NARROW_SHIFT, FAST_READ, FAST_WRITE } from "../decode/fast.generated";
import { executed } from "../imports";
import { Fast } from "./fast";
import { Follow } from "./follow";
${imported}

/** Added to the record that short() returns: it needs its whole handler. */
export const WHOLE: usize = 1;
/** Likewise: its block has ended, RIP is that of the next one, which was not found at once. */
export const NO_LINK: usize = 2;
/** With NO_LINK: the block after a branch that was not taken. */
export const SIDE: usize = 4;

// What becomes of the value of a case that breaks off; 0: the record itself says where to go on.
const RETURN: u32 = 1;
const PUSH: u32 = 2;
const CALL: u32 = 3;
const JUMP: u32 = 4;

/**
 * Runs short forms from the one after \`before\` on, from one block to the next while COUNT is below \`limit\`, until a record needs
 * its whole handler or the next block cannot follow. No block may reach past \`end\`. It calls nothing, so that the engine below
 * keeps its variables in registers; that engine does not thread jumps, so that conditions return themselves.
 */
export function short(before: usize, limit: u64, end: u64, hot: u32): usize {
  // the engine knows of a sum, but not of a parameter, that it fills 64 bits: so the record needs one variable
  let rec = before + RECORD_SIZE;
  for (;;) {
    if (COVERAGE) executed(rec);
    const f: u32 = load<u8>(rec, R_FAST);
    let value: u64 = 0;
    let does: u32 = 0;
    let taken = true;
    switch (f) {
${lines.slice(0, fastMarks.NARROW_SHIFT).join("\n")}
      default: {
        if (f < FAST_READ) {
          if (!Fast.narrowShift(rec, f - FAST_NARROW_SHIFT)) return rec | WHOLE;
          rec += RECORD_SIZE;
          continue;
        }
        const ea = Fast.address(rec);
        const way = u32(f >= FAST_WRITE) << 3; // from READ to WRITE
        const seg = u32(load<u8>(rec, R_SEG)) << 3;
        const size = u64(load<u8>(rec, R_SIZE));
        if (ea + size > load<u64>(seg + way, SEGS + SG_READ_END)) return rec | WHOLE;
        const linear = (ea + load<u64>(seg, SEGS + SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
        const entry = Fast.entry(linear);
        if (Fast.differs(load<u64>(entry + way, TE_READ), linear, size)) return rec | WHOLE;
        const at: usize = u32(linear) + load<u32>(entry, TE_ADDEND);
        switch (load<u8>(rec, R_FAST)) {
${lines.slice(fastMarks.READ, fastMarks.MODIFY_ANY).join("\n")}
          default:
            Fast.modify(rec, u32(load<u8>(rec, R_FAST)) - FAST_MODIFY_ANY, at);
            rec += RECORD_SIZE;
            continue;
        }
      }
    }
    const here = u64(load<u32>(Follow.host));
    let host: u64;
    let next: u32;
    let count = load<u64>(COUNT);
    if (!does) {
      if (!(load<u8>(rec, R_FLAGS) & RecordFlag.Ends)) {
        Fast.conditional(rec, taken);
        rec += RECORD_SIZE;
        continue;
      }
      let by: u64;
      let link = rec;
      if (taken) by = load<u64>(rec, R_IMM);
      else {
        by = u64(u32(load<u16>(rec, R_OFF)) + load<u8>(rec, R_LEN));
        link += SIDE;
      }
      value = load<u64>(BLOCK_RIP) + by;
      if (value >= end) return rec | WHOLE;
      host = here + by;
      if ((host ^ here) >> 12) {
        host = u64(Follow.code(value));
        if (!host) return rec | WHOLE;
      }
      count += u64(load<u8>(rec, R_DONE));
      next = load<u32>(rec, R_LINKS) == poolEpoch ? load<u32>(link, R_TAKEN) : 0;
      if (load<u32>(next, BK_HOST) != u32(host)) {
        store<u64>(RIP, value);
        return rec | NO_LINK | (link - rec);
      }
    } else {
      if (does >= CALL && !Fast.reachable(value, end)) return rec | WHOLE;
      if (does - PUSH < 2) {
        const size = u64(load<u8>(rec, R_SIZE));
        const mask = Fast.stackMask();
        const sp = (load<u64>(RSP) - size) & mask;
        if (sp + size > load<u64>(SEGS + SEG_SS + SG_WRITE_END)) return rec | WHOLE;
        const linear = (sp + load<u64>(SEGS + SEG_SS + SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
        const entry = Fast.entry(linear);
        if (Fast.differs(load<u64>(entry, TE_WRITE), linear, size)) return rec | WHOLE;
        Fast.storeAny(rec, u32(linear) + load<u32>(entry, TE_ADDEND), does == CALL ? Fast.next(rec) : value);
        store<u64>(RSP, (load<u64>(RSP) & ~mask) | sp);
        if (does == PUSH) {
          rec += RECORD_SIZE;
          continue;
        }
      }
      host = here + (value - load<u64>(BLOCK_RIP));
      if ((host ^ here) >> 12) host = u64(Follow.code(value));
      count += u64(load<u8>(rec, R_INDEX)) + 1;
      if (load<u8>(rec, R_FAST) == FAST_CALL) next = load<u32>(rec, R_LINKS) == poolEpoch ? load<u32>(rec, R_TAKEN) : 0;
      else next = Follow.hashed(u32(host));
      if (!host || load<u32>(next, BK_HOST) != u32(host)) {
        store<u64>(RIP, value);
        return rec | NO_LINK;
      }
    }
    if (count >= limit || value + load<u16>(next, BK_BYTES) > end) {
      store<u64>(RIP, value);
      return rec;
    }
    if (hot) {
      const runs = load<i32>(next, BK_HOT) + 1;
      if (load<u32>(next, BK_REGION) || runs >= i32(hot)) {
        store<u64>(RIP, value);
        return rec;
      }
      store<i32>(next, runs, BK_HOT);
    }
    store<u64>(COUNT, count);
    store<u64>(BLOCK_RIP, value);
    store<u32>(Follow.host, u32(host));
    rec = next + BK_RECORDS;
  }
  return unreachable();
}
`;
}

const PREFIX_NAMES = ["", "66", "F3", "F2"];

/** Opcode as the manual writes it. */
function place(r: OpcodeRow): string {
  const byte = (n: number): string => n.toString(16).toUpperCase().padStart(2, "0");
  const prefix = r.prefixes === undefined ? "" : r.prefixes.includes(0) ? "NP" : PREFIX_NAMES[r.prefixes[0]!]!;
  const map = r.map.replace("vex", "VEX ").replace("one", "").toUpperCase().replace("0F3", "0F 3");
  const modrm = r.rm !== undefined ? byte(0xc0 | (r.digit! << 3) | r.rm) : r.digit === undefined ? "" : `/${r.digit}`;
  return [prefix, map, byte(r.opcode), modrm, r.rm === undefined ? (r.mod ?? "") : ""].filter(Boolean).join(" ");
}

function instructionsFile(): string {
  const rows = opcodeRows
    .filter((r) => r.handler !== "ud")
    .map((r) => {
      const notes = r.attributes.filter((a) => !["ends", "natural", "else"].includes(a)).join(" ");
      const name = r.mnemonic.replaceAll("|", "/").replace(/\/$/, "");
      return `| ${place(r)} | ${name} ${r.operands} | ${notes} |`;
    });
  return `# Instructions

Generated by \`npm run generate\` from scripts/opcodes.ts; the notation is explained there. Opcodes that are not listed raise
#UD. The notes name the CPUID feature an instruction needs: without it it is #UD, or what it was before (TZCNT is BSF, LZCNT is BSR).

| opcode | instruction | notes |
|---|---|---|
${rows.join("\n")}
`;
}

/** Path -> contents of every generated file. */
export function generateOpcodes(exportsOf: ReadonlyMap<string, string>): Map<string, string> {
  const entries = opcodeRows.map(entryOf);
  return new Map([
    ["assembly/decode/table.generated.ts", tableFile(entries, new Map(groups.map((group, i) => [group.first, i])))],
    ["assembly/decode/fast.generated.ts", fastTable(HEADER, cases.map(shortForm))],
    ["assembly/execute/short.generated.ts", shortFile(exportsOf)],
    ["assembly/execute/execute.generated.ts", executeFile(exportsOf)],
    ["src/disasm/table.generated.ts", disasmFile()],
    ["assembly/decode/operations.generated.ts", operationsFile(HEADER, groups, cases.length)],
    ["assembly/abi/forms.generated.ts", formsFile(HEADER)],
    ["assembly/generator/kinds.generated.ts", jitKinds(HEADER)],
    ["docs/instructions.md", instructionsFile()],
  ]);
}

/** Entries of the opcode tables that stand for each row of opcodeRows. */
export function rowPositions(): number[][] {
  return positionsOf(opcodeRows.map(entryOf));
}
