// @sdm 2A "IN", "INS", 2B "OUT", "OUTS"; 1 "I/O Permission Bit Map"
import { TSS } from "../../system/world.ts";
import {
  AC,
  type Condition,
  CPL3,
  EVERYWHERE,
  GP,
  type Instruction,
  LEGACY,
  NOT_CANONICAL,
  PF,
  SS,
} from "../condition.ts";
import { unaligned } from "../generic.ts";
import { NOT_PRESENT, OPERAND, type Place } from "../place.ts";

const PORT = 0x80;
const BITMAP = TSS + 0x68;
const SMALL = OPERAND - 1;

/** A bitmap that allows every port. */
function allowed(p: Place): void {
  p.set({ rdx: PORT, tr: { ...p.registers.tr, limit: 0x2100 } });
}
const deny = (bit: number) => (p: Place) => p.put(BITMAP + (PORT >> 3), 1, bit);

const bitmap = (wide: boolean): Condition[] => [
  { what: "bit of the port set", where: CPL3, vector: GP, set: deny(1) },
  ...(wide ? [{ what: "bit of the next port set", where: CPL3, vector: GP, set: deny(2) }] : []),
  {
    what: "bitmap outside the limit of the TSS",
    where: CPL3,
    vector: GP,
    set: (p) => p.set({ tr: { ...p.registers.tr, limit: 0x67 } }),
  },
];

const port = (opcode: number, code: readonly number[]): Instruction => ({
  name: `${[0xe6, 0xe7, 0xee, 0xef].includes(opcode) ? "out" : "in"} ${opcode.toString(16)}`,
  rows: (row) => row.map === "one" && row.opcode === opcode,
  completes: EVERYWHERE,
  set: allowed,
  code: () => code,
  conditions: bitmap((opcode & 1) === 1),
});

/** ES:DI of INS, DS:SI of OUTS. */
const string = (opcode: number): Instruction => {
  const wide = (opcode & 1) === 1;
  const out = opcode >= 0x6e;
  const segment = out ? "ds" : "es";
  const register = out ? "rsi" : "rdi";
  const at = (value: number | bigint) => (p: Place) => p.set({ [register]: value });
  const list: Condition[] = [
    ...bitmap(wide),
    {
      what: `outside the limit of ${segment}`,
      where: LEGACY,
      vector: GP,
      set: (p) => p.segment(segment, { limit: SMALL }),
    },
    { what: `${segment} null`, where: LEGACY, vector: GP, set: (p) => p.segment(segment, "unusable") },
    { what: "address not canonical", where: ["64-bit"], vector: GP, set: at(NOT_CANONICAL) },
    {
      what: "page fault",
      where: ["compatibility", "64-bit"],
      vector: PF,
      error: ({ cpl }) => (out ? 0 : 2) | (cpl ? 4 : 0),
      set: at(NOT_PRESENT),
    },
  ];
  if (wide) {
    list.push({ what: "beyond FFFFH", where: ["real", "vm86"], vector: GP, set: at(0xffff) });
    list.push({
      what: "unaligned with alignment checks",
      where: ["vm86", "protected 3", "compatibility 3", "64-bit 3"],
      vector: AC,
      set: unaligned,
    });
  }
  if (!out) list.push({ what: "es not writable", where: LEGACY, vector: GP, set: (p) => p.segment("es", "read-only") });
  else {
    list.push({
      what: "outside the limit of SS",
      where: LEGACY,
      vector: SS,
      code: () => [0x36, opcode],
      set: (p) => p.segment("ss", { limit: SMALL }),
    });
  }
  return {
    name: `${out ? "outs" : "ins"} ${opcode.toString(16)}`,
    rows: (row) => row.map === "one" && row.opcode === opcode,
    completes: EVERYWHERE,
    set: allowed,
    code: () => [opcode],
    conditions: list,
  };
};

export const io: readonly Instruction[] = [
  ...[0xe4, 0xe5, 0xe6, 0xe7].map((opcode) => port(opcode, [opcode, PORT])),
  ...[0xec, 0xed, 0xee, 0xef].map((opcode) => port(opcode, [opcode])),
  ...[0x6c, 0x6d, 0x6e, 0x6f].map(string),
];
