// VMX as the host outside the core uses it (src/core/exports.ts): the instructions without a processor mode to fetch
// them in. assembly/index.ts exports these under the names of the instructions. VmxResult.Fault: COMM_VALUE is the vector.
import { COMM_VALUE, VmxResult } from "../abi/run";
import {
  ACTIVITY,
  CPL,
  CR0,
  CR3,
  CR4,
  DELIVERING,
  DR7,
  EFER,
  EV_INJECTED,
  EXTRA,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  INTERRUPTIBILITY,
  MODE,
  ModeBit,
  MSR_FEATURE_CONTROL,
  PENDING_DEBUG,
  RIP,
  SEG_CS,
  SEG_LDTR,
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
  VMX_ABORT,
  VMX_STATE,
  VmxBit,
} from "../abi/state";
import { VMCS_REVISION } from "../abi/vmcsLayout";
import {
  Activity,
  CR0_ET,
  CR0_MP,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_PAE,
  CR4_VMXE,
  DR7_FIXED,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
  FLAG_FIXED,
  SA_DB,
  SA_G,
  SA_L,
  SA_P,
  SA_S,
  SA_UNUSABLE,
  TYPE_TSS32_BUSY,
  VEC_UD,
} from "../abi/x86";
import { physWrite32 } from "../memory/physical";
import { setRflags } from "../state/flags";
import { NO_APIC_PAGE, recomputeMode } from "../system/mode";
import { VMCS_REVISION_ID } from "../system/vmxCaps";
import { nonRoot } from "./controls";
import { enterGuest, pendingInjection } from "./entry";
import { enterAgain } from "./entryAgain";
import {
  invept,
  invvpid,
  vmclear,
  vmptrld,
  vmptrst,
  vmread,
  vmwrite,
  vmxFault,
  vmxoff,
  vmxon,
  vmxonFault,
} from "./instructions";
import { alwaysChecked, Field, NO_VMCS, selectVmcs } from "./vmcs";

const HOST_CS: u32 = 0x10;
const HOST_DS: u32 = 0x18;
const HOST_TR: u32 = 0x40;
const FEATURE_LOCKED_VMXON: u64 = 5;

function fault(vector: u32): bool {
  if (nonRoot()) vector = VEC_UD;
  store<u64>(COMM_VALUE, vector);
  return vector != 0;
}

function faults(): bool {
  return fault(vmxFault());
}

class Quick {
  /** 64-bit root operation at CPL 0, as the host always has it: no VMX instruction but VMXON faults. */
  @inline static root(): bool {
    return (
      (load<u32>(VMX_STATE) & (VmxBit.On | VmxBit.NonRoot)) == VmxBit.On &&
      (load<u32>(MODE) & ModeBit.Code64) != 0 &&
      !load<u32>(CPL)
    );
  }
}

function flatSegment(seg: u32, selector: u32, limit: u32, rights: u32): void {
  const at = SEGS + seg;
  store<u32>(at, selector, SG_SELECTOR);
  store<u64>(at, 0, SG_BASE);
  store<u32>(at, limit, SG_LIMIT);
  store<u32>(at, rights, SG_ATTR);
}

/** 64-bit CPL 0 root operation with the VMXON region at `pa`: what an operating system and its VMM set up. */
export function hostInit(pa: u64): u32 {
  store<u32>(VMX_STATE, 0);
  store<u32>(VMX_ABORT, 0);
  selectVmcs(NO_VMCS);
  store<u64>(MSR_FEATURE_CONTROL, FEATURE_LOCKED_VMXON);
  store<u64>(CR0, <u64>CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE);
  store<u64>(CR3, 0);
  store<u64>(CR4, CR4_PAE | CR4_VMXE);
  store<u64>(EFER, EFER_LMA | EFER_LME | EFER_NXE | EFER_SCE);
  store<u64>(DR7, DR7_FIXED);
  for (let seg: u32 = 0; seg < <u32>SEG_LDTR; seg += SEG_SIZE) {
    if (seg == SEG_CS) flatSegment(seg, HOST_CS, 0xffffffff, 11 | SA_S | SA_P | SA_L | SA_G);
    else if (seg == SEG_SS) flatSegment(seg, HOST_DS, 0xffffffff, 3 | SA_S | SA_P | SA_DB | SA_G);
    else flatSegment(seg, 0, 0, SA_UNUSABLE | SA_DB);
  }
  flatSegment(SEG_LDTR, 0, 0, SA_UNUSABLE);
  flatSegment(SEG_TR, HOST_TR, 0x67, TYPE_TSS32_BUSY | SA_P);
  store<u64>(GDTR_BASE, 0);
  store<u32>(GDTR_LIMIT, 0xffff);
  store<u64>(IDTR_BASE, 0);
  store<u32>(IDTR_LIMIT, 0xffff);
  store<u32>(CPL, 0);
  store<u64>(RIP, 0);
  setRflags(FLAG_FIXED);
  store<u32>(INTERRUPTIBILITY, 0);
  store<u32>(ACTIVITY, Activity.Active);
  store<u64>(PENDING_DEBUG, 0);
  store<u32>(DELIVERING, 0);
  store<u32>(EV_INJECTED, 0);
  store<u32>(EXTRA, 1);
  store<u64>(TR_EPTP, 0);
  store<u64>(TR_APIC_PAGE, NO_APIC_PAGE);
  store<u32>(TR_VPID, 0);
  recomputeMode();
  physWrite32(pa + VMCS_REVISION, VMCS_REVISION_ID);
  return hostVmxon(pa);
}

export function hostVmxon(pa: u64): u32 {
  return fault(vmxonFault()) ? VmxResult.Fault : vmxon(pa);
}
export function hostVmxoff(): u32 {
  return faults() ? VmxResult.Fault : vmxoff();
}
export function hostVmclear(pa: u64): u32 {
  return faults() ? VmxResult.Fault : vmclear(pa);
}
export function hostVmptrld(pa: u64): u32 {
  return faults() ? VmxResult.Fault : vmptrld(pa);
}
export function hostVmptrst(): u64 {
  return faults() ? NO_VMCS : vmptrst();
}
export function hostVmread(field: u32): u32 {
  return faults() ? VmxResult.Fault : vmread(field);
}
/** See CoreExports.vmcsOffset. */
export function hostVmcsOffset(field: u32): u32 {
  const offset = Field.offset(field);
  return offset && alwaysChecked(offset) ? offset | 0x1000 : offset;
}
export function hostVmwrite(field: u32, value: u64): u32 {
  return faults() ? VmxResult.Fault : vmwrite(field, value);
}
/** VMWRITE of a value in two halves: no BigInt crosses. */
export function hostVmwriteHalves(field: u32, low: u32, high: u32): u32 {
  return hostVmwrite(field, ((<u64>high) << 32) | low);
}
function enter(launch: bool): u32 {
  const result = enterGuest(launch, 0);
  pendingInjection();
  return result;
}
export function hostVmlaunch(): u32 {
  return faults() ? VmxResult.Fault : enter(true);
}
export function hostVmresume(): u32 {
  if (!Quick.root() && faults()) return VmxResult.Fault;
  return enterAgain(0) ? VmxResult.Succeed : enter(false);
}
export function hostInvept(type: u32, eptp: u64): u32 {
  return faults() ? VmxResult.Fault : invept(type, eptp);
}
export function hostInvvpid(type: u32, vpid: u32, linear: u64): u32 {
  return faults() ? VmxResult.Fault : invvpid(type, vpid, linear);
}
