// Instructions that cause VM exits: reason, qualification, length and information field, and that they do not exit when
// their control is 0. SDM 3C "Instructions That Cause VM Exits", tables 27-3 to 27-14.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RIP } from "../../assembly/abi/state.ts";
import { type Fields, HOST_RIP, identityPaging, longGuest, writeFields } from "./guests.ts";
import { Vmx } from "./harness.ts";

const START = 0x7000n;
const VMCALL = [0x0f, 0x01, 0xc1];
const RAX = 0;
const RCX = 1;
const RBX = 3;
const R9 = 9;

const vmx = new Vmx();
beforeEach(() => {
  vmx.fill(0x3000n, 0x10000);
  vmx.restart();
  identityPaging(vmx);
  vmx.select();
});

interface Exit {
  readonly reason: number;
  readonly qualification?: bigint;
  readonly info?: bigint;
  readonly linear?: bigint;
}
interface Test {
  readonly title: string;
  readonly code: readonly number[];
  readonly set?: Fields;
  readonly gprs?: Record<number, bigint>;
  readonly exit: Exit;
}

const u32 = (...values: number[]): bigint => values.reduce((all, value) => all | BigInt(value >>> 0), 0n);
const primary = (...bits: number[]): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, ...bits),
});
const secondary = (...bits: number[]): Fields => ({
  ...primary(c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
  SECONDARY_PROC_BASED_CONTROLS: u32(...bits),
});

function start(code: readonly number[], set: Fields = {}, gprs: Record<number, bigint> = {}): void {
  writeFields(vmx, { ...longGuest(), ...set });
  vmx.code([...code, ...VMCALL]);
  expect(vmx.enter().entered).toBe(true);
  for (const [index, value] of Object.entries(gprs)) vmx.setGpr(Number(index), value);
}

function check({ code, set, gprs, exit }: Test): void {
  start(code, set, gprs);
  const got = vmx.runToExit();
  expect(got.reason).toBe(exit.reason);
  expect(got.qualification).toBe(exit.qualification ?? 0n);
  expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(BigInt(code.length));
  expect(vmx.read("GUEST_RIP")).toBe(START);
  expect(vmx.read("EXIT_INSTRUCTION_INFO")).toBe(exit.info ?? 0n);
  expect(vmx.read("GUEST_LINEAR_ADDRESS")).toBe(exit.linear ?? 0n);
  expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0n);
  expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
  expect(vmx.read64(RIP)).toBe(HOST_RIP);
}

/** The instruction completes and VMCALL behind it exits. */
function passes(code: readonly number[], set: Fields, gprs: Record<number, bigint> = {}): void {
  start(code, set, gprs);
  expect(vmx.runToExit().reason).toBe(18);
  expect(vmx.read("GUEST_RIP")).toBe(START + BigInt(code.length));
}

const HLT = [0xf4];
const INVLPG = [0x41, 0x0f, 0x01, 0x79, 0x10]; // invlpg [r9+10h]
const cr = (number: number, access: number, gpr = 0) => BigInt(number | (access << 4) | (gpr << 8));
/** Guest/host mask and read shadow of CR0 or CR4. */
const owned = (name: "CR0" | "CR4", mask: bigint, shadow: bigint): Fields => ({
  [`${name}_GUEST_HOST_MASK`]: mask,
  [`${name}_READ_SHADOW`]: shadow,
});

const unconditional: Test[] = [
  { title: "CPUID", code: [0x0f, 0xa2], exit: { reason: 10 } },
  { title: "INVD", code: [0x0f, 0x08], exit: { reason: 13 } },
  { title: "VMCALL", code: VMCALL, exit: { reason: 18 } },
  { title: "VMLAUNCH", code: [0x0f, 0x01, 0xc2], exit: { reason: 20 } },
  { title: "VMRESUME", code: [0x0f, 0x01, 0xc3], exit: { reason: 24 } },
  { title: "VMXOFF", code: [0x0f, 0x01, 0xc4], exit: { reason: 26 } },
  { title: "CPUID with a prefix", code: [0x48, 0x0f, 0xa2], exit: { reason: 10 } },
];

// instruction information of [r9+10h]: scaling 0, address size 64 (2 in 9:7), segment DS (3 in 17:15), no index (22),
// base r9 (26:23)
const R9_OPERAND = (2n << 7n) | (3n << 15n) | (1n << 22n) | (9n << 23n);

const vmxMemory: Test[] = [
  {
    title: "VMCLEAR [r9+10h]",
    code: [0x66, 0x41, 0x0f, 0xc7, 0x71, 0x10],
    exit: { reason: 19, qualification: 0x10n, info: R9_OPERAND | (6n << 28n) },
  },
  {
    title: "VMPTRLD [r9+10h]",
    code: [0x41, 0x0f, 0xc7, 0x71, 0x10],
    exit: { reason: 21, qualification: 0x10n, info: R9_OPERAND | (6n << 28n) },
  },
  {
    title: "VMPTRST [r9+10h]",
    code: [0x41, 0x0f, 0xc7, 0x79, 0x10],
    exit: { reason: 22, qualification: 0x10n, info: R9_OPERAND | (7n << 28n) },
  },
  {
    title: "VMXON [r9+10h]",
    code: [0xf3, 0x41, 0x0f, 0xc7, 0x71, 0x10],
    exit: { reason: 27, qualification: 0x10n, info: R9_OPERAND | (6n << 28n) },
  },
  {
    title: "VMREAD rbx, rcx",
    code: [0x0f, 0x78, 0xcb],
    exit: { reason: 23, info: (3n << 3n) | (1n << 10n) | (1n << 28n) },
  },
  {
    title: "VMWRITE rcx, rbx",
    code: [0x0f, 0x79, 0xcb],
    exit: { reason: 25, info: (3n << 3n) | (1n << 10n) | (1n << 28n) },
  },
  {
    title: "VMREAD [r9+10h], rcx",
    code: [0x41, 0x0f, 0x78, 0x49, 0x10],
    exit: { reason: 23, qualification: 0x10n, info: R9_OPERAND | (1n << 28n) },
  },
];

const conditional: (Test & { set: Fields })[] = [
  { title: "HLT", code: HLT, set: primary(c.PRIMARY_HLT_EXITING), exit: { reason: 12 } },
  {
    title: "INVLPG",
    code: INVLPG,
    gprs: { [R9]: 0x5000n },
    set: primary(c.PRIMARY_INVLPG_EXITING),
    exit: { reason: 14, qualification: 0x5010n },
  },
  { title: "RDPMC", code: [0x0f, 0x33], set: primary(c.PRIMARY_RDPMC_EXITING), exit: { reason: 15 } },
  { title: "RDTSC", code: [0x0f, 0x31], set: primary(c.PRIMARY_RDTSC_EXITING), exit: { reason: 16 } },
  { title: "PAUSE", code: [0xf3, 0x90], set: primary(c.PRIMARY_PAUSE_EXITING), exit: { reason: 40 } },
  { title: "WBINVD", code: [0x0f, 0x09], set: secondary(c.SECONDARY_WBINVD_EXITING), exit: { reason: 54 } },
  {
    title: "MOV DR7, rbx",
    code: [0x0f, 0x23, 0xfb],
    gprs: { [RBX]: 0x400n },
    set: primary(c.PRIMARY_MOV_DR_EXITING),
    exit: { reason: 29, qualification: 0x307n },
  },
  {
    title: "MOV r9, DR6",
    code: [0x41, 0x0f, 0x21, 0xf1],
    set: primary(c.PRIMARY_MOV_DR_EXITING),
    exit: { reason: 29, qualification: 0x916n },
  },
  {
    title: "MOV CR3, rbx",
    code: [0x0f, 0x22, 0xdb],
    gprs: { [RBX]: 0x4000n },
    set: primary(c.PRIMARY_CR3_LOAD_EXITING),
    exit: { reason: 28, qualification: cr(3, 0, RBX) },
  },
  {
    title: "MOV r9, CR3",
    code: [0x41, 0x0f, 0x20, 0xd9],
    set: primary(c.PRIMARY_CR3_STORE_EXITING),
    exit: { reason: 28, qualification: cr(3, 1, R9) },
  },
  {
    title: "MOV CR8, rbx",
    code: [0x44, 0x0f, 0x22, 0xc3],
    set: primary(c.PRIMARY_CR8_LOAD_EXITING),
    exit: { reason: 28, qualification: cr(8, 0, RBX) },
  },
  {
    title: "MOV rbx, CR8",
    code: [0x44, 0x0f, 0x20, 0xc3],
    set: primary(c.PRIMARY_CR8_STORE_EXITING),
    exit: { reason: 28, qualification: cr(8, 1, RBX) },
  },
  {
    title: "MOV CR0, rbx that differs from the shadow in an owned bit",
    code: [0x0f, 0x22, 0xc3],
    gprs: { [RBX]: 0x80000033n },
    set: owned("CR0", 2n, 0n),
    exit: { reason: 28, qualification: cr(0, 0, RBX) },
  },
  {
    title: "MOV CR4, rbx that differs from the shadow in an owned bit",
    code: [0x0f, 0x22, 0xe3],
    gprs: { [RBX]: 0x20a0n },
    set: owned("CR4", 0x80n, 0n),
    exit: { reason: 28, qualification: cr(4, 0, RBX) },
  },
  {
    title: "CLTS with TS owned and set in the shadow",
    code: [0x0f, 0x06],
    set: owned("CR0", 8n, 8n),
    exit: { reason: 28, qualification: cr(0, 2) },
  },
  {
    title: "LMSW bx that sets an owned PE",
    code: [0x0f, 0x01, 0xf3],
    gprs: { [RBX]: 1n },
    set: owned("CR0", 1n, 0n),
    exit: { reason: 28, qualification: cr(0, 3) | (1n << 16n) },
  },
  {
    title: "LMSW [7100h] that changes an owned MP",
    code: [0x0f, 0x01, 0x34, 0x25, 0x00, 0x71, 0x00, 0x00],
    set: owned("CR0", 2n, 2n),
    exit: { reason: 28, qualification: cr(0, 3) | (1n << 6n), linear: 0x7100n },
  },
  {
    title: "SGDT [r9+10h]",
    code: [0x41, 0x0f, 0x01, 0x41, 0x10],
    gprs: { [R9]: 0x8000n },
    set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING),
    exit: { reason: 46, qualification: 0x10n, info: R9_OPERAND | (1n << 11n) },
  },
  {
    title: "SIDT [rax+rcx*4]",
    code: [0x0f, 0x01, 0x0c, 0x88],
    gprs: { [RAX]: 0x8000n, [RCX]: 0n },
    set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING),
    exit: { reason: 46, info: 2n | (2n << 7n) | (1n << 11n) | (3n << 15n) | (1n << 18n) | (1n << 28n) },
  },
  {
    title: "LGDT [rip+80h]",
    code: [0x0f, 0x01, 0x15, 0x80, 0x00, 0x00, 0x00],
    set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING),
    exit: {
      reason: 46,
      qualification: START + 7n + 0x80n,
      info: (2n << 7n) | (1n << 11n) | (3n << 15n) | (1n << 22n) | (1n << 27n) | (2n << 28n),
    },
  },
  {
    title: "SLDT ebx",
    code: [0x0f, 0x00, 0xc3],
    set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING),
    exit: { reason: 47, info: (3n << 3n) | (1n << 10n) },
  },
  {
    title: "STR [r9+10h]",
    code: [0x41, 0x0f, 0x00, 0x49, 0x10],
    gprs: { [R9]: 0x8000n },
    set: secondary(c.SECONDARY_DESCRIPTOR_TABLE_EXITING),
    exit: { reason: 47, qualification: 0x10n, info: R9_OPERAND | (1n << 28n) },
  },
];

const NO_CONTROL: Fields = {
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED),
  ...owned("CR0", 0n, 0n),
  ...owned("CR4", 0n, 0n),
};
/** Without their control these fault, halt or need what the guest lacks; others complete. */
const OWN_EFFECT = new Set(["HLT", "RDPMC", "LGDT [rip+80h]"]);

describe("unconditional exits", () => {
  it.each(unconditional)("$title", check);
  it.each(vmxMemory)("$title", check);
});

describe("exits by a control", () => {
  it.each(conditional)("$title", check);
});

describe("without the control", () => {
  it.each(conditional.filter(({ title }) => !OWN_EFFECT.has(title)))("$title completes", ({ code, gprs }) => {
    passes(code, NO_CONTROL, gprs);
  });
});

describe("control registers that do not exit", () => {
  it("MOV CR3 with a value among the first CR3-target-count targets", () => {
    const set = { ...primary(c.PRIMARY_CR3_LOAD_EXITING), CR3_TARGET_COUNT: 2n, CR3_TARGET_VALUE_1: 0x4000n };
    passes([0x0f, 0x22, 0xdb], set, { [RBX]: 0x4000n });
  });
  it("a target beyond the count does not help", () => {
    start(
      [0x0f, 0x22, 0xdb],
      { ...primary(c.PRIMARY_CR3_LOAD_EXITING), CR3_TARGET_COUNT: 1n, CR3_TARGET_VALUE_1: 0x4000n },
      { [RBX]: 0x4000n },
    );
    expect(vmx.runToExit().reason).toBe(28);
  });
  it("MOV CR0 keeps owned bits and changes the others", () => {
    // TS (8) is owned and 0 in the shadow; the guest sets MP (2) and leaves TS as the shadow says
    passes([0x0f, 0x22, 0xc3], { ...owned("CR0", 8n, 0n), GUEST_CR0: 0x80000039n }, { [RBX]: 0x80000033n });
    expect(vmx.read("GUEST_CR0")).toBe(0x8000003bn);
  });
  it("MOV from CR0 and CR4, and SMSW, read the shadow in owned bits", () => {
    const code = [0x0f, 0x20, 0xc0, 0x0f, 0x20, 0xe3, 0x0f, 0x01, 0xe1]; // mov rax,cr0; mov rbx,cr4; smsw ecx
    passes(code, { ...owned("CR0", 0xan, 0xan), ...owned("CR4", 0x2080n, 0x80n) });
    expect(vmx.gpr(RAX)).toBe(0x8000003bn);
    expect(vmx.gpr(RBX)).toBe(0xa0n);
    expect(vmx.gpr(RCX) & 0xffffn).toBe(0x3bn);
  });
  it("CLTS with TS owned and clear in the shadow leaves TS", () => {
    passes([0x0f, 0x06], { ...owned("CR0", 8n, 0n), GUEST_CR0: 0x80000039n });
    expect(vmx.read("GUEST_CR0")).toBe(0x80000039n);
  });
  it("LMSW cannot clear an owned PE and so does not exit for it", () => {
    passes([0x0f, 0x01, 0xf3], owned("CR0", 1n, 1n), { [RBX]: 0n });
    expect(vmx.read("GUEST_CR0") & 1n).toBe(1n);
  });
});

describe("TSC", () => {
  it("use TSC offsetting adds the offset to RDTSC and RDMSR 10H", () => {
    const code = [0x0f, 0x31, 0x89, 0xc3, 0xb9, 0x10, 0, 0, 0, 0x0f, 0x32]; // rdtsc; mov ebx,eax; mov ecx,10h; rdmsr
    const offset = 0x1_0000_0000n;
    const set = {
      ...primary(c.PRIMARY_USE_TSC_OFFSETTING, c.PRIMARY_USE_MSR_BITMAPS),
      MSR_BITMAP_ADDRESS: 0x9000n,
      TSC_OFFSET: offset,
    };
    start(code, set);
    const before = BigInt.asUintN(64, vmx.core.tsc());
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.gpr(RBX)).toBe((before + offset) & 0xffffffffn);
    expect((vmx.gpr(2) << 32n) | vmx.gpr(RAX)).toBe(before + offset + 3n);
  });
});

describe("privilege before the exit", () => {
  const cpl3: Fields = {
    GUEST_CS_SELECTOR: 0x13n,
    GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
    GUEST_SS_SELECTOR: 0x1bn,
    GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
    EXCEPTION_BITMAP: 0x2000n,
  };
  it.each([
    ["HLT", HLT],
    ["RDMSR", [0x0f, 0x32]],
    ["WRMSR", [0x0f, 0x30]],
    ["MOV rax, CR3", [0x0f, 0x20, 0xd8]],
    ["INVLPG", INVLPG],
    ["INVD", [0x0f, 0x08]],
  ] as const)("%s at CPL 3 is #GP(0), not its exit", (_, code) => {
    start(code, { ...cpl3, ...primary(c.PRIMARY_HLT_EXITING, c.PRIMARY_CR3_STORE_EXITING, c.PRIMARY_INVLPG_EXITING) });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0dn);
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(0n);
  });
  it.each([
    ["CPUID", [0x0f, 0xa2], 10],
    ["VMLAUNCH", [0x0f, 0x01, 0xc2], 20],
    ["VMXOFF", [0x0f, 0x01, 0xc4], 26],
    ["VMREAD", [0x0f, 0x78, 0xcb], 23],
    ["VMCALL", VMCALL, 18],
  ] as const)("%s at CPL 3 exits", (_, code, reason) => {
    start(code, cpl3);
    expect(vmx.runToExit().reason).toBe(reason);
  });
  it("MOV DR at CPL 3 exits before its #GP(0)", () => {
    start([0x0f, 0x23, 0xfb], { ...cpl3, ...primary(c.PRIMARY_MOV_DR_EXITING) });
    expect(vmx.runToExit().reason).toBe(29);
  });
  it("LOCK CPUID is #UD before the exit", () => {
    start([0xf0, 0x0f, 0xa2], { EXCEPTION_BITMAP: 0x40n });
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000306n);
  });
  it("CPUID faulting is #GP(0) before the exit", () => {
    vmx.core.wrmsr(0x140, 1n);
    start([0x0f, 0xa2], cpl3);
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000b0dn);
  });
});
