// The guest of guestBench.ts: where its pages lie, its descriptor tables, and its VMCS in each mode.
import * as controls from "../../assembly/abi/controls.ts";
import { BASE, type Bits, CODE, CODE_SIZE, DATA, DATA_SIZE, READ_ONLY } from "../../scripts/oracle/layout.ts";

export const PAGE = 4096;

/** Physical addresses; linear ones are the same below the window. */
export const AT = {
  vmxon: 0x1000,
  vmcs: 0x2000,
  pml4: 0x3000,
  pdpt: 0x4000,
  pd: 0x5000,
  /** Linear 0 to 2 MiB. */
  lowTable: 0x6000,
  /** The window at BASE. */
  windowTable: 0x7000,
  paePdpt: 0x8000,
  ept: 0x10000,
  eptTable: 0x13000,
  gdt: 0x20000,
  idt: 0x22000,
  idtLegacy: 0x23000,
  /** The I/O bitmap of a TSS goes on in the next page. */
  tss: 0x24f80,
  tssLegacy: 0x26f80,
  /** Pushes at CPL 0 cross into the page below. */
  stack0: 0x29018,
  handler: 0x2a000,
  ldt: 0x2b000,
  window: 0x40000,
  end: 0x4c000,
} as const;

/** Offset in the window where far transfers and returns go. */
export const TARGET = CODE + 0x1800;

export const SEL = {
  code32: 0x08,
  code64: 0x10,
  data: 0x18,
  code32User: 0x23,
  code64User: 0x2b,
  dataUser: 0x33,
  code16: 0x38,
  code16User: 0x43,
  /** Descriptors that have not been accessed. */
  freshData: 0x48,
  freshDataUser: 0x53,
  freshCode: 0x58,
  freshCodeUser: 0x63,
  freshCode16: 0x68,
  freshCode16User: 0x73,
  freshCode64: 0x78,
  freshCode64User: 0x83,
  tss: 0x90,
  ldt: 0xa0,
  gate: 0xb3,
  gateLegacy: 0xc3,
  data16: 0xc8,
  data16User: 0xd3,
} as const;

type Put = (physical: number, bytes: readonly number[]) => void;

export const little = (value: bigint | number, size: number): number[] =>
  Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));

/** Access byte, flags nibble (G D/B L AVL), base and 20-bit limit. */
const descriptor = (access: number, flags: number, base: number, limit: number): number[] => [
  ...little(limit & 0xffff, 2),
  ...little(base & 0xffffff, 3),
  access,
  (flags << 4) | (limit >> 16),
  base >>> 24,
];

const gate = (type: number, selector: number, offset: number): number[] => [
  ...little(offset & 0xffff, 2),
  ...little(selector, 2),
  0,
  0xe0 | type,
  ...little(offset >> 16, 2),
];

export const VMCALL = [0x0f, 0x01, 0xc1];
const VECTORS = 256;

/** Fills zeroed memory. */
export function build(put: Put): void {
  const gdt = (selector: number, bytes: number[]): void => put(AT.gdt + (selector & ~7), bytes);
  for (const [selector, access, flags, base, limit] of [
    [SEL.code32, 0x9b, 0xc, 0, 0xfffff],
    [SEL.code64, 0x9b, 0xa, 0, 0xfffff],
    [SEL.data, 0x93, 0xc, 0, 0xfffff],
    [SEL.code32User, 0xfb, 0xc, 0, 0xfffff],
    [SEL.code64User, 0xfb, 0xa, 0, 0xfffff],
    [SEL.dataUser, 0xf3, 0xc, 0, 0xfffff],
    [SEL.code16, 0x9b, 0, BASE, 0xffff],
    [SEL.code16User, 0xfb, 0, BASE, 0xffff],
    [SEL.freshData, 0x92, 0xc, 0, 0xfffff],
    [SEL.freshDataUser, 0xf2, 0xc, 0, 0xfffff],
    [SEL.freshCode, 0x9a, 0xc, 0, 0xfffff],
    [SEL.freshCodeUser, 0xfa, 0xc, 0, 0xfffff],
    [SEL.freshCode16, 0x9a, 0, BASE, 0xffff],
    [SEL.freshCode16User, 0xfa, 0, BASE, 0xffff],
    [SEL.freshCode64, 0x9a, 0xa, 0, 0xfffff],
    [SEL.freshCode64User, 0xfa, 0xa, 0, 0xfffff],
    [SEL.tss, 0x89, 0, AT.tss, 0xfff],
    [SEL.ldt, 0x82, 0, AT.ldt, 0xff],
    [SEL.data16, 0x93, 0, BASE, 0xffff],
    [SEL.data16User, 0xf3, 0, BASE, 0xffff],
  ] as const)
    gdt(selector, descriptor(access, flags, base, limit));
  gdt(SEL.gate, [...gate(12, SEL.code64, AT.handler), ...little(0, 8)]);
  gdt(SEL.gateLegacy, gate(12, SEL.code32, AT.handler));
  for (let v = 0; v < VECTORS; v++) {
    put(AT.idt + 16 * v, [...gate(14, SEL.code64, AT.handler), ...little(0, 8)]);
    put(AT.idtLegacy + 8 * v, gate(14, SEL.code32, AT.handler));
  }
  put(AT.tss + 4, little(AT.stack0, 8));
  put(AT.tssLegacy + 4, [...little(AT.stack0, 4), ...little(SEL.data, 4)]);
  for (const tss of [AT.tss, AT.tssLegacy]) put(tss + 100, little(0x68_0000, 4));
  put(AT.handler, VMCALL);
  put(AT.window + TARGET, VMCALL);
}

/** Paging-structure entries. */
export const PRESENT = 1n;
export const WRITE = 2n;
export const USER = 4n;
export const ACCESSED = 0x20n;
export const DIRTY = 0x40n;
export const EPT_RWX = 7n;
export const EPT_WRITE = 2n;
const EPT_WB = 0x30n;

/** The tables above the last level, which never change. */
export function upperTables(put: (physical: number, entry: bigint) => void): void {
  const to = (table: number): bigint => BigInt(table) | PRESENT | WRITE | USER | ACCESSED;
  put(AT.pml4, to(AT.pdpt));
  put(AT.pdpt, to(AT.pd));
  put(AT.paePdpt, BigInt(AT.pd) | PRESENT);
  put(AT.pd, to(AT.lowTable));
  put(AT.pd + 8 * (BASE >> 21), to(AT.windowTable));
  for (const level of [0, 1, 2]) put(AT.ept + level * PAGE, BigInt(AT.ept + (level + 1) * PAGE) | EPT_RWX);
  for (let page = 0; page < AT.end / PAGE; page++) {
    put(AT.eptTable + 8 * page, BigInt(page * PAGE) | EPT_WB | EPT_RWX);
  }
}

export interface GuestPage {
  readonly linear: number;
  readonly physical: number;
  /** Physical address of its entry in the guest's page table. */
  readonly entryAt: number;
  readonly entry: bigint;
  /** It may be taken away: no code is fetched from it. */
  readonly data: boolean;
}

function pages(): GuestPage[] {
  const list: GuestPage[] = [];
  for (let at: number = AT.gdt; at < AT.window; at += PAGE) {
    const entry = BigInt(at) | PRESENT | WRITE;
    list.push({ linear: at, physical: at, entryAt: AT.lowTable + (at / PAGE) * 8, entry, data: at !== AT.handler });
  }
  const window = (offset: number, bits: bigint, data: boolean): void => {
    const physical = AT.window + offset;
    const entry = BigInt(physical) | PRESENT | USER | bits;
    list.push({ linear: BASE + offset, physical, entryAt: AT.windowTable + (offset / PAGE) * 8, entry, data });
  };
  for (let o = CODE; o < CODE + CODE_SIZE; o += PAGE) window(o, 0n, false);
  for (let o = READ_ONLY; o < DATA; o += PAGE) window(o, 0n, true);
  for (let o = DATA; o < DATA + DATA_SIZE; o += PAGE) window(o, WRITE, true);
  return list;
}
export const guestPages: readonly GuestPage[] = pages();

export interface Mode {
  readonly bits: Bits;
  /** Not in IA-32e mode: PAE paging, 32-bit gates and TSS. */
  readonly legacy: boolean;
  readonly cpl: 0 | 3;
}

const u32 = (...values: number[]): bigint => values.reduce((all, value) => all | BigInt(value >>> 0), 0n);
const HOST_SELECTORS = ["ES", "SS", "DS", "FS", "GS"];

function segment(name: string, selector: number, base: bigint, limit: number, rights: number): Record<string, bigint> {
  return {
    [`GUEST_${name}_SELECTOR`]: BigInt(selector),
    [`GUEST_${name}_BASE`]: base,
    [`GUEST_${name}_LIMIT`]: BigInt(limit),
    [`GUEST_${name}_ACCESS_RIGHTS`]: BigInt(rights),
  };
}

/** VMCS contents by name; FS and GS of 64-bit mode as given. */
export function vmcsOf(mode: Mode, fsBase: bigint, gsBase: bigint): Record<string, bigint> {
  const { bits, legacy, cpl } = mode;
  const dpl = cpl << 5;
  const small = bits === 16;
  const base = small ? BigInt(BASE) : 0n;
  const limit = small ? 0xffff : 0xffffffff;
  const user = cpl === 3;
  const code =
    bits === 64 ? [SEL.code64, SEL.code64User] : small ? [SEL.code16, SEL.code16User] : [SEL.code32, SEL.code32User];
  const data = small ? (user ? SEL.data16User : SEL.data16) : user ? SEL.dataUser : SEL.data;
  const wide = bits === 64 ? 0xa000 : small ? 0 : 0xc000;
  const out: Record<string, bigint> = {
    PIN_BASED_CONTROLS: u32(controls.PIN_REQUIRED),
    PRIMARY_PROC_BASED_CONTROLS: u32(controls.PRIMARY_REQUIRED, controls.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
    SECONDARY_PROC_BASED_CONTROLS: u32(
      controls.SECONDARY_ENABLE_EPT,
      controls.SECONDARY_ENABLE_RDTSCP,
      controls.SECONDARY_ENABLE_INVPCID,
      controls.SECONDARY_ENABLE_XSAVES_XRSTORS,
    ),
    PRIMARY_EXIT_CONTROLS: u32(controls.EXIT_REQUIRED, controls.EXIT_HOST_ADDRESS_SPACE_SIZE),
    ENTRY_CONTROLS: u32(controls.ENTRY_REQUIRED, legacy ? 0 : controls.ENTRY_IA_32E_MODE_GUEST),
    EPT_POINTER: BigInt(AT.ept) | 0x1en,
    VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
    HOST_CR0: 0x80000031n,
    HOST_CR3: 0x3000n,
    HOST_CR4: 0x2020n,
    HOST_CS_SELECTOR: 0x10n,
    HOST_TR_SELECTOR: 0x40n,
    HOST_IA32_EFER: 0xd01n,
    HOST_RIP: 0xffff_ffff_8100_0000n,
    HOST_RSP: 0n,
    GUEST_IA32_DEBUGCTL: 0n,
    GUEST_DR7: 0x400n,
    GUEST_INTERRUPTIBILITY_STATE: 0n,
    GUEST_ACTIVITY_STATE: 0n,
    GUEST_PENDING_DEBUG_EXCEPTIONS: 0n,
    GUEST_IA32_SYSENTER_CS: 0n,
    GUEST_CR0: 0x80010033n,
    GUEST_CR3: BigInt(legacy ? AT.paePdpt : AT.pml4),
    GUEST_CR4: 0x42020n,
    GUEST_PDPTE0: BigInt(AT.pd) | PRESENT,
    GUEST_PDPTE1: 0n,
    GUEST_PDPTE2: 0n,
    GUEST_PDPTE3: 0n,
    GUEST_GDTR_BASE: BigInt(AT.gdt),
    GUEST_GDTR_LIMIT: 0xfffn,
    GUEST_IDTR_BASE: BigInt(legacy ? AT.idtLegacy : AT.idt),
    GUEST_IDTR_LIMIT: 0xfffn,
    ...segment("CS", code[user ? 1 : 0]!, base, limit, 0x9b | dpl | wide),
    ...segment("LDTR", SEL.ldt, BigInt(AT.ldt), 0xff, 0x82),
    ...segment("TR", 0xf8, BigInt(legacy ? AT.tssLegacy : AT.tss), 0x2ff, 0x8b),
  };
  for (const name of HOST_SELECTORS) out[`HOST_${name}_SELECTOR`] = name === "SS" ? 0x18n : 0n;
  for (const name of ["SS", "DS", "ES"])
    Object.assign(out, segment(name, data, base, limit, 0x93 | dpl | (small ? 0 : 0xc000)));
  if (bits === 64) {
    Object.assign(
      out,
      segment("FS", SEL.dataUser, fsBase, limit, 0xc0f3),
      segment("GS", SEL.dataUser, gsBase, limit, 0xc0f3),
    );
  } else {
    Object.assign(out, segment("FS", SEL.dataUser, BigInt(BASE + DATA), DATA_SIZE - 1, 0x40f3));
    Object.assign(out, segment("GS", SEL.dataUser, BigInt(BASE), DATA - 1, 0x40f7));
  }
  return out;
}
