// The current VMCS: a 4 KiB region of physical memory in the layout of abi/vmcsLayout.ts.
//   0 revision identifier (31 shadow VMCS)   4 abort indicator   8 launch state   40H.. fields, 8 bytes each
// Nothing of a VMCS is kept elsewhere, but for the address of the region in linear memory (VMCS_HOST) and what cache.ts
// knows to be unchanged.
import { CURRENT_VMCS, DEADLINE, MTF, TR_VPID, VMCS_HOST, VMX_ABORT, VMX_STATE, VMXON_POINTER } from "../abi/state";
import { VMCS_XSS_EXITING_BITMAP } from "../abi/vmcs";
import {
  V_ENTRY_INSTRUCTION_LENGTH,
  V_ENTRY_INTERRUPTION_INFO,
  V_GUEST_ACTIVITY_STATE,
  V_GUEST_CR3,
  V_GUEST_INTERRUPTIBILITY_STATE,
  V_GUEST_PENDING_DEBUG_EXCEPTIONS,
  V_GUEST_RSP,
  V_VMCS_LINK_POINTER,
  VMCS_LAUNCHED,
  VMCS_REVISION,
} from "../abi/vmcsLayout";
import { noteDirty, noteWrite } from "../memory/frames";
import { physToHost } from "../memory/physical";
import { hasXsaves } from "../system/features";
import { VMCS_SHADOW } from "../system/vmxCaps";
import { CONTROLS_DIRTY, GUEST_DIRTY, HOST_DIRTY, markDirty, releaseRegions } from "./cache";
import { VMCS_CLASSES } from "./fields.generated";

/** Current-VMCS pointer when there is none. */
export const NO_VMCS: u64 = 0xffffffffffffffff;

export function hasVmcs(): bool {
  return load<u32>(VMCS_HOST) != 0;
}

/** Makes the region at `pa` current; NO_VMCS: none. */
export function selectVmcs(pa: u64): void {
  store<u64>(CURRENT_VMCS, pa);
  const host = pa == NO_VMCS ? 0 : physToHost(pa);
  store<u32>(VMCS_HOST, host);
  // its fields are stored without noteWrite(); the host counts the current one as changed
  if (host) noteDirty(host);
}

/** RESET: outside VMX operation, no current VMCS. */
export function resetVmx(): void {
  store<u32>(VMX_STATE, 0);
  store<u64>(VMXON_POINTER, NO_VMCS);
  store<u32>(VMX_ABORT, 0);
  store<u32>(TR_VPID, 0);
  store<u64>(DEADLINE, ~(<u64>0));
  store<u32>(MTF, 0);
  releaseRegions();
  selectVmcs(NO_VMCS);
}

/** Must follow every change of the physical memory map. */
export function remapVmcs(): void {
  releaseRegions();
  selectVmcs(load<u64>(CURRENT_VMCS));
}

// Fields of the current VMCS by their offset (V_*).
export function vmcs16(offset: u32): u32 {
  return load<u16>(load<u32>(VMCS_HOST) + offset);
}
export function vmcs32(offset: u32): u32 {
  return load<u32>(load<u32>(VMCS_HOST) + offset);
}
export function vmcs64(offset: u32): u64 {
  return load<u64>(load<u32>(VMCS_HOST) + offset);
}
export function setVmcs32(offset: u32, value: u32): void {
  store<u64>(load<u32>(VMCS_HOST) + offset, value);
}
export function setVmcs64(offset: u32, value: u64): void {
  store<u64>(load<u32>(VMCS_HOST) + offset, value);
}

export function isShadowVmcs(): bool {
  return (vmcs32(VMCS_REVISION) & VMCS_SHADOW) != 0;
}

export function launched(): bool {
  return vmcs32(VMCS_LAUNCHED) != 0;
}
export function setLaunched(on: bool): void {
  store<u32>(load<u32>(VMCS_HOST) + VMCS_LAUNCHED, on);
}

// VMCS field encoding (SDM table 24-20)
//   0 access: 1 = high half of a 64-bit field   9:1 index   11:10 type   14:13 width   others reserved
//   type: 0 control, 1 read-only data, 2 guest state, 3 host state; width: 0 16-bit, 1 64-bit, 2 32-bit, 3 natural
const HIGH: u32 = 1;
/** What is 0 in the encoding of any field: an index beyond 63 is none of ours. */
const RESERVED: u64 = 0xffffffffffff9380;
/** 64-bit and natural width. */
const WIDE: u32 = 0x2000;
/** 32-bit and natural width. */
const WIDTH_32: u32 = 0x4000;
const WIDTHS: u32 = 0x6000;

// VMREAD and VMWRITE are one function each, without calls
export class Field {
  /** The entry of VMCS_CLASSES for the type and width of an encoding. */
  @inline static class(e: u32): usize {
    return VMCS_CLASSES + (((e >> 6) & 0x30) | ((e >> 7) & 0xc0));
  }

  /** Offset of a field in the region, 0: this processor has no such field. */
  @inline static offset(encoding: u64): u32 {
    const e = <u32>encoding;
    if (encoding & RESERVED || (e & HIGH && (e & WIDTHS) != WIDE)) return 0;
    const entry = Field.class(e);
    if (!((load<u64>(entry, 8) >> <u64>(e >> 1)) & 1)) return 0;
    return load<u32>(entry) + ((e & 0x7e) << 2);
  }

  /** Value of an existing field as VMREAD gives it; `offset` is its offset(), `region` the VMCS in linear memory. */
  @inline static read(region: u32, encoding: u32, offset: u32): u64 {
    const value = load<u64>(region + offset);
    if (encoding & WIDE) return encoding & HIGH ? value >> 32 : value;
    return value & (encoding & WIDTH_32 ? 0xffffffff : 0xffff);
  }

  /** Bits beyond the width of the field are dropped; a high half leaves the low one. */
  @inline static write(region: u32, encoding: u32, offset: u32, value: u64): void {
    if (encoding & HIGH) store<u32>(region + offset + 4, <u32>value);
    else store<u64>(region + offset, encoding & WIDE ? value : value & (encoding & WIDTH_32 ? 0xffffffff : 0xffff));
  }
}

/** The XSS-exiting bitmap is a field of processors with XSAVES. Must follow a change of the model. */
export function offerFields(): void {
  const e: u32 = VMCS_XSS_EXITING_BITMAP;
  const fields = Field.class(e) + 8;
  const bit = (<u64>1) << (<u64>((e >> 1) & 63));
  store<u64>(fields, hasXsaves() ? load<u64>(fields) | bit : load<u64>(fields) & ~bit);
}

export function fieldOffset(encoding: u64): u32 {
  return Field.offset(encoding);
}

/** VM-exit information: VMWRITE needs IA32_VMX_MISC[29]. */
export function fieldReadOnly(encoding: u32): bool {
  return ((encoding >> 10) & 3) == 1;
}

/** Fields that every VM entry checks, whatever was written: no group is dirty for them. */
export function alwaysChecked(offset: u32): bool {
  return (
    between(offset, V_GUEST_RSP, V_GUEST_PENDING_DEBUG_EXCEPTIONS) ||
    between(offset, V_ENTRY_INTERRUPTION_INFO, V_ENTRY_INSTRUCTION_LENGTH) ||
    between(offset, V_GUEST_INTERRUPTIBILITY_STATE, V_GUEST_ACTIVITY_STATE) ||
    offset == V_GUEST_CR3
  );
}

function between(offset: u32, first: u32, last: u32): bool {
  return offset - first <= last - first;
}

/** What VMWRITE to a field makes dirty, by its type: a nibble each. */
const DIRTY_BY_TYPE: u32 = CONTROLS_DIRTY | (GUEST_DIRTY << 8) | (HOST_DIRTY << 12);

/** VMWRITE to an existing field of the current VMCS. */
export function writeField(encoding: u32, offset: u32, value: u64): void {
  if (!alwaysChecked(offset)) markDirty((DIRTY_BY_TYPE >> ((encoding >> 8) & 12)) & 15);
  Field.write(load<u32>(VMCS_HOST), encoding, offset, value);
}

/** VMWRITE to an existing field of another VMCS. */
export function writeShadowField(region: u32, encoding: u32, offset: u32, value: u64): void {
  Field.write(region, encoding, offset, value);
  noteWrite(region + offset, 8);
}

/** The VMCS that the link pointer names, in linear memory; 0: none. */
export function shadowRegion(): u32 {
  const link = vmcs64(V_VMCS_LINK_POINTER);
  return link == NO_VMCS ? 0 : physToHost(link);
}
