// Checks on the VMX controls: failure is VMfailValid(7). @sdm 3C "Checks on VMX Controls"
import {
  ENTRY_ALLOWED,
  ENTRY_REQUIRED,
  EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT,
  EXIT_ALLOWED,
  EXIT_REQUIRED,
  EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE,
  PIN_ACTIVATE_VMX_PREEMPTION_TIMER,
  PIN_ALLOWED,
  PIN_EXTERNAL_INTERRUPT_EXITING,
  PIN_NMI_EXITING,
  PIN_PROCESS_POSTED_INTERRUPTS,
  PIN_REQUIRED,
  PIN_VIRTUAL_NMIS,
  PRIMARY_ACTIVATE_SECONDARY_CONTROLS,
  PRIMARY_ALLOWED,
  PRIMARY_NMI_WINDOW_EXITING,
  PRIMARY_REQUIRED,
  PRIMARY_USE_I_O_BITMAPS,
  PRIMARY_USE_MSR_BITMAPS,
  PRIMARY_USE_TPR_SHADOW,
  SECONDARY_APIC_REGISTER_VIRTUALIZATION,
  SECONDARY_ENABLE_PML,
  SECONDARY_ENABLE_VM_FUNCTIONS,
  SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
  SECONDARY_UNRESTRICTED_GUEST,
  SECONDARY_VIRTUAL_INTERRUPT_DELIVERY,
  SECONDARY_VIRTUALIZE_APIC_ACCESSES,
  SECONDARY_VIRTUALIZE_X2APIC_MODE,
  SECONDARY_VMCS_SHADOWING,
  VMFUNC_ALLOWED,
  VMFUNC_EPTP_SWITCHING,
} from "../abi/controls";
import { EventType } from "../abi/state";
import {
  V_APIC_ACCESS_ADDRESS,
  V_CR3_TARGET_COUNT,
  V_ENTRY_CONTROLS,
  V_ENTRY_EXCEPTION_ERROR_CODE,
  V_ENTRY_INSTRUCTION_LENGTH,
  V_ENTRY_INTERRUPTION_INFO,
  V_ENTRY_MSR_LOAD_ADDRESS,
  V_ENTRY_MSR_LOAD_COUNT,
  V_EPT_POINTER,
  V_EPTP_LIST_ADDRESS,
  V_EXIT_MSR_LOAD_ADDRESS,
  V_EXIT_MSR_LOAD_COUNT,
  V_EXIT_MSR_STORE_ADDRESS,
  V_EXIT_MSR_STORE_COUNT,
  V_GUEST_CR0,
  V_IO_BITMAP_A_ADDRESS,
  V_IO_BITMAP_B_ADDRESS,
  V_MSR_BITMAP_ADDRESS,
  V_PIN_BASED_CONTROLS,
  V_PML_ADDRESS,
  V_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
  V_POSTED_INTERRUPT_NOTIFICATION_VECTOR,
  V_PRIMARY_EXIT_CONTROLS,
  V_PRIMARY_PROC_BASED_CONTROLS,
  V_SECONDARY_PROC_BASED_CONTROLS,
  V_TPR_THRESHOLD,
  V_VIRTUAL_APIC_ADDRESS,
  V_VM_FUNCTION_CONTROLS,
  V_VMREAD_BITMAP_ADDRESS,
  V_VMWRITE_BITMAP_ADDRESS,
  V_VPID,
} from "../abi/vmcsLayout";
import { CR0_PE } from "../abi/x86";
import { CR3_TARGETS, MISC_ZERO_LENGTH, secondaryAllowed, VMX_MISC } from "../system/vmxCaps";
import { eptpValid, pageAddress, physicalWidth } from "./address";
import { eptOn, exitControl, pin, primary, secondary, unrestrictedGuest, vpidOn } from "./controls";
import {
  INFO_ERROR,
  INFO_RESERVED,
  INFO_VALID,
  INFO_VECTOR,
  infoType,
  pushesError,
  TYPE_OTHER,
} from "./interruptionInfo";
import { vmcs16, vmcs32, vmcs64 } from "./vmcs";

function allowed(value: u32, required: u32, mayBe: u32): bool {
  return (value & required) == required && (value & ~mayBe) == 0;
}

/** Secondary controls that mean nothing without EPT. */
const NEED_EPT: u32 =
  SECONDARY_UNRESTRICTED_GUEST | SECONDARY_ENABLE_PML | SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT;
/** Secondary controls that mean nothing without TPR shadow. */
const NEED_TPR_SHADOW: u32 =
  SECONDARY_VIRTUALIZE_X2APIC_MODE | SECONDARY_APIC_REGISTER_VIRTUALIZATION | SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;

/** All but the TPR threshold against the virtual-APIC page (thresholdInvalid). */
function apicControls(): bool {
  const delivers = secondary(SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
  if (primary(PRIMARY_USE_TPR_SHADOW)) {
    if (!pageAddress(vmcs64(V_VIRTUAL_APIC_ADDRESS))) return false;
    if (!delivers && vmcs32(V_TPR_THRESHOLD) >> 4) return false;
  } else if (secondary(NEED_TPR_SHADOW)) return false;
  if (secondary(SECONDARY_VIRTUALIZE_APIC_ACCESSES)) {
    if (secondary(SECONDARY_VIRTUALIZE_X2APIC_MODE) || !pageAddress(vmcs64(V_APIC_ACCESS_ADDRESS))) return false;
  }
  if (delivers && !pin(PIN_EXTERNAL_INTERRUPT_EXITING)) return false;
  if (!pin(PIN_PROCESS_POSTED_INTERRUPTS)) return true;
  const descriptor = vmcs64(V_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS);
  return (
    delivers &&
    exitControl(EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT) &&
    vmcs16(V_POSTED_INTERRUPT_NOTIFICATION_VECTOR) >> 8 == 0 &&
    (descriptor & 63) == 0 &&
    physicalWidth(descriptor)
  );
}

/** @sdm 3C "VM-Execution Control Fields" */
function executionControls(): bool {
  if (!allowed(vmcs32(V_PIN_BASED_CONTROLS), PIN_REQUIRED, PIN_ALLOWED)) return false;
  if (!allowed(vmcs32(V_PRIMARY_PROC_BASED_CONTROLS), PRIMARY_REQUIRED, PRIMARY_ALLOWED)) return false;
  if (
    primary(PRIMARY_ACTIVATE_SECONDARY_CONTROLS) &&
    !allowed(vmcs32(V_SECONDARY_PROC_BASED_CONTROLS), 0, secondaryAllowed())
  ) {
    return false;
  }
  if (vmcs32(V_CR3_TARGET_COUNT) > CR3_TARGETS) return false;
  if (primary(PRIMARY_USE_I_O_BITMAPS)) {
    if (!pageAddress(vmcs64(V_IO_BITMAP_A_ADDRESS)) || !pageAddress(vmcs64(V_IO_BITMAP_B_ADDRESS))) return false;
  }
  if (primary(PRIMARY_USE_MSR_BITMAPS) && !pageAddress(vmcs64(V_MSR_BITMAP_ADDRESS))) return false;
  if (pin(PIN_VIRTUAL_NMIS) && !pin(PIN_NMI_EXITING)) return false;
  if (primary(PRIMARY_NMI_WINDOW_EXITING) && !pin(PIN_VIRTUAL_NMIS)) return false;
  if (vpidOn() && vmcs16(V_VPID) == 0) return false;
  if (eptOn() ? !eptpValid(vmcs64(V_EPT_POINTER)) : secondary(NEED_EPT)) return false;
  if (secondary(SECONDARY_ENABLE_PML) && !pageAddress(vmcs64(V_PML_ADDRESS))) return false;
  if (secondary(SECONDARY_ENABLE_VM_FUNCTIONS)) {
    const functions = vmcs64(V_VM_FUNCTION_CONTROLS);
    if (functions & ~(<u64>VMFUNC_ALLOWED)) return false;
    if (functions & VMFUNC_EPTP_SWITCHING && !(eptOn() && pageAddress(vmcs64(V_EPTP_LIST_ADDRESS)))) return false;
  }
  if (secondary(SECONDARY_VMCS_SHADOWING)) {
    if (!pageAddress(vmcs64(V_VMREAD_BITMAP_ADDRESS)) || !pageAddress(vmcs64(V_VMWRITE_BITMAP_ADDRESS))) return false;
  }
  if (!apicControls()) return false;
  return pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER) || !exitControl(EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
}

/** An MSR list of `count` 16-byte entries: aligned, first and last byte within the physical width. */
function msrList(address: u64, count: u32): bool {
  if (count == 0) return true;
  return (address & 15) == 0 && physicalWidth(address) && physicalWidth(address + (((<u64>count) << 4) - 1));
}

/** @sdm 3C "VM-Exit Control Fields" */
function exitControls(): bool {
  return (
    allowed(vmcs32(V_PRIMARY_EXIT_CONTROLS), EXIT_REQUIRED, EXIT_ALLOWED) &&
    msrList(vmcs64(V_EXIT_MSR_STORE_ADDRESS), vmcs32(V_EXIT_MSR_STORE_COUNT)) &&
    msrList(vmcs64(V_EXIT_MSR_LOAD_ADDRESS), vmcs32(V_EXIT_MSR_LOAD_COUNT))
  );
}

/** The event to inject: checked at each entry. @sdm 3C "VM-Entry Control Fields" */
export function injectionValid(): bool {
  const info = vmcs32(V_ENTRY_INTERRUPTION_INFO);
  if (!(info & INFO_VALID)) return true;
  const type = infoType(info);
  const vector = info & INFO_VECTOR;
  if (type == 1) return false;
  if (type == TYPE_OTHER && vector != 0) return false;
  if (type == EventType.Nmi && vector != 2) return false;
  if (type == EventType.Exception && vector > 31) return false;
  const hasError =
    (unrestrictedGuest() ? vmcs64(V_GUEST_CR0) & CR0_PE : 1) != 0 && type == EventType.Exception && pushesError(vector);
  if (((info & INFO_ERROR) != 0) != hasError) return false;
  if (info & INFO_RESERVED) return false;
  if (info & INFO_ERROR && vmcs32(V_ENTRY_EXCEPTION_ERROR_CODE) >> 16) return false;
  if (type >= <u32>EventType.SoftInt && type != TYPE_OTHER) {
    const length = vmcs32(V_ENTRY_INSTRUCTION_LENGTH);
    if (length > 15 || (length == 0 && !(VMX_MISC & MISC_ZERO_LENGTH))) return false;
  }
  return true;
}

/** @sdm 3C "VM-Entry Control Fields" */
function entryControls(): bool {
  return (
    allowed(vmcs32(V_ENTRY_CONTROLS), ENTRY_REQUIRED, ENTRY_ALLOWED) &&
    msrList(vmcs64(V_ENTRY_MSR_LOAD_ADDRESS), vmcs32(V_ENTRY_MSR_LOAD_COUNT))
  );
}

export function controlsValid(): bool {
  return executionControls() && exitControls() && entryControls();
}
