// An exit saves the segment and descriptor-table registers only when something may have changed them since VM entry. Each
// instruction that changes one, between a VMRESUME that has nothing to check and the exit: what the VMCS holds afterwards is
// what the processor held.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import {
  CPL,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  SEG_SIZE,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
} from "../../assembly/abi/state.ts";
import { type Fields, identityEpt, longGuest, protectedGuest, realGuest, writeFields } from "./guests.ts";
import { GDT, IDT, R9, RAX, RBX, RCX, RDX, RSP, Running, STACK, START, u32, VMCALL } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

const NAMES = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];
const DATA = 0x9000n;
const RIGHTS = 0x1f0ff;

/** What the processor holds, named as in the VMCS. */
function registers(): Fields {
  const out: Fields = {};
  NAMES.forEach((name, i) => {
    const at = SEGS + i * SEG_SIZE;
    let rights = vmx.read32(at + SG_ATTR) & RIGHTS;
    if (name === "SS") rights = (rights & ~0x60) | (vmx.read32(CPL) << 5);
    out[`GUEST_${name}_SELECTOR`] = BigInt(vmx.read32(at + SG_SELECTOR));
    out[`GUEST_${name}_BASE`] = vmx.read64(at + SG_BASE);
    out[`GUEST_${name}_LIMIT`] = BigInt(vmx.read32(at + SG_LIMIT));
    out[`GUEST_${name}_ACCESS_RIGHTS`] = BigInt(rights);
  });
  out.GUEST_GDTR_BASE = vmx.read64(GDTR_BASE);
  out.GUEST_GDTR_LIMIT = BigInt(vmx.read32(GDTR_LIMIT));
  out.GUEST_IDTR_BASE = vmx.read64(IDTR_BASE);
  out.GUEST_IDTR_LIMIT = BigInt(vmx.read32(IDTR_LIMIT));
  return out;
}

interface Case {
  readonly name: string;
  readonly code: readonly number[];
  readonly guest?: () => Fields;
  readonly gprs?: Readonly<Record<number, bigint>>;
  readonly set?: Fields;
  readonly prepare?: () => void;
}

const far = (offset: bigint, selector: number): void => {
  vmx.poke64(DATA, offset);
  vmx.poke(DATA + 4n, [selector, 0]);
};
const table = (base: bigint, limit: number): void => {
  vmx.poke(DATA, [limit & 0xff, limit >> 8]);
  vmx.poke64(DATA + 2n, base);
};
/** 64-bit TSS and LDT descriptors at selectors 40H and 50H, user segments at 20H and 28H. */
const wideGdt: Fields = { GUEST_GDTR_LIMIT: 0xffn };
const descriptors = (): void => {
  vmx.poke64(GDT + 0x20n, 0x00cff3000000ffffn);
  vmx.poke64(GDT + 0x28n, 0x00affb000000ffffn);
  vmx.poke64(GDT + 0x30n, 0x00cf93000000fffen); // as 18H with another limit
  vmx.poke64(GDT + 0x40n, 0x0000890a00000067n);
  vmx.poke64(GDT + 0x48n, 0n);
  vmx.poke64(GDT + 0x50n, 0x0000820b00000017n);
  vmx.poke64(GDT + 0x58n, 0n);
};
const BITMAP = 0xb000n;
/** WRMSR without an exit. */
const msr = (index: number, value: bigint): Partial<Case> => ({
  set: { PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_USE_MSR_BITMAPS), MSR_BITMAP_ADDRESS: BITMAP },
  gprs: { [RCX]: BigInt(index), [RAX]: value & 0xffff_ffffn, [RDX]: value >> 32n },
});
const WRMSR = [0x0f, 0x30];
const ax = (selector: bigint): Partial<Case> => ({ gprs: { [RAX]: selector } });

/** With one 4 MiB page at 0. */
function flatGuest(): Fields {
  vmx.poke64(0x6000n, 0x83n);
  return { ...protectedGuest(), GUEST_CR3: 0x6000n, GUEST_CR4: 0x2010n };
}

const CASES: readonly Case[] = [
  { name: "MOV ES", code: [0x8e, 0xc0], ...ax(0x30n) },
  { name: "MOV SS", code: [0x8e, 0xd0, 0x90], ...ax(0x30n) },
  { name: "MOV DS, null", code: [0x8e, 0xd8], ...ax(0n) },
  { name: "MOV FS", code: [0x8e, 0xe0], ...ax(0x30n) },
  { name: "MOV GS", code: [0x8e, 0xe8], ...ax(0x30n) },
  { name: "POP FS", code: [0x6a, 0x30, 0x0f, 0xa1] },
  { name: "LFS", code: [0x0f, 0xb4, 0x03], gprs: { [RBX]: DATA }, prepare: () => far(5n, 0x30) },
  { name: "LLDT", code: [0x0f, 0x00, 0xd0], ...ax(0x50n) },
  { name: "LTR", code: [0x0f, 0x00, 0xd8], ...ax(0x40n) },
  { name: "LGDT", code: [0x0f, 0x01, 0x13], gprs: { [RBX]: DATA }, prepare: () => table(0x123000n, 0x77) },
  { name: "LIDT", code: [0x0f, 0x01, 0x1b], gprs: { [RBX]: DATA }, prepare: () => table(0x124000n, 0x7ff) },
  { name: "SWAPGS", code: [0x0f, 0x01, 0xf8], prepare: () => vmx.core.wrmsr(0xc0000102, 0x4_0000_1234n) },
  { name: "WRMSR IA32_FS_BASE", code: WRMSR, ...msr(0xc0000100, 0x5_0000_1234n) },
  { name: "WRMSR IA32_GS_BASE", code: WRMSR, ...msr(0xc0000101, 0x6_0000_1234n) },
  {
    name: "WRFSBASE",
    code: [0xf3, 0x48, 0x0f, 0xae, 0xd0],
    gprs: { [RAX]: 0x7_0000_1234n },
    set: { GUEST_CR4: 0x12020n },
  },
  {
    name: "far RET to CPL 3",
    // push ss, rsp, cs, rip; retfq
    code: [...[0x6a, 0x23, 0x53, 0x6a, 0x2b, 0x41, 0x51], ...[0x48, 0xcb, 0x90, 0x90]],
    gprs: { [RBX]: STACK, [R9]: START + 9n },
  },
  {
    name: "IRET to CPL 3, which makes ES null",
    code: [...[0x6a, 0x23, 0x53, 0x6a, 0x02, 0x6a, 0x2b, 0x41, 0x51], ...[0x48, 0xcf, 0x90, 0x90]],
    gprs: { [RBX]: STACK, [R9]: START + 11n },
  },
  {
    name: "SYSRET",
    code: [0x48, 0x0f, 0x07, 0x90],
    gprs: { [RCX]: START + 3n, [R9]: 0x202n },
    set: { GUEST_IA32_EFER: 0x501n, ENTRY_CONTROLS: longGuest().ENTRY_CONTROLS! | 0x8000n },
  },
  { name: "MOV ES in protected mode", code: [0x8e, 0xc0], guest: flatGuest, ...ax(0x30n) },
  {
    name: "far JMP in protected mode",
    code: [0xea, 0x07, 0x70, 0x00, 0x00, 0x38, 0x00],
    guest: flatGuest,
    prepare: () => vmx.poke64(GDT + 0x38n, 0x00cf9b000000fffdn),
  },
  { name: "MOV ES in real mode", code: [0x8e, 0xc0], guest: realGuest, ...ax(0x1234n) },
];

/** The fields just before the exit, and what it saved. */
function saved({ code, guest = longGuest, gprs = {}, set = {}, prepare }: Case): [Fields, Fields] {
  identityEpt(vmx);
  const base: Fields = { ...guest(), GUEST_IDTR_BASE: IDT, GUEST_GDTR_BASE: GDT, GUEST_RSP: STACK, ...wideGdt, ...set };
  writeFields(vmx, base);
  descriptors();
  prepare?.();
  const real = guest === realGuest;
  const origin = real ? vmx.read("GUEST_CS_BASE") + vmx.read("GUEST_RIP") : START;
  const rip = real ? vmx.read("GUEST_RIP") : START;
  // two exits first: the second entry has nothing to check, and the VMCS holds what the guest holds
  vmx.code(VMCALL, origin);
  expect(vmx.enter()).toMatchObject({ entered: true });
  for (let i = 0; i < 2; i++) {
    expect(vmx.runToExit().reason).toBe(18);
    vmx.write("GUEST_RIP", rip);
    expect(vmx.enter(false)).toMatchObject({ entered: true });
  }
  vmx.code([...code, ...VMCALL], origin);
  vmx.setGpr(RSP, STACK);
  for (const [index, value] of Object.entries(gprs)) vmx.setGpr(Number(index), value);
  // one instruction at a time, until the next is VMCALL
  const before = registers();
  let now = before;
  for (let i = 0; i < 12; i++) {
    if (vmx.core.run(1n, 1000n) === RunCode.VmExit) break;
    now = registers();
  }
  expect(now, "nothing changed").not.toEqual(before);
  expect(Number(vmx.read("EXIT_REASON"))).toBe(18);
  return [now, Object.fromEntries(Object.keys(now).map((name) => [name, vmx.read(name)]))];
}

describe("saved at the exit after", () => {
  it.each(CASES)("$name", (test) => {
    const [held, inVmcs] = saved(test);
    expect(inVmcs).toEqual(held);
  });
});
