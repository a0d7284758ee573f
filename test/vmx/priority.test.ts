// Every row of instruction-priority.csv: #UD, then the privilege fault, then the VM exit, then other faults.
// SDM 3C "Relative Priority of Faults and VM Exits", "VMX Instruction Reference"; CPUID faulting: note 323850.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { DR7, MISC_FEATURES_MASK, MSR_MISC_FEATURES_ENABLES, MSR_PLATFORM_INFO } from "../../assembly/abi/state.ts";
import { table } from "../../scripts/vmx-tables.ts";
import { exitTable, primary, secondary } from "./exitTable.ts";
import type { Fields } from "./guests.ts";
import { RAX, RBX, RCX, RDX, Running, u32 } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

const UD = "#UD";
const GP = "#GP(0)";
const NM = "#NM";
type End = typeof UD | typeof NM | typeof GP | "#PF" | number;

interface Case {
  readonly title: string;
  readonly code: readonly number[];
  readonly set?: Fields;
  readonly gprs?: Readonly<Record<number, bigint>>;
  readonly user?: true;
  readonly before?: () => void;
  readonly end: End;
}

const USER: Fields = {
  GUEST_CS_SELECTOR: 0x13n,
  GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
  GUEST_SS_SELECTOR: 0x1bn,
  GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
};
/** 64-bit compatibility mode at CPL 0. */
const COMPATIBILITY: Fields = { GUEST_CS_ACCESS_RIGHTS: 0xc09bn };
const NOT_MAPPED = 0x4000_0000n;
const NOT_CANONICAL = 1n << 47n;
/** A TSS whose I/O map lies beyond its limit. */
const NO_PORTS: Fields = { ...exitTable.IO_INSTRUCTION!.set, GUEST_TR_BASE: 0x1a000n };
const noPorts = () => vmx.poke(0x1a066n, [0xff, 0xff]);
const one = (title: string, code: readonly number[], end: End, more: Partial<Case> = {}): Case => ({
  title,
  code,
  end,
  ...more,
});
const user = { user: true } as const;
/** CPL 3 faults, CPL 0 exits. */
const privileged = (name: string, exit: number, later?: Case): Case[] => {
  const { code, set, gprs } = exitTable[name]!;
  return [
    one("CPL 3", code, GP, { set, gprs, ...user }),
    one("CPL 0", code, exit, { set, gprs }),
    ...(later ? [later] : []),
  ];
};
/** VMX instruction: exits at CPL 3 too; #UD in compatibility mode; an operand that cannot be read does not count. */
const vmxInstruction = (name: string, exit: number): Case[] => {
  const { code } = exitTable[name]!;
  return [
    one(`${name} at CPL 3`, code, exit, user),
    one(`${name} in compatibility mode`, code, UD, { set: COMPATIBILITY }),
    one(`${name} with an operand that is not mapped`, code, exit, { gprs: { [RBX]: NOT_MAPPED } }),
  ];
};
const LOCK = 0xf0;
const faulting = (): void => {
  vmx.write64(MSR_PLATFORM_INFO, 1n << 31n);
  vmx.write64(MISC_FEATURES_MASK, 1n);
  vmx.write64(MSR_MISC_FEATURES_ENABLES, 1n);
};
const ownedCr0 = (mask: bigint, shadow: bigint): Fields => ({ CR0_GUEST_HOST_MASK: mask, CR0_READ_SHADOW: shadow });
const MOV_CR0 = [0x0f, 0x22, 0xc0];
const CR0_BAD = 0x1_8000_0031n; // reserved bit 32
const debug = { PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_MOV_DR_EXITING) };
const shadowVmcs = (): void => {
  vmx.formatRegion(0x13000n, vmx.revision | 0x80000000);
};
const shadowing: Fields = {
  ...secondary(c.SECONDARY_VMCS_SHADOWING),
  VMREAD_BITMAP_ADDRESS: 0x11000n,
  VMWRITE_BITMAP_ADDRESS: 0x11000n,
  VMCS_LINK_POINTER: 0x13000n,
};

const rows: Readonly<Record<string, readonly Case[]>> = {
  CPUID: [
    one("LOCK", [LOCK, 0x0f, 0xa2], UD, { before: faulting, ...user }),
    one("CPUID faulting at CPL 3", [0x0f, 0xa2], GP, { before: faulting, ...user }),
    one("CPUID faulting at CPL 0", [0x0f, 0xa2], 10, { before: faulting }),
    one("CPL 3", [0x0f, 0xa2], 10, user),
  ],
  RDMSR: privileged("RDMSR", 31, one("an MSR that does not exist", [0x0f, 0x32], 31, { gprs: { [RCX]: 0x1fffn } })),
  WRMSR: [
    ...privileged("WRMSR", 32),
    one("a bad value", [0x0f, 0x30], 32, { gprs: { [RCX]: 0x277n, [RAX]: 2n } }),
    one("a bad value that does not exit", [0x0f, 0x30], GP, {
      gprs: { [RCX]: 0x277n, [RAX]: 2n },
      set: { ...primary(c.PRIMARY_USE_MSR_BITMAPS), MSR_BITMAP_ADDRESS: 0x11000n },
    }),
  ],
  HLT: privileged("HLT", 12),
  INVD: privileged("INVD", 13),
  WBINVD: privileged("WBINVD", 54),
  INVLPG: [
    one("register operand", [0x0f, 0x01, 0xfd], UD, { set: exitTable.INVLPG!.set, ...user }),
    ...privileged("INVLPG", 14),
  ],
  INVPCID: [
    one("control 0", [0x66, 0x0f, 0x38, 0x82, 0x03], UD, { set: primary(c.PRIMARY_INVLPG_EXITING), ...user }),
    ...privileged("INVPCID", 58),
    one("descriptor that is not mapped", exitTable.INVPCID!.code, 58, {
      set: exitTable.INVPCID!.set,
      gprs: { [RBX]: NOT_MAPPED },
    }),
  ],
  RDTSC: [
    one("CR4.TSD at CPL 3", [0x0f, 0x31], GP, { set: { ...exitTable.RDTSC!.set, GUEST_CR4: 0x2024n }, ...user }),
    one("CPL 3", [0x0f, 0x31], 16, { set: exitTable.RDTSC!.set, ...user }),
  ],
  RDTSCP: [
    one("control 0", [0x0f, 0x01, 0xf9], UD, {
      set: { ...primary(c.PRIMARY_RDTSC_EXITING), GUEST_CR4: 0x2024n },
      ...user,
    }),
    one("CR4.TSD at CPL 3", [0x0f, 0x01, 0xf9], GP, { set: { ...exitTable.RDTSCP!.set, GUEST_CR4: 0x2024n }, ...user }),
    one("CPL 0", [0x0f, 0x01, 0xf9], 51, { set: exitTable.RDTSCP!.set }),
  ],
  RDPMC: [
    one("CR4.PCE = 0 at CPL 3", [0x0f, 0x33], GP, { set: exitTable.RDPMC!.set, ...user }),
    one("a counter that does not exist", [0x0f, 0x33], 15, { set: exitTable.RDPMC!.set, gprs: { [RCX]: 99n } }),
  ],
  "MOV to/from CR0/2/3/4": [
    one("CR1 at CPL 3", [0x0f, 0x22, 0xc8], UD, user),
    one("CPL 3", MOV_CR0, GP, { set: ownedCr0(~0n & 0xffffffffn, 0n), ...user }),
    one("a reserved bit in a masked register", MOV_CR0, 28, { set: ownedCr0(1n, 0n), gprs: { [RAX]: CR0_BAD } }),
    one("a reserved bit", MOV_CR0, GP, { gprs: { [RAX]: CR0_BAD } }),
  ],
  "MOV to/from CR8": [
    one("CPL 3", [0x44, 0x0f, 0x22, 0xc0], GP, { set: primary(c.PRIMARY_CR8_LOAD_EXITING), ...user }),
    one("a reserved bit with the control", [0x44, 0x0f, 0x22, 0xc0], 28, {
      set: primary(c.PRIMARY_CR8_LOAD_EXITING),
      gprs: { [RAX]: 16n },
    }),
    one("a reserved bit", [0x44, 0x0f, 0x22, 0xc0], GP, { gprs: { [RAX]: 16n } }),
  ],
  CLTS: [
    one("CPL 3", [0x0f, 0x06], GP, { set: ownedCr0(8n, 8n), ...user }),
    one("owned", [0x0f, 0x06], 28, { set: ownedCr0(8n, 8n) }),
  ],
  LMSW: [
    one("CPL 3", [0x0f, 0x01, 0x33], GP, { set: ownedCr0(0xfn, 0n), ...user }),
    one("operand that is not mapped", [0x0f, 0x01, 0x33], "#PF", {
      set: ownedCr0(0xfn, 0n),
      gprs: { [RBX]: NOT_MAPPED },
    }),
    one("owned", [0x0f, 0x01, 0xf0], 28, { set: ownedCr0(0xfn, 0n), gprs: { [RAX]: 2n } }),
  ],
  SMSW: [
    one("CPL 3", [0x0f, 0x01, 0xe0], 18, user),
    one("CPL 0, every bit owned", [0x0f, 0x01, 0xe0], 18, { set: ownedCr0(0xffffffffn, 0n) }),
  ],
  "MOV DR": [
    one("CPL 3", [0x0f, 0x21, 0xfb], 29, { set: debug, ...user }),
    one("DR4 with CR4.DE", [0x0f, 0x21, 0xe3], 29, { set: { ...debug, GUEST_CR4: 0x2028n } }),
    one("DR7.GD", [0x0f, 0x21, 0xfb], 29, { set: debug, before: () => vmx.write64(DR7, 0x2400n) }),
    one("CPL 3 without the control", [0x0f, 0x21, 0xfb], GP, user),
    one("DR4 with CR4.DE without the control", [0x0f, 0x21, 0xe3], UD, { set: { GUEST_CR4: 0x2028n } }),
  ],
  "IN/OUT": [
    one("CPL 3, IOPL 0", [0xe6, 0x80], GP, { set: NO_PORTS, before: noPorts, ...user }),
    one("CPL 3, IOPL 3", [0xe6, 0x80], 30, {
      set: { ...exitTable.IO_INSTRUCTION!.set, GUEST_RFLAGS: 0x3002n },
      ...user,
    }),
  ],
  "INS/OUTS": [
    one("CPL 3, IOPL 0", [0x6e], GP, { set: NO_PORTS, before: noPorts, ...user }),
    one("operand that is not mapped", [0x6e], 30, {
      set: exitTable.IO_INSTRUCTION!.set,
      gprs: { 6: NOT_MAPPED, [RDX]: 0x80n },
    }),
    one("operand that is not canonical", [0x6e], 30, {
      set: exitTable.IO_INSTRUCTION!.set,
      gprs: { 6: NOT_CANONICAL, [RDX]: 0x80n },
    }),
  ],
  "LGDT LIDT SGDT SIDT": [
    one("LGDT with a register", [0x0f, 0x01, 0xd5], UD, { set: exitTable.GDTR_IDTR_ACCESS!.set }),
    one("LGDT at CPL 3", [0x0f, 0x01, 0x13], GP, { set: exitTable.GDTR_IDTR_ACCESS!.set, ...user }),
    one("SGDT at CPL 3", [0x0f, 0x01, 0x03], 46, { set: exitTable.GDTR_IDTR_ACCESS!.set, ...user }),
    one("SGDT, operand that is not mapped", [0x0f, 0x01, 0x03], 46, {
      set: exitTable.GDTR_IDTR_ACCESS!.set,
      gprs: { [RBX]: NOT_MAPPED },
    }),
    one("LIDT, operand that is not canonical", [0x0f, 0x01, 0x1b], 46, {
      set: exitTable.GDTR_IDTR_ACCESS!.set,
      gprs: { [RBX]: NOT_CANONICAL },
    }),
  ],
  "LLDT LTR SLDT STR": [
    one("LLDT at CPL 3", [0x0f, 0x00, 0xd0], GP, { set: exitTable.LDTR_TR_ACCESS!.set, ...user }),
    one("STR at CPL 3", [0x0f, 0x00, 0xc8], 47, { set: exitTable.LDTR_TR_ACCESS!.set, ...user }),
    one("LTR of a bad selector", [0x0f, 0x00, 0xd8], 47, {
      set: exitTable.LDTR_TR_ACCESS!.set,
      gprs: { [RAX]: 0xfff8n },
    }),
    one("vm86", [0x0f, 0x00, 0xc8], UD, { set: { ...exitTable.LDTR_TR_ACCESS!.set, ...vm86() }, before: vm86Pages }),
  ],
  MONITOR: [
    one("CPL 3", [0x0f, 0x01, 0xc8], UD, { set: exitTable.MONITOR!.set, ...user }),
    one("CPL 0, address that is not mapped", [0x0f, 0x01, 0xc8], 39, {
      set: exitTable.MONITOR!.set,
      gprs: { [RAX]: NOT_MAPPED },
    }),
  ],
  MWAIT: [
    one("CPL 3", [0x0f, 0x01, 0xc9], UD, { set: exitTable.MWAIT!.set, ...user }),
    one("CPL 0, ECX that is not defined", [0x0f, 0x01, 0xc9], 36, {
      set: exitTable.MWAIT!.set,
      gprs: { [RCX]: 0xffn },
    }),
  ],
  PAUSE: [one("CPL 3", [0xf3, 0x90], 40, { set: exitTable.PAUSE!.set, ...user })],
  XSETBV: [
    one("CR4.OSXSAVE = 0 at CPL 3", [0x0f, 0x01, 0xd1], UD, user),
    one("CPL 3", [0x0f, 0x01, 0xd1], GP, { set: { GUEST_CR4: 0x42020n }, ...user }),
    one("an index and value that are bad", [0x0f, 0x01, 0xd1], 55, {
      set: { GUEST_CR4: 0x42020n },
      gprs: { [RCX]: 5n },
    }),
  ],
  GETSEC: [one("CR4.SMXE = 0, which is always", [0x0f, 0x37], UD), one("CPL 3", [0x0f, 0x37], UD, user)],
  VMCALL: [
    one("CPL 3", [], 18, user),
    one("compatibility mode", [], 18, { set: COMPATIBILITY }),
    one("vm86", [], 18, { set: vm86(), before: vm86Pages }),
  ],
  "VMCLEAR VMPTRLD VMPTRST VMLAUNCH VMRESUME VMXOFF VMXON INVEPT INVVPID": [
    ...vmxInstruction("VMCLEAR", 19),
    ...vmxInstruction("VMPTRLD", 21),
    ...vmxInstruction("VMPTRST", 22),
    ...vmxInstruction("VMLAUNCH", 20),
    ...vmxInstruction("VMRESUME", 24),
    ...vmxInstruction("VMXOFF", 26),
    ...vmxInstruction("VMXON", 27),
    ...vmxInstruction("INVEPT", 50),
    ...vmxInstruction("INVVPID", 53),
    one("INVEPT with a register", [0x66, 0x0f, 0x38, 0x80, 0xc0], UD),
    one("VMXON with a register", [0xf3, 0x0f, 0xc7, 0xf0], UD),
  ],
  "VMREAD VMWRITE": [
    ...vmxInstruction("VMREAD", 23),
    ...vmxInstruction("VMWRITE", 25),
    one("CPL 3 that does not exit", [0x0f, 0x78, 0xcb], GP, {
      set: shadowing,
      gprs: { [RCX]: 0x681en },
      before: shadowVmcs,
      ...user,
    }),
  ],
  VMFUNC: [
    one("control 0 at CPL 3", [0x0f, 0x01, 0xd4], UD, user),
    one("EAX 64", [0x0f, 0x01, 0xd4], UD, { set: exitTable.VMFUNC!.set, gprs: { [RAX]: 64n }, before: ept }),
    one("CPL 3", [0x0f, 0x01, 0xd4], 59, { set: exitTable.VMFUNC!.set, before: ept, ...user }),
  ],
  "RDRAND RDSEED": [
    one("LOCK RDRAND", [LOCK, 0x0f, 0xc7, 0xf3], UD, { set: exitTable.RDRAND!.set }),
    one("RDRAND at CPL 3", [0x0f, 0xc7, 0xf3], 57, { set: exitTable.RDRAND!.set, ...user }),
    one("RDSEED at CPL 3", [0x0f, 0xc7, 0xfb], 61, { set: exitTable.RDSEED!.set, ...user }),
  ],
  "XSAVES XRSTORS": ["XSAVES", "XRSTORS"].flatMap((name) => {
    const { code, set, gprs, before } = exitTable[name]!;
    const hdc = () => before?.(vmx);
    const ts = (more: Fields): Fields => ({ ...more, GUEST_CR0: 0x80000039n });
    const base = { gprs, before: hdc };
    return [
      one(`${name}, control 0 at CPL 3`, code, UD, { ...base, set: ts({ GUEST_CR4: 0x42020n }), ...user }),
      one(`${name}, CR4.OSXSAVE = 0 at CPL 3`, code, UD, { ...base, set: ts({ ...set, GUEST_CR4: 0x2020n }), ...user }),
      one(`${name}, CR0.TS at CPL 3`, code, NM, { ...base, set: ts(set!), ...user }),
      one(`${name}, CR0.TS`, code, NM, { ...base, set: ts(set!) }),
      one(`${name} at CPL 3`, code, GP, { ...base, set: set!, ...user }),
      one(`${name} that exits`, code, name === "XSAVES" ? 63 : 64, { ...base, set: set! }),
      one(`${name} that exits, not aligned and not mapped`, code, name === "XSAVES" ? 63 : 64, {
        ...base,
        set: set!,
        gprs: { ...gprs, [RBX]: NOT_MAPPED + 1n },
      }),
      // one of EDX:EAX, IA32_XSS and the bitmap is 0
      one(`${name}, state not asked for`, code, "#PF", { ...base, set: set!, gprs: { [RAX]: 1n, [RBX]: NOT_MAPPED } }),
      one(`${name}, state not in IA32_XSS`, code, "#PF", { set: set!, gprs: { ...gprs, [RBX]: NOT_MAPPED } }),
      one(`${name}, bit of another state in the bitmap`, code, "#PF", {
        ...base,
        set: { ...set!, XSS_EXITING_BITMAP: ~0x2000n & 0xffff_ffff_ffff_ffffn },
        gprs: { ...gprs, [RBX]: NOT_MAPPED },
      }),
      one(`${name}, state of XCR0 in the bitmap`, code, "#PF", {
        ...base,
        set: { ...set!, XSS_EXITING_BITMAP: 1n },
        gprs: { ...gprs, [RBX]: NOT_MAPPED },
      }),
      one(`${name} that does not exit, not aligned`, code, GP, {
        ...base,
        set: { ...set!, XSS_EXITING_BITMAP: 0n },
        gprs: { ...gprs, [RBX]: NOT_MAPPED + 1n },
      }),
    ];
  }),
  RSM: [one("outside SMM", [0x0f, 0xaa], UD), one("CPL 3", [0x0f, 0xaa], UD, user)],
  "UMWAIT TPAUSE": [
    one("no model has UMWAIT", [0xf2, 0x0f, 0xae, 0xf0], UD, user),
    one("no model has TPAUSE", [0x66, 0x0f, 0xae, 0xf0], UD, user),
  ],
};

function ept(): void {
  exitTable.VMFUNC!.before!(vmx);
}
function vm86(): Fields {
  const all: Fields = {
    ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED),
    GUEST_CR3: 0x18000n,
    GUEST_CR4: 0x2010n,
    GUEST_IA32_EFER: 0n,
    GUEST_RFLAGS: 0x20002n,
    GUEST_RSP: 0xff00n,
  };
  for (const s of ["ES", "CS", "SS", "DS", "FS", "GS"]) {
    Object.assign(all, {
      [`GUEST_${s}_SELECTOR`]: 0n,
      [`GUEST_${s}_BASE`]: 0n,
      [`GUEST_${s}_LIMIT`]: 0xffffn,
      [`GUEST_${s}_ACCESS_RIGHTS`]: 0xf3n,
    });
  }
  return all;
}
function vm86Pages(): void {
  vmx.poke64(0x18000n, 0x87n);
}

const FAULTS: Readonly<Record<string, bigint>> = {
  [UD]: 0x80000306n,
  [NM]: 0x80000307n,
  [GP]: 0x80000b0dn,
  "#PF": 0x80000b0en,
};

const names = table("instruction-priority").map((row) => row.instruction!);

it("there are cases for each row, and no other", () => {
  expect(names.filter((name) => !(name in rows))).toEqual([]);
  expect(Object.keys(rows).filter((name) => !names.includes(name))).toEqual([]);
});

describe.each(names)("%s", (name) => {
  it.each(rows[name] ?? [])("$title", ({ code, set, gprs, user: atCpl3, before, end }) => {
    const entry = vmx.tryStart(
      code,
      { EXCEPTION_BITMAP: 0xffffffffn, ...set, ...(atCpl3 ? USER : {}) },
      { [RBX]: 0x9000n, ...gprs },
      before,
    );
    expect(entry).toMatchObject({ entered: true });
    const got = vmx.runToExit();
    const info = vmx.read("EXIT_INTERRUPTION_INFO");
    if (typeof end === "number") expect([got.reason, info]).toEqual([end, 0n]);
    else {
      expect([got.reason, info]).toEqual([0, FAULTS[end]]);
      if (info & 0x800n && end !== "#PF") expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(0n);
    }
  });
});
