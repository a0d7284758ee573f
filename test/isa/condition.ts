// The faulting conditions of system instructions, as the manual's tables of exceptions list them.
import type { OpcodeRow } from "../../scripts/opcodes.ts";
import type { Mode, Place } from "./place.ts";

export type Level = 0 | 3;

export interface Where {
  readonly mode: Mode;
  readonly cpl: Level;
}

/** One way to make an instruction fault that completes without it. */
export interface Condition {
  readonly what: string;
  /** Modes (`real`, `vm86`, `protected`, `compatibility`, `64-bit`), with a level where only one is meant; all when absent. */
  readonly where?: readonly (Mode | `${Mode} ${Level}`)[];
  readonly vector: number;
  /** Of vectors that have one; 0 when absent. */
  readonly error?: number | ((at: Where) => number);
  /** A trap: the saved address is that of the next instruction. */
  readonly trap?: boolean;
  /** Made after the instruction's own preparation. */
  readonly set?: (p: Place) => void;
  /** Another encoding. */
  readonly code?: Code;
  /** Without the instruction's own preparation. */
  readonly bare?: boolean;
}

/** Bytes; `operand` makes modrm and displacement of the memory operand from modrm.reg. */
export type Code = (p: Place, operand: (p: Place, reg?: number) => number[]) => readonly number[];

export interface Instruction {
  /** The rows of the opcode table it stands for. */
  readonly rows: (row: OpcodeRow) => boolean;
  readonly name: string;
  /** Where it completes after `set`; an empty list: it always faults, each condition says how. */
  readonly completes: readonly (Mode | `${Mode} ${Level}`)[];
  readonly code: Code;
  readonly set?: (p: Place) => void;
  /** Its memory operand is at [SI], ESI or RSI; `write`: it is written; bytes of it. */
  readonly memory?: { readonly write?: boolean; readonly bytes: number };
  readonly conditions: readonly Condition[];
}

export const NOT_CANONICAL = 0x8000_0000_0000_0000n;
/** A selector beyond the limit of the GDT. */
export const BEYOND = 0x1f8;
export const NOT_64: readonly Mode[] = ["real", "vm86", "protected", "compatibility"];
export const USER = ["protected 3", "compatibility 3", "64-bit 3"] as const;
export const KERNEL = ["protected 0", "compatibility 0", "64-bit 0"] as const;

export function matches(list: readonly string[] | undefined, { mode, cpl }: Where): boolean {
  return list === undefined || list.includes(mode) || list.includes(`${mode} ${cpl}`);
}

/** All places: real mode has CPL 0 alone, vm86 CPL 3. */
export const PLACES: readonly Where[] = [
  { mode: "real", cpl: 0 },
  { mode: "vm86", cpl: 3 },
  { mode: "protected", cpl: 0 },
  { mode: "protected", cpl: 3 },
  { mode: "compatibility", cpl: 0 },
  { mode: "compatibility", cpl: 3 },
  { mode: "64-bit", cpl: 0 },
  { mode: "64-bit", cpl: 3 },
];

export const UD = 6;
export const NM = 7;
export const NP = 11;
export const SS = 12;
export const GP = 13;
export const PF = 14;
export const AC = 17;

/** modrm of [SI], ESI or RSI. */
export const mem = (p: Place, reg = 0): number[] => [(p.bits === 16 ? 0x04 : 0x06) | (reg << 3)];
/** modrm and displacement of [BP], EBP or RBP: the stack segment. */
export const stackMem = (p: Place, reg = 0): number[] => [(p.bits === 16 ? 0x46 : 0x45) | (reg << 3), 0];
/** modrm of AX. */
export const ax = (reg = 0): number[] => [0xc0 | (reg << 3)];

export const named =
  (...names: readonly string[]) =>
  (row: OpcodeRow): boolean => {
    const mnemonic = row.mnemonic.split("|")[0]!;
    return names.some((name) => name === mnemonic || name === `${mnemonic} ${row.operands}`);
  };

export const EVERYWHERE: readonly Mode[] = ["real", "vm86", "protected", "compatibility", "64-bit"];
/** Where CPL is 0. */
export const CPL0 = ["real", "protected 0", "compatibility 0", "64-bit 0"] as const;
/** Where it is 3. */
export const CPL3 = ["vm86", "protected 3", "compatibility 3", "64-bit 3"] as const;
export const PROTECTED: readonly Mode[] = ["protected", "compatibility", "64-bit"];
export const LEGACY: readonly Mode[] = ["protected", "compatibility"];
