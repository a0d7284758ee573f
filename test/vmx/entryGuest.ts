// Rows 60-96: guest registers, segments, RIP and RFLAGS.
import * as controls from "../../assembly/abi/controls.ts";
import {
  both,
  canonical,
  cpl3,
  DATA_SEGMENTS,
  debugControls,
  ENTRY,
  eachData,
  guestEfer,
  inject,
  LONG,
  NON_CANONICAL,
  one,
  pat,
  type RowTest,
  rights,
  u32,
  unrestrictedLong,
  WIDE,
} from "./entryTools.ts";
import { protectedGuest, realGuest, vm86Guest } from "./guests.ts";

export const guestRows: Readonly<Record<number, RowTest>> = {
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
};
