// Model-specific registers. A false result is #GP(0), which the caller raises. @sdm 4 "Model-Specific Registers"

import { COMM_VALUE } from "../abi/run";
import {
  CPL,
  EFER,
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
  SEG_FS,
  SEG_GS,
  SEGS,
  SG_BASE,
} from "../abi/state";
import { PHYSICAL_WIDTH } from "../abi/width";
import {
  APIC_BASE_BSP,
  APIC_BASE_ENABLE,
  APIC_BASE_X2APIC,
  FEATURE_LOCK,
  MISC_CPUID_FAULTING,
  MISC_ENABLE_FAST_STRINGS,
  MISC_ENABLE_LIMIT_CPUID,
  MSR_INDEX_CSTAR,
  MSR_INDEX_EFER,
  MSR_INDEX_FMASK,
  MSR_INDEX_FS_BASE,
  MSR_INDEX_GS_BASE,
  MSR_INDEX_KERNEL_GS_BASE,
  MSR_INDEX_LSTAR,
  MSR_INDEX_STAR,
  MSR_INDEX_TSC_AUX,
  Msr,
  PLATFORM_CPUID_FAULTING,
} from "../abi/x86";
import { apicAttached, isApicMsr, noteApic, readApic, writeApic } from "../apic/local";
import { writeEfer } from "./control";
import { CpuidAnswers } from "./cpuidCache";
import {
  hasApic,
  hasHdc,
  hasLongMode,
  hasMca,
  hasMtrr,
  hasPat,
  hasRdtscp,
  hasSep,
  hasSpecCtrl,
  hasTsc,
  hasTscAdjust,
  hasTscDeadline,
  hasVmx,
  hasX2apic,
  hasXsaves,
  xssSupported,
} from "./features";
import { deriveSegment } from "./mode";
import { readTsc, writeTsc, writeTscAdjust } from "./time";
import { hasVmxCapability, vmxCapability } from "./vmxCaps";
import { canonical } from "./width";

const MTRRCAP: u64 = 0x400; // no fixed or variable ranges, WC
const FEATURE_BITS: u64 = 0x7; // lock, VMX inside and outside SMX
const MISC_ENABLE_BITS: u64 = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_LIMIT_CPUID | ((<u64>1) << 34);
export const DEBUGCTL_BITS: u64 = 0x3; // LBR, BTF
const MTRR_DEF_BITS: u64 = 0xcff; // enable, fixed enable, type
const SPEC_CTRL_BITS: u64 = 0x7;
/** Canonical addresses without sign. */
const LOW_HALF: u64 = 0x7fffffffffff;

function give(value: u64): bool {
  store<u64>(COMM_VALUE, value);
  return true;
}

function given(exists: bool, place: usize): usize {
  return exists ? place : 0;
}

/** Storage of an MSR that is read without any other effect; 0: none, or the model does not have it. */
export function placeOfMsr(index: u32): usize {
  switch (index) {
    case Msr.BiosSignId:
      return MSR_BIOS_SIGN_ID;
    case Msr.PlatformInfo:
      return MSR_PLATFORM_INFO;
    case Msr.MiscFeaturesEnables:
      return MSR_MISC_FEATURES_ENABLES;
    case Msr.MiscEnable:
      return MSR_MISC_ENABLE;
    case Msr.Debugctl:
      return MSR_DEBUGCTL;
    case Msr.ApicBase:
      return given(hasApic(), MSR_APIC_BASE);
    case Msr.FeatureControl:
      return given(hasVmx(), MSR_FEATURE_CONTROL);
    case Msr.TscAdjust:
      return given(hasTscAdjust(), MSR_TSC_ADJUST);
    case Msr.SpecCtrl:
      return given(hasSpecCtrl(), MSR_SPEC_CTRL);
    case Msr.SysenterCs:
      return given(hasSep(), MSR_SYSENTER_CS);
    case Msr.SysenterEsp:
      return given(hasSep(), MSR_SYSENTER_ESP);
    case Msr.SysenterEip:
      return given(hasSep(), MSR_SYSENTER_EIP);
    case Msr.Pat:
      return given(hasPat(), MSR_PAT);
    case Msr.Xss:
      return given(hasXsaves(), MSR_XSS);
    case Msr.PkgHdcCtl:
      return given(hasHdc(), MSR_PKG_HDC_CTL);
    case Msr.PmCtl1:
      return given(hasHdc(), MSR_PM_CTL1);
    default:
      if (index == MSR_INDEX_EFER) return EFER;
      if (index == MSR_INDEX_TSC_AUX) return given(hasRdtscp(), MSR_TSC_AUX);
      return given(hasLongMode(), longModeMsr(index));
  }
}

/** The values that a write of such an MSR only stores, by the bits they may have; 0: every write does or checks more. */
export function plainBitsOfMsr(index: u32): u64 {
  switch (index) {
    case Msr.BiosSignId:
      return ~(0 as u64);
    case Msr.MiscFeaturesEnables: {
      // bits outside the model's mask do not exist; bit 0 needs 0xCE[31]: Intel application note 323850, and KVM's rule
      const mask = load<u64>(MISC_FEATURES_MASK);
      return load<u64>(MSR_PLATFORM_INFO) & PLATFORM_CPUID_FAULTING ? mask : mask & ~(<u64>MISC_CPUID_FAULTING);
    }
    case Msr.SpecCtrl:
      return SPEC_CTRL_BITS;
    case Msr.PkgHdcCtl:
    case Msr.PmCtl1:
      return 1;
    case Msr.SysenterCs:
      return 0xffffffff;
    case Msr.SysenterEsp:
    case Msr.SysenterEip:
      return LOW_HALF;
    default:
      if (index == MSR_INDEX_STAR) return ~(0 as u64);
      if (index == MSR_INDEX_FMASK || index == MSR_INDEX_TSC_AUX) return 0xffffffff;
      if (index == MSR_INDEX_LSTAR || index == MSR_INDEX_CSTAR || index == MSR_INDEX_KERNEL_GS_BASE) return LOW_HALF;
      return 0;
  }
}

/** Value into COMM_VALUE. ahead: see readTsc. */
export function readMsr(index: u32, ahead: u32): bool {
  const place = placeOfMsr(index);
  if (place) return give(load<u64>(place));
  if (index >= <u32>Msr.VmxFirst && index <= <u32>Msr.VmxLast)
    return hasVmx() && hasVmxCapability(index) && give(vmxCapability(index));
  switch (index) {
    case Msr.Tsc:
      return hasTsc() && give(readTsc(ahead));
    case Msr.PlatformId:
      return give(0);
    case Msr.MtrrCap:
      return hasMtrr() && give(MTRRCAP);
    case Msr.McgCap:
    case Msr.McgStatus:
      return hasMca() && give(0);
    case Msr.MtrrDefType:
      return hasMtrr() && give(load<u64>(MSR_MTRR_DEF_TYPE));
    case Msr.TscDeadline:
      return hasTscDeadline() && (apicAttached() ? readApic(index, ahead) : give(load<u64>(MSR_TSC_DEADLINE)));
    case Msr.ThreadStall:
      return hasHdc() && give(0);
    default:
      return x2apicOn(index) && readApic(index, ahead);
  }
}

/** MSRs of the local APIC exist in x2APIC mode only. @sdm 3A "x2APIC Register Address Space" */
function x2apicOn(index: u32): bool {
  return isApicMsr(index) && apicAttached() && (load<u64>(MSR_APIC_BASE) & APIC_BASE_X2APIC) != 0;
}

/** Storage of the MSRs that exist with long mode, 0 for others. */
function longModeMsr(index: u32): usize {
  if (index == MSR_INDEX_STAR) return MSR_STAR;
  if (index == MSR_INDEX_LSTAR) return MSR_LSTAR;
  if (index == MSR_INDEX_CSTAR) return MSR_CSTAR;
  if (index == MSR_INDEX_FMASK) return MSR_FMASK;
  if (index == MSR_INDEX_FS_BASE) return SEGS + SEG_FS + SG_BASE;
  if (index == MSR_INDEX_GS_BASE) return SEGS + SEG_GS + SG_BASE;
  if (index == MSR_INDEX_KERNEL_GS_BASE) return MSR_KERNEL_GS_BASE;
  return 0;
}

function put(address: usize, value: u64): bool {
  store<u64>(address, value);
  return true;
}

function putBits(address: usize, value: u64, allowed: u64): bool {
  return (value & ~allowed) == 0 && put(address, value);
}

export function writeMsr(index: u32, value: u64, ahead: u32): bool {
  const place = placeOfMsr(index);
  const plain = plainBitsOfMsr(index);
  if (place && plain && !(value & ~plain)) return put(place, value);
  CpuidAnswers.forget();
  if (index >= MSR_INDEX_EFER) return writeHighMsr(index, value);
  switch (index) {
    case Msr.Tsc:
      if (!hasTsc()) return false;
      writeTsc(value, ahead);
      noteApic(index, value, ahead);
      return true;
    case Msr.ApicBase:
      if (!hasApic() || !writeApicBase(value)) return false;
      noteApic(index, value, ahead);
      return true;
    case Msr.FeatureControl:
      return (
        hasVmx() &&
        !(load<u64>(MSR_FEATURE_CONTROL) & FEATURE_LOCK) &&
        putBits(MSR_FEATURE_CONTROL, value, FEATURE_BITS)
      );
    case Msr.TscAdjust:
      if (!hasTscAdjust()) return false;
      writeTscAdjust(value);
      noteApic(index, value, ahead);
      return true;
    case Msr.PredCmd:
      return hasSpecCtrl() && value <= 1;
    case Msr.BiosUpdtTrig:
      return true;
    case Msr.SysenterCs:
      return hasSep() && put(MSR_SYSENTER_CS, value & 0xffffffff);
    case Msr.SysenterEsp:
      return hasSep() && canonical(value) && put(MSR_SYSENTER_ESP, value);
    case Msr.SysenterEip:
      return hasSep() && canonical(value) && put(MSR_SYSENTER_EIP, value);
    case Msr.MiscFeaturesEnables:
      return value == 0; // without a bit that it may have
    case Msr.McgStatus:
      return hasMca() && value == 0;
    case Msr.MiscEnable:
      return putBits(MSR_MISC_ENABLE, value, MISC_ENABLE_BITS);
    case Msr.Debugctl:
      return putBits(MSR_DEBUGCTL, value, DEBUGCTL_BITS);
    case Msr.Pat:
      return hasPat() && validPat(value) && put(MSR_PAT, value);
    case Msr.MtrrDefType:
      return hasMtrr() && putBits(MSR_MTRR_DEF_TYPE, value, MTRR_DEF_BITS);
    case Msr.TscDeadline:
      return hasTscDeadline() && (apicAttached() ? writeApic(index, value, ahead) : put(MSR_TSC_DEADLINE, value));
    case Msr.Xss:
      return hasXsaves() && putBits(MSR_XSS, value, xssSupported());
    default:
      return x2apicOn(index) && writeApic(index, value, ahead);
  }
}

function writeHighMsr(index: u32, value: u64): bool {
  if (index == MSR_INDEX_EFER) return writeEfer(value);
  const at = longModeMsr(index);
  if (!at || !hasLongMode()) return false;
  if (index == MSR_INDEX_FMASK) return put(at, value & 0xffffffff);
  if (index != MSR_INDEX_STAR && !canonical(value)) return false;
  store<u64>(at, value);
  if (index == MSR_INDEX_FS_BASE) deriveSegment(SEG_FS);
  if (index == MSR_INDEX_GS_BASE) deriveSegment(SEG_GS);
  return true;
}

/** CPUID faulting: #GP(0) for CPUID at CPL > 0 outside SMM. */
export function cpuidFaults(): bool {
  return load<u32>(CPL) != 0 && (load<u64>(MSR_MISC_FEATURES_ENABLES) & MISC_CPUID_FAULTING) != 0;
}

/** Each byte is a memory type: 0, 1, 4, 5, 6 or 7. @sdm 3A "IA32_PAT MSR" */
export function validPat(value: u64): bool {
  for (let i: u64 = 0; i < 64; i += 8) {
    const type = (value >> i) & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

/** x2APIC needs the APIC enabled; x2APIC to xAPIC and disabled to x2APIC are not legal. @sdm 3A "x2APIC States" */
function writeApicBase(value: u64): bool {
  let allowed: u64 = (((<u64>1) << PHYSICAL_WIDTH) - 1) & ~(<u64>0xfff);
  allowed |= APIC_BASE_BSP | APIC_BASE_ENABLE;
  if (hasX2apic()) allowed |= APIC_BASE_X2APIC;
  if (value & ~allowed) return false;
  const enabled = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
  const from = load<u64>(MSR_APIC_BASE) & enabled;
  const to = value & enabled;
  if (to == APIC_BASE_X2APIC) return false;
  if (from == enabled && to == APIC_BASE_ENABLE) return false;
  if (from == 0 && to == enabled) return false;
  return put(MSR_APIC_BASE, value);
}
