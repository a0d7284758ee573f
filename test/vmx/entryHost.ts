// Rows 45-59: host-state area and address-space size.
import * as controls from "../../assembly/abi/controls.ts";
import {
  canonical,
  EXIT,
  host32,
  hostEfer,
  LONG,
  legacyHost,
  NON_CANONICAL,
  one,
  pat,
  type RowTest,
  u32,
  WIDE,
} from "./entryTools.ts";
import { protectedGuest } from "./guests.ts";

export const hostRows: Readonly<Record<number, RowTest>> = {
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
};
