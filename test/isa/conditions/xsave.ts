// @sdm 2C "XGETBV" to "XSETBV"; @sdm 1 "Managing State Using the XSAVE Feature Set". Generated code and interpreter alike.
import {
  type Condition,
  CPL0,
  CPL3,
  EVERYWHERE,
  GP,
  type Instruction,
  LEGACY,
  NM,
  NOT_CANONICAL,
  named,
  PF,
  SS,
  stackMem,
  UD,
} from "../condition.ts";
import { NOT_PRESENT, OPERAND, type Place } from "../place.ts";

const OSXSAVE = 0x40000;
const TS = 8n;
const XSS = 0xda0;
const HDC = 0x2000n;
const COMPACTED = 1n << 63n;
const XSTATE_BV = 512;
const XCOMP_BV = 520;
const HDC_STATE = 576;

const osxsave: Condition = { what: "CR4.OSXSAVE clear", vector: UD, set: (p) => p.cr4(0, OSXSAVE) };
const privileged: Condition = { what: "CPL above 0", where: CPL3, vector: GP };
const ecx = (rcx: number) => (p: Place) => p.set({ rcx });
const undefinedWith = (prefix: number, code: readonly number[]): Condition => ({
  what: `prefix ${prefix.toString(16)}`,
  vector: UD,
  code: () => [prefix, ...code],
});
const prefixed = (code: readonly number[]): Condition[] => [0x66, 0xf3, 0xf2].map((p) => undefinedWith(p, code));

const xcr = (what: string, rax: number, rdx = 0): Condition => ({
  what,
  where: CPL0,
  vector: GP,
  set: (p) => p.set({ rax, rdx }),
});
const XGETBV = [0x0f, 0x01, 0xd0];
const XSETBV = [0x0f, 0x01, 0xd1];
const registers: readonly Instruction[] = [
  {
    name: "xgetbv",
    rows: named("xgetbv"),
    completes: EVERYWHERE,
    set: (p) => p.cr4(OSXSAVE),
    code: () => XGETBV,
    conditions: [
      osxsave,
      { what: "no such register", vector: GP, set: ecx(2) },
      { what: "no such register, bit 31", vector: GP, set: ecx(0x8000_0000) },
      ...prefixed(XGETBV),
    ],
  },
  {
    name: "xsetbv",
    rows: named("xsetbv"),
    completes: CPL0,
    set: (p) => {
      p.cr4(OSXSAVE);
      p.set({ rax: 1 });
    },
    code: () => XSETBV,
    conditions: [
      osxsave,
      privileged,
      { what: "no such register", where: CPL0, vector: GP, set: ecx(1) },
      xcr("x87 state off", 0),
      xcr("x87 state off, SSE state on", 2),
      xcr("AVX state without SSE state", 5),
      xcr("a state that is not built", 9),
      xcr("a state that belongs to IA32_XSS", 0x2001),
      xcr("bit 63", 1, 0x8000_0000),
      ...prefixed(XSETBV),
    ],
  },
];

interface Form {
  readonly name: string;
  readonly code: readonly [opcode: number, digit: number];
  readonly save: boolean;
  readonly supervisor: boolean;
}

const header = (at: number, value: bigint) => (p: Place) => p.put(OPERAND + at, 8, value);

/** Faults of the header, for XRSTOR in both formats and for XRSTORS. */
function headers({ supervisor }: Form): Condition[] {
  const where = supervisor ? CPL0 : EVERYWHERE;
  const compacted = (what: string, ...words: readonly (readonly [number, bigint])[]): Condition => ({
    what: `compacted format: ${what}`,
    where,
    vector: GP,
    set: (p) => {
      header(XCOMP_BV, COMPACTED | 1n)(p);
      for (const [at, value] of words) header(at, value)(p);
    },
  });
  const standard = (what: string, ...words: readonly (readonly [number, bigint])[]): Condition => ({
    what: `standard format: ${what}`,
    where,
    vector: GP,
    set: (p) => {
      header(XCOMP_BV, 0n)(p);
      for (const [at, value] of words) header(at, value)(p);
    },
  });
  return [
    compacted("a state in XSTATE_BV that is not in XCOMP_BV", [XCOMP_BV, COMPACTED], [XSTATE_BV, 1n]),
    compacted("a state in XCOMP_BV that is not enabled", [XCOMP_BV, COMPACTED | 4n]),
    compacted("a supervisor state that is not enabled", [XCOMP_BV, COMPACTED | HDC]),
    ...[16, 24, 32, 40, 48, 56].map((at) => compacted(`byte ${at} of the header`, [XSTATE_BV + at, 1n])),
    ...(supervisor
      ? [standard("always")]
      : [
          standard("a state in XSTATE_BV that is not enabled", [XSTATE_BV, 2n]),
          standard("a supervisor state in XSTATE_BV", [XSTATE_BV, HDC]),
          standard("bit 63 of XSTATE_BV", [XSTATE_BV, 1n << 63n]),
          standard("XCOMP_BV without bit 63", [XCOMP_BV, 1n]),
          standard("byte 16 of the header", [XSTATE_BV + 16, 1n]),
        ]),
    ...(supervisor
      ? [
          {
            what: "reserved bit of HDC state",
            where: CPL0,
            vector: GP,
            set: (p: Place) => {
              p.msr(XSS, HDC);
              p.set({ rax: 0x2001 });
              header(XCOMP_BV, COMPACTED | HDC)(p);
              header(XSTATE_BV, HDC)(p);
              header(HDC_STATE, 2n)(p);
            },
          },
        ]
      : []),
  ];
}

function instruction(form: Form): Instruction {
  const { name, save, supervisor } = form;
  const [opcode, digit] = form.code;
  const code: Instruction["code"] = (p, operand) => [0x0f, opcode, ...operand(p, digit)];
  const where = supervisor ? CPL0 : EVERYWHERE;
  const within = <T extends string>(list: readonly T[]) =>
    supervisor ? list.filter((mode) => mode !== "vm86").map((mode) => (mode === "real" ? mode : `${mode} 0`)) : list;
  const at = (what: string, modes: readonly string[], vector: number, more: Partial<Condition>): Condition =>
    ({ what, where: within(modes), vector, ...more }) as Condition;
  const stack = { code: (p: Place) => code(p, stackMem) };
  return {
    name,
    rows: named(name),
    completes: where,
    set: (p) => {
      p.cr4(OSXSAVE);
      p.set({ rax: 1, rdx: 0 });
      if (supervisor && !save) header(XCOMP_BV, COMPACTED | 1n)(p);
    },
    code,
    conditions: [
      osxsave,
      { what: "CR0.TS", vector: NM, set: (p) => p.set({ cr0: p.registers.cr0 | TS }) },
      ...(supervisor ? [privileged] : []),
      {
        what: "register operand",
        vector: UD,
        code: () => [0x66, 0x0f, opcode, 0xc0 | (digit << 3)].slice(opcode === 0xc7 ? 1 : 0),
      },
      { what: "prefix f2", vector: UD, code: (p, operand) => [0xf2, ...code(p, operand)] },
      { what: "prefix f3", vector: UD, code: (p, operand) => [0xf3, ...code(p, operand)] },
      // CLWB is 66 0F AE /6
      ...(name === "xsaveopt"
        ? []
        : [
            {
              what: "prefix 66",
              vector: UD,
              code: ((p, operand) => [0x66, ...code(p, operand)]) as Instruction["code"],
            },
          ]),
      { what: "not a multiple of 64", where, vector: GP, set: (p) => p.set({ rsi: p.registers.rsi | 32n }) },
      { what: "not a multiple of 64, by one", where, vector: GP, set: (p) => p.set({ rsi: p.registers.rsi | 1n }) },
      at("an area beyond FFFFH in DS", ["real", "vm86"], GP, { set: (p) => p.set({ rsi: 0xfe00 }) }),
      at("an area beyond FFFFH in SS", ["real", "vm86"], SS, { ...stack, set: (p) => p.set({ rbp: 0xfe00 }) }),
      at("a header outside the limit of DS", LEGACY, GP, { set: (p) => p.segment("ds", { limit: OPERAND + 511 }) }),
      at("an area outside the limit of SS", LEGACY, SS, {
        ...stack,
        set: (p) => p.segment("ss", { limit: OPERAND - 1 }),
      }),
      at("DS null", LEGACY, GP, { set: (p) => p.segment("ds", "unusable") }),
      ...(save ? [at("DS not writable", LEGACY, GP, { set: (p) => p.segment("ds", "read-only") })] : []),
      at("address not canonical", ["64-bit"], GP, { set: (p) => p.set({ rsi: NOT_CANONICAL }) }),
      at("address not canonical in SS", ["64-bit"], SS, { ...stack, set: (p) => p.set({ rbp: NOT_CANONICAL }) }),
      at("page fault", ["protected", "compatibility", "64-bit"], PF, {
        error: (p) => (save ? 2 : 0) | (p.cpl ? 4 : 0),
        set: (p) => {
          p.paging();
          p.set({ rsi: NOT_PRESENT });
        },
      }),
      ...(save ? [] : headers(form)),
    ],
  };
}

const FORMS: readonly Form[] = [
  { name: "xsave", code: [0xae, 4], save: true, supervisor: false },
  { name: "xrstor", code: [0xae, 5], save: false, supervisor: false },
  { name: "xsaveopt", code: [0xae, 6], save: true, supervisor: false },
  { name: "xrstors", code: [0xc7, 3], save: false, supervisor: true },
  { name: "xsavec", code: [0xc7, 4], save: true, supervisor: false },
  { name: "xsaves", code: [0xc7, 5], save: true, supervisor: true },
];

export const xsave: readonly Instruction[] = [...registers, ...FORMS.map(instruction)];
