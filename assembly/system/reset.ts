// Processor state after RESET and INIT. @sdm 3A "Processor State After Reset", table 9-1
import { CE_EAX } from "../abi/layout";
import {
  ACTIVITY,
  COUNT,
  CPL,
  CR0,
  CR2,
  CR3,
  CR4,
  CR8,
  DEBUG_HITS,
  DELIVERING,
  DR0,
  DR6,
  DR7,
  EFER,
  EV_DEFERRED,
  EXTRA,
  GDTR_BASE,
  GDTR_LIMIT,
  GPR,
  IDTR_BASE,
  IDTR_LIMIT,
  INTERRUPTIBILITY,
  MISC_FEATURES_MASK,
  MSR_APIC_BASE,
  MSR_BIOS_SIGN_ID,
  MSR_CSTAR,
  MSR_DEBUGCTL,
  MSR_FEATURE_CONTROL,
  MSR_FMASK,
  MSR_KERNEL_GS_BASE,
  MSR_LSTAR,
  MSR_MISC_ENABLE,
  MSR_MISC_FEATURES_ENABLES,
  MSR_MTRR_DEF_TYPE,
  MSR_PAT,
  MSR_PKG_HDC_CTL,
  MSR_PLATFORM_INFO,
  MSR_PM_CTL1,
  MSR_SPEC_CTRL,
  MSR_STAR,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  MSR_TSC_ADJUST,
  MSR_TSC_AUX,
  MSR_TSC_DEADLINE,
  MSR_XSS,
  PENDING_DEBUG,
  PENDING_INTR,
  PENDING_NMI,
  RDX,
  RIP,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_LDTR,
  SEG_SS,
  SEG_TR,
  SHADOW_COUNT,
  STOP,
  TR_APIC_PAGE,
  TR_EPTP,
  TSC_BASE,
  TSC_RATIO,
  X87,
  X87_IN_USE,
  XCR0,
} from "../abi/state";
import {
  APIC_BASE_BSP,
  APIC_BASE_ENABLE,
  CR0_CD,
  CR0_ET,
  CR0_NW,
  DR6_FIXED,
  DR7_FIXED,
  FLAG_FIXED,
  MISC_CPUID_FAULTING,
  MISC_ENABLE_FAST_STRINGS,
  PLATFORM_CPUID_FAULTING,
  SA_ACCESSED,
  SA_P,
  SA_S,
  SA_WRITE,
  TYPE_LDT,
  TYPE_TSS32_BUSY,
} from "../abi/x86";
import { setRflags } from "../state/flags";
import { modelCpuid } from "./cpuid";
import { NO_APIC_PAGE, recomputeMode } from "./mode";
import { setSegment } from "./segments";

const PAT_RESET: u64 = 0x0007040600070406;
const APIC_BASE_ADDRESS: u64 = 0xfee00000;

/** RESET: power-up state. The CPU model (CPUID table, 0xCE, mask of 0x140, TSC ratio) is not state and stays. */
export function resetProcessor(): void {
  if (!load<u32>(TSC_RATIO)) {
    // first RESET: the default model
    store<u32>(TSC_RATIO, 1);
    store<u64>(MSR_PLATFORM_INFO, PLATFORM_CPUID_FAULTING);
    store<u64>(MISC_FEATURES_MASK, MISC_CPUID_FAULTING);
  }
  store<u64>(TSC_BASE, 0 - load<u64>(COUNT) * <u64>load<u32>(TSC_RATIO));
  store<u64>(XCR0, 1);
  store<u64>(MSR_SYSENTER_CS, 0);
  store<u64>(MSR_SYSENTER_ESP, 0);
  store<u64>(MSR_SYSENTER_EIP, 0);
  store<u64>(MSR_STAR, 0);
  store<u64>(MSR_LSTAR, 0);
  store<u64>(MSR_CSTAR, 0);
  store<u64>(MSR_FMASK, 0);
  store<u64>(MSR_KERNEL_GS_BASE, 0);
  store<u64>(MSR_TSC_AUX, 0);
  store<u64>(MSR_PAT, PAT_RESET);
  store<u64>(MSR_APIC_BASE, APIC_BASE_ADDRESS | APIC_BASE_ENABLE | APIC_BASE_BSP);
  store<u64>(MSR_FEATURE_CONTROL, 0);
  store<u64>(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS);
  store<u64>(MSR_MISC_FEATURES_ENABLES, 0);
  store<u64>(MSR_DEBUGCTL, 0);
  store<u64>(MSR_XSS, 0);
  store<u64>(MSR_PM_CTL1, 1);
  store<u64>(MSR_PKG_HDC_CTL, 0);
  // FCW 0040H, every tag "zero"
  memory.fill(X87, 0, X87_IN_USE - X87);
  store<u64>(X87, 0xff00000040);
  store<u32>(X87_IN_USE, 1);
  store<u64>(MSR_BIOS_SIGN_ID, 0);
  store<u64>(MSR_SPEC_CTRL, 0);
  store<u64>(MSR_TSC_DEADLINE, 0);
  store<u64>(MSR_TSC_ADJUST, 0);
  store<u64>(MSR_MTRR_DEF_TYPE, 0);
  store<u64>(CR0, CR0_CD | CR0_NW);
  initProcessor();
}

/** INIT: as RESET, but the MSRs (0x140 among them), XCR0, x87 state, the TSC and CR0.CD and NW stay. */
export function initProcessor(): void {
  for (let r = 0; r < 16; r++) store<u64>(GPR + r * 8, 0);
  store<u64>(RDX, <u64>modelCpuid(1, 0, CE_EAX));
  store<u64>(RIP, 0xfff0);
  store<u64>(CR0, (load<u64>(CR0) & (CR0_CD | CR0_NW)) | CR0_ET);
  store<u64>(CR2, 0);
  store<u64>(CR3, 0);
  store<u64>(CR4, 0);
  store<u64>(CR8, 0);
  store<u64>(EFER, 0);
  store<u32>(CPL, 0);
  setRflags(FLAG_FIXED);
  for (let i = 0; i < 4; i++) store<u64>(DR0 + i * 8, 0);
  store<u64>(DR6, DR6_FIXED);
  store<u64>(DR7, DR7_FIXED);
  const data = SA_P | SA_S | SA_WRITE | SA_ACCESSED;
  setSegment(SEG_ES, 0, 0, 0xffff, data);
  setSegment(SEG_CS, 0xf000, 0xffff0000, 0xffff, data);
  setSegment(SEG_SS, 0, 0, 0xffff, data);
  setSegment(SEG_DS, 0, 0, 0xffff, data);
  setSegment(SEG_FS, 0, 0, 0xffff, data);
  setSegment(SEG_GS, 0, 0, 0xffff, data);
  setSegment(SEG_LDTR, 0, 0, 0xffff, SA_P | TYPE_LDT);
  setSegment(SEG_TR, 0, 0, 0xffff, SA_P | TYPE_TSS32_BUSY);
  store<u64>(GDTR_BASE, 0);
  store<u32>(GDTR_LIMIT, 0xffff);
  store<u64>(IDTR_BASE, 0);
  store<u32>(IDTR_LIMIT, 0xffff);
  store<u32>(STOP, 0);
  store<u32>(DELIVERING, 0);
  store<u32>(EV_DEFERRED, 0);
  store<u32>(DEBUG_HITS, 0);
  store<u32>(INTERRUPTIBILITY, 0);
  store<u32>(ACTIVITY, 0);
  store<u32>(PENDING_INTR, 0);
  store<u32>(PENDING_NMI, 0);
  store<u64>(PENDING_DEBUG, 0);
  store<u64>(SHADOW_COUNT, 0);
  store<u32>(EXTRA, 0);
  store<u64>(TR_EPTP, 0);
  store<u64>(TR_APIC_PAGE, NO_APIC_PAGE);
  recomputeMode();
}
