// A VM exit saves the guest state and records why it happened. @sdm 3C "Recording VM-Exit Information and Updating
// VM-Entry Control Fields", "Saving Guest State"
import {
  ENTRY_IA_32E_MODE_GUEST,
  EXIT_SAVE_DEBUG_CONTROLS,
  EXIT_SAVE_IA32_EFER,
  EXIT_SAVE_IA32_PAT,
} from "../abi/controls";
import {
  REASON_APIC_ACCESS,
  REASON_APIC_WRITE,
  REASON_EPT_MISCONFIGURATION,
  REASON_EPT_VIOLATION,
  REASON_EXCEPTION_OR_NMI,
  REASON_EXTERNAL_INTERRUPT,
  REASON_INIT_SIGNAL,
  REASON_INTERRUPT_WINDOW,
  REASON_MONITOR_TRAP_FLAG,
  REASON_NMI_WINDOW,
  REASON_PML_FULL,
  REASON_PREEMPTION_TIMER,
  REASON_SIPI,
  REASON_TASK_SWITCH,
  REASON_TPR_BELOW_THRESHOLD,
  REASON_TRIPLE_FAULT,
  REASON_VIRTUALIZED_EOI,
} from "../abi/exits";
import {
  ACTIVITY,
  CPL,
  CR0,
  CR3,
  CR4,
  DELIVERING,
  DELIVERING_ERROR,
  DELIVERING_ILEN,
  DELIVERING_INJECTED,
  DR7,
  EFER,
  EventType,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  INTERRUPTIBILITY,
  MSR_DEBUGCTL,
  MSR_PAT,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  PENDING_DEBUG,
  RIP,
  RSP,
  SEG_SIZE,
  SEG_SS,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
  VMCS_HOST,
  XR_ILEN,
  XR_INFO,
  XR_INTR_ERROR,
  XR_INTR_INFO,
  XR_LINEAR,
  XR_PHYSICAL,
  XR_QUALIFICATION,
  XR_REASON,
} from "../abi/state";
import {
  V_ENTRY_CONTROLS,
  V_ENTRY_INTERRUPTION_INFO,
  V_EXIT_INSTRUCTION_INFO,
  V_EXIT_INSTRUCTION_LENGTH,
  V_EXIT_INTERRUPTION_ERROR_CODE,
  V_EXIT_INTERRUPTION_INFO,
  V_EXIT_QUALIFICATION,
  V_EXIT_REASON,
  V_GUEST_ACTIVITY_STATE,
  V_GUEST_CR0,
  V_GUEST_CR3,
  V_GUEST_CR4,
  V_GUEST_DR7,
  V_GUEST_ES_ACCESS_RIGHTS,
  V_GUEST_ES_BASE,
  V_GUEST_ES_LIMIT,
  V_GUEST_ES_SELECTOR,
  V_GUEST_GDTR_BASE,
  V_GUEST_GDTR_LIMIT,
  V_GUEST_IA32_DEBUGCTL,
  V_GUEST_IA32_EFER,
  V_GUEST_IA32_PAT,
  V_GUEST_IA32_SYSENTER_CS,
  V_GUEST_IA32_SYSENTER_EIP,
  V_GUEST_IA32_SYSENTER_ESP,
  V_GUEST_IDTR_BASE,
  V_GUEST_IDTR_LIMIT,
  V_GUEST_INTERRUPTIBILITY_STATE,
  V_GUEST_LINEAR_ADDRESS,
  V_GUEST_PENDING_DEBUG_EXCEPTIONS,
  V_GUEST_PHYSICAL_ADDRESS,
  V_GUEST_RFLAGS,
  V_GUEST_RIP,
  V_GUEST_RSP,
  V_IDT_VECTORING_ERROR_CODE,
  V_IDT_VECTORING_INFO,
  V_PRIMARY_EXIT_CONTROLS,
} from "../abi/vmcsLayout";
import {
  BLOCK_MOV_SS,
  BLOCK_NMI,
  BLOCK_STI,
  CR0_PG,
  CR4_PAE,
  EFER_LMA,
  FLAG_RF,
  SA_DPL,
  SA_DPL_SHIFT,
  VEC_DB,
} from "../abi/x86";
import { getRflags } from "../state/flags";
import { interruptShadow } from "../system/shadow";
import { CONTROLS_DIRTY, GUEST_DIRTY, markDirty, segmentsSaved, segmentsUnchanged } from "./cache";
import { eptOn } from "./controls";
import { RIGHTS_DEFINED } from "./entryLoad";
import { faultKind, INFO_ERROR, INFO_VALID, INFO_VECTOR, infoType } from "./interruptionInfo";
import { saveGuestPdptes } from "./pdpte";

/** Exit-information fields from the exit record and the event that was being delivered. */
export function recordInformation(): void {
  const v = load<u32>(VMCS_HOST);
  store<u64>(v, load<u32>(XR_REASON), V_EXIT_REASON);
  store<u64>(v, load<u64>(XR_QUALIFICATION), V_EXIT_QUALIFICATION);
  store<u64>(v, load<u64>(XR_LINEAR), V_GUEST_LINEAR_ADDRESS);
  store<u64>(v, load<u64>(XR_PHYSICAL), V_GUEST_PHYSICAL_ADDRESS);
  store<u64>(v, load<u32>(XR_INTR_INFO), V_EXIT_INTERRUPTION_INFO);
  store<u64>(v, load<u32>(XR_INTR_ERROR), V_EXIT_INTERRUPTION_ERROR_CODE);
  store<u64>(v, load<u32>(XR_INFO), V_EXIT_INSTRUCTION_INFO);
  let length = load<u32>(XR_ILEN);
  const delivering = load<u32>(DELIVERING);
  if (delivering & INFO_VALID) {
    store<u64>(v, delivering & ~DELIVERING_INJECTED, V_IDT_VECTORING_INFO);
    store<u64>(v, delivering & INFO_ERROR ? load<u32>(DELIVERING_ERROR) : 0, V_IDT_VECTORING_ERROR_CODE);
    if (infoType(delivering) >= <u32>EventType.SoftInt) length = load<u32>(DELIVERING_ILEN);
  } else {
    store<u64>(v, 0, V_IDT_VECTORING_INFO);
    store<u64>(v, 0, V_IDT_VECTORING_ERROR_CODE);
  }
  store<u64>(v, length, V_EXIT_INSTRUCTION_LENGTH);
  store<u64>(v, load<u32>(v, V_ENTRY_INTERRUPTION_INFO) & ~INFO_VALID, V_ENTRY_INTERRUPTION_INFO);
}

/** Would delivery have pushed RF = 1 whatever it is now? Events that VM entry injects take RFLAGS as the entry loaded it. */
function pushesRf(delivering: u32): bool {
  return !(delivering & DELIVERING_INJECTED) && faultKind(delivering, 0);
}

class Reasons {
  /** Basic exit reasons below 64 as a set. */
  @inline static bit(reason: u32): u64 {
    return (1 as u64) << (<u64>reason);
  }
}

/** The access is done again after the exit: RF as a fault would push it. */
const RESTARTED: u64 =
  Reasons.bit(REASON_EPT_VIOLATION) |
  Reasons.bit(REASON_EPT_MISCONFIGURATION) |
  Reasons.bit(REASON_APIC_ACCESS) |
  Reasons.bit(REASON_PML_FULL);
/** Events at a boundary, and trap-like exits: RF as it is. */
const RF_KEPT: u64 =
  Reasons.bit(REASON_EXTERNAL_INTERRUPT) |
  Reasons.bit(REASON_TRIPLE_FAULT) |
  Reasons.bit(REASON_INIT_SIGNAL) |
  Reasons.bit(REASON_SIPI) |
  Reasons.bit(REASON_INTERRUPT_WINDOW) |
  Reasons.bit(REASON_NMI_WINDOW) |
  Reasons.bit(REASON_MONITOR_TRAP_FLAG) |
  Reasons.bit(REASON_TPR_BELOW_THRESHOLD) |
  Reasons.bit(REASON_VIRTUALIZED_EOI) |
  Reasons.bit(REASON_PREEMPTION_TIMER) |
  Reasons.bit(REASON_APIC_WRITE);
const PENDING_DEBUG_KEPT: u64 =
  Reasons.bit(REASON_INIT_SIGNAL) |
  Reasons.bit(REASON_MONITOR_TRAP_FLAG) |
  Reasons.bit(REASON_TPR_BELOW_THRESHOLD) |
  Reasons.bit(REASON_VIRTUALIZED_EOI) |
  Reasons.bit(REASON_APIC_WRITE);

function isOneOf(reason: u32, set: u64): bool {
  return reason < 64 && ((set >> <u64>reason) & 1) != 0;
}

/** RFLAGS.RF in the saved image. @sdm 3C "Saving RIP, RSP, and RFLAGS" */
function savedRf(rf: u32): u32 {
  const reason = load<u32>(XR_REASON);
  if (reason == REASON_EXCEPTION_OR_NMI) {
    return faultKind(load<u32>(XR_INTR_INFO), load<u64>(XR_QUALIFICATION)) ? FLAG_RF : rf;
  }
  if (isOneOf(reason, RF_KEPT)) return rf;
  const delivering = load<u32>(DELIVERING);
  const during = (delivering & INFO_VALID) != 0;
  if (isOneOf(reason, RESTARTED)) return !during || pushesRf(delivering) ? FLAG_RF : rf;
  if (reason != REASON_TASK_SWITCH) return 0;
  // what the old TSS would have taken: @sdm 3C "Saving RIP, RSP, RFLAGS, and SSP"
  if (!during || infoType(delivering) >= <u32>EventType.SoftInt) return 0;
  return pushesRf(delivering) ? FLAG_RF : rf;
}

/** Are the pending debug exceptions saved, rather than 0? @sdm 3C "Saving Non-Register State" */
function keepsPendingDebug(): bool {
  const reason = load<u32>(XR_REASON);
  if (isOneOf(reason, PENDING_DEBUG_KEPT)) return true;
  if (!(load<u32>(INTERRUPTIBILITY) & BLOCK_MOV_SS)) return false;
  const info = load<u32>(XR_INTR_INFO);
  return !(
    reason == REASON_EXCEPTION_OR_NMI &&
    (info & INFO_VECTOR) == VEC_DB &&
    infoType(info) == EventType.Exception
  );
}

/** Saves a field that VM entry checks when it has changed. */
function put(offset: u32, value: u64): void {
  const at = load<u32>(VMCS_HOST) + offset;
  if (load<u64>(at) == value) return;
  store<u64>(at, value);
  markDirty(GUEST_DIRTY);
}

function saveSegments(): void {
  if (segmentsUnchanged()) return;
  for (let i: u32 = 0; i < 8; i++) {
    const at = SEGS + i * SEG_SIZE;
    let rights = load<u32>(at, SG_ATTR) & RIGHTS_DEFINED;
    // SS.DPL is the CPL, whatever a descriptor said
    if (i * SEG_SIZE == SEG_SS) rights = (rights & ~SA_DPL) | (load<u32>(CPL) << SA_DPL_SHIFT);
    put(V_GUEST_ES_SELECTOR + 8 * i, load<u32>(at, SG_SELECTOR));
    put(V_GUEST_ES_BASE + 8 * i, load<u64>(at, SG_BASE));
    put(V_GUEST_ES_LIMIT + 8 * i, load<u32>(at, SG_LIMIT));
    put(V_GUEST_ES_ACCESS_RIGHTS + 8 * i, rights);
  }
  put(V_GUEST_GDTR_BASE, load<u64>(GDTR_BASE));
  put(V_GUEST_GDTR_LIMIT, load<u32>(GDTR_LIMIT));
  put(V_GUEST_IDTR_BASE, load<u64>(IDTR_BASE));
  put(V_GUEST_IDTR_LIMIT, load<u32>(IDTR_LIMIT));
  segmentsSaved();
}

export function saveGuestState(): void {
  const v = load<u32>(VMCS_HOST);
  let changed: u64 = 0;
  if (load<u32>(INTERRUPTIBILITY)) interruptShadow(); // drops a stale one
  const cr0 = load<u64>(CR0);
  const cr4 = load<u64>(CR4);
  const efer = load<u64>(EFER);
  changed |= load<u64>(v, V_GUEST_CR0) ^ cr0;
  store<u64>(v, cr0, V_GUEST_CR0);
  store<u64>(v, load<u64>(CR3), V_GUEST_CR3);
  changed |= load<u64>(v, V_GUEST_CR4) ^ cr4;
  store<u64>(v, cr4, V_GUEST_CR4);
  changed |= load<u64>(v, V_GUEST_IA32_SYSENTER_CS) ^ <u32>load<u64>(MSR_SYSENTER_CS);
  store<u64>(v, <u32>load<u64>(MSR_SYSENTER_CS), V_GUEST_IA32_SYSENTER_CS);
  changed |= load<u64>(v, V_GUEST_IA32_SYSENTER_ESP) ^ load<u64>(MSR_SYSENTER_ESP);
  store<u64>(v, load<u64>(MSR_SYSENTER_ESP), V_GUEST_IA32_SYSENTER_ESP);
  changed |= load<u64>(v, V_GUEST_IA32_SYSENTER_EIP) ^ load<u64>(MSR_SYSENTER_EIP);
  store<u64>(v, load<u64>(MSR_SYSENTER_EIP), V_GUEST_IA32_SYSENTER_EIP);
  const exit = load<u32>(v, V_PRIMARY_EXIT_CONTROLS);
  if (exit & EXIT_SAVE_DEBUG_CONTROLS) {
    changed |= load<u64>(v, V_GUEST_DR7) ^ load<u64>(DR7);
    store<u64>(v, load<u64>(DR7), V_GUEST_DR7);
    changed |= load<u64>(v, V_GUEST_IA32_DEBUGCTL) ^ load<u64>(MSR_DEBUGCTL);
    store<u64>(v, load<u64>(MSR_DEBUGCTL), V_GUEST_IA32_DEBUGCTL);
  }
  if (exit & EXIT_SAVE_IA32_PAT) {
    changed |= load<u64>(v, V_GUEST_IA32_PAT) ^ load<u64>(MSR_PAT);
    store<u64>(v, load<u64>(MSR_PAT), V_GUEST_IA32_PAT);
  }
  if (exit & EXIT_SAVE_IA32_EFER) {
    changed |= load<u64>(v, V_GUEST_IA32_EFER) ^ efer;
    store<u64>(v, efer, V_GUEST_IA32_EFER);
  }
  // "IA-32e mode guest" is the bit below that of EFER.LMA
  const entry = load<u32>(v, V_ENTRY_CONTROLS);
  const controls = (entry & ~ENTRY_IA_32E_MODE_GUEST) | ((u32(efer) & EFER_LMA) >> 1);
  if (controls != entry) {
    store<u64>(v, controls, V_ENTRY_CONTROLS);
    markDirty(CONTROLS_DIRTY);
  }
  if (changed) markDirty(GUEST_DIRTY);
  saveSegments();
  store<u64>(v, load<u64>(RIP), V_GUEST_RIP);
  store<u64>(v, load<u64>(RSP), V_GUEST_RSP);
  const flags = <u32>getRflags();
  store<u64>(v, (flags & ~FLAG_RF) | savedRf(flags & FLAG_RF), V_GUEST_RFLAGS);
  store<u64>(v, load<u32>(INTERRUPTIBILITY) & (BLOCK_STI | BLOCK_MOV_SS | BLOCK_NMI), V_GUEST_INTERRUPTIBILITY_STATE);
  store<u64>(v, load<u32>(ACTIVITY), V_GUEST_ACTIVITY_STATE);
  store<u64>(v, keepsPendingDebug() ? load<u64>(PENDING_DEBUG) : 0, V_GUEST_PENDING_DEBUG_EXCEPTIONS);
  if (!(efer & EFER_LMA) && cr0 & CR0_PG && cr4 & CR4_PAE && eptOn()) saveGuestPdptes();
}
