// Checks on the guest-state area but for segments: failure is exit reason 80000021H with a qualification.
// @sdm 3C "Checks on the Guest State Area"
import {
  ENTRY_IA_32E_MODE_GUEST,
  ENTRY_LOAD_DEBUG_CONTROLS,
  ENTRY_LOAD_IA32_EFER,
  ENTRY_LOAD_IA32_PAT,
  PIN_VIRTUAL_NMIS,
  SECONDARY_VMCS_SHADOWING,
} from "../abi/controls";
import { CURRENT_VMCS, EventType } from "../abi/state";
import {
  V_ENTRY_INTERRUPTION_INFO,
  V_GUEST_ACTIVITY_STATE,
  V_GUEST_CR0,
  V_GUEST_CR3,
  V_GUEST_CR4,
  V_GUEST_CS_ACCESS_RIGHTS,
  V_GUEST_DR7,
  V_GUEST_GDTR_BASE,
  V_GUEST_GDTR_LIMIT,
  V_GUEST_IA32_DEBUGCTL,
  V_GUEST_IA32_EFER,
  V_GUEST_IA32_PAT,
  V_GUEST_IA32_SYSENTER_EIP,
  V_GUEST_IA32_SYSENTER_ESP,
  V_GUEST_IDTR_BASE,
  V_GUEST_IDTR_LIMIT,
  V_GUEST_INTERRUPTIBILITY_STATE,
  V_GUEST_PENDING_DEBUG_EXCEPTIONS,
  V_GUEST_RFLAGS,
  V_GUEST_RIP,
  V_GUEST_SS_ACCESS_RIGHTS,
  V_VMCS_LINK_POINTER,
} from "../abi/vmcsLayout";
import { LINEAR_WIDTH } from "../abi/width";
import {
  Activity,
  BLOCK_MOV_SS,
  BLOCK_NMI,
  BLOCK_STI,
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  CR4_PCIDE,
  EFER_LMA,
  EFER_LME,
  FLAG_FIXED,
  FLAG_IF,
  FLAG_TF,
  FLAG_VM,
  SA_DPL,
  SA_L,
} from "../abi/x86";
import { physRead32 } from "../memory/physical";
import { eferSupported } from "../system/control";
import { DEBUGCTL_BITS, validPat } from "../system/msr";
import {
  CR4_FIXED0,
  cr4Fixed1,
  MISC_ACTIVITY_HLT,
  MISC_ACTIVITY_SHUTDOWN,
  VMCS_REVISION_ID,
  VMCS_SHADOW,
  VMX_MISC,
} from "../system/vmxCaps";
import { CR0_FIXED0, CR0_FIXED1 } from "../system/vmxMode";
import { canonical } from "../system/width";
import { pageAddress, physicalWidth } from "./address";
import { checked, dirtyGroups, dropImage, GUEST_DIRTY, guestImage, markDirty, S_CHECKED_VM, slot } from "./cache";
import { entryControl, pin, secondary, unrestrictedGuest } from "./controls";
import { fixedBits } from "./entryHost";
import { guestSegmentsValid } from "./entrySegments";
import { INFO_VALID, INFO_VECTOR, infoType, TYPE_OTHER } from "./interruptionInfo";
import { guestPdptesValid } from "./pdpte";
import { NO_VMCS, vmcs32, vmcs64 } from "./vmcs";

// exit qualifications of entry failure 33
export const INVALID_STATE: u32 = 0;
export const INVALID_PDPTE: u32 = 2;
export const INVALID_NMI: u32 = 3;
export const INVALID_LINK: u32 = 4;
/** Every check passed. */
export const STATE_VALID: u32 = 0xffffffff;

// IA32_DEBUGCTL
const DEBUGCTL_BTF: u64 = 2;
// RFLAGS: 63:22, 15, 5 and 3 are 0
export const RFLAGS_RESERVED: u64 = 0xffffffffffc08028;
// pending debug exceptions: 3:0 B3-B0   12 enabled breakpoint   14 BS
const DEBUG_RESERVED: u64 = 0xffffffffffffaff0;
const DEBUG_BS: u64 = 0x4000;

/** Does VM entry inject an event? */
export function injecting(): bool {
  return (vmcs32(V_ENTRY_INTERRUPTION_INFO) & INFO_VALID) != 0;
}

/** An event that is delivered through the guest's IDT: all but a pending monitor-trap-flag exit. */
export function vectoring(): bool {
  return injecting() && infoType(vmcs32(V_ENTRY_INTERRUPTION_INFO)) != TYPE_OTHER;
}

function injectingType(type: u32): bool {
  return injecting() && infoType(vmcs32(V_ENTRY_INTERRUPTION_INFO)) == type;
}

/** @sdm 3C "Checks on Guest Control Registers, Debug Registers, and MSRs" */
function registers(): bool {
  const cr0 = vmcs64(V_GUEST_CR0);
  const cr4 = vmcs64(V_GUEST_CR4);
  const long = entryControl(ENTRY_IA_32E_MODE_GUEST);
  const free: u64 = unrestrictedGuest() ? <u64>CR0_PE | CR0_PG : 0;
  if (!fixedBits(cr0, CR0_FIXED0 & ~free, CR0_FIXED1)) return false;
  if (cr0 & CR0_PG && !(cr0 & CR0_PE)) return false;
  if (!fixedBits(cr4, CR4_FIXED0, cr4Fixed1())) return false;
  if (long ? !(cr0 & CR0_PG) || !(cr4 & CR4_PAE) : (cr4 & CR4_PCIDE) != 0) return false;
  if (entryControl(ENTRY_LOAD_DEBUG_CONTROLS)) {
    if (vmcs64(V_GUEST_IA32_DEBUGCTL) & ~DEBUGCTL_BITS || vmcs64(V_GUEST_DR7) >> 32) return false;
  }
  if (!canonical(vmcs64(V_GUEST_IA32_SYSENTER_ESP)) || !canonical(vmcs64(V_GUEST_IA32_SYSENTER_EIP))) return false;
  if (entryControl(ENTRY_LOAD_IA32_PAT) && !validPat(vmcs64(V_GUEST_IA32_PAT))) return false;
  if (entryControl(ENTRY_LOAD_IA32_EFER)) {
    const efer = vmcs64(V_GUEST_IA32_EFER);
    if (efer & ~eferSupported() || ((efer & EFER_LMA) != 0) != long) return false;
    if (cr0 & CR0_PG && ((efer & EFER_LME) != 0) != long) return false;
  }
  return true;
}

/** @sdm 3C "Checks on Guest Descriptor-Table Registers" */
function tables(): bool {
  return (
    canonical(vmcs64(V_GUEST_GDTR_BASE)) &&
    canonical(vmcs64(V_GUEST_IDTR_BASE)) &&
    vmcs32(V_GUEST_GDTR_LIMIT) >> 16 == 0 &&
    vmcs32(V_GUEST_IDTR_LIMIT) >> 16 == 0
  );
}

/** @sdm 3C "Checks on Guest RIP and RFLAGS" */
function ripAndRflags(): bool {
  const rip = vmcs64(V_GUEST_RIP);
  const long = entryControl(ENTRY_IA_32E_MODE_GUEST);
  if (long && vmcs32(V_GUEST_CS_ACCESS_RIGHTS) & SA_L) {
    const top = <i64>rip >> LINEAR_WIDTH;
    if (top != 0 && top != -1) return false;
  } else if (rip >> 32) return false;
  const flags = vmcs64(V_GUEST_RFLAGS);
  if (flags & RFLAGS_RESERVED || !(flags & FLAG_FIXED)) return false;
  if (flags & FLAG_VM && (long || !(vmcs64(V_GUEST_CR0) & CR0_PE))) return false;
  return (flags & FLAG_IF) != 0 || !injecting() || !injectingType(EventType.External);
}

/** Events that may be injected while the guest is not active. */
function injectableIn(activity: u32): bool {
  if (!injecting()) return true;
  const info = vmcs32(V_ENTRY_INTERRUPTION_INFO);
  const type = infoType(info);
  const vector = info & INFO_VECTOR;
  const machineCheck = type == EventType.Exception && vector == 18;
  switch (activity) {
    case Activity.Halt:
      return (
        type == EventType.External ||
        type == EventType.Nmi ||
        machineCheck ||
        type == TYPE_OTHER ||
        (type == EventType.Exception && vector == 1)
      );
    case Activity.Shutdown:
      return type == EventType.Nmi || machineCheck;
    default:
      return activity == Activity.Active;
  }
}

function activitySupported(activity: u32): bool {
  if (activity == Activity.Halt) return (VMX_MISC & MISC_ACTIVITY_HLT) != 0;
  if (activity == Activity.Shutdown) return (VMX_MISC & MISC_ACTIVITY_SHUTDOWN) != 0;
  return activity == Activity.Active;
}

/** Activity, interruptibility, pending debug exceptions. @sdm 3C "Checks on Guest Non-Register State" */
function nonRegister(): u32 {
  const activity = vmcs32(V_GUEST_ACTIVITY_STATE);
  const blocking = vmcs32(V_GUEST_INTERRUPTIBILITY_STATE);
  const flags = vmcs64(V_GUEST_RFLAGS);
  const pending = vmcs64(V_GUEST_PENDING_DEBUG_EXCEPTIONS);
  if (!(activity | blocking) && pending == 0 && !injecting()) return STATE_VALID;
  if (!activitySupported(activity) || !injectableIn(activity)) return INVALID_STATE;
  if (activity == Activity.Halt && vmcs32(V_GUEST_SS_ACCESS_RIGHTS) & SA_DPL) return INVALID_STATE;
  const sti = (blocking & BLOCK_STI) != 0;
  const movSs = (blocking & BLOCK_MOV_SS) != 0;
  if ((sti || movSs) && activity != Activity.Active) return INVALID_STATE;
  if (blocking & ~(BLOCK_STI | BLOCK_MOV_SS | BLOCK_NMI)) return INVALID_STATE;
  if (sti && (movSs || !(flags & FLAG_IF))) return INVALID_STATE;
  if (injectingType(EventType.External) && (sti || movSs)) return INVALID_STATE;
  if (injectingType(EventType.Nmi)) {
    if (movSs || (blocking & BLOCK_NMI && pin(PIN_VIRTUAL_NMIS))) return INVALID_STATE;
    // optional in the manual; done here
    if (sti) return INVALID_NMI;
  }
  if (pending & DEBUG_RESERVED) return INVALID_STATE;
  if (sti || movSs || activity == Activity.Halt) {
    const steps = (flags & FLAG_TF) != 0 && (vmcs64(V_GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF) == 0;
    if (((pending & DEBUG_BS) != 0) != steps) return INVALID_STATE;
  }
  return STATE_VALID;
}

/** The VMCS link pointer names a shadow VMCS when there is VMCS shadowing, else an ordinary one. */
function linkPointerValid(): bool {
  const link = vmcs64(V_VMCS_LINK_POINTER);
  if (link == NO_VMCS) return true;
  const revision = VMCS_REVISION_ID | (secondary(SECONDARY_VMCS_SHADOWING) ? VMCS_SHADOW : 0);
  return pageAddress(link) && physRead32(link) == revision && link != load<u64>(CURRENT_VMCS);
}

/** Does the guest use PAE paging with its four PDPTEs? */
export function guestUsesPdptes(): bool {
  return (
    (vmcs64(V_GUEST_CR0) & CR0_PG) != 0 &&
    (vmcs64(V_GUEST_CR4) & CR4_PAE) != 0 &&
    !entryControl(ENTRY_IA_32E_MODE_GUEST)
  );
}

/** STATE_VALID, or the exit qualification of the entry failure. */
export function checkGuestState(): u32 {
  const vm = vmcs32(V_GUEST_RFLAGS) & FLAG_VM;
  if (dirtyGroups() & GUEST_DIRTY || vm != load<u32>(slot, S_CHECKED_VM)) {
    dropImage(guestImage());
    markDirty(GUEST_DIRTY);
    if (!registers() || !guestSegmentsValid() || !tables()) return INVALID_STATE;
    store<u32>(slot, vm, S_CHECKED_VM);
    checked(GUEST_DIRTY);
  }
  if (!physicalWidth(vmcs64(V_GUEST_CR3)) || !ripAndRflags()) return INVALID_STATE;
  const other = nonRegister();
  if (other != STATE_VALID) return other;
  if (!linkPointerValid()) return INVALID_LINK;
  if (guestUsesPdptes() && !guestPdptesValid()) return INVALID_PDPTE;
  return STATE_VALID;
}
