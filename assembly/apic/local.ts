// The local APIC is the host's (src/devices/lapic.ts). Here is where the processor meets it: the interrupt that it takes, MSRs,
// CR8. @sdm 3A "Advanced Programmable Interrupt Controller (APIC)"
import { Callback } from "../abi/run";
import { COUNT, HOOKS, HookBit, INTR_ASK, PENDING_INTR } from "../abi/state";
import { call, callWide } from "../imports";

const FIRST: u32 = 0x800;
const LAST: u32 = 0x8ff;
const TPR: u32 = 0x808;
/** End of interrupt. */
export const APIC_EOI: u32 = 0x80b;

export function apicAttached(): bool {
  return (load<u32>(HOOKS) & HookBit.Apic) != 0;
}

export function isApicMsr(index: u32): bool {
  return index >= FIRST && index <= LAST;
}

/** Takes the pending external interrupt: its vector. */
export function takeInterrupt(): u32 {
  const pending = load<u32>(PENDING_INTR);
  store<u32>(PENDING_INTR, 0);
  return (pending & INTR_ASK ? call(Callback.Acknowledge, 0, 0, 0) : pending) & 0xff;
}

/** ahead: completed instructions that COUNT does not hold yet. False: #GP(0). The value is in COMM_VALUE. */
export function readApic(index: u32, ahead: u32): bool {
  const count = load<u64>(COUNT);
  store<u64>(COUNT, count + ahead);
  const done = call(Callback.ApicRead, index, 0, 0) != 0;
  store<u64>(COUNT, count);
  return done;
}

export function writeApic(index: u32, value: u64, ahead: u32): bool {
  const count = load<u64>(COUNT);
  store<u64>(COUNT, count + ahead);
  const done = callWide(Callback.ApicWrite, index, value, 0) != 0;
  store<u64>(COUNT, count);
  return done;
}

/** Tells the APIC of a register that has changed. */
export function noteApic(index: u32, value: u64, ahead: u32): void {
  if (apicAttached()) writeApic(index, value, ahead);
}

/** MOV CR8: bits 7:4 of the task-priority register. */
export function noteTaskPriority(cr8: u64): void {
  noteApic(TPR, cr8 << 4, 0);
}
