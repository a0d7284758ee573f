// VMX instructions of guest code. Order: #UD, exit in non-root operation, #GP(0) for CPL > 0, then the operand.
// @sdm 3C "VMX Instruction Reference", "Instructions That Cause VM Exits Unconditionally"
import { SECONDARY_ENABLE_VM_FUNCTIONS } from "../abi/controls";
import {
  ERROR_VMCALL_EXECUTED_IN_ROOT_OPERATION,
  REASON_INVEPT,
  REASON_INVVPID,
  REASON_VMCALL,
  REASON_VMCLEAR,
  REASON_VMFUNC,
  REASON_VMLAUNCH,
  REASON_VMPTRLD,
  REASON_VMPTRST,
  REASON_VMREAD,
  REASON_VMRESUME,
  REASON_VMWRITE,
  REASON_VMXOFF,
  REASON_VMXON,
} from "../abi/exits";
import { R_INDEX } from "../abi/record";
import { Callback, COMM_VALUE, VmxResult } from "../abi/run";
import { CPL, GPR, HOOKS, HookBit, RAX, RCX, XR_INFO } from "../abi/state";
import { VEC_UD } from "../abi/x86";
import { call } from "../imports";
import { readMem } from "../memory/access";
import { aborted, raise } from "../state/stop";
import { code64 } from "../system/mode";
import { enterGuest } from "../vmx/entry";
import { enterAgain } from "../vmx/entryAgain";
import { displacement, vmxFieldInfo, vmxMemoryInfo } from "../vmx/instructionInfo";
import * as semantics from "../vmx/instructions";
import { exitInstruction, fieldAccessExits, nonRoot, secondary } from "../vmx/intercept";
import { vmFail, vmFailInvalid } from "../vmx/result";
import { effectiveAddress, isMem, probeMemory, readMemory, segmentOf } from "./operands";
import { enterHook, gp0, gpr, leaveHook, regField, rmField } from "./privilege";

/** #UD, exit or #GP(0) of an instruction without operands. True: it runs in root operation at CPL 0. */
function bare(rec: usize, reason: u32): bool {
  if (semantics.vmxUndefined()) raise(VEC_UD);
  else if (nonRoot()) exitInstruction(reason, 0, rec);
  else if (load<u32>(CPL)) gp0();
  else return true;
  return false;
}

/** The same with a memory operand; qualification: its displacement. */
function withOperand(rec: usize, reason: u32, illegal: bool, info: u32): bool {
  return operandOrExit(rec, reason, illegal, nonRoot(), info);
}

function operandOrExit(rec: usize, reason: u32, illegal: bool, exits: bool, info: u32): bool {
  if (illegal) raise(VEC_UD);
  else if (exits) {
    exitInstruction(reason, displacement(rec), rec);
    store<u32>(XR_INFO, info);
  } else if (load<u32>(CPL)) gp0();
  else return true;
  return false;
}

/** Asks the host first; what: 2 VMCALL, 1 VMLAUNCH, 0 VMRESUME. True: it has carried the instruction out, or stopped it. */
function hooked(rec: usize, what: u32): bool {
  enterHook(rec);
  const done = call(what == 2 ? Callback.Vmcall : Callback.VmEntry, what, 0, 0);
  return !leaveHook(rec) || done != 0;
}

/** In non-root operation from any mode and CPL; #UD outside VMX operation. There is no dual-monitor treatment. */
export function vmcall(rec: usize): void {
  if (nonRoot()) exitInstruction(REASON_VMCALL, 0, rec);
  else if (load<u32>(HOOKS) & HookBit.Vmcall && hooked(rec, 2)) return;
  else if (bare(rec, REASON_VMCALL)) vmFail(ERROR_VMCALL_EXECUTED_IN_ROOT_OPERATION);
}

/** On success the next instruction is the guest's; its flags and RIP are already loaded. */
function enter(rec: usize, reason: u32, launch: bool): void {
  if (!bare(rec, reason)) return;
  if (load<u32>(HOOKS) & HookBit.VmEntry && hooked(rec, u32(launch))) return;
  const completed = <u32>load<u8>(rec, R_INDEX) + 1;
  if (launch || !enterAgain(completed)) enterGuest(launch, completed);
}

/** #UD but in a guest that has VM functions; from any CPL and mode. @sdm 3C "VMFUNC" */
export function vmfunc(rec: usize): void {
  const index = load<u32>(RAX);
  if (!nonRoot() || !secondary(SECONDARY_ENABLE_VM_FUNCTIONS) || index >= 64) raise(VEC_UD);
  else if (!semantics.vmfunc(index, load<u32>(RCX))) exitInstruction(REASON_VMFUNC, 0, rec);
}

export function vmlaunch(rec: usize): void {
  enter(rec, REASON_VMLAUNCH, true);
}

export function vmresume(rec: usize): void {
  enter(rec, REASON_VMRESUME, false);
}

export function vmxoff(rec: usize): void {
  if (bare(rec, REASON_VMXOFF)) semantics.vmxoff();
}

// --- VMCS pointers ---

/** The state of CR0, CR4 and IA32_FEATURE_CONTROL matters outside VMX operation only. */
export function vmxon(rec: usize): void {
  if (!withOperand(rec, REASON_VMXON, semantics.vmxonUndefined(), vmxMemoryInfo(rec))) return;
  if (semantics.vmxonFault()) {
    gp0();
    return;
  }
  // in root operation it fails without a look at the operand
  const pointer = semantics.inVmx() ? 0 : readMemory<u64>(rec);
  if (!aborted()) semantics.vmxon(pointer);
}

export function vmclear(rec: usize): void {
  if (!withOperand(rec, REASON_VMCLEAR, semantics.vmxUndefined(), vmxMemoryInfo(rec))) return;
  const pointer = readMemory<u64>(rec);
  if (!aborted()) semantics.vmclear(pointer);
}

export function vmptrld(rec: usize): void {
  if (!withOperand(rec, REASON_VMPTRLD, semantics.vmxUndefined(), vmxMemoryInfo(rec))) return;
  const pointer = readMemory<u64>(rec);
  if (!aborted()) semantics.vmptrld(pointer);
}

export function vmptrst(rec: usize): void {
  if (!withOperand(rec, REASON_VMPTRST, semantics.vmxUndefined(), vmxMemoryInfo(rec))) return;
  const host = probeMemory<u64>(rec);
  if (!aborted()) store<u64>(host, semantics.vmptrst());
}

// --- fields: 64 bits in 64-bit mode, else 32 ---

function register(index: u32): u64 {
  return code64() ? gpr(index) : gpr(index) & 0xffffffff;
}

/** #UD, exit or #GP(0). A guest with VMCS shadowing reaches the fields that the bitmaps leave it. */
function fieldAccess(rec: usize, encoding: u64, write: bool): bool {
  const exits = nonRoot() && fieldAccessExits(encoding, write);
  return operandOrExit(rec, write ? REASON_VMWRITE : REASON_VMREAD, semantics.vmxUndefined(), exits, vmxFieldInfo(rec));
}

export function vmread(rec: usize): void {
  const encoding = register(regField(rec));
  if (!fieldAccess(rec, encoding, false)) return;
  const wide = code64();
  let host: u32 = 0;
  // a VMREAD that fails does not touch its destination
  if (isMem(rec) && semantics.fieldExists(encoding)) {
    host = wide ? probeMemory<u64>(rec) : probeMemory<u32>(rec);
    if (aborted()) return;
  }
  if (semantics.vmread(encoding) != VmxResult.Succeed) return;
  const value = load<u64>(COMM_VALUE);
  if (!host) store<u64>(GPR + rmField(rec) * 8, wide ? value : value & 0xffffffff);
  else if (wide) store<u64>(host, value);
  else store<u32>(host, <u32>value);
}

/** Without a VMCS it fails before the source operand is read. */
export function vmwrite(rec: usize): void {
  const encoding = register(regField(rec));
  if (!fieldAccess(rec, encoding, true)) return;
  if (!semantics.accessedVmcs()) {
    vmFailInvalid();
    return;
  }
  let value: u64;
  if (!isMem(rec)) value = register(rmField(rec));
  else value = code64() ? readMemory<u64>(rec) : <u64>readMemory<u32>(rec);
  if (!aborted()) semantics.vmwrite(encoding, value);
}

// --- invalidation: the type in a register, a 128-bit descriptor in memory, which is read for every legal type ---

let descriptorLow: u64 = 0;
let descriptorHigh: u64 = 0;

function readDescriptor(rec: usize): bool {
  const seg = segmentOf(rec);
  const ea = effectiveAddress(rec);
  descriptorLow = readMem<u64>(seg, ea);
  if (aborted()) return false;
  descriptorHigh = readMem<u64>(seg, ea + 8);
  return !aborted();
}

export function invept(rec: usize): void {
  if (!withOperand(rec, REASON_INVEPT, semantics.vmxUndefined(), vmxMemoryInfo(rec))) return;
  const type = register(regField(rec));
  if (semantics.inveptTypeExists(type) && !readDescriptor(rec)) return;
  semantics.invept(type, descriptorLow);
}

export function invvpid(rec: usize): void {
  if (!withOperand(rec, REASON_INVVPID, semantics.vmxUndefined(), vmxMemoryInfo(rec))) return;
  const type = register(regField(rec));
  if (semantics.invvpidTypeExists(type) && !readDescriptor(rec)) return;
  semantics.invvpid(type, descriptorLow, descriptorHigh);
}
