// CPUID, MSRs, time, HLT, IF and VMX instructions. The order of checks is #UD, privilege fault, VM exit, other faults
// (facts: instruction-priority). @sdm 3C "Relative Priority of Faults and VM Exits"

import { REASON_CPUID, REASON_INVD, REASON_RDTSC } from "../abi/exits";
import { R_INDEX } from "../abi/record";
import { Callback, COMM_CPUID, COMM_VALUE } from "../abi/run";
import { ACTIVITY, CPL, CR4, EFLAGS_REST, EXTRA, HOOKS, HookBit, RAX, RBX, RCX, RDX, StopBit } from "../abi/state";
import { Activity, BLOCK_STI, CR4_PCE, CR4_TSD, FLAG_IF, FLAG_VIP, Msr, VEC_GP } from "../abi/x86";
import { call, callWide } from "../imports";
import { aborted, raiseError, stop } from "../state/stop";
import { answerCpuid } from "../system/cpuid";
import { keepCpuidAnswer } from "../system/cpuidCache";
import { protectionEnabled } from "../system/mode";
import { cpuidFaults, readMsr, writeMsr } from "../system/msr";
import { msrToRead, msrToWrite } from "../system/msrPlaces";
import { setShadow } from "../system/shadow";
import { readTsc } from "../system/time";
import { IF_FAULT, IF_VIRTUAL, interruptFlag, setVif } from "../system/virtualInterrupt";
import {
  exitHlt,
  exitInstruction,
  exitRdmsr,
  exitRdpmc,
  exitRdtsc,
  exitWbinvd,
  exitWrmsr,
  guestTsc,
  nonRoot,
} from "../vmx/intercept";
import { MSR_FAULT, MSR_NOT_VIRTUAL, readVirtualMsr, writeVirtualMsr } from "../vmx/virtualApic";
import { enterHook, gp0, leaveHook, pair, requireCpl0, setPair } from "./privilege";

/** CPUID faulting is a privilege fault, so it comes before the exit. @sdm 2A "CPUID-CPU Identification" */
export function cpuid(rec: usize): void {
  if (cpuidFaults()) {
    raiseError(VEC_GP, 0);
    return;
  }
  if (nonRoot()) {
    exitInstruction(REASON_CPUID, 0, rec);
    return;
  }
  const leaf = load<u32>(RAX);
  const subleaf = load<u32>(RCX);
  let answered: u32 = 0;
  if (load<u32>(HOOKS) & HookBit.Cpuid) {
    enterHook(rec);
    answered = call(Callback.Cpuid, leaf, subleaf, 0);
    if (!leaveHook(rec)) return;
  }
  if (!answered) {
    answerCpuid(leaf, subleaf);
    keepCpuidAnswer(leaf, subleaf);
  }
  store<u64>(RAX, <u64>load<u32>(COMM_CPUID));
  store<u64>(RBX, <u64>load<u32>(COMM_CPUID + 4));
  store<u64>(RCX, <u64>load<u32>(COMM_CPUID + 8));
  store<u64>(RDX, <u64>load<u32>(COMM_CPUID + 12));
}

/** No control and no callback looks at RDMSR, WRMSR. */
function plainly(hook: u32): bool {
  return !nonRoot() && !(load<u32>(HOOKS) & hook);
}

/** @sdm 2B "RDMSR-Read from Model Specific Register" */
export function rdmsr(rec: usize): void {
  if (!requireCpl0()) return;
  const index = load<u32>(RCX);
  if (plainly(HookBit.Rdmsr)) {
    const place = msrToRead(index);
    if (place) {
      setPair(RDX, RAX, load<u64>(place));
      return;
    }
  }
  if (nonRoot()) {
    if (exitRdmsr(index, rec)) return;
    if (readVirtualMsr(index)) {
      setPair(RDX, RAX, load<u64>(COMM_VALUE));
      return;
    }
  }
  let answered: u32 = 0;
  if (load<u32>(HOOKS) & HookBit.Rdmsr) {
    enterHook(rec);
    answered = call(Callback.Rdmsr, index, 0, 0);
    if (!leaveHook(rec)) return;
  }
  if (answered == 2 || (!answered && !readMsr(index, load<u8>(rec, R_INDEX)))) {
    gp0();
    return;
  }
  let value = load<u64>(COMM_VALUE);
  if (!answered && index == Msr.Tsc && nonRoot()) value = guestTsc(value);
  setPair(RDX, RAX, value);
}

/** @sdm 2B "WRMSR-Write to Model Specific Register" */
export function wrmsr(rec: usize): void {
  if (!requireCpl0()) return;
  const index = load<u32>(RCX);
  const value = pair(RDX, RAX);
  if (plainly(HookBit.Wrmsr)) {
    const place = msrToWrite(index, value);
    if (place) {
      store<u64>(place, value);
      return;
    }
  }
  if (nonRoot()) {
    if (exitWrmsr(index, rec)) return;
    const virtual = writeVirtualMsr(index, value);
    if (virtual == MSR_FAULT) gp0();
    if (virtual != MSR_NOT_VIRTUAL) return;
  }
  let answered: u32 = 0;
  if (load<u32>(HOOKS) & HookBit.Wrmsr) {
    enterHook(rec);
    answered = callWide(Callback.Wrmsr, index, value, 0);
    if (!leaveHook(rec)) return;
  }
  if (answered == 2 || (!answered && !writeMsr(index, value, load<u8>(rec, R_INDEX)))) gp0();
}

/** @sdm 2B "RDTSC-Read Time-Stamp Counter" */
export function rdtsc(rec: usize): void {
  if (load<u64>(CR4) & CR4_TSD && load<u32>(CPL) != 0) {
    gp0();
    return;
  }
  let value: u64;
  if (nonRoot()) {
    if (exitRdtsc(REASON_RDTSC, rec)) return;
    value = guestTsc(readTsc(load<u8>(rec, R_INDEX)));
  } else {
    value = readTsc(load<u8>(rec, R_INDEX));
  }
  value = hookedTsc(rec, value);
  if (!aborted()) setPair(RDX, RAX, value);
}

/** What a callback says instead of the time-stamp counter's value. Test aborted() after it. */
export function hookedTsc(rec: usize, value: u64): u64 {
  if (!(load<u32>(HOOKS) & HookBit.Rdtsc)) return value;
  enterHook(rec);
  const answered = call(Callback.Rdtsc, 0, 0, 0);
  return leaveHook(rec) && answered ? load<u64>(COMM_VALUE) : value;
}

/** The model has no performance counters: every index is #GP(0). @sdm 2B "RDPMC-Read Performance-Monitoring Counters" */
export function rdpmc(rec: usize): void {
  if (!(load<u64>(CR4) & CR4_PCE) && load<u32>(CPL) != 0 && protectionEnabled()) {
    gp0();
    return;
  }
  if (nonRoot() && exitRdpmc(rec)) return;
  gp0();
}

/** @sdm 2A "HLT-Halt" */
export function hlt(rec: usize): void {
  if (!requireCpl0()) return;
  if (nonRoot() && exitHlt(rec)) return;
  store<u32>(ACTIVITY, Activity.Halt);
  store<u32>(EXTRA, 1);
  stop(StopBit.Leave);
}

/** @sdm 2A "CLI-Clear Interrupt Flag" */
export function cli(_rec: usize): void {
  const flag = interruptFlag();
  if (flag == IF_FAULT) gp0();
  else if (flag == IF_VIRTUAL) setVif(false);
  else store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~FLAG_IF);
}

/** Interrupts stay blocked for one instruction when IF was 0. @sdm 2B "STI-Set Interrupt Flag" */
export function sti(rec: usize): void {
  const flag = interruptFlag();
  const flags = load<u32>(EFLAGS_REST);
  if (flag == IF_FAULT || (flag == IF_VIRTUAL && flags & FLAG_VIP)) {
    gp0();
    return;
  }
  if (flag == IF_VIRTUAL) {
    setVif(true);
    return;
  }
  if (flags & FLAG_IF) return;
  store<u32>(EFLAGS_REST, flags | FLAG_IF);
  setShadow(BLOCK_STI, <u32>load<u8>(rec, R_INDEX) + 1);
}

/** There are no caches to write back. @sdm 2C "WBINVD-Write Back and Invalidate Cache" */
export function wbinvd(rec: usize): void {
  if (!requireCpl0()) return;
  if (nonRoot()) exitWbinvd(rec);
}

/** @sdm 2A "INVD-Invalidate Internal Caches" */
export function invd(rec: usize): void {
  if (!requireCpl0()) return;
  if (nonRoot()) exitInstruction(REASON_INVD, 0, rec);
}
