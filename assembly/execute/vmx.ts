// VMX instructions of guest code. In non-root operation each exits before its CPL check; in root operation they are not
// built. @sdm 3C "VMX Instruction Reference", "Instructions That Cause VM Exits Unconditionally"
import {
  REASON_INVEPT,
  REASON_INVVPID,
  REASON_VMCALL,
  REASON_VMCLEAR,
  REASON_VMLAUNCH,
  REASON_VMPTRLD,
  REASON_VMPTRST,
  REASON_VMREAD,
  REASON_VMRESUME,
  REASON_VMWRITE,
  REASON_VMXOFF,
  REASON_VMXON,
} from "../abi/exits";
import { R_FLAGS, R_SIZE, RecordFlag } from "../abi/record";
import { RunCode } from "../abi/run";
import { MODE, ModeBit, XR_INFO } from "../abi/state";
import { VEC_UD } from "../abi/x86";
import { readMem } from "../memory/access";
import { aborted, raise, stopHost } from "../state/stop";
import { displacement, vmxFieldInfo, vmxMemoryInfo } from "../vmx/instructionInfo";
import { invept as vmxInvept, invvpid as vmxInvvpid, vmxonUndefined, vmxUndefined } from "../vmx/instructions";
import { exitInstruction, nonRoot } from "../vmx/intercept";
import { effectiveAddress, isMem, segmentOf } from "./operands";
import { gpr, regField, requireCpl0 } from "./privilege";
import { addressPlus, truncate } from "./sized";

/** Instructions without operands that exist only in VMX operation. */
function bare(rec: usize, reason: u32): void {
  if (vmxUndefined()) raise(VEC_UD);
  else if (nonRoot()) exitInstruction(reason, 0, rec);
  else stopHost(RunCode.Unimplemented);
}

/** Any mode and CPL; #UD only outside VMX operation. */
export function vmcall(rec: usize): void {
  if (nonRoot()) exitInstruction(REASON_VMCALL, 0, rec);
  else bare(rec, REASON_VMCALL);
}

export function vmlaunch(rec: usize): void {
  bare(rec, REASON_VMLAUNCH);
}

export function vmresume(rec: usize): void {
  bare(rec, REASON_VMRESUME);
}

export function vmxoff(rec: usize): void {
  bare(rec, REASON_VMXOFF);
}

/** Qualification: the displacement. */
function operandExit(reason: u32, info: u32, rec: usize): void {
  exitInstruction(reason, displacement(rec), rec);
  store<u32>(XR_INFO, info);
}

export function vmread(rec: usize): void {
  field(rec, REASON_VMREAD);
}

export function vmwrite(rec: usize): void {
  field(rec, REASON_VMWRITE);
}

function field(rec: usize, reason: u32): void {
  if (vmxUndefined()) raise(VEC_UD);
  else if (nonRoot()) operandExit(reason, vmxFieldInfo(rec), rec);
  else stopHost(RunCode.Unimplemented);
}

/** The operand-size prefix chooses the other size of the mode. */
function has66(rec: usize): bool {
  const big = (load<u32>(MODE) & (ModeBit.Code32 | ModeBit.Code64)) != 0;
  return big == (load<u8>(rec, R_SIZE) == 2);
}

/** 0F C7 /6: VMPTRLD, 66 VMCLEAR, F3 VMXON; RDRAND with a register, which the model does not have. */
export function vmptrldGroup(rec: usize): void {
  if (!isMem(rec)) {
    raise(VEC_UD);
    return;
  }
  const on = (load<u8>(rec, R_FLAGS) & RecordFlag.Rep) != 0;
  if (on ? vmxonUndefined() : vmxUndefined()) raise(VEC_UD);
  else if (nonRoot())
    operandExit(on ? REASON_VMXON : has66(rec) ? REASON_VMCLEAR : REASON_VMPTRLD, vmxMemoryInfo(rec), rec);
  else stopHost(RunCode.Unimplemented);
}

/** 0F C7 /7: VMPTRST; RDSEED with a register, which the model does not have. */
export function vmptrstGroup(rec: usize): void {
  if (!isMem(rec) || vmxUndefined()) raise(VEC_UD);
  else if (nonRoot()) operandExit(REASON_VMPTRST, vmxMemoryInfo(rec), rec);
  else stopHost(RunCode.Unimplemented);
}

/** The register holds the type, memory the descriptor. */
function invalidate(rec: usize, reason: u32): void {
  if (vmxUndefined()) {
    raise(VEC_UD);
    return;
  }
  if (nonRoot()) {
    operandExit(reason, vmxMemoryInfo(rec), rec);
    return;
  }
  if (!requireCpl0()) return;
  const type = truncate(gpr(regField(rec)), load<u8>(rec, R_SIZE));
  const low = readMem<u64>(segmentOf(rec), effectiveAddress(rec));
  if (aborted()) return;
  const high = readMem<u64>(segmentOf(rec), addressPlus(rec, 8));
  if (aborted()) return;
  if (reason == REASON_INVEPT) vmxInvept(type, low);
  else vmxInvvpid(type, low, high);
}

/** @sdm 3C "INVEPT-Invalidate Translations Derived from EPT" */
export function invept(rec: usize): void {
  invalidate(rec, REASON_INVEPT);
}

/** @sdm 3C "INVVPID-Invalidate Translations Based on VPID" */
export function invvpid(rec: usize): void {
  invalidate(rec, REASON_INVVPID);
}
