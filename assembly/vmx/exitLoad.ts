// A VM exit loads the host state. @sdm 3C "Loading Host State"
import { EXIT_HOST_ADDRESS_SPACE_SIZE, EXIT_LOAD_IA32_EFER, EXIT_LOAD_IA32_PAT } from "../abi/controls";
import {
  ACTIVITY,
  CPL,
  CR0,
  CR3,
  CR4,
  DR7,
  EFER,
  EFLAGS_REST,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  MSR_DEBUGCTL,
  MSR_PAT,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  PENDING_DEBUG,
  RIP,
  RSP,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_LDTR,
  SEG_SS,
  SEG_TR,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
  TR_APIC_PAGE,
  TR_EPTP,
  TR_VPID,
  VMCS_HOST,
} from "../abi/state";
import {
  V_HOST_CR0,
  V_HOST_CR3,
  V_HOST_CR4,
  V_HOST_CS_SELECTOR,
  V_HOST_DS_SELECTOR,
  V_HOST_ES_SELECTOR,
  V_HOST_FS_BASE,
  V_HOST_FS_SELECTOR,
  V_HOST_GDTR_BASE,
  V_HOST_GS_BASE,
  V_HOST_GS_SELECTOR,
  V_HOST_IA32_EFER,
  V_HOST_IA32_PAT,
  V_HOST_IA32_SYSENTER_CS,
  V_HOST_IA32_SYSENTER_EIP,
  V_HOST_IA32_SYSENTER_ESP,
  V_HOST_IDTR_BASE,
  V_HOST_RIP,
  V_HOST_RSP,
  V_HOST_SS_SELECTOR,
  V_HOST_TR_BASE,
  V_HOST_TR_SELECTOR,
  V_PRIMARY_EXIT_CONTROLS,
} from "../abi/vmcsLayout";
import {
  Activity,
  CR4_PAE,
  CR4_PCIDE,
  DR7_FIXED,
  EFER_LMA,
  EFER_LME,
  FLAG_FIXED,
  SA_DB,
  SA_G,
  SA_L,
  SA_P,
  SA_S,
  SA_UNUSABLE,
  TYPE_TSS32_BUSY,
} from "../abi/x86";
import { selectContext } from "../memory/context";
import { Arithmetic } from "../state/flags";
import { loadPdptes } from "../system/control";
import { NO_APIC_PAGE, recomputeMode } from "../system/mode";
import { hostImage, keepImage, restoreImage } from "./cache";
import { mergeCr0 } from "./entryLoad";
import { vmcs16, vmcs64 } from "./vmcs";

const CODE: u32 = 11 | SA_S | SA_P | SA_G;
const DATA: u32 = 3 | SA_S | SA_P | SA_DB | SA_G;

function segment(seg: u32, selector: u32, base: u64, limit: u32, rights: u32): void {
  const at = SEGS + seg;
  store<u32>(at, selector, SG_SELECTOR);
  store<u64>(at, base, SG_BASE);
  store<u32>(at, limit, SG_LIMIT);
  store<u32>(at, rights, SG_ATTR);
}

/** A null selector makes the register unusable; FS and GS keep a base then. */
function dataSegment(seg: u32, field: u32, base: u64): void {
  const selector = vmcs16(field);
  if (selector) segment(seg, selector, base, 0xffffffff, DATA);
  else segment(seg, 0, base, 0, SA_UNUSABLE | SA_DB);
}

/** @sdm 3C "Loading Host Segment and Descriptor-Table Registers" */
function loadSegments(wide: bool): void {
  segment(SEG_CS, vmcs16(V_HOST_CS_SELECTOR), 0, 0xffffffff, CODE | (wide ? SA_L : SA_DB));
  dataSegment(SEG_SS, V_HOST_SS_SELECTOR, 0);
  dataSegment(SEG_DS, V_HOST_DS_SELECTOR, 0);
  dataSegment(SEG_ES, V_HOST_ES_SELECTOR, 0);
  dataSegment(SEG_FS, V_HOST_FS_SELECTOR, vmcs64(V_HOST_FS_BASE));
  dataSegment(SEG_GS, V_HOST_GS_SELECTOR, vmcs64(V_HOST_GS_BASE));
  segment(SEG_TR, vmcs16(V_HOST_TR_SELECTOR), vmcs64(V_HOST_TR_BASE), 0x67, TYPE_TSS32_BUSY | SA_P);
  segment(SEG_LDTR, 0, 0, 0, SA_UNUSABLE);
  store<u32>(CPL, 0);
  store<u64>(GDTR_BASE, vmcs64(V_HOST_GDTR_BASE));
  store<u32>(GDTR_LIMIT, 0xffff);
  store<u64>(IDTR_BASE, vmcs64(V_HOST_IDTR_BASE));
  store<u32>(IDTR_LIMIT, 0xffff);
}

/** @sdm 3C "Loading Host Control Registers, Debug Registers, MSRs" */
function loadRegisters(wide: bool): void {
  const v = load<u32>(VMCS_HOST);
  store<u64>(CR0, mergeCr0(load<u64>(v, V_HOST_CR0)));
  store<u64>(CR3, load<u64>(v, V_HOST_CR3));
  const cr4 = load<u64>(v, V_HOST_CR4);
  store<u64>(CR4, wide ? cr4 | CR4_PAE : cr4 & ~(<u64>CR4_PCIDE));
  store<u64>(DR7, DR7_FIXED);
  store<u64>(MSR_DEBUGCTL, 0);
  store<u64>(MSR_SYSENTER_CS, load<u32>(v, V_HOST_IA32_SYSENTER_CS));
  store<u64>(MSR_SYSENTER_ESP, load<u64>(v, V_HOST_IA32_SYSENTER_ESP));
  store<u64>(MSR_SYSENTER_EIP, load<u64>(v, V_HOST_IA32_SYSENTER_EIP));
  if ((load<u32>(v, V_PRIMARY_EXIT_CONTROLS) & EXIT_LOAD_IA32_PAT) != 0)
    store<u64>(MSR_PAT, load<u64>(v, V_HOST_IA32_PAT));
  const long: u64 = EFER_LMA | EFER_LME;
  if ((load<u32>(v, V_PRIMARY_EXIT_CONTROLS) & EXIT_LOAD_IA32_EFER) != 0)
    store<u64>(EFER, load<u64>(v, V_HOST_IA32_EFER));
  else store<u64>(EFER, wide ? load<u64>(EFER) | long : load<u64>(EFER) & ~long);
}

/** Everything but the MSR list. False: a PDPTE of the host is invalid. */
export function loadHostState(): bool {
  const v = load<u32>(VMCS_HOST);
  const wide = (load<u32>(v, V_PRIMARY_EXIT_CONTROLS) & EXIT_HOST_ADDRESS_SPACE_SIZE) != 0;
  store<u64>(TR_EPTP, 0);
  store<u64>(TR_APIC_PAGE, NO_APIC_PAGE);
  store<u32>(TR_VPID, 0);
  loadRegisters(wide);
  store<u64>(RIP, load<u64>(v, V_HOST_RIP));
  store<u64>(RSP, load<u64>(v, V_HOST_RSP));
  Arithmetic.clear();
  store<u32>(EFLAGS_REST, FLAG_FIXED);
  store<u32>(ACTIVITY, Activity.Active);
  store<u64>(PENDING_DEBUG, 0);
  if (!restoreImage(hostImage())) {
    loadSegments(wide);
    recomputeMode();
    keepImage(hostImage());
  }
  if (wide || !(load<u64>(CR4) & CR4_PAE)) return true;
  if (!loadPdptes(load<u64>(CR3))) return false;
  selectContext();
  return true;
}
