// VM entry to a VMCS that has been entered before and whose controls, host state and guest registers are known to be good:
// only the fields that every entry checks are looked at. What does not fit goes the long way (entry.ts).
import {
  ENTRY_IA_32E_MODE_GUEST,
  PIN_ACTIVATE_VMX_PREEMPTION_TIMER,
  PRIMARY_MONITOR_TRAP_FLAG,
  PRIMARY_USE_TPR_SHADOW,
  SECONDARY_VIRTUALIZE_APIC_ACCESSES,
} from "../abi/controls";
import {
  ACTIVITY,
  DELIVERING,
  EFER,
  ENTRIES,
  EV_INJECTED,
  EXTRA,
  INTERRUPTIBILITY,
  PAUSE_LAST,
  PENDING_DEBUG,
  StopBit,
  VMCS_HOST,
  VMX_STATE,
  VmxBit,
} from "../abi/state";
import {
  V_ENTRY_CONTROLS,
  V_ENTRY_INTERRUPTION_INFO,
  V_ENTRY_MSR_LOAD_COUNT,
  V_GUEST_ACTIVITY_STATE,
  V_GUEST_CR3,
  V_GUEST_CS_ACCESS_RIGHTS,
  V_GUEST_INTERRUPTIBILITY_STATE,
  V_GUEST_PENDING_DEBUG_EXCEPTIONS,
  V_GUEST_RFLAGS,
  V_GUEST_RIP,
  V_PIN_BASED_CONTROLS,
  V_PRIMARY_EXIT_CONTROLS,
  V_PRIMARY_PROC_BASED_CONTROLS,
  V_VMCS_LINK_POINTER,
} from "../abi/vmcsLayout";
import { LINEAR_WIDTH, PHYSICAL_WIDTH } from "../abi/width";
import { Activity, BLOCK_MOV_SS, EFER_LMA, FLAG_FIXED, FLAG_VM, SA_L } from "../abi/x86";
import { stop } from "../state/stop";
import { CpuidAnswers } from "../system/cpuidCache";
import { interruptShadow } from "../system/shadow";
import { dirtyGroups, knownEntry, S_CHECKED_VM, S_ENTRY, slot } from "./cache";
import { secondary } from "./controls";
import { guestUsesPdptes, RFLAGS_RESERVED } from "./entryGuest";
import { loadGuestState } from "./entryLoad";
import { NO_PAUSE } from "./intercept";
import { INFO_VALID } from "./interruptionInfo";
import { NO_VMCS } from "./vmcs";

const PLAIN: u32 = 1;
/** RIP has 64 bits. */
const PLAIN_WIDE: u32 = 2;

/** After an entry that passed every check: keeps whether the controls ask for anything beyond state. */
export function noteEntry(): void {
  if (dirtyGroups()) return;
  const v = load<u32>(VMCS_HOST);
  const plain =
    !(load<u32>(v, V_PIN_BASED_CONTROLS) & PIN_ACTIVATE_VMX_PREEMPTION_TIMER) &&
    !(load<u32>(v, V_PRIMARY_PROC_BASED_CONTROLS) & (PRIMARY_MONITOR_TRAP_FLAG | PRIMARY_USE_TPR_SHADOW)) &&
    !secondary(SECONDARY_VIRTUALIZE_APIC_ACCESSES) &&
    load<u64>(v, V_VMCS_LINK_POINTER) == NO_VMCS &&
    load<u32>(v, V_ENTRY_MSR_LOAD_COUNT) == 0 &&
    load<u32>(slot, S_CHECKED_VM) == 0 &&
    !guestUsesPdptes();
  const wide =
    (load<u32>(v, V_ENTRY_CONTROLS) & ENTRY_IA_32E_MODE_GUEST) != 0 &&
    (load<u32>(v, V_GUEST_CS_ACCESS_RIGHTS) & SA_L) != 0;
  store<u32>(slot, plain ? (wide ? PLAIN_WIDE : PLAIN) : 0, S_ENTRY);
}

/**
 * Would the long way find that VMRESUME succeeds, injects nothing and only loads state? What it asks before the fields holds:
 * a VMCS whose S_ENTRY is known is current and launched, and is no shadow VMCS.
 */
function entryIsPlain(completed: u32): bool {
  const kind = knownEntry();
  if (!kind) return false;
  // as in enterGuest()
  if (completed <= 1 && load<u32>(INTERRUPTIBILITY) && interruptShadow() & BLOCK_MOV_SS) return false;
  const v = load<u32>(VMCS_HOST);
  // one branch for all
  const words =
    (load<u32>(v, V_ENTRY_INTERRUPTION_INFO) & INFO_VALID) |
    load<u32>(v, V_GUEST_ACTIVITY_STATE) |
    load<u32>(v, V_GUEST_INTERRUPTIBILITY_STATE) |
    // "host address-space size" is the bit below that of EFER.LMA
    (((load<u32>(v, V_PRIMARY_EXIT_CONTROLS) << 1) ^ load<u32>(EFER)) & EFER_LMA);
  const rip = load<u64>(v, V_GUEST_RIP);
  const flags = load<u64>(v, V_GUEST_RFLAGS);
  const other =
    <u64>words |
    load<u64>(v, V_GUEST_PENDING_DEBUG_EXCEPTIONS) |
    (load<u64>(v, V_GUEST_CR3) >> PHYSICAL_WIDTH) |
    // a canonical address has 0 or -1 above
    (kind == PLAIN ? rip >> 32 : <u64>((<i64>rip >> LINEAR_WIDTH) + 1) >> 1) |
    ((flags ^ FLAG_FIXED) & (RFLAGS_RESERVED | FLAG_VM | FLAG_FIXED));
  return other == 0;
}

/** VMRESUME as enterGuest() would do it. False: nothing has been done, that must. */
export function enterAgain(completed: u32): bool {
  if (!entryIsPlain(completed)) return false;
  store<u32>(VMX_STATE, VmxBit.On | VmxBit.NonRoot | (completed == 0 ? VmxBit.HostEntered : 0));
  CpuidAnswers.forget();
  loadGuestState();
  store<u32>(INTERRUPTIBILITY, 0);
  store<u32>(ACTIVITY, Activity.Active);
  store<u64>(PENDING_DEBUG, 0);
  store<u32>(DELIVERING, 0);
  store<u32>(EV_INJECTED, 0);
  store<u64>(PAUSE_LAST, NO_PAUSE);
  store<u64>(ENTRIES, load<u64>(ENTRIES) + 1);
  store<u32>(EXTRA, 1);
  if (completed) stop(StopBit.Leave); // the host is in no block
  return true;
}
