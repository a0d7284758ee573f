// @sdm 2B "MOV-Move", "POP-Pop a Value From the Stack"; 2A "LDS/LES/LFS/LGS/LSS-Load Far Pointer"
import type { OpcodeRow } from "../../../scripts/opcodes.ts";
import { descriptor, SEL } from "../../system/world.ts";
import {
  BEYOND,
  type Code,
  type Condition,
  EVERYWHERE,
  GP,
  type Instruction,
  KERNEL,
  NOT_64,
  NP,
  PROTECTED,
  SS,
  UD,
  USER,
} from "../condition.ts";
import { POP_FAULTS } from "../generic.ts";
import { OPERAND, type Place } from "../place.ts";

type Put = (p: Place, selector: number) => void;

/** DS, ES, FS and GS. */
const data = (put: Put): Condition[] => {
  const bad = (what: string, selector: number, where: Condition["where"], vector = GP, type?: bigint): Condition => ({
    what,
    where,
    vector,
    error: selector & ~3,
    set: (p) => {
      put(p, selector);
      if (type !== undefined) p.world.setDescriptor(SEL.free, type);
    },
  });
  return [
    bad("selector beyond the limit of the GDT", BEYOND, PROTECTED),
    bad("selector of an LDT that is not there", SEL.data | 4, PROTECTED),
    bad("system descriptor", SEL.ldt, PROTECTED),
    bad("code that cannot be read", SEL.executeOnly, PROTECTED),
    bad("DPL below CPL", SEL.data, USER),
    bad("DPL below RPL", SEL.data | 3, KERNEL),
    bad("absent", SEL.free, PROTECTED, NP, descriptor(0x72, 0xc)),
  ];
};

const stack = (put: Put): Condition[] => {
  const bad = (what: string, selector: number, where: Condition["where"], vector = GP): Condition => ({
    what,
    where,
    vector,
    error: selector & ~3,
    set: (p) => put(p, selector),
  });
  return [
    bad("null selector", 0, ["protected", "compatibility", "64-bit 3"]),
    bad("selector beyond the limit of the GDT", BEYOND, PROTECTED),
    bad("RPL above CPL", SEL.data | 3, KERNEL),
    bad("RPL below CPL", SEL.dataUser & ~3, USER),
    bad("DPL above CPL", SEL.dataUser & ~3, KERNEL),
    bad("DPL below CPL", SEL.data | 3, USER),
    bad("not writable", SEL.readOnly, KERNEL),
    bad("code", SEL.code32, KERNEL),
    bad("system descriptor", SEL.ldt, KERNEL),
    bad("absent", SEL.dataAbsent, KERNEL, SS),
  ];
};
const checks = (segment: string, put: Put): Condition[] => (segment === "ss" ? stack(put) : data(put));

/** What the selector of the mode's own data segment is. */
const usual = (p: Place): number => p.selectors.data;

function mov(digit: number, segment: string): Instruction {
  const put: Put = (p, selector) => p.put(OPERAND, 2, selector);
  return {
    name: `mov to ${segment}`,
    rows: (row) => row.opcode === 0x8e && row.digit === digit && row.map === "one",
    completes: EVERYWHERE,
    set: (p) => put(p, usual(p)),
    code: (p, operand) => [0x8e, ...operand(p, digit)],
    memory: { bytes: 2 },
    conditions: [
      ...checks(segment, put),
      { what: "CS as destination", vector: UD, code: (p, operand) => [0x8e, ...operand(p, 1)] },
      ...[6, 7].map(
        (n): Condition => ({
          what: `segment register ${n}`,
          vector: UD,
          code: (p, operand) => [0x8e, ...operand(p, n)],
        }),
      ),
    ],
  };
}

function pop(code: readonly number[], segment: string, row: (r: OpcodeRow) => boolean): Instruction {
  const everywhere = code.length === 2;
  const put: Put = (p, selector) => p.put(p.stackTop, p.bits / 8, selector);
  const modes = everywhere ? EVERYWHERE : NOT_64;
  const own = [...checks(segment, put), ...POP_FAULTS];
  return {
    name: `pop ${segment}`,
    rows: row,
    completes: modes,
    set: (p) => put(p, usual(p)),
    code: () => code,
    conditions: everywhere ? own : own.map(not64),
  };
}

/** The same condition where the instruction exists outside 64-bit mode only. */
function not64(condition: Condition): Condition {
  const where = (condition.where ?? NOT_64).filter((mode) => !mode.startsWith("64-bit"));
  return { ...condition, where };
}

function far(name: string, code: readonly number[], segment: string): Instruction {
  const put: Put = (p, selector) => p.put(OPERAND, 2, ...(p.bits === 16 ? [0x1234, selector] : [0x1234, 0, selector]));
  const only32 = code.length === 1;
  const encode: Code = (p, operand) => [...code, ...operand(p, 0)];
  const own = checks(segment, put);
  return {
    name,
    rows: (row) => row.mnemonic === name,
    completes: only32 ? NOT_64 : EVERYWHERE,
    set: (p) => put(p, usual(p)),
    code: encode,
    memory: { bytes: 4 },
    // C4 and C5 with a register operand are VEX prefixes
    conditions: only32
      ? own.map(not64)
      : [...own, { what: "register operand", vector: UD, code: () => [...code, 0xc0] }],
  };
}

const onStack =
  (operand: string) =>
  (row: OpcodeRow): boolean =>
    row.mnemonic === "pop" && row.operands === operand;

export const segments: readonly Instruction[] = [
  ...["es", "ss", "ds", "fs", "gs"].map((name, i) => mov([0, 2, 3, 4, 5][i]!, name)),
  pop([0x07], "es", onStack("ES")),
  pop([0x17], "ss", onStack("SS")),
  pop([0x1f], "ds", onStack("DS")),
  pop([0x0f, 0xa1], "fs", onStack("FS")),
  pop([0x0f, 0xa9], "gs", onStack("GS")),
  far("les", [0xc4], "es"),
  far("lds", [0xc5], "ds"),
  far("lss", [0x0f, 0xb2], "ss"),
  far("lfs", [0x0f, 0xb4], "fs"),
  far("lgs", [0x0f, 0xb5], "gs"),
];
