// Vocabulary of the entry-check tests.
import * as controls from "../../assembly/abi/controls.ts";
import { EFER, SEG_CS, SEGS, SG_ATTR } from "../../assembly/abi/state.ts";
import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import { type Fields, longGuest } from "./guests.ts";
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

export const WIDE = 1n << BigInt(PHYSICAL_WIDTH);
export const NON_CANONICAL = 0x8000_0000_0000n;
export const u32 = (...values: number[]): bigint => values.reduce((all, value) => all | BigInt(value >>> 0), 0n);
export const PIN = u32(controls.PIN_REQUIRED);
export const PRIMARY = u32(controls.PRIMARY_REQUIRED);
export const EXIT = u32(controls.EXIT_REQUIRED, controls.EXIT_HOST_ADDRESS_SPACE_SIZE);
export const ENTRY = u32(controls.ENTRY_REQUIRED);
export const LONG = u32(controls.ENTRY_REQUIRED, controls.ENTRY_IA_32E_MODE_GUEST);
export const SECOND = PRIMARY | u32(controls.PRIMARY_ACTIVATE_SECONDARY_CONTROLS);
export const EPT = u32(controls.SECONDARY_ENABLE_EPT);
export const UNRESTRICTED = u32(controls.SECONDARY_UNRESTRICTED_GUEST);
export const EPTP = 0x501en;

export const VALID = 0x80000000n;
export const inject = (type: number, vector: number, more = 0n): Fields => ({
  ENTRY_INTERRUPTION_INFO: VALID | (BigInt(type) << 8n) | BigInt(vector) | more,
  ENTRY_INSTRUCTION_LENGTH: 2n,
  ENTRY_EXCEPTION_ERROR_CODE: 0n,
});
export const ERROR_CODE = 0x800n;

export const one = (title: string, set: Fields, base?: () => Fields): Case => ({ title, set, ...(base && { base }) });

/** A field at an address that is not aligned, and one beyond the physical width. */
export function addresses(name: string, good: bigint, align: bigint, more: Fields): RowTest {
  return {
    bad: [
      one(`${name} not aligned`, { ...more, [name]: good + align / 2n }),
      one(`${name} too wide`, { ...more, [name]: good + WIDE }),
    ],
    good: [one(`${name} aligned`, { ...more, [name]: good })],
  };
}
export const both = (...tests: RowTest[]): RowTest => ({
  bad: tests.flatMap((t) => t.bad),
  good: tests.flatMap((t) => t.good ?? []),
});
export const msrList = (which: string): RowTest =>
  both(addresses(`${which}_ADDRESS`, 0x10000n, 16n, { [`${which}_COUNT`]: 1n }), {
    bad: [one("last byte too wide", { [`${which}_ADDRESS`]: WIDE - 16n, [`${which}_COUNT`]: 2n })],
    good: [one("no entry, address ignored", { [`${which}_ADDRESS`]: 1n, [`${which}_COUNT`]: 0n })],
  });
export const reserved = (name: string, value: bigint, must: bigint, mustNot: bigint): RowTest => ({
  bad: [
    one(`a bit that must be 1 is 0`, { [name]: value & ~must }),
    one(`a bit that must be 0 is 1`, { [name]: value | mustNot }),
  ],
});
export const canonical = (...names: string[]): RowTest => ({
  bad: names.map((name) => one(`${name} not canonical`, { [name]: NON_CANONICAL })),
  good: names.map((name) => one(`${name} canonical`, { [name]: 0xffff_8000_0000_0000n })),
});
export const pat = (name: string, control: Fields): RowTest => ({
  bad: [2n, 3n, 8n, 0x200n, 0xff00_0000_0000_0000n].map((v) => one(`PAT ${v.toString(16)}`, { ...control, [name]: v })),
  good: [one("types 0 1 4 5 6 7", { ...control, [name]: 0x0001040506070000n })],
});
export const rights = (seg: string, value: bigint): Fields => ({ [`GUEST_${seg}_ACCESS_RIGHTS`]: value });
/** The same rights for CS and SS at another DPL and RPL. */
export const cpl3 = (): Fields => ({
  ...longGuest(),
  GUEST_CS_SELECTOR: 0x13n,
  GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
  GUEST_SS_SELECTOR: 0x1bn,
  GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
});
export const unrestrictedLong = (): Fields => ({
  ...longGuest(),
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: EPT | UNRESTRICTED,
  EPT_POINTER: EPTP,
});
export const DATA_SEGMENTS = ["DS", "ES", "FS", "GS"];
export const eachData = (value: bigint, note: string): Case[] =>
  DATA_SEGMENTS.map((s) => one(`${s} ${note}`, rights(s, value)));

/** MSR list of one entry at 0x10000. */
export const list = (index: bigint, value: bigint, high = 0n) => ({
  set: { ENTRY_MSR_LOAD_COUNT: 1n, ENTRY_MSR_LOAD_ADDRESS: 0x10000n },
  before: (vmx: Vmx) => {
    vmx.poke64(0x10000n, index | (high << 32n));
    vmx.poke64(0x10008n, value);
  },
  qualification: 1n,
});

export function vpid(): Fields {
  return { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: u32(controls.SECONDARY_ENABLE_VPID) };
}
export function ept(): Fields {
  return { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: EPT, EPT_POINTER: EPTP };
}
export function hostEfer(): Fields {
  return { PRIMARY_EXIT_CONTROLS: EXIT | u32(controls.EXIT_LOAD_IA32_EFER) };
}
export function guestEfer(): Fields {
  return { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_LOAD_IA32_EFER) };
}
export function debugControls(): Fields {
  return { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_LOAD_DEBUG_CONTROLS) };
}
/** Host-state area of a 32-bit host. */
export function host32(): Fields {
  return {
    PRIMARY_EXIT_CONTROLS: u32(controls.EXIT_REQUIRED),
    HOST_CR4: 0x2020n,
    HOST_RIP: 0x1000n,
    HOST_RSP: 0x2000n,
  };
}
/** The processor outside IA-32e mode: what a 32-bit hypervisor runs in. */
export function legacyHost(vmx: Vmx): void {
  vmx.write64(EFER, 0n);
  vmx.write32(SEGS + SEG_CS + SG_ATTR, 0xc09b);
  vmx.core.stateChanged();
}
