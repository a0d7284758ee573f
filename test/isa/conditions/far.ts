// @sdm 2A "CALL", "JMP", "INT n/INTO/INT3/INT1", "IRET/IRETD/IRETQ"; 2B "RET-Return From Procedure"
import type { OpcodeRow } from "../../../scripts/opcodes.ts";
import { descriptor, gate, HANDLERS, SEL } from "../../system/world.ts";
import {
  BEYOND,
  type Code,
  type Condition,
  CPL3,
  EVERYWHERE,
  GP,
  type Instruction,
  KERNEL,
  NOT_64,
  NOT_CANONICAL,
  NP,
  named,
  PF,
  PROTECTED,
  SS,
  UD,
  USER,
} from "../condition.ts";
import { POP_FAULTS } from "../generic.ts";
import { type Mode, NOT_PRESENT, OPERAND, type Place } from "../place.ts";

const IOPL = 0x3000;
const NT = 0x4000;
const IA32E = ["compatibility", "64-bit"] as const;
const LONG_KERNEL = ["compatibility 0", "64-bit 0"] as const;
const USER32 = ["protected 3"] as const;
const CALL_GATE = 12;

/** Offset in the code segment of a loop. */
const target = (p: Place): number => p.loop() - Number(p.registers.cs.base);
const little = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 255);

type Put = (p: Place, offset: number | bigint, selector: number) => void;

/** What is wrong with the selector of a far transfer; RET and IRET may go to a higher CPL, CALL and JMP not. */
function selectors(put: Put, returns: boolean): Condition[] {
  const bad = (what: string, selector: number, where: Condition["where"], vector = GP, type?: bigint): Condition => ({
    what,
    where,
    vector,
    error: selector & ~3,
    set: (p) => {
      if (type !== undefined) p.world.setDescriptor(SEL.free, type);
      put(p, target(p), selector);
    },
  });
  const rpl = (at: 0 | 3, selector: number): number => (returns ? selector | at : selector);
  return [
    bad("null selector", 0, PROTECTED),
    bad("selector beyond the limit of the GDT, CPL 0", BEYOND, KERNEL),
    bad("selector beyond the limit of the GDT, CPL 3", rpl(3, BEYOND), USER),
    bad("data, CPL 0", SEL.data, KERNEL),
    bad("data, CPL 3", SEL.dataUser, USER),
    bad("absent, CPL 0", SEL.free, KERNEL, NP, descriptor(0x1a, 0xc)),
    bad("absent, CPL 3", SEL.free | 3, USER, NP, descriptor(0x7a, 0xc)),
    bad(returns ? "RPL below CPL" : "DPL below CPL", SEL.code32, USER),
    bad("DPL above CPL", SEL.code32User & ~3, KERNEL),
    bad("conforming, DPL above CPL", SEL.free, KERNEL, GP, descriptor(0xfe, 0xc)),
    bad("both L and D", SEL.free, ["compatibility 0", "64-bit 0"], GP, descriptor(0x9a, 0xe)),
    {
      what: "offset beyond the limit of the code segment",
      where: ["protected 0", "compatibility 0"],
      vector: GP,
      set: (p) => put(p, 0x10000, SEL.code16),
    },
  ];
}

/** Call gates: to 32-bit code in protected mode, to 64-bit code in IA-32e mode. */
function gates(put: Put, call: boolean): Condition[] {
  const inner = (p: Place): number => (p.world.long ? SEL.code64 : SEL.code32);
  const bad = (
    what: string,
    where: Condition["where"],
    vector: number,
    error: number,
    make: (p: Place) => bigint,
    selector: number = SEL.free,
    high = 0n,
  ): Condition => ({
    what: `call gate: ${what}`,
    where,
    vector,
    error,
    set: (p) => {
      p.world.setDescriptor(SEL.free, make(p), high);
      put(p, 0, selector);
    },
  });
  const made = (p: Place, selector: number, dpl = 3): bigint => gate(CALL_GATE, selector, p.loop(), dpl);
  const present = 0x80n << 40n;
  return [
    bad("DPL below CPL", USER, GP, SEL.free, (p) => made(p, inner(p), 0), SEL.free | 3),
    bad("DPL below RPL", KERNEL, GP, SEL.free, (p) => made(p, inner(p), 0), SEL.free | 3),
    bad("absent", PROTECTED, NP, SEL.free, (p) => made(p, inner(p)) & ~present),
    bad("null code selector", PROTECTED, GP, 0, (p) => made(p, 0)),
    bad("code selector beyond the limit", PROTECTED, GP, BEYOND, (p) => made(p, BEYOND)),
    bad("code selector of data", PROTECTED, GP, SEL.data, (p) => made(p, SEL.data)),
    bad("DPL of the code above CPL", KERNEL, GP, SEL.code64User & ~3, (p) => made(p, SEL.code64User)),
    bad("type in the upper half", IA32E, GP, SEL.free, (p) => made(p, inner(p)), SEL.free, 0x1f00_0000_0000n),
    bad("32-bit code in IA-32e mode", IA32E, GP, SEL.code32, (p) => made(p, SEL.code32)),
    ...(call ? [] : [bad("JMP to a lower DPL", USER32, GP, SEL.code32, (p) => made(p, SEL.code32))]),
    bad("offset not canonical", call ? IA32E : LONG_KERNEL, GP, 0, (p) => made(p, inner(p)), SEL.free, 0x8000_0000n),
  ];
}

const offsetBytes = (p: Place): number => (p.bits === 16 ? 2 : 4);

/** CALL and JMP with the pointer in the instruction: it is laid by `code`, so the conditions carry it there. */
function direct(name: string, opcode: number): Instruction {
  const pointers = new WeakMap<Place, readonly number[]>();
  const put: Put = (p, offset, selector) => {
    pointers.set(p, [...little(Number(offset), offsetBytes(p)), ...little(selector, 2)]);
  };
  const conditions = [...selectors(put, false), ...gates(put, name.startsWith("call"))].map(not64);
  return {
    name: `${name} direct`,
    rows: (row) => row.map === "one" && row.opcode === opcode,
    completes: NOT_64,
    set: (p) => put(p, target(p), p.selectors.code),
    code: (p) => [opcode, ...(pointers.get(p) ?? [0, 0, 0, 0, 0, 0])],
    conditions,
  };
}

function not64(condition: Condition): Condition {
  const where = (condition.where ?? NOT_64).filter((mode) => !mode.startsWith("64-bit"));
  return { ...condition, where };
}

function indirect(name: string, digit: number): Instruction {
  const put: Put = (p, offset, selector) => {
    const bytes = offsetBytes(p);
    p.put(OPERAND, bytes, offset);
    p.put(OPERAND + bytes, 2, selector);
  };
  const code: Code = (p, operand) => [0xff, ...operand(p, digit)];
  return {
    name: `${name} indirect`,
    rows: (row) => row.map === "one" && row.opcode === 0xff && row.digit === digit,
    completes: EVERYWHERE,
    set: (p) => put(p, target(p), p.selectors.code),
    code,
    memory: { bytes: 4 },
    conditions: [
      ...selectors(put, false),
      ...gates(put, name.startsWith("call")),
      { what: "register operand", vector: UD, code: () => [0xff, 0xc0 | (digit << 3)] },
      {
        what: "offset not canonical",
        where: ["64-bit"],
        vector: GP,
        code: (p, operand) => [0x48, ...code(p, operand)],
        set: (p) => {
          p.put(OPERAND, 8, NOT_CANONICAL);
          p.put(OPERAND + 8, 2, p.selectors.code);
        },
      },
    ],
  };
}

function ret(name: string, code: readonly number[], row: (r: OpcodeRow) => boolean): Instruction {
  const put: Put = (p, offset, selector) => p.put(p.stackTop, offsetBytes(p), offset, selector);
  return {
    name,
    rows: row,
    completes: EVERYWHERE,
    set: (p) => put(p, target(p), p.selectors.code),
    code: () => code,
    conditions: [
      ...selectors(put, true),
      ...POP_FAULTS,
      {
        what: "offset not canonical",
        where: ["64-bit"],
        vector: GP,
        code: () => [0x48, ...code],
        set: (p) => p.put(p.stackTop, 8, NOT_CANONICAL, p.selectors.code),
      },
    ],
  };
}

function iret(): Instruction {
  const frame = (p: Place, offset: number | bigint, selector: number, ss: number): void => {
    const bytes = p.bits / 8;
    const flags = p.mode === "vm86" ? 2 | IOPL : 2;
    p.put(p.stackTop, bytes, offset, selector, flags, ...(p.bits === 64 ? [p.registers.rsp, ss] : []));
  };
  const put: Put = (p, offset, selector) => frame(p, offset, selector, p.selectors.data);
  return {
    name: "iret",
    rows: named("iret"),
    completes: EVERYWHERE,
    set: (p) => {
      if (p.mode === "vm86") p.flags(IOPL);
      put(p, target(p), p.selectors.code);
    },
    code: (p) => (p.bits === 64 ? [0x48, 0xcf] : [0xcf]),
    conditions: [
      ...selectors(put, true),
      ...POP_FAULTS,
      {
        what: "IOPL below 3",
        where: ["vm86"],
        vector: GP,
        set: (p) => p.set({ rflags: p.registers.rflags & ~BigInt(IOPL) }),
      },
      { what: "NT in IA-32e mode", where: IA32E, vector: GP, set: (p) => p.flags(NT) },
      {
        what: "offset not canonical",
        where: ["64-bit"],
        vector: GP,
        set: (p) => put(p, NOT_CANONICAL, p.selectors.code),
      },
      {
        what: "null stack selector at CPL 3",
        where: ["64-bit 3"],
        vector: GP,
        set: (p) => frame(p, target(p), p.selectors.code, 0),
      },
      {
        what: "RPL of the stack selector is not the new CPL",
        where: ["64-bit 0"],
        vector: GP,
        error: SEL.dataUser & ~3,
        set: (p) => frame(p, target(p), SEL.code64, SEL.dataUser),
      },
      {
        what: "stack selector of read-only data",
        where: ["64-bit 0"],
        vector: GP,
        error: SEL.readOnly,
        set: (p) => frame(p, target(p), SEL.code64, SEL.readOnly),
      },
      {
        what: "stack segment absent",
        where: ["64-bit 0"],
        vector: SS,
        error: SEL.dataAbsent,
        set: (p) => frame(p, target(p), SEL.code64, SEL.dataAbsent),
      },
    ],
  };
}

const VECTOR = 0x20;
const idtError = (vector: number): number => vector * 8 + 2;
const handlerCode = (p: Place): number => (p.world.long ? SEL.code64 : SEL.code32);
/** The gate of a vector, which CPL 3 may use. */
const open = (vector: number) => (p: Place) => {
  if (p.mode !== "real") p.world.setGate(vector, gate(14, handlerCode(p), HANDLERS + 16 * vector, 3));
  if (p.mode === "vm86") p.flags(IOPL);
};
const VIRTUAL_OR_PROTECTED: readonly Mode[] = ["vm86", ...PROTECTED];

/** Faults of a software interrupt's gate. @sdm 3A "Protection of Exception- and Interrupt-Handler Procedures" */
const gateFaults = (vector: number): readonly Condition[] => {
  const made = (
    what: string,
    kind: number,
    selector: ((p: Place) => number) | number,
    fault: number,
    error: number,
    where: Condition["where"] = VIRTUAL_OR_PROTECTED,
  ): Condition => ({
    what: `gate: ${what}`,
    where,
    vector: fault,
    error,
    set: (p) => {
      const code = typeof selector === "number" ? selector : selector(p);
      const absent = what === "absent" ? 0x80n << 40n : 0n;
      p.world.setGate(vector, gate(kind, code, HANDLERS, 3) & ~absent);
    },
  });
  return [
    {
      what: "gate: DPL below CPL",
      where: CPL3,
      vector: GP,
      error: idtError(vector),
      set: (p) => p.world.setGate(vector, gate(14, handlerCode(p), HANDLERS + 16 * vector, 0)),
    },
    made("absent", 14, handlerCode, NP, idtError(vector)),
    made("another type", 12, handlerCode, GP, idtError(vector)),
    made("null code selector", 14, 0, GP, 0),
    made("code selector of data", 14, SEL.data, GP, SEL.data),
    made("code selector beyond the limit", 14, BEYOND, GP, BEYOND),
    made("DPL of the code above CPL", 14, SEL.code64User, GP, SEL.code64User & ~3, KERNEL),
    made("32-bit code in IA-32e mode", 14, SEL.code32, GP, SEL.code32, IA32E),
  ];
};

const limit: Condition = {
  what: "vector beyond the limit of the IDT",
  where: VIRTUAL_OR_PROTECTED,
  vector: GP,
  error: idtError(0x40),
  code: () => [0xcd, 0x40],
};

function software(name: string, code: readonly number[], vector: number, more: readonly Condition[]): Instruction {
  return {
    name,
    rows: named(name),
    completes: [],
    set: open(vector),
    code: () => code,
    conditions: [{ what: "delivers", vector, trap: true }, ...gateFaults(vector), ...more],
  };
}

const OF = 0x800;

export const far: readonly Instruction[] = [
  direct("call far", 0x9a),
  direct("jmp far", 0xea),
  indirect("call far", 3),
  indirect("jmp far", 5),
  ret("ret far", [0xcb], (row) => row.opcode === 0xcb && row.map === "one"),
  ret("ret far imm", [0xca, 4, 0], (row) => row.opcode === 0xca && row.map === "one"),
  iret(),
  software("int", [0xcd, VECTOR], VECTOR, [
    limit,
    {
      what: "IOPL below 3",
      where: ["vm86"],
      vector: GP,
      set: (p) => p.set({ rflags: p.registers.rflags & ~BigInt(IOPL) }),
    },
    {
      what: "vector beyond the limit of the interrupt table",
      where: ["real"],
      vector: GP,
      set: (p) => p.set({ idtr: { base: 0n, limit: 0x7f } }),
    },
  ]),
  software("int3", [0xcc], 3, []),
  {
    name: "into",
    rows: named("into"),
    completes: NOT_64,
    set: open(4),
    code: () => [0xce],
    conditions: [
      { what: "OF", where: NOT_64, vector: 4, trap: true, set: (p) => p.flags(OF) },
      ...gateFaults(4).map((condition) =>
        not64({
          ...condition,
          set: (p) => {
            condition.set?.(p);
            p.flags(OF);
          },
        }),
      ),
    ],
  },
  {
    name: "int1",
    rows: named("int1"),
    completes: [],
    code: () => [0xf1],
    // no check of DPL
    conditions: [{ what: "delivers", vector: 1, trap: true }],
  },
  {
    name: "bound",
    rows: named("bound"),
    completes: NOT_64,
    set: (p) => p.put(OPERAND, p.bits / 8, 0, 5),
    code: (p, operand) => [0x62, ...operand(p, 0)],
    memory: { bytes: 4 },
    conditions: [
      { what: "below the lower bound", where: NOT_64, vector: 5, set: (p) => p.put(OPERAND, p.bits / 8, 1) },
      { what: "above the upper bound", where: NOT_64, vector: 5, set: (p) => p.set({ rax: 6 }) },
    ],
  },
  {
    name: "pushf",
    rows: named("pushf"),
    completes: EVERYWHERE,
    set: (p) => {
      if (p.mode === "vm86") p.flags(IOPL);
    },
    code: () => [0x9c],
    conditions: [
      {
        what: "IOPL below 3",
        where: ["vm86"],
        vector: GP,
        set: (p) => p.set({ rflags: p.registers.rflags & ~BigInt(IOPL) }),
      },
      {
        what: "page fault",
        where: ["compatibility 3", "64-bit 3"],
        vector: PF,
        error: 6,
        set: (p) => p.set({ rsp: NOT_PRESENT + 0x100 }),
      },
    ],
  },
  {
    name: "popf",
    rows: named("popf"),
    completes: EVERYWHERE,
    set: (p) => {
      if (p.mode === "vm86") p.flags(IOPL);
      p.put(p.stackTop, p.bits / 8, 2);
    },
    code: () => [0x9d],
    conditions: [
      {
        what: "IOPL below 3",
        where: ["vm86"],
        vector: GP,
        set: (p) => p.set({ rflags: p.registers.rflags & ~BigInt(IOPL) }),
      },
      ...POP_FAULTS,
    ],
  },
];
