// Conditions that follow from a row of the opcode table or from a memory operand.
import { FEATURES, type OpcodeRow, opcodeRows } from "../../scripts/opcodes.ts";
import type { CpuModel } from "../../src/index.ts";
import {
  AC,
  type Condition,
  GP,
  type Instruction,
  LEGACY,
  matches,
  NOT_CANONICAL,
  PF,
  SS,
  stackMem,
  UD,
  USER,
  type Where,
} from "./condition.ts";
import { NOT_PRESENT, OPERAND, type Place } from "./place.ts";

const SMALL = OPERAND - 1;
const AM = 0x4_0000n;
const PF_WRITE = 2;
const PF_USER = 4;

/** @sdm 2A "Protected Mode Exceptions" and its neighbours: the same rows for every memory operand. */
export function memoryConditions({ code, memory }: Instruction): Condition[] {
  if (!memory) return [];
  const stack = (p: Place): readonly number[] => code(p, stackMem);
  const { write = false, bytes } = memory;
  const list: Condition[] = [
    {
      what: "effective address outside 0 to FFFFH in DS",
      where: ["real", "vm86"],
      vector: GP,
      set: (p) => p.set({ rsi: 0x10000 - bytes + 1 }),
    },
    {
      what: "effective address outside 0 to FFFFH in SS",
      where: ["real", "vm86"],
      vector: SS,
      code: stack,
      set: (p) => p.set({ rbp: 0x10000 - bytes + 1 }),
    },
    { what: "outside the limit of DS", where: LEGACY, vector: GP, set: (p) => p.segment("ds", { limit: SMALL }) },
    {
      what: "outside the limit of SS",
      where: LEGACY,
      vector: SS,
      code: stack,
      set: (p) => p.segment("ss", { limit: SMALL }),
    },
    { what: "DS null", where: LEGACY, vector: GP, set: (p) => p.segment("ds", "unusable") },
    {
      what: "address not canonical",
      where: ["64-bit"],
      vector: GP,
      set: (p) => p.set({ rsi: NOT_CANONICAL }),
    },
    {
      what: "address not canonical in SS",
      where: ["64-bit"],
      vector: SS,
      code: stack,
      set: (p) => p.set({ rbp: NOT_CANONICAL }),
    },
    {
      what: "page fault",
      where: ["protected", "compatibility", "64-bit"],
      vector: PF,
      error: (p) => (write ? PF_WRITE : 0) | (p.cpl ? PF_USER : 0),
      set: (p) => {
        p.paging();
        p.set({ rsi: NOT_PRESENT });
      },
    },
    {
      what: "unaligned with alignment checks",
      where: ["vm86", ...USER],
      vector: AC,
      set: unaligned,
    },
  ];
  if (write) {
    list.push({ what: "DS not writable", where: LEGACY, vector: GP, set: (p) => p.segment("ds", "read-only") });
  }
  return list;
}

export function unaligned(p: Place): void {
  const { cr0, rsi, rdi, rsp } = p.registers;
  p.set({ cr0: cr0 | AM, rsi: rsi | 1n, rdi: rdi | 1n, rsp: rsp | 1n });
  p.flags(0x4_0000);
}

/** Faults of the pops. Delivery needs another stack, so CPL 3. */
export const POP_FAULTS: readonly Condition[] = [
  { what: "beyond FFFFH", where: ["vm86"], vector: SS, set: (p) => p.set({ rsp: 0xffff }) },
  {
    what: "outside the limit of SS",
    where: ["protected 3", "compatibility 3"],
    vector: SS,
    set: (p) => p.segment("ss", { limit: Number(p.registers.rsp) - 1 }),
  },
  { what: "stack address not canonical", where: ["64-bit 3"], vector: SS, set: (p) => p.set({ rsp: NOT_CANONICAL }) },
  {
    what: "page fault",
    where: ["compatibility 3", "64-bit 3"],
    vector: PF,
    error: 4,
    set: (p) => p.set({ rsp: NOT_PRESENT }),
  },
  { what: "unaligned with alignment checks", where: ["vm86", ...USER], vector: AC, set: unaligned },
];

export const rowsOf = ({ rows }: Instruction): OpcodeRow[] => opcodeRows.filter(rows);

/** LOCK, and modes that the row is not for. */
export function encodingConditions(instruction: Instruction): Condition[] {
  const { code } = instruction;
  const rows = rowsOf(instruction);
  const list: Condition[] = [{ what: "LOCK", vector: UD, code: (p, operand) => [0xf0, ...code(p, operand)] }];
  const elsewhere = (row: OpcodeRow): boolean =>
    opcodeRows.some((other) => other.long && other.map === row.map && other.opcode === row.opcode);
  if (rows.every((row) => row.long === false && !elsewhere(row)) && rows.length) {
    list.push({ what: "64-bit mode", where: ["64-bit"], vector: UD });
  }
  if (rows.every((row) => row.long) && rows.length) {
    list.push({ what: "outside 64-bit mode", where: ["real", "vm86", "protected", "compatibility"], vector: UD });
  }
  return list;
}

/** The model without the feature that the rows need. */
export function withoutFeature(instruction: Instruction, model: CpuModel): CpuModel | undefined {
  const feature = rowsOf(instruction)[0]?.feature;
  if (!feature) return undefined;
  const [leaf, register, bit] = FEATURES[feature];
  const name = register.toLowerCase() as "ebx" | "ecx" | "edx";
  const cpuid = model.cpuid.map((row) => (row.leaf === leaf ? { ...row, [name]: row[name] & ~(1 << bit) } : row));
  return { ...model, cpuid };
}

/** Memory faults where the instruction completes, the rest everywhere. */
export function conditionsAt(instruction: Instruction, where: Where): Condition[] {
  const own = [...instruction.conditions, ...encodingConditions(instruction)];
  const memory = matches(instruction.completes, where) ? memoryConditions(instruction) : [];
  return [...own, ...memory].filter((condition) => matches(condition.where, where));
}
