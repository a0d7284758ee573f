// VM entry loads the guest state. @sdm 3C "Loading Guest State"
import {
  ENTRY_IA_32E_MODE_GUEST,
  ENTRY_LOAD_DEBUG_CONTROLS,
  ENTRY_LOAD_IA32_EFER,
  ENTRY_LOAD_IA32_PAT,
  SECONDARY_ENABLE_EPT,
  SECONDARY_ENABLE_VPID,
  SECONDARY_VIRTUALIZE_APIC_ACCESSES,
} from "../abi/controls";
import {
  CPL,
  CR0,
  CR3,
  CR4,
  DR7,
  EFER,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  MSR_DEBUGCTL,
  MSR_PAT,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  RIP,
  RSP,
  SEG_CS,
  SEG_SIZE,
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
  V_APIC_ACCESS_ADDRESS,
  V_ENTRY_CONTROLS,
  V_EPT_POINTER,
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
  V_GUEST_RFLAGS,
  V_GUEST_RIP,
  V_GUEST_RSP,
  V_VPID,
} from "../abi/vmcsLayout";
import { CR0_PG, DR7_FIXED, DR7_WRITABLE, EFER_LMA, EFER_LME, SA_DPL_SHIFT, SA_UNUSABLE } from "../abi/x86";
import { flushTlb } from "../memory/context";
import { setRflags } from "../state/flags";
import { secondaryControls } from "../state/vmcs";
import { recomputeMode } from "../system/mode";
import { guestImage, keepImage, restoreImage } from "./cache";
import { eptFlags } from "./controls";
import { guestUsesPdptes } from "./entryGuest";
import { loadGuestPdptes } from "./pdpte";
import { vmcs16, vmcs32, vmcs64 } from "./vmcs";

/** CR0 bits that VM entries and exits leave alone: ET, 15:6, 17, 28:19, NW, CD and 63:32. */
const CR0_KEPT: u64 = 0xffffffff7ffaffd0;
/** Access-rights bits that exist. */
export const RIGHTS_DEFINED: u32 = 0x1f0ff;

/** CR0 after a VM entry or exit that loads `value`. */
export function mergeCr0(value: u64): u64 {
  return (load<u64>(CR0) & CR0_KEPT) | (value & ~CR0_KEPT);
}

function loadSegments(): void {
  for (let i: u32 = 0; i < 8; i++) {
    const at = SEGS + i * SEG_SIZE;
    const seg = i * SEG_SIZE;
    let rights = vmcs32(V_GUEST_ES_ACCESS_RIGHTS + 8 * i) & RIGHTS_DEFINED;
    if (seg == SEG_CS || seg == SEG_TR) rights &= ~SA_UNUSABLE;
    store<u32>(at, vmcs16(V_GUEST_ES_SELECTOR + 8 * i), SG_SELECTOR);
    store<u64>(at, vmcs64(V_GUEST_ES_BASE + 8 * i), SG_BASE);
    store<u32>(at, vmcs32(V_GUEST_ES_LIMIT + 8 * i), SG_LIMIT);
    store<u32>(at, rights, SG_ATTR);
  }
  store<u32>(CPL, (load<u32>(SEGS + SEG_SS + SG_ATTR) >> SA_DPL_SHIFT) & 3);
}

function loadEfer(): void {
  const v = load<u32>(VMCS_HOST);
  if ((load<u32>(v, V_ENTRY_CONTROLS) & ENTRY_LOAD_IA32_EFER) != 0) {
    store<u64>(EFER, load<u64>(v, V_GUEST_IA32_EFER));
    return;
  }
  const long = (load<u32>(v, V_ENTRY_CONTROLS) & ENTRY_IA_32E_MODE_GUEST) != 0;
  let efer = load<u64>(EFER);
  efer = long ? efer | EFER_LMA : efer & ~(<u64>EFER_LMA);
  if (load<u64>(CR0) & CR0_PG) efer = long ? efer | EFER_LME : efer & ~(<u64>EFER_LME);
  store<u64>(EFER, efer);
}

let lastApicPage: u64 = 0;

/** Translations that the TLB keeps from another APIC-access page would let accesses to this one pass. */
function setApicPage(): void {
  const page = vmcs64(V_APIC_ACCESS_ADDRESS);
  store<u64>(TR_APIC_PAGE, page);
  if (page != lastApicPage) flushTlb();
  lastApicPage = page;
}

/** Registers, MSRs with fields of their own, and the address space. */
export function loadGuestState(): void {
  const v = load<u32>(VMCS_HOST);
  store<u64>(CR0, mergeCr0(load<u64>(v, V_GUEST_CR0)));
  store<u64>(CR3, load<u64>(v, V_GUEST_CR3));
  store<u64>(CR4, load<u64>(v, V_GUEST_CR4));
  if ((load<u32>(v, V_ENTRY_CONTROLS) & ENTRY_LOAD_DEBUG_CONTROLS) != 0) {
    store<u64>(DR7, (load<u64>(v, V_GUEST_DR7) & DR7_WRITABLE) | DR7_FIXED);
    store<u64>(MSR_DEBUGCTL, load<u64>(v, V_GUEST_IA32_DEBUGCTL));
  }
  store<u64>(MSR_SYSENTER_CS, load<u32>(v, V_GUEST_IA32_SYSENTER_CS));
  store<u64>(MSR_SYSENTER_ESP, load<u64>(v, V_GUEST_IA32_SYSENTER_ESP));
  store<u64>(MSR_SYSENTER_EIP, load<u64>(v, V_GUEST_IA32_SYSENTER_EIP));
  if ((load<u32>(v, V_ENTRY_CONTROLS) & ENTRY_LOAD_IA32_PAT) != 0) store<u64>(MSR_PAT, load<u64>(v, V_GUEST_IA32_PAT));
  loadEfer();
  store<u64>(RIP, load<u64>(v, V_GUEST_RIP));
  store<u64>(RSP, load<u64>(v, V_GUEST_RSP));
  setRflags(load<u64>(v, V_GUEST_RFLAGS));
  const controls = secondaryControls();
  store<u64>(TR_EPTP, controls & SECONDARY_ENABLE_EPT ? load<u64>(v, V_EPT_POINTER) | eptFlags(controls) : 0);
  store<u32>(TR_VPID, controls & SECONDARY_ENABLE_VPID ? load<u16>(v, V_VPID) : 0);
  if (controls & SECONDARY_VIRTUALIZE_APIC_ACCESSES) setApicPage();
  if (!(load<u64>(EFER) & EFER_LMA) && guestUsesPdptes()) loadGuestPdptes();
  if (restoreImage(guestImage())) return;
  loadSegments();
  store<u64>(GDTR_BASE, load<u64>(v, V_GUEST_GDTR_BASE));
  store<u32>(GDTR_LIMIT, load<u32>(v, V_GUEST_GDTR_LIMIT));
  store<u64>(IDTR_BASE, load<u64>(v, V_GUEST_IDTR_BASE));
  store<u32>(IDTR_LIMIT, load<u32>(v, V_GUEST_IDTR_LIMIT));
  recomputeMode();
  keepImage(guestImage());
}
