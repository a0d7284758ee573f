// One entry for each row of vm-entry-checks.csv: VMCS changes that break its rule and near misses that do not.
import * as controls from "../../assembly/abi/controls.ts";
import { COUNT, CPL, EFER, INTERRUPTIBILITY, SEG_CS, SEGS, SG_ATTR, SHADOW_COUNT } from "../../assembly/abi/state.ts";
import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import { type Fields, longGuest, paeGuest, protectedGuest, realGuest, vm86Guest } from "./guests.ts";
import type { Vmx } from "./harness.ts";

export interface Case {
  readonly title: string;
  readonly base?: () => Fields;
  readonly set?: Fields;
  /** Changes of the processor or of memory, before VMLAUNCH. */
  readonly before?: (vmx: Vmx) => void;
  readonly resume?: true;
  /** Instead of the failure of the row. */
  readonly qualification?: bigint;
}

export interface RowTest {
  readonly bad: readonly Case[];
  readonly good?: readonly Case[];
}

const WIDE = 1n << BigInt(PHYSICAL_WIDTH);
const NON_CANONICAL = 0x8000_0000_0000n;
const u32 = (...values: number[]): bigint => values.reduce((all, value) => all | BigInt(value >>> 0), 0n);
const PIN = u32(controls.PIN_REQUIRED);
const PRIMARY = u32(controls.PRIMARY_REQUIRED);
const EXIT = u32(controls.EXIT_REQUIRED, controls.EXIT_HOST_ADDRESS_SPACE_SIZE);
const ENTRY = u32(controls.ENTRY_REQUIRED);
const LONG = u32(controls.ENTRY_REQUIRED, controls.ENTRY_IA_32E_MODE_GUEST);
const SECOND = PRIMARY | u32(controls.PRIMARY_ACTIVATE_SECONDARY_CONTROLS);
const EPT = u32(controls.SECONDARY_ENABLE_EPT);
const UNRESTRICTED = u32(controls.SECONDARY_UNRESTRICTED_GUEST);
const EPTP = 0x501en;

const VALID = 0x80000000n;
const inject = (type: number, vector: number, more = 0n): Fields => ({
  ENTRY_INTERRUPTION_INFO: VALID | (BigInt(type) << 8n) | BigInt(vector) | more,
  ENTRY_INSTRUCTION_LENGTH: 2n,
  ENTRY_EXCEPTION_ERROR_CODE: 0n,
});
const ERROR_CODE = 0x800n;

const one = (title: string, set: Fields, base?: () => Fields): Case => ({ title, set, ...(base && { base }) });

/** A field at an address that is not aligned, and one beyond the physical width. */
function addresses(name: string, good: bigint, align: bigint, more: Fields): RowTest {
  return {
    bad: [
      one(`${name} not aligned`, { ...more, [name]: good + align / 2n }),
      one(`${name} too wide`, { ...more, [name]: good + WIDE }),
    ],
    good: [one(`${name} aligned`, { ...more, [name]: good })],
  };
}
const both = (...tests: RowTest[]): RowTest => ({
  bad: tests.flatMap((t) => t.bad),
  good: tests.flatMap((t) => t.good ?? []),
});
const msrList = (which: string): RowTest =>
  both(addresses(`${which}_ADDRESS`, 0x10000n, 16n, { [`${which}_COUNT`]: 1n }), {
    bad: [one("last byte too wide", { [`${which}_ADDRESS`]: WIDE - 16n, [`${which}_COUNT`]: 2n })],
    good: [one("no entry, address ignored", { [`${which}_ADDRESS`]: 1n, [`${which}_COUNT`]: 0n })],
  });
const reserved = (name: string, value: bigint, must: bigint, mustNot: bigint): RowTest => ({
  bad: [
    one(`a bit that must be 1 is 0`, { [name]: value & ~must }),
    one(`a bit that must be 0 is 1`, { [name]: value | mustNot }),
  ],
});
const canonical = (...names: string[]): RowTest => ({
  bad: names.map((name) => one(`${name} not canonical`, { [name]: NON_CANONICAL })),
  good: names.map((name) => one(`${name} canonical`, { [name]: 0xffff_8000_0000_0000n })),
});
const pat = (name: string, control: Fields): RowTest => ({
  bad: [2n, 3n, 8n, 0x200n, 0xff00_0000_0000_0000n].map((v) => one(`PAT ${v.toString(16)}`, { ...control, [name]: v })),
  good: [one("types 0 1 4 5 6 7", { ...control, [name]: 0x0001040506070000n })],
});
const rights = (seg: string, value: bigint): Fields => ({ [`GUEST_${seg}_ACCESS_RIGHTS`]: value });
/** The same rights for CS and SS at another DPL and RPL. */
const cpl3 = (): Fields => ({
  ...longGuest(),
  GUEST_CS_SELECTOR: 0x13n,
  GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
  GUEST_SS_SELECTOR: 0x1bn,
  GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
});
const unrestrictedLong = (): Fields => ({
  ...longGuest(),
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: EPT | UNRESTRICTED,
  EPT_POINTER: EPTP,
});
const DATA_SEGMENTS = ["DS", "ES", "FS", "GS"];
const eachData = (value: bigint, note: string): Case[] =>
  DATA_SEGMENTS.map((s) => one(`${s} ${note}`, rights(s, value)));

/** MSR list of one entry at 0x10000. */
const list = (index: bigint, value: bigint, high = 0n) => ({
  set: { ENTRY_MSR_LOAD_COUNT: 1n, ENTRY_MSR_LOAD_ADDRESS: 0x10000n },
  before: (vmx: Vmx) => {
    vmx.poke64(0x10000n, index | (high << 32n));
    vmx.poke64(0x10008n, value);
  },
  qualification: 1n,
});

export const rowTests: Readonly<Record<number, RowTest>> = {
  1: {
    bad: [
      {
        title: "compatibility mode",
        before: (vmx) => {
          vmx.write32(SEGS + SEG_CS + SG_ATTR, 0xc09b);
          vmx.core.stateChanged();
        },
      },
    ],
  },
  3: {
    bad: [
      {
        title: "CPL 3",
        before: (vmx) => {
          vmx.write32(CPL, 3);
          vmx.core.stateChanged();
        },
      },
    ],
  },
  4: { bad: [{ title: "no current VMCS", before: (vmx) => void vmx.core.vmclear(vmx.vmcs) }] },
  6: {
    bad: [
      {
        title: "blocking by MOV SS",
        before: (vmx) => {
          vmx.write32(INTERRUPTIBILITY, 2);
          vmx.write64(SHADOW_COUNT, vmx.read64(COUNT));
        },
      },
    ],
    good: [{ title: "blocking by NMI", before: (vmx) => vmx.write32(INTERRUPTIBILITY, 8) }],
  },
  7: {
    bad: [
      {
        title: "launched",
        before: (vmx) => {
          vmx.core.vmlaunch();
          vmx.core.hostInit(vmx.vmxon);
          vmx.core.vmptrld(vmx.vmcs);
        },
      },
    ],
  },
  8: { bad: [{ title: "clear", resume: true }] },
  9: reserved("PIN_BASED_CONTROLS", PIN, 0x10n, 0x40n),
  10: reserved("PRIMARY_PROC_BASED_CONTROLS", PRIMARY, 0x2n, 0x400n),
  11: {
    bad: [one("RDTSCP is not built", { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: 8n })],
    good: [one("field ignored when not activated", { SECONDARY_PROC_BASED_CONTROLS: 0xffffffffn })],
  },
  12: {
    bad: [one("5 targets", { CR3_TARGET_COUNT: 5n }), one("2^31 targets", { CR3_TARGET_COUNT: 0x80000000n })],
    good: [one("4 targets", { CR3_TARGET_COUNT: 4n })],
  },
  13: both(
    ...["IO_BITMAP_A_ADDRESS", "IO_BITMAP_B_ADDRESS"].map((name) =>
      addresses(name, 0x10000n, 0x1000n, {
        PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_USE_I_O_BITMAPS),
      }),
    ),
    { bad: [], good: [one("not used", { IO_BITMAP_A_ADDRESS: 1n })] },
  ),
  14: both(
    addresses("MSR_BITMAP_ADDRESS", 0x10000n, 0x1000n, {
      PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_USE_MSR_BITMAPS),
    }),
    { bad: [], good: [one("not used", { MSR_BITMAP_ADDRESS: 1n })] },
  ),
  18: {
    bad: [one("virtual NMIs alone", { PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS) })],
    good: [
      one("with NMI exiting", { PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS, controls.PIN_NMI_EXITING) }),
    ],
  },
  19: {
    bad: [
      one("NMI window without virtual NMIs", {
        PIN_BASED_CONTROLS: PIN | u32(controls.PIN_NMI_EXITING),
        PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_NMI_WINDOW_EXITING),
      }),
    ],
    good: [
      one("with virtual NMIs", {
        PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS, controls.PIN_NMI_EXITING),
        PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_NMI_WINDOW_EXITING),
      }),
    ],
  },
  25: {
    bad: [one("VPID 0", { ...vpid(), VPID: 0n })],
    good: [one("VPID FFFFH", { ...vpid(), VPID: 0xffffn })],
  },
  26: {
    bad: [
      one("memory type 1", { ...ept(), EPT_POINTER: 0x5019n }),
      one("2 levels", { ...ept(), EPT_POINTER: 0x500en }),
      one("5 levels", { ...ept(), EPT_POINTER: 0x5026n }),
      one("accessed and dirty flags", { ...ept(), EPT_POINTER: 0x505en }),
      one("bit 7", { ...ept(), EPT_POINTER: 0x509en }),
      one("bit 11", { ...ept(), EPT_POINTER: 0x581en }),
      one("too wide", { ...ept(), EPT_POINTER: EPTP + WIDE }),
    ],
    good: [one("uncacheable", { ...ept(), EPT_POINTER: 0x5018n }), one("write-back", { ...ept(), EPT_POINTER: EPTP })],
  },
  28: {
    bad: [one("without EPT", { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: UNRESTRICTED })],
    good: [one("with EPT", { ...ept(), SECONDARY_PROC_BASED_CONTROLS: EPT | UNRESTRICTED })],
  },
  32: reserved("PRIMARY_EXIT_CONTROLS", EXIT, 0x1n, 0x400000n),
  34: msrList("EXIT_MSR_STORE"),
  35: msrList("EXIT_MSR_LOAD"),
  36: reserved("ENTRY_CONTROLS", LONG, 0x1n, 0x2000n),
  37: { bad: [one("type 1", inject(1, 0x20)), one("type 7", inject(7, 0))] },
  38: {
    bad: [one("NMI with vector 3", inject(2, 3)), one("exception with vector 32", inject(3, 32))],
    good: [one("NMI with vector 2", inject(2, 2)), one("exception with vector 31", inject(3, 31))],
  },
  39: {
    bad: [
      one("#GP without", inject(3, 13)),
      one("#UD with", inject(3, 6, ERROR_CODE)),
      one("software interrupt with", inject(4, 13, ERROR_CODE)),
      { title: "unrestricted real mode with", base: realGuest, set: inject(3, 13, ERROR_CODE) },
    ],
    good: [
      ...[8, 10, 11, 12, 13, 14, 17].map((vector) => one(`vector ${vector} with`, inject(3, vector, ERROR_CODE))),
      ...[0, 1, 3, 4, 5, 6, 7, 9, 15, 16, 18, 19].map((vector) => one(`vector ${vector} without`, inject(3, vector))),
      { title: "unrestricted real mode without", base: realGuest, set: inject(3, 13) },
    ],
  },
  40: { bad: [one("bit 12", inject(3, 6, 0x1000n)), one("bit 30", inject(3, 6, 0x40000000n))] },
  41: {
    bad: [one("bit 16", { ...inject(3, 13, ERROR_CODE), ENTRY_EXCEPTION_ERROR_CODE: 0x10000n })],
    good: [
      one("bit 15", { ...inject(3, 13, ERROR_CODE), ENTRY_EXCEPTION_ERROR_CODE: 0xffffn }),
      one("not delivered", { ...inject(3, 6), ENTRY_EXCEPTION_ERROR_CODE: 0xffffffffn }),
    ],
  },
  42: {
    bad: [4, 5, 6].map((type) => one(`type ${type}, 16`, { ...inject(type, 3), ENTRY_INSTRUCTION_LENGTH: 16n })),
    good: [
      ...[0n, 1n, 15n].map((length) => one(`length ${length}`, { ...inject(4, 3), ENTRY_INSTRUCTION_LENGTH: length })),
      one("hardware exception, ignored", { ...inject(3, 3), ENTRY_INSTRUCTION_LENGTH: 16n }),
    ],
  },
  43: {
    bad: msrList("ENTRY_MSR_LOAD").bad,
    good: [
      { title: "aligned, loadable entry", ...list(0xc0000102n, 0n) },
      one("no entry, address ignored", { ENTRY_MSR_LOAD_ADDRESS: 1n }),
    ],
  },
  44: {
    bad: [
      one("entry to SMM", { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_ENTRY_TO_SMM) }),
      one("deactivate", { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT) }),
    ],
  },
  45: {
    bad: [
      one("NE 0", { HOST_CR0: 0x80000011n }),
      one("PE 0", { HOST_CR0: 0x80000030n }),
      one("PG 0", { HOST_CR0: 0x31n }),
      one("bit 32", { HOST_CR0: 0x1_80000031n }),
    ],
    good: [one("NW and CD", { HOST_CR0: 0xe0000031n })],
  },
  46: { bad: [one("VMXE 0", { HOST_CR4: 0x20n }), one("bit 31", { HOST_CR4: 0x80002020n })] },
  47: {
    bad: [one("too wide", { HOST_CR3: WIDE }), one("bit 63", { HOST_CR3: 1n << 63n })],
    good: [one("highest", { HOST_CR3: WIDE - 1n })],
  },
  48: canonical("HOST_IA32_SYSENTER_ESP", "HOST_IA32_SYSENTER_EIP"),
  50: pat("HOST_IA32_PAT", { PRIMARY_EXIT_CONTROLS: EXIT | u32(controls.EXIT_LOAD_IA32_PAT) }),
  51: {
    bad: [0xd03n, 0x901n, 0xc01n, 0x1_0000_0d01n].map((v) =>
      one(`EFER ${v.toString(16)}`, { ...hostEfer(), HOST_IA32_EFER: v }),
    ),
    good: [one("EFER d01", { ...hostEfer(), HOST_IA32_EFER: 0xd01n }), one("not loaded", { HOST_IA32_EFER: 2n })],
  },
  52: {
    bad: ["CS", "SS", "DS", "ES", "FS", "GS", "TR"].flatMap((seg) =>
      [1n, 2n, 4n].map((bit) => one(`${seg} bit ${bit}`, { [`HOST_${seg}_SELECTOR`]: 0x20n | bit })),
    ),
  },
  53: { bad: [one("CS null", { HOST_CS_SELECTOR: 0n }), one("TR null", { HOST_TR_SELECTOR: 0n })] },
  54: {
    bad: [
      {
        title: "SS null",
        base: protectedGuest,
        set: { ...host32(), HOST_SS_SELECTOR: 0n },
        before: legacyHost,
      },
    ],
    good: [one("SS null with a 64-bit host", { HOST_SS_SELECTOR: 0n })],
  },
  55: canonical("HOST_FS_BASE", "HOST_GS_BASE", "HOST_GDTR_BASE", "HOST_IDTR_BASE", "HOST_TR_BASE"),
  56: {
    bad: [
      { title: "64-bit host", base: protectedGuest, before: legacyHost },
      {
        title: "IA-32e guest",
        set: { ...host32(), ENTRY_CONTROLS: LONG },
        before: legacyHost,
      },
    ],
    good: [{ title: "32-bit host and guest", base: protectedGuest, set: host32(), before: legacyHost }],
  },
  57: { bad: [one("32-bit host", host32(), protectedGuest)] },
  58: {
    bad: [
      { title: "IA-32e guest", set: { ...host32(), ENTRY_CONTROLS: LONG }, before: legacyHost },
      {
        title: "PCIDE",
        base: protectedGuest,
        set: { ...host32(), HOST_CR4: 0x22020n },
        before: legacyHost,
      },
      { title: "RIP above 4 GiB", base: protectedGuest, set: { ...host32(), HOST_RIP: 1n << 32n }, before: legacyHost },
    ],
  },
  59: {
    bad: [one("PAE 0", { HOST_CR4: 0x2000n }), one("RIP not canonical", { HOST_RIP: NON_CANONICAL })],
  },
  60: {
    bad: [
      one("NE 0", { GUEST_CR0: 0x80000011n }),
      one("PG 0", { GUEST_CR0: 0x31n }, protectedGuest),
      one("PE 0 and PG 0", { GUEST_CR0: 0x30n }, protectedGuest),
      one("bit 32", { GUEST_CR0: 0x1_80000031n }),
      one("NE 0, unrestricted", { GUEST_CR0: 0x10n }, realGuest),
    ],
    good: [
      one("PE 0 and PG 0, unrestricted", {}, realGuest),
      one("NW and CD", { GUEST_CR0: 0xe0000031n }),
      one("NW alone", { GUEST_CR0: 0xa0000031n }),
    ],
  },
  61: { bad: [one("PG without PE", { GUEST_CR0: 0x80000030n }, realGuest)] },
  62: { bad: [one("VMXE 0", { GUEST_CR4: 0x20n }), one("bit 31", { GUEST_CR4: 0x80002020n })] },
  63: {
    bad: [one("bit 2", { ...debugControls(), GUEST_IA32_DEBUGCTL: 4n })],
    good: [
      one("LBR and BTF", { ...debugControls(), GUEST_IA32_DEBUGCTL: 3n }),
      one("not loaded", { GUEST_IA32_DEBUGCTL: 4n }),
    ],
  },
  64: {
    bad: [one("PAE 0", { GUEST_CR4: 0x2000n }), one("PG 0, unrestricted", { GUEST_CR0: 0x31n }, unrestrictedLong)],
  },
  65: {
    bad: [one("PCIDE", { GUEST_CR4: 0x22000n }, protectedGuest)],
    good: [one("PCIDE in IA-32e mode", { GUEST_CR4: 0x22020n })],
  },
  66: {
    bad: [one("too wide", { GUEST_CR3: WIDE }), one("bit 63", { GUEST_CR3: 1n << 63n })],
    good: [one("highest", { GUEST_CR3: WIDE - 1n })],
  },
  67: {
    bad: [one("bit 32", { ...debugControls(), GUEST_DR7: 0x1_0000_0400n })],
    good: [one("not loaded", { GUEST_DR7: 0x1_0000_0400n })],
  },
  68: canonical("GUEST_IA32_SYSENTER_ESP", "GUEST_IA32_SYSENTER_EIP"),
  70: pat("GUEST_IA32_PAT", { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_LOAD_IA32_PAT) }),
  71: {
    bad: [
      ...[0x502n, 0x100n, 0x400n, 0n].map((v) => one(`EFER ${v.toString(16)}`, { ...guestEfer(), GUEST_IA32_EFER: v })),
      one(
        "LMA in a 32-bit guest",
        { ENTRY_CONTROLS: guestEfer().ENTRY_CONTROLS! & ~0x200n, GUEST_IA32_EFER: 0x500n },
        protectedGuest,
      ),
      one(
        "LME with paging in a 32-bit guest",
        { ENTRY_CONTROLS: guestEfer().ENTRY_CONTROLS! & ~0x200n, GUEST_IA32_EFER: 0x100n },
        protectedGuest,
      ),
    ],
    good: [
      one("SCE and NXE", { ...guestEfer(), GUEST_IA32_EFER: 0xd01n }),
      one(
        "LME without paging",
        { ENTRY_CONTROLS: ENTRY | u32(controls.ENTRY_LOAD_IA32_EFER), GUEST_IA32_EFER: 0x100n },
        realGuest,
      ),
    ],
  },
  73: {
    bad: [
      one("TR", { GUEST_TR_SELECTOR: 0x44n }),
      one("LDTR", { GUEST_LDTR_SELECTOR: 0x44n, ...rights("LDTR", 0x82n) }),
    ],
    good: [one("unusable LDTR", { GUEST_LDTR_SELECTOR: 0x44n })],
  },
  74: {
    bad: [one("SS RPL 1", { GUEST_SS_SELECTOR: 0x19n, ...rights("SS", 0xc0b3n), ...rights("CS", 0xa0bbn) })],
    good: [one("unrestricted", { GUEST_SS_SELECTOR: 0x19n }, unrestrictedLong), one("both 3", {}, cpl3)],
  },
  75: {
    bad: ["CS", "SS", "DS", "ES", "FS", "GS"].flatMap((seg) => [
      one(`${seg} base`, { [`GUEST_${seg}_BASE`]: 0x10010n }, vm86Guest),
      one(`${seg} limit`, { [`GUEST_${seg}_LIMIT`]: 0xfffen }, vm86Guest),
      one(`${seg} rights`, rights(seg, 0x93n), vm86Guest),
    ]),
    good: [one("as it should be", {}, vm86Guest)],
  },
  76: {
    bad: [
      ...["TR", "FS", "GS"].map((seg) => one(`${seg} not canonical`, { [`GUEST_${seg}_BASE`]: NON_CANONICAL })),
      one("LDTR not canonical", { ...rights("LDTR", 0x82n), GUEST_LDTR_BASE: NON_CANONICAL }),
      ...["CS", "SS", "DS", "ES"].map((seg) => one(`${seg} above 4 GiB`, { [`GUEST_${seg}_BASE`]: 1n << 32n })),
    ],
    good: [
      one("unusable DS", { ...rights("DS", 0x10000n), GUEST_DS_BASE: 1n << 32n }),
      one("unusable LDTR", { GUEST_LDTR_BASE: NON_CANONICAL }),
      one("FS canonical", { GUEST_FS_BASE: 0xffff_8000_0000_0000n }),
    ],
  },
  77: {
    bad: [0n, 3n, 8n, 10n, 12n, 14n].map((type) => one(`type ${type}`, rights("CS", 0xa090n | type))),
    good: [
      ...[9n, 11n, 13n, 15n].map((type) => one(`type ${type}`, rights("CS", 0xa090n | type))),
      one("type 3, unrestricted", rights("CS", 0x93n), realGuest),
    ],
  },
  78: {
    bad: [0n, 1n, 2n, 5n, 11n].map((type) => one(`type ${type}`, rights("SS", 0xc090n | type))),
    good: [one("type 7", rights("SS", 0xc097n)), one("unusable", rights("SS", 0x10000n))],
  },
  79: {
    bad: [...eachData(0xc092n, "not accessed"), ...eachData(0xc099n, "code, not readable")],
    good: [...eachData(0xc09bn, "readable code"), ...eachData(0x10000n, "unusable")],
  },
  80: {
    bad: [one("CS", rights("CS", 0xa08bn)), one("SS", rights("SS", 0xc083n)), ...eachData(0xc083n, "system")],
  },
  81: {
    bad: [
      one("type 3 with DPL 1", rights("CS", 0xb3n), realGuest),
      one("type 11 above SS", rights("CS", 0xa0fbn)),
      one("type 15 above SS", rights("CS", 0xa0ffn)),
      one("type 11 below SS", { GUEST_CS_SELECTOR: 0x13n, ...rights("CS", 0xa09bn) }, cpl3),
    ],
    good: [one("type 15 below SS", { GUEST_CS_SELECTOR: 0x13n, ...rights("CS", 0xa09fn) }, cpl3)],
  },
  82: {
    bad: [one("DPL 3, RPL 0", { ...rights("SS", 0xc0f3n), ...rights("CS", 0xa0fbn) })],
    good: [one("unrestricted", { ...rights("SS", 0xc0f3n), ...rights("CS", 0xa0fbn) }, unrestrictedLong)],
  },
  83: {
    bad: [
      one("real mode, DPL 3", { ...rights("SS", 0xf3n), ...rights("CS", 0xfbn) }, realGuest),
      one("CS type 3", { ...rights("SS", 0xf3n), ...rights("CS", 0x93n) }, realGuest),
    ],
  },
  84: {
    bad: DATA_SEGMENTS.map((s) => one(`${s} DPL 0, RPL 3`, { [`GUEST_${s}_SELECTOR`]: 0x1bn })),
    good: [
      ...DATA_SEGMENTS.map((s) => one(`${s} DPL 3, RPL 3`, { [`GUEST_${s}_SELECTOR`]: 0x1bn, ...rights(s, 0xc0f3n) })),
      one("conforming code", { GUEST_DS_SELECTOR: 0x1bn, ...rights("DS", 0xc09fn) }),
      one("unusable", { GUEST_DS_SELECTOR: 0x1bn, ...rights("DS", 0x10000n) }),
      one("unrestricted", { GUEST_DS_SELECTOR: 0x1bn }, unrestrictedLong),
    ],
  },
  85: { bad: [one("CS", rights("CS", 0xa01bn)), one("SS", rights("SS", 0xc013n)), ...eachData(0xc013n, "absent")] },
  86: {
    bad: [
      one("CS bit 8", rights("CS", 0xa19bn)),
      one("CS bit 31", rights("CS", 0x8000a09bn)),
      one("SS bit 17", rights("SS", 0x2c093n)),
      ...eachData(0xc893n, "bit 11"),
    ],
  },
  87: {
    bad: [one("L and D", rights("CS", 0xe09bn))],
    good: [one("L and D outside IA-32e mode", rights("CS", 0xe09bn), protectedGuest)],
  },
  88: {
    bad: ["CS", "SS", ...DATA_SEGMENTS].flatMap((seg) => [
      one(`${seg} limit fffffffe with G`, { [`GUEST_${seg}_LIMIT`]: 0xfffffffen }),
      one(`${seg} limit 100000 without G`, {
        [`GUEST_${seg}_LIMIT`]: 0x100000n,
        ...rights(seg, seg === "CS" ? 0x209bn : 0x4093n),
      }),
    ]),
    good: [
      one("DS limit fffff without G", { GUEST_DS_LIMIT: 0xfffffn, ...rights("DS", 0x4093n) }),
      one("DS limit fff with G", { GUEST_DS_LIMIT: 0xfffn }),
    ],
  },
  89: {
    bad: [
      one("type 3 in IA-32e mode", rights("TR", 0x83n)),
      one("type 9", rights("TR", 0x89n)),
      one("S 1", rights("TR", 0x9bn)),
      one("P 0", rights("TR", 0xbn)),
      one("reserved bit 8", rights("TR", 0x18bn)),
      one("unusable", rights("TR", 0x1008bn)),
      one("limit 67 with G", rights("TR", 0x808bn)),
    ],
    good: [one("type 3 in a 32-bit guest", rights("TR", 0x83n), protectedGuest)],
  },
  90: {
    bad: [0x81n, 0x92n, 0x2n, 0x182n, 0x8082n].map((value) => one(value.toString(16), rights("LDTR", value))),
    good: [one("82", rights("LDTR", 0x82n)), one("unusable", rights("LDTR", 0x1ffffn))],
  },
  91: both(canonical("GUEST_GDTR_BASE", "GUEST_IDTR_BASE"), {
    bad: ["GDTR", "IDTR"].map((name) => one(`${name} limit`, { [`GUEST_${name}_LIMIT`]: 0x10000n })),
  }),
  92: {
    bad: [
      one("32-bit guest", { GUEST_RIP: 1n << 32n }, protectedGuest),
      one("compatibility mode", { GUEST_RIP: 1n << 32n, ...rights("CS", 0xc09bn) }),
    ],
  },
  93: {
    bad: [one("bit 48 alone", { GUEST_RIP: 1n << 48n }), one("bit 63 alone", { GUEST_RIP: 1n << 63n })],
    good: [
      one("bit 47 alone, not canonical", { GUEST_RIP: NON_CANONICAL }),
      one("63:48, not canonical", { GUEST_RIP: 0xffff_0000_0000_0000n }),
    ],
  },
  94: {
    bad: [
      one("bit 1 clear", { GUEST_RFLAGS: 0n }),
      ...[3n, 5n, 15n, 22n, 63n].map((bit) => one(`bit ${bit}`, { GUEST_RFLAGS: 2n | (1n << bit) })),
    ],
    good: [one("all others", { GUEST_RFLAGS: 0x1c0fd7n & ~0x100n })],
  },
  95: {
    bad: [
      one("IA-32e mode", { ...vm86Guest(), ENTRY_CONTROLS: LONG, GUEST_CR4: 0x2020n }),
      one("CR0.PE 0", { GUEST_RFLAGS: 0x20002n }, realGuest),
    ],
  },
  96: {
    bad: [one("IF 0", inject(0, 0x20))],
    good: [one("IF 1", { ...inject(0, 0x20), GUEST_RFLAGS: 0x202n })],
  },
  97: {
    bad: [3n, 4n, 0x80000000n].map((value) => one(`${value}`, { GUEST_ACTIVITY_STATE: value })),
    good: [one("HLT", { GUEST_ACTIVITY_STATE: 1n }), one("shutdown", { GUEST_ACTIVITY_STATE: 2n })],
  },
  98: { bad: [one("DPL 3", { GUEST_ACTIVITY_STATE: 1n }, cpl3)] },
  99: {
    bad: [1n, 2n].map((bit) =>
      one(`blocking ${bit}`, { GUEST_ACTIVITY_STATE: 1n, GUEST_INTERRUPTIBILITY_STATE: bit, GUEST_RFLAGS: 0x202n }),
    ),
  },
  100: {
    bad: [
      one("#UD", { ...inject(3, 6), GUEST_ACTIVITY_STATE: 1n }),
      one("INT n", { ...inject(4, 1), GUEST_ACTIVITY_STATE: 1n }),
      one("INT3", { ...inject(6, 3), GUEST_ACTIVITY_STATE: 1n }),
    ],
    good: [
      one("external interrupt", { ...inject(0, 0x20), GUEST_ACTIVITY_STATE: 1n, GUEST_RFLAGS: 0x202n }),
      one("NMI", { ...inject(2, 2), GUEST_ACTIVITY_STATE: 1n }),
      one("#DB", { ...inject(3, 1), GUEST_ACTIVITY_STATE: 1n }),
      one("#MC", { ...inject(3, 18), GUEST_ACTIVITY_STATE: 1n }),
    ],
  },
  101: {
    bad: [
      one("external interrupt", { ...inject(0, 0x20), GUEST_ACTIVITY_STATE: 2n, GUEST_RFLAGS: 0x202n }),
      one("#DB", { ...inject(3, 1), GUEST_ACTIVITY_STATE: 2n }),
    ],
    good: [
      one("NMI", { ...inject(2, 2), GUEST_ACTIVITY_STATE: 2n }),
      one("#MC", { ...inject(3, 18), GUEST_ACTIVITY_STATE: 2n }),
    ],
  },
  103: {
    bad: [
      one("bit 5", { GUEST_INTERRUPTIBILITY_STATE: 0x20n }),
      one("bit 31", { GUEST_INTERRUPTIBILITY_STATE: 0x80000000n }),
      one("STI and MOV SS", { GUEST_INTERRUPTIBILITY_STATE: 3n, GUEST_RFLAGS: 0x202n }),
      one("STI with IF 0", { GUEST_INTERRUPTIBILITY_STATE: 1n }),
    ],
    good: [
      one("STI with IF 1", { GUEST_INTERRUPTIBILITY_STATE: 1n, GUEST_RFLAGS: 0x202n }),
      one("MOV SS and NMI", { GUEST_INTERRUPTIBILITY_STATE: 10n }),
    ],
  },
  104: {
    bad: [1n, 2n].map((bit) =>
      one(`blocking ${bit}`, { ...inject(0, 0x20), GUEST_INTERRUPTIBILITY_STATE: bit, GUEST_RFLAGS: 0x202n }),
    ),
    good: [one("blocking by NMI", { ...inject(0, 0x20), GUEST_INTERRUPTIBILITY_STATE: 8n, GUEST_RFLAGS: 0x202n })],
  },
  105: {
    bad: [
      one("MOV SS", { ...inject(2, 2), GUEST_INTERRUPTIBILITY_STATE: 2n }),
      {
        title: "STI",
        set: { ...inject(2, 2), GUEST_INTERRUPTIBILITY_STATE: 1n, GUEST_RFLAGS: 0x202n },
        qualification: 3n,
      },
      one("NMI with virtual NMIs", {
        ...inject(2, 2),
        GUEST_INTERRUPTIBILITY_STATE: 8n,
        PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS, controls.PIN_NMI_EXITING),
      }),
    ],
    good: [one("NMI without virtual NMIs", { ...inject(2, 2), GUEST_INTERRUPTIBILITY_STATE: 8n })],
  },
  106: { bad: [one("SMI", { GUEST_INTERRUPTIBILITY_STATE: 4n })] },
  107: {
    bad: [4n, 11n, 13n, 15n, 17n, 63n].map((bit) => one(`bit ${bit}`, { GUEST_PENDING_DEBUG_EXCEPTIONS: 1n << bit })),
    good: [one("3:0, 12 and 14", { GUEST_PENDING_DEBUG_EXCEPTIONS: 0x500fn })],
  },
  108: {
    bad: [
      one("TF without BS", { GUEST_INTERRUPTIBILITY_STATE: 2n, GUEST_RFLAGS: 0x102n }),
      one("BS without TF", { GUEST_INTERRUPTIBILITY_STATE: 2n, GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n }),
      one("HLT, TF without BS", { GUEST_ACTIVITY_STATE: 1n, GUEST_RFLAGS: 0x102n }),
      one("BS with TF and BTF", {
        GUEST_INTERRUPTIBILITY_STATE: 2n,
        GUEST_RFLAGS: 0x102n,
        GUEST_IA32_DEBUGCTL: 2n,
        GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n,
      }),
    ],
    good: [
      one("TF and BS", {
        GUEST_INTERRUPTIBILITY_STATE: 2n,
        GUEST_RFLAGS: 0x102n,
        GUEST_PENDING_DEBUG_EXCEPTIONS: 0x4000n,
      }),
      one("TF and BTF", { GUEST_INTERRUPTIBILITY_STATE: 2n, GUEST_RFLAGS: 0x102n, GUEST_IA32_DEBUGCTL: 2n }),
      one("TF without BS, no blocking", { GUEST_RFLAGS: 0x102n }),
    ],
  },
  109: {
    bad: [
      one("not aligned", { VMCS_LINK_POINTER: 0x10008n }),
      one("too wide", { VMCS_LINK_POINTER: WIDE }),
      {
        title: "another revision",
        set: { VMCS_LINK_POINTER: 0x10000n },
        before: (vmx) => vmx.formatRegion(0x10000n, vmx.revision + 1),
      },
      {
        title: "shadow VMCS",
        set: { VMCS_LINK_POINTER: 0x10000n },
        before: (vmx) => vmx.formatRegion(0x10000n, vmx.revision + 0x80000000),
      },
      one("the current VMCS", { VMCS_LINK_POINTER: 0x2000n }),
    ],
    good: [
      { title: "another VMCS", set: { VMCS_LINK_POINTER: 0x10000n }, before: (vmx) => vmx.formatRegion(0x10000n) },
    ],
  },
  110: {
    bad: [
      ...[1n, 2n, 5n, 8n, BigInt(PHYSICAL_WIDTH), 63n].map((bit) => ({
        title: `in memory, bit ${bit}`,
        base: paeGuest,
        before: (vmx: Vmx) => vmx.poke64(0x4018n, 1n | (1n << bit)),
      })),
      one("in the VMCS", { ...ept(), GUEST_PDPTE2: 3n }, paeGuest),
    ],
    good: [
      { title: "not present", base: paeGuest, before: (vmx) => vmx.poke64(0x4018n, 0x1e6n) },
      one("in the VMCS", { ...ept(), GUEST_PDPTE0: 0x6001n }, paeGuest),
      {
        title: "in memory, not looked at with EPT",
        base: paeGuest,
        set: ept(),
        before: (vmx) => vmx.poke64(0x4018n, 3n),
      },
    ],
  },
  111: {
    bad: [
      { title: "FS_BASE", ...list(0xc0000100n, 0n) },
      { title: "GS_BASE", ...list(0xc0000101n, 0n) },
      { title: "x2APIC", ...list(0x808n, 0n) },
      { title: "SMM monitor", ...list(0x9bn, 0n) },
      { title: "no such MSR", ...list(0xdeadn, 0n) },
      { title: "bits 63:32", ...list(0xc0000102n, 0n, 1n) },
      { title: "bad value", ...list(0xc0000102n, NON_CANONICAL) },
      {
        title: "second entry",
        set: { ENTRY_MSR_LOAD_COUNT: 2n, ENTRY_MSR_LOAD_ADDRESS: 0x10000n },
        before: (vmx) => {
          vmx.poke64(0x10000n, 0xc0000102n);
          vmx.poke64(0x10008n, 0n);
          vmx.poke64(0x10010n, 0xdeadn);
        },
        qualification: 2n,
      },
    ],
    good: [{ title: "KERNEL_GS_BASE", ...list(0xc0000102n, 0x1234n) }],
  },
};

function vpid(): Fields {
  return { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: u32(controls.SECONDARY_ENABLE_VPID) };
}
function ept(): Fields {
  return { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: EPT, EPT_POINTER: EPTP };
}
function hostEfer(): Fields {
  return { PRIMARY_EXIT_CONTROLS: EXIT | u32(controls.EXIT_LOAD_IA32_EFER) };
}
function guestEfer(): Fields {
  return { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_LOAD_IA32_EFER) };
}
function debugControls(): Fields {
  return { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_LOAD_DEBUG_CONTROLS) };
}
/** Host-state area of a 32-bit host. */
function host32(): Fields {
  return {
    PRIMARY_EXIT_CONTROLS: u32(controls.EXIT_REQUIRED),
    HOST_CR4: 0x2020n,
    HOST_RIP: 0x1000n,
    HOST_RSP: 0x2000n,
  };
}
/** The processor outside IA-32e mode: what a 32-bit hypervisor runs in. */
function legacyHost(vmx: Vmx): void {
  vmx.write64(EFER, 0n);
  vmx.write32(SEGS + SEG_CS + SG_ATTR, 0xc09b);
  vmx.core.stateChanged();
}

/** Rows without a test, and why. */
export const notReachable: Readonly<Record<number, string>> = {
  2: "VMLAUNCH in non-root operation is an instruction of guest code",
  5: "VMPTRLD refuses a shadow VMCS as long as VMCS shadowing is not advertised",
  15: "use TPR shadow is not advertised",
  16: "use TPR shadow is not advertised",
  17: "use TPR shadow is not advertised",
  20: "virtualize APIC accesses is not advertised",
  21: "the APIC controls are not advertised",
  22: "the APIC controls are not advertised",
  23: "virtual-interrupt delivery is not advertised",
  24: "posted interrupts are not advertised",
  27: "PML is not advertised",
  29: "VM functions are not advertised",
  30: "VMCS shadowing is not advertised",
  31: "EPT-violation #VE is not advertised",
  33: "the preemption timer is not advertised",
  49: "load IA32_PERF_GLOBAL_CTRL is not advertised",
  69: "load IA32_PERF_GLOBAL_CTRL is not advertised",
  72: "load IA32_BNDCFGS is not advertised",
  102: "the wait-for-SIPI activity state is not advertised",
  112: "there is no source of machine checks",
};
