// @sdm 2A "CLAC", "CLI", "CPUID", "HLT", "INVD", "INVPCID"; 2B "MONITOR", "MWAIT", "RDMSR" to "RDTSCP", "STI", "SWAPGS";
// 2C "WBINVD", "WRMSR"
import { opcodeRows } from "../../../scripts/opcodes.ts";
import {
  ax,
  type Condition,
  CPL0,
  CPL3,
  EVERYWHERE,
  GP,
  type Instruction,
  NM,
  NOT_CANONICAL,
  named,
  PF,
  SS,
  UD,
} from "../condition.ts";
import { NOT_PRESENT, OPERAND, type Place } from "../place.ts";

const IOPL = 0x3000n;
const TSD = 4;
const PCE = 0x100;
const FSGSBASE = 0x10000;
const EM = 4n;
const MP = 2n;
const TS = 8n;
const MISC_FEATURES_ENABLES = 0x140;
const LSTAR = 0xc000_0082;
const FS_BASE = 0xc000_0100;
const EFER = 0xc000_0080;
const SYSENTER_CS = 0x174;
const TSC = 0x10;

const privileged: Condition = { what: "CPL above 0", where: CPL3, vector: GP };
const simple = (name: string, code: readonly number[], more: Partial<Instruction> = {}): Instruction => ({
  name,
  rows: named(name),
  completes: CPL0,
  code: () => code,
  conditions: [privileged],
  ...more,
});
const ecx = (rcx: number) => (p: Place) => p.set({ rcx });
/** The instruction after a prefix that makes it another, undefined one. */
const prefixed = (code: readonly number[], prefixes: readonly number[] = [0x66, 0xf3, 0xf2]): Condition[] =>
  prefixes.map((prefix) => ({ what: `prefix ${prefix.toString(16)}`, vector: UD, code: () => [prefix, ...code] }));

const iopl: Condition = {
  what: "IOPL below CPL",
  where: CPL3,
  vector: GP,
  set: (p) => p.set({ rflags: p.registers.rflags & ~IOPL }),
};
const withIopl = { completes: EVERYWHERE, set: (p: Place) => p.flags(Number(IOPL)) };

const msr: readonly Instruction[] = [
  simple("rdmsr", [0x0f, 0x32], {
    set: ecx(TSC),
    conditions: [privileged, { what: "no such MSR", where: CPL0, vector: GP, set: ecx(0x12345) }],
  }),
  simple("wrmsr", [0x0f, 0x30], {
    set: (p) => p.set({ rcx: SYSENTER_CS, rax: 8 }),
    conditions: [
      privileged,
      { what: "no such MSR", where: CPL0, vector: GP, set: ecx(0x12345) },
      ...[LSTAR, FS_BASE].map(
        (index): Condition => ({
          what: `MSR ${index.toString(16)}: address not canonical`,
          where: CPL0,
          vector: GP,
          set: (p) => p.set({ rcx: index, rdx: 0x8000_0000 }),
        }),
      ),
      {
        what: "reserved bit of IA32_EFER",
        where: CPL0,
        vector: GP,
        set: (p) => p.set({ rcx: EFER, rax: p.registers.efer | 2n }),
      },
      {
        what: "EFER.LME changed while paging is on",
        where: ["compatibility 0", "64-bit 0"],
        vector: GP,
        set: (p) => p.set({ rcx: EFER, rax: 0 }),
      },
    ],
  }),
];

const tsd: Condition = { what: "CR4.TSD and CPL above 0", where: CPL3, vector: GP, set: (p) => p.cr4(TSD) };
const time: readonly Instruction[] = [
  simple("rdtsc", [0x0f, 0x31], { completes: EVERYWHERE, conditions: [tsd] }),
  simple("rdtscp", [0x0f, 0x01, 0xf9], { completes: EVERYWHERE, conditions: [tsd] }),
  simple("rdpmc", [0x0f, 0x33], {
    // no model has a counter
    completes: [],
    conditions: [
      { what: "CR4.PCE clear and CPL above 0", where: CPL3, vector: GP },
      { what: "no such counter", where: CPL0, vector: GP },
      { what: "no such counter, CR4.PCE set", where: CPL3, vector: GP, set: (p) => p.cr4(PCE) },
    ],
  }),
  simple("rdpid", [0xf3, 0x0f, 0xc7, 0xf8], {
    completes: EVERYWHERE,
    conditions: prefixed([0x0f, 0xc7, 0xf8], [0xf2]),
  }),
  simple("rdrand", [0x0f, 0xc7, 0xf0], {
    completes: EVERYWHERE,
    conditions: prefixed([0x0f, 0xc7, 0xf0], [0xf2, 0xf3]),
  }),
  simple("rdseed", [0x0f, 0xc7, 0xf8], { completes: EVERYWHERE, conditions: prefixed([0x0f, 0xc7, 0xf8], [0xf2]) }),
  simple("cpuid", [0x0f, 0xa2], {
    completes: EVERYWHERE,
    conditions: [{ what: "CPUID faulting", where: CPL3, vector: GP, set: (p) => p.msr(MISC_FEATURES_ENABLES, 1) }],
  }),
];

const notAtCpl0: Condition = { what: "CPL above 0", where: CPL3, vector: UD };
const extensions: Condition = { what: "ECX not 0", where: CPL0, vector: GP, set: ecx(1) };
const MONITOR = [0x0f, 0x01, 0xc8];
const monitor: readonly Instruction[] = [
  simple("monitor", MONITOR, {
    set: (p) => p.set({ rax: p.registers.rsi }),
    conditions: [
      notAtCpl0,
      extensions,
      ...prefixed(MONITOR),
      {
        what: "outside the limit of DS",
        where: ["protected 0", "compatibility 0"],
        vector: GP,
        set: (p) => p.segment("ds", { limit: OPERAND - 1 }),
      },
      {
        what: "DS null",
        where: ["protected 0", "compatibility 0"],
        vector: GP,
        set: (p) => p.segment("ds", "unusable"),
      },
      {
        what: "outside the limit of SS",
        where: ["protected 0", "compatibility 0"],
        vector: SS,
        code: () => [0x36, ...MONITOR],
        set: (p) => p.segment("ss", { limit: OPERAND - 1 }),
      },
      { what: "address not canonical", where: ["64-bit 0"], vector: GP, set: (p) => p.set({ rax: NOT_CANONICAL }) },
      {
        what: "page fault",
        where: ["compatibility 0", "64-bit 0"],
        vector: PF,
        set: (p) => p.set({ rax: NOT_PRESENT }),
      },
    ],
  }),
  simple("mwait", [0x0f, 0x01, 0xc9], { conditions: [notAtCpl0, extensions, ...prefixed([0x0f, 0x01, 0xc9])] }),
  simple("clac", [0x0f, 0x01, 0xca], { conditions: [notAtCpl0, ...prefixed([0x0f, 0x01, 0xca])] }),
  simple("stac", [0x0f, 0x01, 0xcb], { conditions: [notAtCpl0, ...prefixed([0x0f, 0x01, 0xcb])] }),
];

const base = (name: string, digit: number, write: boolean): Instruction => ({
  name,
  rows: named(name),
  completes: ["64-bit"],
  set: (p) => p.cr4(FSGSBASE),
  code: (p) => [0xf3, ...(p.bits === 64 ? [0x48] : []), 0x0f, 0xae, ...ax(digit)],
  conditions: [
    { what: "CR4.FSGSBASE clear", where: ["64-bit"], vector: UD, set: (p) => p.cr4(0, FSGSBASE) },
    ...(write
      ? [
          {
            what: "address not canonical",
            where: ["64-bit" as const],
            vector: GP,
            set: (p: Place) => p.set({ rax: NOT_CANONICAL }),
          },
        ]
      : []),
  ],
});

const descriptor = (what: string, type: number, low: bigint, high = 0n): Condition => ({
  what,
  where: CPL0,
  vector: GP,
  set: (p) => {
    p.set({ rax: type });
    p.put(OPERAND, 8, low, high);
  },
});
const invpcid: Instruction = {
  name: "invpcid",
  rows: named("invpcid"),
  completes: CPL0,
  set: (p) => {
    p.set({ rax: 2 });
    p.put(OPERAND, 8, 0, 0);
  },
  code: (p, operand) => [0x66, 0x0f, 0x38, 0x82, ...operand(p, 0)],
  memory: { bytes: 16 },
  conditions: [
    privileged,
    { what: "no such type", where: CPL0, vector: GP, set: (p) => p.set({ rax: 4 }) },
    descriptor("reserved bits of the descriptor", 1, 0x1000n),
    descriptor("a PCID without CR4.PCIDE", 1, 1n),
    descriptor("a PCID without CR4.PCIDE, one address", 0, 1n),
    {
      ...descriptor("linear address not canonical", 0, 0n, NOT_CANONICAL),
      where: ["64-bit 0"],
    },
    { what: "register operand", vector: UD, code: () => [0x66, 0x0f, 0x38, 0x82, 0xc0] },
    ...prefixed([0x0f, 0x38, 0x82, 0x06], [0xf2, 0xf3]),
  ],
};

const cr0 = (bits: bigint) => (p: Place) => p.set({ cr0: p.registers.cr0 | bits });
/** No model has an x87 unit. */
const x87 = (opcode: number): Instruction => ({
  name: `x87 ${opcode.toString(16)}`,
  rows: (row) => row.map === "one" && row.opcode === opcode,
  completes: [],
  code: () => [opcode, 0xc0],
  conditions: [
    { what: "no x87 unit", vector: UD },
    { what: "CR0.EM", vector: NM, set: cr0(EM) },
    { what: "CR0.TS", vector: NM, set: cr0(TS) },
    { what: "CR0.EM and a memory operand", vector: NM, set: cr0(EM), code: (p, operand) => [opcode, ...operand(p, 0)] },
  ],
});

const escapes = opcodeRows.filter((row) => row.map === "one" && row.opcode >= 0xd8 && row.opcode <= 0xdf);

export const machine: readonly Instruction[] = [
  ...msr,
  ...time,
  ...monitor,
  base("rdfsbase", 0, false),
  base("rdgsbase", 1, false),
  base("wrfsbase", 2, true),
  base("wrgsbase", 3, true),
  invpcid,
  simple("hlt", [0xf4]),
  simple("invd", [0x0f, 0x08]),
  simple("wbinvd", [0x0f, 0x09]),
  simple("cli", [0xfa], { ...withIopl, conditions: [iopl] }),
  simple("sti", [0xfb], { ...withIopl, conditions: [iopl] }),
  simple("swapgs", [0x0f, 0x01, 0xf8], {
    completes: ["64-bit 0"],
    conditions: [{ ...privileged, where: ["64-bit 3"] }],
  }),
  ...escapes.map((row) => x87(row.opcode)),
  simple("fwait", [0x9b], {
    completes: EVERYWHERE,
    conditions: [{ what: "CR0.MP and CR0.TS", vector: NM, set: cr0(MP | TS) }],
  }),
];
