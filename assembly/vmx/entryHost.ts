// Checks on the host-state area: failure is VMfailValid(8). @sdm 3C "Checks on the Host-State Area"
import {
  ENTRY_IA_32E_MODE_GUEST,
  EXIT_HOST_ADDRESS_SPACE_SIZE,
  EXIT_LOAD_IA32_EFER,
  EXIT_LOAD_IA32_PAT,
} from "../abi/controls";
import { EFER } from "../abi/state";
import {
  V_HOST_CR0,
  V_HOST_CR3,
  V_HOST_CR4,
  V_HOST_CS_SELECTOR,
  V_HOST_ES_SELECTOR,
  V_HOST_FS_BASE,
  V_HOST_GDTR_BASE,
  V_HOST_GS_BASE,
  V_HOST_IA32_EFER,
  V_HOST_IA32_PAT,
  V_HOST_IA32_SYSENTER_EIP,
  V_HOST_IA32_SYSENTER_ESP,
  V_HOST_IDTR_BASE,
  V_HOST_RIP,
  V_HOST_SS_SELECTOR,
  V_HOST_TR_BASE,
  V_HOST_TR_SELECTOR,
} from "../abi/vmcsLayout";
import { CR4_PAE, CR4_PCIDE, EFER_LMA, EFER_LME, SEL_RPL, SEL_TI } from "../abi/x86";
import { eferSupported } from "../system/control";
import { validPat } from "../system/msr";
import { CR4_FIXED0, cr4Fixed1 } from "../system/vmxCaps";
import { CR0_FIXED0, CR0_FIXED1 } from "../system/vmxMode";
import { canonical } from "../system/width";
import { physicalWidth } from "./address";
import { entryControl, exitControl } from "./controls";
import { vmcs16, vmcs64 } from "./vmcs";

export function fixedBits(value: u64, fixed0: u64, fixed1: u64): bool {
  return (value & fixed0) == fixed0 && (value & ~fixed1) == 0;
}

/** @sdm 3C "Checks on Host Control Registers and MSRs" */
function registers(): bool {
  if (!fixedBits(vmcs64(V_HOST_CR0), CR0_FIXED0, CR0_FIXED1)) return false;
  if (!fixedBits(vmcs64(V_HOST_CR4), CR4_FIXED0, cr4Fixed1())) return false;
  if (!physicalWidth(vmcs64(V_HOST_CR3))) return false;
  if (!canonical(vmcs64(V_HOST_IA32_SYSENTER_ESP)) || !canonical(vmcs64(V_HOST_IA32_SYSENTER_EIP))) return false;
  if (exitControl(EXIT_LOAD_IA32_PAT) && !validPat(vmcs64(V_HOST_IA32_PAT))) return false;
  if (exitControl(EXIT_LOAD_IA32_EFER)) {
    const efer = vmcs64(V_HOST_IA32_EFER);
    const long: u64 = exitControl(EXIT_HOST_ADDRESS_SPACE_SIZE) ? EFER_LMA | EFER_LME : 0;
    if (efer & ~eferSupported() || (efer & (EFER_LMA | EFER_LME)) != long) return false;
  }
  return true;
}

/** @sdm 3C "Checks on Host Segment and Descriptor-Table Registers" */
function segments(): bool {
  for (let at: u32 = V_HOST_ES_SELECTOR; at <= <u32>V_HOST_TR_SELECTOR; at += 8) {
    if (vmcs16(at) & (SEL_RPL | SEL_TI)) return false;
  }
  if (vmcs16(V_HOST_CS_SELECTOR) == 0 || vmcs16(V_HOST_TR_SELECTOR) == 0) return false;
  if (!exitControl(EXIT_HOST_ADDRESS_SPACE_SIZE) && vmcs16(V_HOST_SS_SELECTOR) == 0) return false;
  return (
    canonical(vmcs64(V_HOST_FS_BASE)) &&
    canonical(vmcs64(V_HOST_GS_BASE)) &&
    canonical(vmcs64(V_HOST_TR_BASE)) &&
    canonical(vmcs64(V_HOST_GDTR_BASE)) &&
    canonical(vmcs64(V_HOST_IDTR_BASE))
  );
}

/** @sdm 3C "Checks Related to Address-Space Size" */
function addressSpace(): bool {
  const wide = exitControl(EXIT_HOST_ADDRESS_SPACE_SIZE);
  const cr4 = vmcs64(V_HOST_CR4);
  const rip = vmcs64(V_HOST_RIP);
  if (wide) return (cr4 & CR4_PAE) != 0 && canonical(rip);
  return !entryControl(ENTRY_IA_32E_MODE_GUEST) && (cr4 & CR4_PCIDE) == 0 && rip >> 32 == 0;
}

/** The host's address-space size is that of the processor now. */
export function addressSpaceFits(): bool {
  return exitControl(EXIT_HOST_ADDRESS_SPACE_SIZE) == ((load<u64>(EFER) & EFER_LMA) != 0);
}

/** All but addressSpaceFits(). */
export function hostStateValid(): bool {
  return registers() && segments() && addressSpace();
}
