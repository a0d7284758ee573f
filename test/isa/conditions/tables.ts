// @sdm 2A "LGDT/LIDT", "LLDT", "LTR", "LAR", "LSL", "LMSW", "INVLPG"; 2B "SGDT", "SIDT", "SLDT", "SMSW", "STR", "VERR/VERW"
import { descriptor, GDT, GDT_LIMIT, IDT, SEL } from "../../system/world.ts";
import {
  ax,
  BEYOND,
  type Condition,
  CPL0,
  CPL3,
  EVERYWHERE,
  GP,
  type Instruction,
  NOT_CANONICAL,
  NP,
  named,
  PROTECTED,
  UD,
  USER,
} from "../condition.ts";
import { OPERAND, type Place } from "../place.ts";

const UMIP = 0x800;
const LOCAL = 4;

const umip: Condition = { what: "CR4.UMIP", where: CPL3, vector: GP, set: (p) => p.cr4(UMIP) };
const privileged: Condition = { what: "CPL above 0", where: CPL3, vector: GP };
const notProtected: Condition = {
  what: "not recognized in real-address and virtual-8086 mode",
  where: ["real", "vm86"],
  vector: UD,
};

const word = (value: number) => (p: Place) => p.put(OPERAND, 2, value);
/** LLDT and LTR complete here. */
const SYSTEM = ["protected 0", "compatibility 0", "64-bit 0"] as const;

function store(
  name: string,
  opcode: number,
  digit: number,
  bytes: number,
  where: Instruction["completes"],
): Instruction {
  return {
    name,
    rows: named(name),
    completes: where,
    code: (p, operand) => [0x0f, opcode, ...operand(p, digit)],
    memory: { write: true, bytes },
    conditions: where === PROTECTED ? [{ ...umip, where: USER }, notProtected] : [umip],
  };
}

function pointer(p: Place, table: number, limit: number): void {
  p.put(OPERAND, 2, limit);
  p.put(OPERAND + 2, 8, table);
}

function loadTable(name: string, digit: number, set: (p: Place) => void): Instruction {
  return {
    name,
    rows: named(name),
    completes: CPL0,
    code: (p, operand) => [0x0f, 0x01, ...operand(p, digit)],
    set,
    memory: { bytes: 6 },
    conditions: [
      privileged,
      {
        what: "base not canonical",
        where: ["64-bit 0"],
        vector: GP,
        set: (p) => p.put(OPERAND + 2, 8, NOT_CANONICAL),
      },
    ],
  };
}

function loadSelector(name: string, digit: number, selector: number, special: readonly Condition[]): Instruction {
  const bad = (what: string, value: number, vector = GP, more?: (p: Place) => void): Condition => ({
    what,
    where: SYSTEM,
    vector,
    error: value & ~3,
    set: (p) => {
      p.put(OPERAND, 2, value);
      more?.(p);
    },
  });
  const absent = descriptor(name === "ltr" ? 0x09 : 0x02, 0, OPERAND, 0x67);
  return {
    name,
    rows: named(name),
    completes: SYSTEM,
    code: (p, operand) => [0x0f, 0x00, ...operand(p, digit)],
    set: word(selector),
    memory: { bytes: 2 },
    conditions: [
      notProtected,
      { ...privileged, where: USER },
      bad("selector of the LDT", selector | LOCAL),
      bad("selector beyond the limit of the GDT", BEYOND),
      bad("descriptor of another type", SEL.data),
      bad("descriptor of code", SEL.code32),
      bad("absent", selector, NP, (p) => p.world.setDescriptor(selector, absent)),
      {
        what: "base not canonical",
        where: ["64-bit 0", "compatibility 0"],
        vector: GP,
        error: selector,
        set: (p) => p.put(GDT + selector + 8, 4, 0x8000),
      },
      ...special,
    ],
  };
}

function ask(name: string, opcode: number, digit: number): Instruction {
  return {
    name,
    rows: named(name),
    completes: PROTECTED,
    code: (p, operand) => [0x0f, opcode, ...operand(p, digit)],
    set: word(SEL.data),
    memory: { bytes: 2 },
    conditions: [notProtected],
  };
}

export const tables: readonly Instruction[] = [
  store("sgdt", 0x01, 0, 6, EVERYWHERE),
  store("sidt", 0x01, 1, 6, EVERYWHERE),
  store("smsw", 0x01, 4, 2, EVERYWHERE),
  store("sldt", 0x00, 0, 2, PROTECTED),
  store("str", 0x00, 1, 2, PROTECTED),
  loadTable("lgdt", 2, (p) => pointer(p, GDT, GDT_LIMIT)),
  loadTable("lidt", 3, (p) => pointer(p, p.mode === "real" ? 0 : IDT, p.registers.idtr.limit)),
  loadSelector("lldt", 2, SEL.ldt, []),
  loadSelector("ltr", 3, SEL.tss, [
    { what: "null selector", where: SYSTEM, vector: GP, set: word(0) },
    {
      what: "busy TSS",
      where: SYSTEM,
      vector: GP,
      error: SEL.tss,
      set: (p) => p.put(GDT + SEL.tss + 5, 1, 0x8b),
    },
    {
      what: "16-bit TSS in IA-32e mode",
      where: ["compatibility 0", "64-bit 0"],
      vector: GP,
      error: SEL.tss16,
      set: word(SEL.tss16),
    },
  ]),
  ask("verr", 0x00, 4),
  ask("verw", 0x00, 5),
  ask("lar", 0x02, 0),
  ask("lsl", 0x03, 0),
  {
    name: "arpl",
    rows: named("arpl"),
    completes: ["protected", "compatibility"],
    code: (p, operand) => [0x63, ...operand(p, 0)],
    // writes only what it changes
    memory: { bytes: 2 },
    conditions: [notProtected],
  },
  {
    name: "lmsw",
    rows: named("lmsw"),
    completes: CPL0,
    code: (p, operand) => [0x0f, 0x01, ...operand(p, 6)],
    memory: { bytes: 2 },
    conditions: [privileged],
  },
  {
    name: "invlpg",
    rows: named("invlpg"),
    completes: CPL0,
    code: (p, operand) => [0x0f, 0x01, ...operand(p, 7)],
    conditions: [privileged, { what: "register operand", vector: UD, code: () => [0x0f, 0x01, 0xfe] }],
  },
  {
    name: "invlpg of an address that is not canonical: no operation",
    rows: named("invlpg"),
    completes: ["64-bit 0"],
    set: (p) => p.set({ rsi: NOT_CANONICAL }),
    code: (p, operand) => [0x0f, 0x01, ...operand(p, 7)],
    conditions: [privileged],
  },
  {
    name: "smsw, sldt and str to a register",
    rows: named("smsw"),
    completes: EVERYWHERE,
    code: () => [0x0f, 0x01, ...ax(4)],
    conditions: [umip],
  },
];
