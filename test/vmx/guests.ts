// VMCS contents that pass every check of VM entry (SDM 3C "VM Entries"), as name -> value.
import * as controls from "../../assembly/abi/controls.ts";
import type { Vmx } from "./harness.ts";

export type Fields = Record<string, bigint>;

const bits = (...values: number[]): bigint => values.reduce((all, value) => all | BigInt(value >>> 0), 0n);

export const HOST_RIP = 0xffff_ffff_8100_0000n;

const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS"];

function segment(name: string, selector: bigint, base: bigint, limit: bigint, rights: bigint): Fields {
  return {
    [`GUEST_${name}_SELECTOR`]: selector,
    [`GUEST_${name}_BASE`]: base,
    [`GUEST_${name}_LIMIT`]: limit,
    [`GUEST_${name}_ACCESS_RIGHTS`]: rights,
  };
}

const host: Fields = {
  HOST_CR0: 0x80000031n,
  HOST_CR3: 0x3000n,
  HOST_CR4: 0x2020n,
  HOST_ES_SELECTOR: 0n,
  HOST_CS_SELECTOR: 0x10n,
  HOST_SS_SELECTOR: 0x18n,
  HOST_DS_SELECTOR: 0n,
  HOST_FS_SELECTOR: 0n,
  HOST_GS_SELECTOR: 0n,
  HOST_TR_SELECTOR: 0x40n,
  HOST_FS_BASE: 0n,
  HOST_GS_BASE: 0xffff_8880_0000_0000n,
  HOST_TR_BASE: 0xffff_8880_0000_1000n,
  HOST_GDTR_BASE: 0xffff_8880_0000_2000n,
  HOST_IDTR_BASE: 0xffff_8880_0000_3000n,
  HOST_IA32_SYSENTER_CS: 0x10n,
  HOST_IA32_SYSENTER_ESP: 0xffff_8880_0000_4000n,
  HOST_IA32_SYSENTER_EIP: 0xffff_ffff_8180_0000n,
  HOST_IA32_PAT: 0x0007040600070406n,
  HOST_IA32_EFER: 0xd01n,
  HOST_RSP: 0xffff_8880_0000_5000n,
  HOST_RIP,
};

const common: Fields = {
  PIN_BASED_CONTROLS: bits(controls.PIN_REQUIRED),
  PRIMARY_PROC_BASED_CONTROLS: bits(controls.PRIMARY_REQUIRED),
  SECONDARY_PROC_BASED_CONTROLS: 0n,
  PRIMARY_EXIT_CONTROLS: bits(controls.EXIT_REQUIRED, controls.EXIT_HOST_ADDRESS_SPACE_SIZE),
  ENTRY_CONTROLS: bits(controls.ENTRY_REQUIRED),
  EXCEPTION_BITMAP: 0n,
  PAGE_FAULT_ERROR_CODE_MASK: 0n,
  PAGE_FAULT_ERROR_CODE_MATCH: 0n,
  CR3_TARGET_COUNT: 0n,
  EXIT_MSR_STORE_COUNT: 0n,
  EXIT_MSR_LOAD_COUNT: 0n,
  ENTRY_MSR_LOAD_COUNT: 0n,
  ENTRY_INTERRUPTION_INFO: 0n,
  VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
  GUEST_IA32_DEBUGCTL: 0n,
  GUEST_IA32_PAT: 0x0007040600070406n,
  GUEST_DR7: 0x400n,
  GUEST_INTERRUPTIBILITY_STATE: 0n,
  GUEST_ACTIVITY_STATE: 0n,
  GUEST_PENDING_DEBUG_EXCEPTIONS: 0n,
  GUEST_GDTR_BASE: 0n,
  GUEST_GDTR_LIMIT: 0xffffn,
  GUEST_IDTR_BASE: 0n,
  GUEST_IDTR_LIMIT: 0xffffn,
  GUEST_IA32_SYSENTER_CS: 0n,
  GUEST_IA32_SYSENTER_ESP: 0n,
  GUEST_IA32_SYSENTER_EIP: 0n,
  GUEST_RSP: 0x8000n,
  GUEST_RIP: 0x7000n,
  GUEST_RFLAGS: 2n,
  ...host,
};

/** 64-bit guest at CPL 0 without EPT. */
export function longGuest(): Fields {
  const all: Fields = {
    ...common,
    ENTRY_CONTROLS: bits(controls.ENTRY_REQUIRED, controls.ENTRY_IA_32E_MODE_GUEST),
    GUEST_CR0: 0x80000031n,
    GUEST_CR3: 0x4000n,
    GUEST_CR4: 0x2020n,
    GUEST_IA32_EFER: 0x500n,
    ...segment("LDTR", 0n, 0n, 0n, 0x10000n),
    ...segment("TR", 0x40n, 0n, 0x67n, 0x8bn),
  };
  for (const name of SEGMENTS) Object.assign(all, segment(name, 0x18n, 0n, 0xffffffffn, 0xc093n));
  return Object.assign(all, segment("CS", 0x10n, 0n, 0xffffffffn, 0xa09bn));
}

/** Flat 32-bit protected-mode guest at CPL 0, legacy paging, without EPT. */
export function protectedGuest(): Fields {
  return {
    ...longGuest(),
    ENTRY_CONTROLS: bits(controls.ENTRY_REQUIRED),
    GUEST_CR4: 0x2000n,
    GUEST_IA32_EFER: 0n,
    ...segment("CS", 0x10n, 0n, 0xffffffffn, 0xc09bn),
  };
}

/** PAE paging with the PDPTEs in memory at 0x4000. */
export function paeGuest(): Fields {
  return { ...protectedGuest(), GUEST_CR4: 0x2020n };
}

/** vm86 guest. */
export function vm86Guest(): Fields {
  const all: Fields = { ...protectedGuest(), GUEST_RFLAGS: 0x20002n };
  for (const name of SEGMENTS) Object.assign(all, segment(name, 0x1000n, 0x10000n, 0xffffn, 0xf3n));
  return all;
}

/** Real-mode guest: unrestricted, EPT tables at 0x5000. */
export function realGuest(): Fields {
  const all: Fields = {
    ...common,
    PRIMARY_PROC_BASED_CONTROLS: bits(controls.PRIMARY_REQUIRED, controls.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
    SECONDARY_PROC_BASED_CONTROLS: bits(controls.SECONDARY_ENABLE_EPT, controls.SECONDARY_UNRESTRICTED_GUEST),
    EPT_POINTER: 0x501en,
    GUEST_CR0: 0x30n,
    GUEST_CR3: 0n,
    GUEST_CR4: 0x2000n,
    GUEST_IA32_EFER: 0n,
    ...segment("LDTR", 0n, 0n, 0xffffn, 0x82n),
    ...segment("TR", 0n, 0n, 0xffffn, 0x8bn),
  };
  for (const name of SEGMENTS) Object.assign(all, segment(name, 0n, 0n, 0xffffn, 0x93n));
  return Object.assign(all, segment("CS", 0n, 0n, 0xffffn, 0x9bn));
}

/** Identity EPT for the first 1 GiB: one page, rights RWX, write-back. */
export function identityEpt(vmx: Vmx, root = 0x5000n): void {
  vmx.poke64(root, (root + 0x1000n) | 7n);
  vmx.poke64(root + 0x1000n, 0xb7n);
}

export function writeFields(vmx: Vmx, fields: Fields): void {
  for (const [name, value] of Object.entries(fields)) vmx.write(name, value);
}

/** Identity paging of the first 1 GiB for longGuest(), all pages user and writable; tables at 0x4000 and 0xa000. */
export function identityPaging(vmx: Vmx): void {
  vmx.poke64(0x4000n, 0xa007n);
  vmx.poke64(0xa000n, 0x87n);
}
