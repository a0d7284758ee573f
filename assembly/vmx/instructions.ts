// The VMX instructions but for VM entry: semantics on operands that are already fetched. The host's exports and the
// handlers of guest code both end here. @sdm 3C "VMX Instruction Reference"
//
// A handler of guest code asks in this order: vmxUndefined() -> #UD; nonRoot() -> VM exit; CPL > 0 -> #GP(0); then the
// memory operand is read, then the function below is called. Its result has already set the flags.
import { VMFUNC_EPTP_SWITCHING } from "../abi/controls";
import {
  ERROR_INVEPT_INVVPID_INVALID_OPERAND,
  ERROR_VMCLEAR_BAD_PHYSICAL_ADDRESS,
  ERROR_VMCLEAR_OPERAND_IS_THE_VMXON_POINTER,
  ERROR_VMPTRLD_BAD_PHYSICAL_ADDRESS,
  ERROR_VMPTRLD_OPERAND_IS_THE_VMXON_POINTER,
  ERROR_VMPTRLD_WRONG_REVISION_ID,
  ERROR_VMREAD_VMWRITE_UNSUPPORTED_COMPONENT,
  ERROR_VMWRITE_READ_ONLY_COMPONENT,
  ERROR_VMXON_EXECUTED_IN_ROOT_OPERATION,
} from "../abi/exits";
import { COMM_VALUE } from "../abi/run";
import {
  CPL,
  CR0,
  CR4,
  CURRENT_VMCS,
  MODE,
  ModeBit,
  MSR_FEATURE_CONTROL,
  TR_EPTP,
  VMCS_HOST,
  VMX_STATE,
  VMXON_POINTER,
  VmxBit,
} from "../abi/state";
import {
  V_EPT_POINTER,
  V_EPTP_LIST_ADDRESS,
  V_VM_FUNCTION_CONTROLS,
  VMCS_LAUNCHED,
  VMCS_REVISION,
} from "../abi/vmcsLayout";
import { CR4_VMXE, VEC_GP, VEC_UD } from "../abi/x86";
import { flushTlb, selectContext } from "../memory/context";
import { physRead32, physRead64, physToHost, physWrite32 } from "../memory/physical";
import { secondaryControls } from "../state/vmcs";
import { CR4_FIXED0, cr4Fixed1, MISC_VMWRITE_ANY, VMCS_REVISION_ID, VMCS_SHADOW, VMX_MISC } from "../system/vmxCaps";
import { CR0_FIXED0, CR0_FIXED1 } from "../system/vmxMode";
import { canonical } from "../system/width";
import { eptpValid, pageAddress } from "./address";
import { releaseRegion } from "./cache";
import { eptFlags, nonRoot } from "./controls";
import { vmFail, vmFailInvalid, vmFailValid, vmSucceed } from "./result";
import {
  Field,
  fieldOffset,
  fieldReadOnly,
  NO_VMCS,
  selectVmcs,
  setVmcs64,
  shadowRegion,
  vmcs64,
  writeField,
  writeShadowField,
} from "./vmcs";

// IA32_FEATURE_CONTROL: 0 lock   2 VMXON outside SMX
const FEATURE_VMXON: u64 = 5;

export function inVmx(): bool {
  return (load<u32>(VMX_STATE) & VmxBit.On) != 0;
}

/** Real mode, vm86 or compatibility mode: no VMX instruction but VMCALL (in non-root) and VMFUNC exists there. */
function wrongMode(): bool {
  const mode = load<u32>(MODE);
  return !(mode & ModeBit.Protected) || (mode & (ModeBit.LongMode | ModeBit.Code64)) == ModeBit.LongMode;
}

/** #UD of every VMX instruction but VMXON and VMCALL. */
export function vmxUndefined(): bool {
  return !inVmx() || wrongMode();
}

/** #UD of VMXON. */
export function vmxonUndefined(): bool {
  return (load<u64>(CR4) & CR4_VMXE) == 0 || wrongMode();
}

/** #GP(0) of VMXON outside VMX operation, CPL included. */
export function vmxonProtected(): bool {
  const cr0 = load<u64>(CR0);
  const cr4 = load<u64>(CR4);
  return (
    load<u32>(CPL) != 0 ||
    (cr0 & CR0_FIXED0) != CR0_FIXED0 ||
    (cr0 & ~CR0_FIXED1) != 0 ||
    (cr4 & CR4_FIXED0) != CR4_FIXED0 ||
    (cr4 & ~cr4Fixed1()) != 0 ||
    (load<u64>(MSR_FEATURE_CONTROL) & FEATURE_VMXON) != FEATURE_VMXON
  );
}

/** Vector of the fault that a VMX instruction (not VMXON) has in root operation before its operand is read; 0: none. */
export function vmxFault(): u32 {
  if (vmxUndefined()) return VEC_UD;
  return load<u32>(CPL) ? VEC_GP : 0;
}

/** The same for VMXON. */
export function vmxonFault(): u32 {
  if (vmxonUndefined()) return VEC_UD;
  if (inVmx()) return load<u32>(CPL) ? VEC_GP : 0;
  return vmxonProtected() ? VEC_GP : 0;
}

/** VMXON with its operand. */
export function vmxon(pa: u64): u32 {
  if (inVmx()) return vmFail(ERROR_VMXON_EXECUTED_IN_ROOT_OPERATION);
  if (!pageAddress(pa) || physRead32(pa + VMCS_REVISION) != VMCS_REVISION_ID) return vmFailInvalid();
  store<u64>(VMXON_POINTER, pa);
  selectVmcs(NO_VMCS);
  store<u32>(VMX_STATE, VmxBit.On);
  return vmSucceed();
}

export function vmxoff(): u32 {
  store<u32>(VMX_STATE, 0);
  selectVmcs(NO_VMCS);
  return vmSucceed();
}

export function vmclear(pa: u64): u32 {
  if (!pageAddress(pa)) return vmFail(ERROR_VMCLEAR_BAD_PHYSICAL_ADDRESS);
  if (pa == load<u64>(VMXON_POINTER)) return vmFail(ERROR_VMCLEAR_OPERAND_IS_THE_VMXON_POINTER);
  physWrite32(pa + VMCS_LAUNCHED, 0);
  releaseRegion(physToHost(pa));
  if (pa == load<u64>(CURRENT_VMCS)) selectVmcs(NO_VMCS);
  return vmSucceed();
}

export function vmptrld(pa: u64): u32 {
  if (!pageAddress(pa)) return vmFail(ERROR_VMPTRLD_BAD_PHYSICAL_ADDRESS);
  if (pa == load<u64>(VMXON_POINTER)) return vmFail(ERROR_VMPTRLD_OPERAND_IS_THE_VMXON_POINTER);
  if ((physRead32(pa + VMCS_REVISION) & ~VMCS_SHADOW) != VMCS_REVISION_ID)
    return vmFail(ERROR_VMPTRLD_WRONG_REVISION_ID);
  selectVmcs(pa);
  return vmSucceed();
}

/** The value that VMPTRST stores. */
export function vmptrst(): u64 {
  vmSucceed();
  return load<u64>(CURRENT_VMCS);
}

class Accessed {
  /** The VMCS that VMREAD and VMWRITE act on, in linear memory: the current one, for a guest its shadow. 0: none. */
  @inline static vmcs(): u32 {
    return nonRoot() ? shadowRegion() : load<u32>(VMCS_HOST);
  }
}

export function accessedVmcs(): u32 {
  return Accessed.vmcs();
}

/** VMREAD; on success the value is in COMM_VALUE. */
export function vmread(encoding: u64): u32 {
  const region = Accessed.vmcs();
  if (!region) return vmFailInvalid();
  const offset = Field.offset(encoding);
  if (offset == 0) return vmFailValid(ERROR_VMREAD_VMWRITE_UNSUPPORTED_COMPONENT);
  store<u64>(COMM_VALUE, Field.read(region, <u32>encoding, offset));
  return vmSucceed();
}

/** Would VMREAD of this encoding succeed? */
export function fieldExists(encoding: u64): bool {
  return accessedVmcs() != 0 && fieldOffset(encoding) != 0;
}

export function vmwrite(encoding: u64, value: u64): u32 {
  const region = Accessed.vmcs();
  if (!region) return vmFailInvalid();
  const offset = Field.offset(encoding);
  if (offset == 0) return vmFailValid(ERROR_VMREAD_VMWRITE_UNSUPPORTED_COMPONENT);
  if (!(VMX_MISC & MISC_VMWRITE_ANY) && fieldReadOnly(<u32>encoding)) {
    return vmFailValid(ERROR_VMWRITE_READ_ONLY_COMPONENT);
  }
  if (nonRoot()) writeShadowField(region, <u32>encoding, offset, value);
  else writeField(<u32>encoding, offset, value);
  return vmSucceed();
}

const EPTP_LIST_ENTRIES: u32 = 512;

/** VM function 0. False: a VM exit. @sdm 3C "EPTP Switching" */
function switchEptp(entry: u32): bool {
  if (!(vmcs64(V_VM_FUNCTION_CONTROLS) & VMFUNC_EPTP_SWITCHING) || entry >= EPTP_LIST_ENTRIES) return false;
  const eptp = physRead64(vmcs64(V_EPTP_LIST_ADDRESS) + 8 * <u64>entry);
  if (!eptpValid(eptp)) return false;
  setVmcs64(V_EPT_POINTER, eptp);
  store<u64>(TR_EPTP, eptp | eptFlags(secondaryControls()));
  selectContext();
  return true;
}

/** VMFUNC with function `index` below 64, in a guest that may use it. False: a VM exit. */
export function vmfunc(index: u32, argument: u32): bool {
  return index == 0 && switchEptp(argument);
}

// The TLB never holds what the tables no longer say, so that an invalidation only has to be correct, not fine-grained.

export function inveptTypeExists(type: u64): bool {
  return type == 1 || type == 2;
}

export function invvpidTypeExists(type: u64): bool {
  return type < 4;
}

/** INVEPT: type 1 single context, 2 all contexts. */
export function invept(type: u64, eptp: u64): u32 {
  if (type != 2 && !(type == 1 && eptpValid(eptp))) return vmFail(ERROR_INVEPT_INVVPID_INVALID_OPERAND);
  flushTlb();
  return vmSucceed();
}

/** INVVPID: type 0 address, 1 single context, 2 all contexts, 3 single context but global pages. `vpid`: low quadword of the descriptor. */
export function invvpid(type: u64, vpid: u64, linear: u64): u32 {
  let valid = type < 4 && vpid >> 16 == 0;
  if (type != 2 && vpid == 0) valid = false;
  if (type == 0 && !canonical(linear)) valid = false;
  if (!valid) return vmFail(ERROR_INVEPT_INVVPID_INVALID_OPERAND);
  flushTlb();
  return vmSucceed();
}
