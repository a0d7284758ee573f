// @sdm 2B "MOV-Move to/from Control Registers", "MOV-Move to/from Debug Registers"; 2A "CLTS"
import type { OpcodeRow } from "../../../scripts/opcodes.ts";
import { type Condition, CPL0, CPL3, GP, type Instruction, named, UD } from "../condition.ts";
import type { Place } from "../place.ts";

const DB = 1;
const PE = 1n;
const NW = 0x2000_0000n;
const PG = 0x8000_0000n;
const PAE = 0x20n;
const DE = 8;
const PCIDE = 0x20000n;
const HIGH = 1n << 32n;
const GD = 0x2000n;
const LME = 0x100;

const privileged: Condition = { what: "CPL above 0", where: CPL3, vector: GP };
const row =
  (operands: string, digit?: number) =>
  (r: OpcodeRow): boolean =>
    r.mnemonic === "mov" && r.operands === operands && r.digit === digit;
const modrm = (reg: number): number => 0xc0 | (reg << 3);
const rax = (value: bigint | ((p: Place) => bigint)) => (p: Place) =>
  p.set({ rax: typeof value === "bigint" ? value : value(p) });

/** CR1 and CR5 to CR7, at any level. */
const absent = (opcode: number): Condition[] =>
  [1, 5, 6, 7].map((cr) => ({ what: `CR${cr}`, vector: UD, code: () => [0x0f, opcode, modrm(cr)] }));
const above = (opcode: number): Condition[] =>
  [9, 10, 15].map((cr) => ({
    what: `CR${cr}`,
    where: ["64-bit"],
    vector: UD,
    code: () => [0x44, 0x0f, opcode, modrm(cr & 7)],
  }));

const toCr = (cr: number, conditions: readonly Condition[]): Instruction => ({
  name: `mov to CR${cr}`,
  rows: row("Cn,Rn", cr),
  completes: CPL0,
  set: rax((p) => p.registers[`cr${cr}` as "cr0"]),
  code: () => [0x0f, 0x22, modrm(cr)],
  conditions: [privileged, ...conditions],
});
const fromCr = (cr: number): Instruction => ({
  name: `mov from CR${cr}`,
  rows: row("Rn,Cn", cr),
  completes: CPL0,
  code: () => [0x0f, 0x20, modrm(cr)],
  conditions: [privileged, ...(cr === 0 ? [...absent(0x20), ...above(0x20)] : [])],
});

const IA32E = ["compatibility 0", "64-bit 0"] as const;
const noPaging = ["real", "protected 0"] as const;

const cr0: readonly Condition[] = [
  ...absent(0x22),
  ...above(0x22),
  { what: "PG without PE", where: noPaging, vector: GP, set: rax(PG | 0x10n) },
  { what: "PE cleared with PG", where: IA32E, vector: GP, set: rax((p) => p.registers.cr0 & ~PE) },
  { what: "NW without CD", where: CPL0, vector: GP, set: rax((p) => p.registers.cr0 | NW) },
  { what: "bits 63:32", where: ["64-bit 0"], vector: GP, set: rax((p) => p.registers.cr0 | HIGH) },
  { what: "PG cleared in 64-bit mode", where: ["64-bit 0"], vector: GP, set: rax((p) => p.registers.cr0 & ~PG) },
  {
    what: "PG with EFER.LME and without CR4.PAE",
    where: ["protected 0"],
    vector: GP,
    set: (p) => p.set({ efer: LME, rax: PG | 0x11n }),
  },
  {
    what: "PG cleared with CR4.PCIDE",
    where: ["compatibility 0"],
    vector: GP,
    set: (p) => p.set({ cr4: p.registers.cr4 | PCIDE, rax: p.registers.cr0 & ~PG }),
  },
  {
    what: "a reserved bit in a PDPTE",
    where: ["protected 0"],
    vector: GP,
    set: (p) => {
      p.put(0x30000, 8, 0x31003n, 0x31001n);
      p.set({ cr3: 0x30000, cr4: p.registers.cr4 | PAE, rax: PG | 0x11n });
    },
  },
  {
    what: "reserved bits of CR8",
    where: ["64-bit 0"],
    vector: GP,
    code: () => [0x44, 0x0f, 0x22, 0xc0],
    set: rax(0x10n),
  },
];

const cr4: readonly Condition[] = [
  { what: "reserved bit", where: CPL0, vector: GP, set: rax((p) => p.registers.cr4 | 0x8000n) },
  { what: "bit above the last", where: CPL0, vector: GP, set: rax((p) => p.registers.cr4 | 0x8000_0000n) },
  { what: "bits 63:32", where: ["64-bit 0"], vector: GP, set: rax((p) => p.registers.cr4 | HIGH) },
  { what: "PAE cleared in IA-32e mode", where: IA32E, vector: GP, set: rax((p) => p.registers.cr4 & ~PAE) },
  { what: "PCIDE outside IA-32e mode", where: noPaging, vector: GP, set: rax(PCIDE) },
  {
    what: "PCIDE set while CR3[11:0] is not 0",
    where: IA32E,
    vector: GP,
    set: (p) => p.set({ cr3: p.registers.cr3 | 0x18n, rax: p.registers.cr4 | PCIDE }),
  },
];

const cr3: readonly Condition[] = [
  {
    what: "bits above the physical width",
    where: ["64-bit 0"],
    vector: GP,
    set: rax((p) => p.registers.cr3 | (1n << 52n)),
  },
  {
    what: "bit 63 without PCIDE",
    where: ["64-bit 0"],
    vector: GP,
    set: rax((p) => p.registers.cr3 | (1n << 63n)),
  },
  {
    what: "a reserved bit in a PDPTE",
    where: ["protected 0"],
    vector: GP,
    // MOV CR0, RAX loads good PDPTEs; MOV CR3, RCX is the second instruction
    code: () => [0x0f, 0x22, 0xc0, 0x0f, 0x22, 0xd9],
    trap: true,
    set: (p) => {
      p.put(0x30000, 8, 0x31001n);
      p.put(0x31000, 8, 0x83n);
      p.put(0x32000, 8, 0x31001n, 0x31003n);
      p.set({ cr3: 0x30000, cr4: p.registers.cr4 | PAE, rax: p.registers.cr0 | PG, rcx: 0x32000 });
    },
  },
];

const debug = (opcode: number): readonly Condition[] => [
  privileged,
  ...[4, 5].map(
    (dr): Condition => ({
      what: `DR${dr} with CR4.DE`,
      where: CPL0,
      vector: UD,
      code: () => [0x0f, opcode, modrm(dr)],
      set: (p) => p.cr4(DE),
    }),
  ),
  {
    what: "DR7.GD",
    where: CPL0,
    vector: DB,
    set: (p) => p.set({ dr7: p.registers.dr7 | GD }),
  },
  { what: "DR8 to DR15", where: ["64-bit 0"], vector: UD, code: () => [0x44, 0x0f, opcode, modrm(0)] },
];

const wide = (dr: number): Condition => ({
  what: `bits 63:32 of DR${dr}`,
  where: ["64-bit 0"],
  vector: GP,
  code: () => [0x0f, 0x23, modrm(dr)],
  set: rax((p) => p.registers[`dr${dr}` as "dr6"] | HIGH),
});

export const control: readonly Instruction[] = [
  toCr(0, cr0),
  toCr(2, []),
  toCr(3, cr3),
  toCr(4, cr4),
  ...[0, 2, 3, 4].map(fromCr),
  {
    name: "mov to DR",
    rows: row("Dn,Rn"),
    completes: CPL0,
    code: () => [0x0f, 0x23, 0xc0],
    conditions: [...debug(0x23), wide(6), wide(7)],
  },
  {
    name: "mov from DR",
    rows: row("Rn,Dn"),
    completes: CPL0,
    code: () => [0x0f, 0x21, 0xc0],
    conditions: debug(0x21),
  },
  { name: "clts", rows: named("clts"), completes: CPL0, code: () => [0x0f, 0x06], conditions: [privileged] },
];
