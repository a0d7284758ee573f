// Rows 97-112: guest non-register state, PDPTEs, MSR loading.
import * as controls from "../../assembly/abi/controls.ts";
import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import { cpl3, ept, inject, list, NON_CANONICAL, one, PIN, type RowTest, SECOND, u32, WIDE } from "./entryTools.ts";
import { type Fields, paeGuest } from "./guests.ts";
import type { Vmx } from "./harness.ts";

const shadowing: Fields = {
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: u32(controls.SECONDARY_VMCS_SHADOWING),
  VMREAD_BITMAP_ADDRESS: 0x9000n,
  VMWRITE_BITMAP_ADDRESS: 0x9000n,
};

export const stateRows: Readonly<Record<number, RowTest>> = {
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
      {
        title: "VMCS shadowing, ordinary VMCS",
        set: { ...shadowing, VMCS_LINK_POINTER: 0x10000n },
        before: (vmx) => vmx.formatRegion(0x10000n),
      },
    ],
    good: [
      { title: "VMCS shadowing, no VMCS", set: shadowing },
      {
        title: "VMCS shadowing, shadow VMCS",
        set: { ...shadowing, VMCS_LINK_POINTER: 0x10000n },
        before: (vmx) => vmx.formatRegion(0x10000n, vmx.revision + 0x80000000),
      },
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
