// VM exits. @sdm 3C "VM Exits"
//
// For run/boundary.ts:
//   takeExit()   consumes the exit record XR_* and does the whole exit; StopBit.Exit is to be off already. RIP must be that of
//                the instruction that exits, or of the next one for an exit at an instruction boundary. Afterwards the processor
//                is in root operation: STOP holds Host with RunCode.VmExit when the host made the entry, with
//                RunCode.VmxAbort after an abort, else Leave, and execution goes on at HOST_RIP. DELIVERING and EV_INJECTED
//                are for the caller to clear.
import { EXIT_HOST_ADDRESS_SPACE_SIZE, PIN_VIRTUAL_NMIS } from "../abi/controls";
import { REASON_EPT_VIOLATION, REASON_EXCEPTION_OR_NMI, REASON_PML_FULL } from "../abi/exits";
import { RunCode } from "../abi/run";
import {
  ACTIVITY,
  CURRENT_VMCS,
  DEADLINE,
  DELIVERING,
  EFER,
  EV_INJECTED,
  EventType,
  EXITS,
  EXTRA,
  INTERRUPTIBILITY,
  MTF,
  StopBit,
  VMCS_HOST,
  VMX_ABORT,
  VMX_STATE,
  VmxBit,
  XR_INTR_INFO,
  XR_QUALIFICATION,
  XR_REASON,
} from "../abi/state";
import {
  V_EXIT_MSR_LOAD_ADDRESS,
  V_EXIT_MSR_LOAD_COUNT,
  V_EXIT_MSR_STORE_ADDRESS,
  V_EXIT_MSR_STORE_COUNT,
  V_EXIT_QUALIFICATION,
  V_EXIT_REASON,
  V_PRIMARY_EXIT_CONTROLS,
  VMCS_ABORT,
} from "../abi/vmcsLayout";
import { Activity, BLOCK_NMI, EFER_LMA } from "../abi/x86";
import { physWrite32 } from "../memory/physical";
import { stop, stopHost } from "../state/stop";
import { recomputeMode } from "../system/mode";
import { unblockedByIret } from "./boundary";
import { pin } from "./controls";
import { loadHostState } from "./exitLoad";
import { recordInformation, saveGuestState } from "./exitSave";
import { INFO_VALID, infoType } from "./interruptionInfo";
import { loadMsrList, storeMsrList } from "./msrLists";
import { NO_DEADLINE, saveTimer } from "./timer";
import { stopVirtualApic } from "./virtualApic";
import { hasVmcs, setVmcs32, setVmcs64, vmcs32, vmcs64 } from "./vmcs";

// VMX-abort indicators
const ABORT_MSR_STORE: u32 = 1;
const ABORT_HOST_PDPTE: u32 = 2;
const ABORT_VMCS: u32 = 3;
const ABORT_MSR_LOAD: u32 = 4;
const ABORT_WIDE_GUEST: u32 = 6;

/** NMI unblocking due to IRET, table 27-7. */
const QUALIFICATION_NMI_UNBLOCKED: u64 = 0x1000;

const ENTRY_FAILURE: u32 = 0x80000000;

/** @sdm 3C "VMX Aborts" */
function abortVmx(code: u32): void {
  physWrite32(load<u64>(CURRENT_VMCS) + VMCS_ABORT, code);
  store<u32>(VMX_ABORT, code);
  store<u32>(ACTIVITY, Activity.Shutdown);
  stopHost(RunCode.VmxAbort);
}

/** Host state, MSR list, and back to root operation. */
function returnToHost(): void {
  const state = load<u32>(VMX_STATE);
  const v = load<u32>(VMCS_HOST);
  if (load<u64>(EFER) & EFER_LMA && !(load<u32>(v, V_PRIMARY_EXIT_CONTROLS) & EXIT_HOST_ADDRESS_SPACE_SIZE)) {
    abortVmx(ABORT_WIDE_GUEST);
    return;
  }
  store<u32>(VMX_STATE, VmxBit.On);
  store<u64>(DEADLINE, NO_DEADLINE);
  store<u32>(MTF, 0);
  stopVirtualApic();
  if (!loadHostState()) {
    abortVmx(ABORT_HOST_PDPTE);
    return;
  }
  if (load<u32>(v, V_EXIT_MSR_LOAD_COUNT)) {
    if (loadMsrList(vmcs64(V_EXIT_MSR_LOAD_ADDRESS), vmcs32(V_EXIT_MSR_LOAD_COUNT))) {
      abortVmx(ABORT_MSR_LOAD);
      return;
    }
    recomputeMode();
  }
  if (state & VmxBit.HostEntered) stopHost(RunCode.VmExit);
  else stop(StopBit.Leave);
}

/** Blocking by NMI after the exit. Virtual-NMI blocking is the guest's own. @sdm 3C "Updating Non-Register State" */
function nmiBlocking(): u32 {
  const info = load<u32>(XR_INTR_INFO);
  if (info & INFO_VALID) {
    if (load<u32>(XR_REASON) == REASON_EXCEPTION_OR_NMI && infoType(info) == EventType.Nmi) return BLOCK_NMI;
  }
  if (!(load<u32>(INTERRUPTIBILITY) & BLOCK_NMI)) return 0;
  return pin(PIN_VIRTUAL_NMIS) ? 0 : BLOCK_NMI;
}

export function takeExit(): void {
  store<u64>(EXITS, load<u64>(EXITS) + 1);
  if (!hasVmcs()) {
    abortVmx(ABORT_VMCS);
    return;
  }
  const reason = load<u32>(XR_REASON);
  if (u32(reason == REASON_EPT_VIOLATION) | u32(reason == REASON_PML_FULL)) {
    if (unblockedByIret()) store<u64>(XR_QUALIFICATION, load<u64>(XR_QUALIFICATION) | QUALIFICATION_NMI_UNBLOCKED);
  }
  recordInformation();
  saveGuestState();
  saveTimer();
  const blocking = nmiBlocking();
  if (!storeMsrList(vmcs64(V_EXIT_MSR_STORE_ADDRESS), vmcs32(V_EXIT_MSR_STORE_COUNT))) {
    abortVmx(ABORT_MSR_STORE);
    return;
  }
  store<u32>(INTERRUPTIBILITY, blocking);
  returnToHost();
}

/** An entry that failed after its VMfail checks. Guest state, the valid bit and other exit fields stay as they were. */
export function failEntry(reason: u32, qualification: u32): void {
  store<u64>(EXITS, load<u64>(EXITS) + 1);
  setVmcs32(V_EXIT_REASON, reason | ENTRY_FAILURE);
  setVmcs64(V_EXIT_QUALIFICATION, qualification);
  store<u32>(INTERRUPTIBILITY, load<u32>(INTERRUPTIBILITY) & BLOCK_NMI);
  store<u32>(DELIVERING, 0);
  store<u32>(EV_INJECTED, 0);
  store<u32>(EXTRA, 1);
  returnToHost();
}
