// Software interrupts. @sdm 2A "INT n/INTO/INT3/INT1-Call to Interrupt Procedure"
// Delivery, and with it the gate's privilege check, is in events/.
import { R_IMM, R_LEN } from "../abi/record";
import { CR4, EFLAGS_REST, EV_DELIVERED, EventType, RIP, RSP, SEG_CS } from "../abi/state";
import { CR4_VME, FLAG_IF, FLAG_RF, FLAG_TF, FLAG_VIF, VEC_BP, VEC_DB, VEC_GP, VEC_OF, VEC_UD } from "../abi/x86";
import { softInterrupt } from "../events/short";
import { readSystem } from "../memory/access";
import { getOF, getRflags } from "../state/flags";
import { aborted, raise, raiseError, raiseSoft } from "../state/stop";
import { frameProbeCurrent, framePush, frameStart, frameStore } from "../system/frame";
import { recomputeMode, vm86 } from "../system/mode";
import { selectorOf, setRealSegment } from "../system/segments";
import { iopl } from "../system/tss";
import { redirected, virtualImage } from "../system/virtualInterrupt";
import { mergeSp, stackMask } from "../system/width";

/** In vm86 IOPL below 3 is #GP(0), but CR4.VME lets the redirection map of the TSS send it to the 8086 handler first. */
export function intN(rec: usize): void {
  const vector: u32 = load<u8>(rec, R_IMM);
  if (vm86()) {
    if (load<u64>(CR4) & CR4_VME) {
      const redirect = redirected(vector);
      if (aborted()) return;
      if (redirect) {
        toVirtualHandler(vector);
        return;
      }
    }
    if (iopl() < 3) {
      raiseError(VEC_GP, 0);
      return;
    }
  }
  softInterrupt(EventType.SoftInt, vector, load<u8>(rec, R_LEN));
}

/** Through the interrupt table at linear address 0. @sdm 3B "Class 3-Software Interrupt Handling in Virtual-8086 Mode" */
function toVirtualHandler(vector: u32): void {
  const entry = readSystem<u32>(vector * 4);
  if (aborted()) return;
  const sensitive = iopl() < 3;
  const flags = getRflags();
  const sp = load<u64>(RSP);
  frameStart();
  framePush(sensitive ? virtualImage(flags) : flags);
  framePush(<u64>selectorOf(SEG_CS));
  framePush(load<u64>(RIP));
  if (!frameProbeCurrent(2, sp, stackMask(), 0, true)) return;
  frameStore(2);
  store<u64>(RSP, mergeSp(sp - 6));
  setRealSegment(SEG_CS, entry >>> 16);
  store<u64>(RIP, <u64>(entry & 0xffff));
  let cleared = FLAG_TF | FLAG_RF;
  cleared |= sensitive ? FLAG_VIF : FLAG_IF;
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~cleared);
  store<u64>(EV_DELIVERED, load<u64>(EV_DELIVERED) + 1);
  recomputeMode();
}

/** INT3 is not IOPL-sensitive. */
export function int3(rec: usize): void {
  softInterrupt(EventType.SoftException, VEC_BP, load<u8>(rec, R_LEN));
}

export function int1(rec: usize): void {
  raiseSoft(EventType.PrivSoft, VEC_DB, load<u8>(rec, R_LEN));
}

export function into(rec: usize): void {
  if (getOF()) softInterrupt(EventType.SoftException, VEC_OF, load<u8>(rec, R_LEN));
}

export function ud2(_rec: usize): void {
  raise(VEC_UD);
}
