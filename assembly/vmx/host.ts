// VMX as the host outside the core uses it (src/core/exports.ts): the instructions without a processor mode to fetch
// them in. assembly/index.ts exports these under the names of the instructions. VmxResult.Fault: COMM_VALUE is the vector.
import { COMM_VALUE, VmxResult } from "../abi/run";
import { CPL, MODE, ModeBit, VMX_STATE, VmxBit } from "../abi/state";
import { VEC_UD } from "../abi/x86";
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
import { alwaysChecked, fieldOffset, NO_VMCS } from "./vmcs";

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
    const other =
      ((load<u32>(VMX_STATE) ^ VmxBit.On) & (VmxBit.On | VmxBit.NonRoot)) |
      (~load<u32>(MODE) & ModeBit.Code64) |
      load<u32>(CPL);
    return other == 0;
  }
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
  const offset = fieldOffset(field);
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
