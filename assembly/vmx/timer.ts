// The VMX-preemption timer and the monitor trap flag. @sdm 3C "VMX-Preemption Timer", "Monitor Trap Flag"
//
// The timer counts down when bit TIMER_SHIFT of the TSC changes. Time is the instruction count, so a deadline is a count:
// run/loop.ts bounds its stretches by DEADLINE.
import {
  EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE,
  PIN_ACTIVATE_VMX_PREEMPTION_TIMER,
  PIN_EXTERNAL_INTERRUPT_EXITING,
  PRIMARY_MONITOR_TRAP_FLAG,
} from "../abi/controls";
import { REASON_MONITOR_TRAP_FLAG, REASON_PREEMPTION_TIMER } from "../abi/exits";
import {
  ACTIVITY,
  COUNT,
  DEADLINE,
  EFLAGS_REST,
  HOST_DEADLINE,
  HOST_WAKES,
  MTF,
  PREEMPTION_DEADLINE,
  TIME_SKIPPED,
  TSC_BASE,
  TSC_RATIO,
  VMCS_HOST,
} from "../abi/state";
import { V_PRIMARY_EXIT_CONTROLS, V_VMX_PREEMPTION_TIMER_VALUE } from "../abi/vmcsLayout";
import { Activity, FLAG_IF } from "../abi/x86";
import { recordExit } from "../state/exitRecord";
import { readTsc } from "../system/time";
import { TIMER_SHIFT } from "../system/vmxCaps";
import { nonRoot, pin, primary } from "./controls";
import { setVmcs32, vmcs32 } from "./vmcs";

/** DEADLINE when no timer runs. */
export const NO_DEADLINE: u64 = 0xffffffffffffffff;

/** MTF: an instruction or event has to come first. */
const MTF_ARMED: u32 = 1;
/** MTF: the exit comes at the next boundary. */
const MTF_PENDING: u32 = 2;

/** VM entry from count `now`: PREEMPTION_DEADLINE is a TSC, DEADLINE the count at which it is reached. */
export function startTimer(now: u64): void {
  store<u64>(DEADLINE, NO_DEADLINE);
  if (!pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) return;
  const tsc = readTsc(<u32>(now - load<u64>(COUNT)));
  const end = ((tsc >> TIMER_SHIFT) + <u64>vmcs32(V_VMX_PREEMPTION_TIMER_VALUE)) << TIMER_SHIFT;
  store<u64>(PREEMPTION_DEADLINE, end);
  const ratio = <u64>load<u32>(TSC_RATIO);
  if (end <= tsc) store<u64>(DEADLINE, now);
  else if (ratio) store<u64>(DEADLINE, now + (end - tsc + ratio - 1) / ratio);
}

/** VM exit: the timer's value, when the control asks for it. */
export function saveTimer(): void {
  if (!(load<u32>(load<u32>(VMCS_HOST), V_PRIMARY_EXIT_CONTROLS) & EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE)) return;
  const end = load<u64>(PREEMPTION_DEADLINE) >> TIMER_SHIFT;
  const now = readTsc(0) >> TIMER_SHIFT;
  setVmcs32(V_VMX_PREEMPTION_TIMER_VALUE, now < end ? <u32>(end - now) : 0);
}

/** At an instruction boundary of a guest. True: the timer has run out, and the exit is recorded. */
export function timerExits(): bool {
  if (load<u64>(COUNT) < load<u64>(DEADLINE)) return false;
  recordExit(REASON_PREEMPTION_TIMER, 0, 0);
  return true;
}

/** What ended the idling of a processor. */
export const enum Idle {
  Nothing = 0,
  /** The preemption timer: the exit is recorded. */
  Exit = 1,
  /** The host's timers. */
  Host = 2,
}

/** Can an interrupt that the host's timers bring end this HLT? */
function hostWakes(): bool {
  if (load<u32>(ACTIVITY) != Activity.Halt) return false;
  if (load<u32>(EFLAGS_REST) & FLAG_IF || load<u32>(HOST_WAKES)) return true;
  return nonRoot() && pin(PIN_EXTERNAL_INTERRUPT_EXITING);
}

function sooner(deadline: usize, counts: u64): void {
  const at = load<u64>(deadline);
  if (at != NO_DEADLINE) store<u64>(deadline, at - counts);
}

/** A processor in HLT or shutdown that nothing pending wakes: the time to the nearest deadline passes at once. */
export function idle(): u32 {
  const exit = nonRoot() ? load<u64>(DEADLINE) : NO_DEADLINE;
  const host = hostWakes() ? load<u64>(HOST_DEADLINE) : NO_DEADLINE;
  const next = min<u64>(exit, host);
  if (next == NO_DEADLINE) return Idle.Nothing;
  const count = load<u64>(COUNT);
  if (next > count) {
    const ticks = (next - count) * <u64>load<u32>(TSC_RATIO);
    store<u64>(TSC_BASE, load<u64>(TSC_BASE) + ticks);
    store<u64>(TIME_SKIPPED, load<u64>(TIME_SKIPPED) + ticks);
    if (exit != NO_DEADLINE) sooner(DEADLINE, next - count);
    sooner(HOST_DEADLINE, next - count);
  }
  if (host == next) return Idle.Host;
  return timerExits() ? Idle.Exit : Idle.Nothing;
}

/** VM entry: pending, when it injects one, or a vectored event under the control. */
export function startTrap(pending: bool, vectored: bool): void {
  store<u32>(MTF, pending || (vectored && primary(PRIMARY_MONITOR_TRAP_FLAG)) ? MTF_PENDING : 0);
}

/** At an instruction boundary, before debug traps. True: the exit is recorded; false: armed if the control asks for it. */
export function trapExits(): bool {
  if (!nonRoot()) return false;
  if (load<u32>(MTF)) {
    store<u32>(MTF, 0);
    recordExit(REASON_MONITOR_TRAP_FLAG, 0, 0);
    return true;
  }
  if (primary(PRIMARY_MONITOR_TRAP_FLAG)) store<u32>(MTF, MTF_ARMED);
  return false;
}

/** The host stopped the processor before the instruction: it has still to come. */
export function disarmTrap(): void {
  if (load<u32>(MTF) == MTF_ARMED) store<u32>(MTF, 0);
}
