// The VMX capability MSRs 480H-491H, and the control-register bits that VMX operation fixes.
// @sdm 3D appendix A "VMX Capability Reporting Facility"
import {
  ENTRY_ALLOWED,
  ENTRY_DEFAULT1,
  ENTRY_REQUIRED,
  EXIT_ALLOWED,
  EXIT_DEFAULT1,
  EXIT_REQUIRED,
  PIN_ALLOWED,
  PIN_DEFAULT1,
  PIN_REQUIRED,
  PRIMARY_ALLOWED,
  PRIMARY_DEFAULT1,
  PRIMARY_REQUIRED,
  SECONDARY_ALLOWED,
  SECONDARY_ENABLE_INVPCID,
  SECONDARY_ENABLE_RDTSCP,
  SECONDARY_ENABLE_XSAVES_XRSTORS,
  SECONDARY_RDRAND_EXITING,
  SECONDARY_RDSEED_EXITING,
  VMCS_HIGHEST_INDEX,
  VMFUNC_ALLOWED,
} from "../abi/controls";
import { CR4_VMXE } from "../abi/x86";
import { cr4Supported } from "./control";
import { hasInvpcid, hasRdpid, hasRdrand, hasRdseed, hasRdtscp, hasXsaves } from "./features";
import { CR0_FIXED0, CR0_FIXED1 } from "./vmxMode";

/** Bit 31 of the first word of a region: a shadow VMCS. */
export const VMCS_SHADOW: u32 = 0x80000000;
/** VMCS revision identifier; changes when the layout of the region (abi/vmcsLayout.ts) does. */
export const VMCS_REVISION_ID: u32 = 1;

// IA32_VMX_MISC: 4:0 TSC bit that the preemption timer counts; 5 exits save EFER.LMA in "IA-32e mode guest"; 6 HLT and 7 shutdown activity states; 24:16 CR3 targets;
// 30 software events may be injected with length 0
export const CR3_TARGETS: u32 = 4;
export const MISC_ACTIVITY_HLT: u64 = 0x40;
export const MISC_ACTIVITY_SHUTDOWN: u64 = 0x80;
export const MISC_VMWRITE_ANY: u64 = 0x20000000;
export const MISC_ZERO_LENGTH: u64 = 0x40000000;
export const TIMER_SHIFT: u64 = 5;
export const VMX_MISC: u64 =
  TIMER_SHIFT | 0x20 | MISC_ACTIVITY_HLT | MISC_ACTIVITY_SHUTDOWN | ((<u64>CR3_TARGETS) << 16) | MISC_ZERO_LENGTH;
/** Longest MSR list: 512 entries for each step of IA32_VMX_MISC[27:25]. */
export const MSR_LIST_MAX: u32 = 512;

// IA32_VMX_EPT_VPID_CAP
export const EPT_EXECUTE_ONLY: u64 = 1;
const EPT_4_LEVEL: u64 = 1 << 6;
const EPT_UC: u64 = 1 << 8;
const EPT_WB: u64 = 1 << 14;
const EPT_2M: u64 = 1 << 16;
const EPT_1G: u64 = 1 << 17;
const EPT_ACCESSED_DIRTY: u64 = 1 << 21;
const INVEPT_TYPES: u64 = (1 << 20) | (1 << 25) | (1 << 26); // the instruction; single-context, all-context
const INVVPID_TYPES: u64 = ((<u64>0xf) << 40) | ((<u64>1) << 32); // the four types; the instruction
const EPT_VPID: u64 =
  EPT_EXECUTE_ONLY |
  EPT_ACCESSED_DIRTY |
  EPT_4_LEVEL |
  EPT_UC |
  EPT_WB |
  EPT_2M |
  EPT_1G |
  INVEPT_TYPES |
  INVVPID_TYPES;

// IA32_VMX_BASIC: 30:0 revision; 44:32 region size; 53:50 memory type, 6 = WB; 54 INS/OUTS information; 55 TRUE controls
const BASIC_REGION: u64 = (<u64>4096) << 32;
const BASIC_WB: u64 = (<u64>6) << 50;
const BASIC_INS_OUTS: u64 = (<u64>1) << 54;
const BASIC_TRUE: u64 = (<u64>1) << 55;

export const CR4_FIXED0: u64 = CR4_VMXE;

/** CR4 bits that may be 1 in VMX operation: those of the model. */
export function cr4Fixed1(): u64 {
  return cr4Supported();
}

/** Secondary controls that may be 1: those of instructions that the model does not have may not. */
export function secondaryAllowed(): u32 {
  let bits: u32 = SECONDARY_ALLOWED;
  if (!hasRdtscp() && !hasRdpid()) bits &= ~(<u32>SECONDARY_ENABLE_RDTSCP);
  if (!hasInvpcid()) bits &= ~(<u32>SECONDARY_ENABLE_INVPCID);
  if (!hasRdrand()) bits &= ~(<u32>SECONDARY_RDRAND_EXITING);
  if (!hasXsaves()) bits &= ~(<u32>SECONDARY_ENABLE_XSAVES_XRSTORS);
  if (!hasRdseed()) bits &= ~(<u32>SECONDARY_RDSEED_EXITING);
  return bits;
}

function controls(required: u32, allowed: u32): u64 {
  return ((<u64>allowed) << 32) | <u64>required;
}

/** Is `index` (480H-493H) a VMX capability MSR of this processor? Others of the range raise #GP(0). */
export function hasVmxCapability(index: u32): bool {
  return index >= 0x480 && index <= 0x491;
}

/** Value of a capability MSR for which hasVmxCapability() holds. */
export function vmxCapability(index: u32): u64 {
  switch (index - 0x480) {
    case 0:
      return <u64>VMCS_REVISION_ID | BASIC_REGION | BASIC_WB | BASIC_INS_OUTS | BASIC_TRUE;
    case 1:
      return controls(PIN_DEFAULT1, PIN_ALLOWED);
    case 2:
      return controls(PRIMARY_DEFAULT1, PRIMARY_ALLOWED);
    case 3:
      return controls(EXIT_DEFAULT1, EXIT_ALLOWED);
    case 4:
      return controls(ENTRY_DEFAULT1, ENTRY_ALLOWED);
    case 5:
      return VMX_MISC;
    case 6:
      return CR0_FIXED0;
    case 7:
      return CR0_FIXED1;
    case 8:
      return CR4_FIXED0;
    case 9:
      return cr4Fixed1();
    case 10:
      return (<u64>VMCS_HIGHEST_INDEX) << 1;
    case 11:
      return controls(0, secondaryAllowed());
    case 12:
      return EPT_VPID;
    case 13:
      return controls(PIN_REQUIRED, PIN_ALLOWED);
    case 14:
      return controls(PRIMARY_REQUIRED, PRIMARY_ALLOWED);
    case 15:
      return controls(EXIT_REQUIRED, EXIT_ALLOWED);
    case 16:
      return controls(ENTRY_REQUIRED, ENTRY_ALLOWED);
    case 17:
      return VMFUNC_ALLOWED;
    default:
      return 0;
  }
}
