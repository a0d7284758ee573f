// Debug registers. @sdm 3B "Debug Registers"
//
//   DR6  3:0 B3-B0  13 BD  14 BS  15 BT            DR7  7:0 G/L  8 LE  9 GE  13 GD  31:16 LEN/RW
import { DR0, DR6, DR7, EFLAGS_REST, EXTRA, MSR_DEBUGCTL, PENDING_DEBUG } from "../abi/state";
import {
  DEBUGCTL_BTF,
  DEBUGCTL_LBR,
  DR6_BREAKPOINTS,
  DR6_BS,
  DR6_FIXED,
  DR6_WRITABLE,
  DR7_FIXED,
  DR7_GD,
  DR7_WRITABLE,
  FLAG_TF,
} from "../abi/x86";
import { updateWatch } from "../memory/watch";

const DEBUGCTL_BITS: u64 = DEBUGCTL_LBR | DEBUGCTL_BTF;

/** index: 0-3, 6, 7. */
export function readDr(index: u32): u64 {
  if (index < 4) return load<u64>(DR0 + index * 8);
  return load<u64>(index == 6 ? DR6 : DR7);
}

/** False: #GP(0), bits 63:32 of DR6 and DR7 are reserved. */
export function writeDr(index: u32, value: u64): bool {
  if (index < 4) {
    store<u64>(DR0 + index * 8, value);
    updateWatch(true);
    return true;
  }
  if (value >> 32) return false;
  if (index == 6) store<u64>(DR6, (value & DR6_WRITABLE) | DR6_FIXED);
  else {
    store<u64>(DR7, (value & DR7_WRITABLE) | DR7_FIXED);
    updateWatch(false);
  }
  return true;
}

/** What the delivery of a #DB does to the debug registers; bits: as in DR6, 0 for INT1 and injected events (nothing changes). */
export function recordDebugException(bits: u64): void {
  if (!bits) return;
  store<u64>(DR6, (load<u64>(DR6) & ~(<u64>DR6_BREAKPOINTS)) | (bits & DR6_WRITABLE));
  store<u64>(DR7, load<u64>(DR7) & ~(<u64>DR7_GD));
  // and LBR and BTF: @sdm 3B "Single-Stepping on Branches"
  store<u64>(MSR_DEBUGCTL, load<u64>(MSR_DEBUGCTL) & ~DEBUGCTL_BITS);
}

let checked: bool = false;

/** Before each instruction that begins with TF set. */
export function beginStep(): void {
  checked = false;
}

/** The instruction has looked at TF itself. */
export function stepChecked(): bool {
  return checked;
}

/**
 * At the end of SYSCALL and SYSRET: the trap depends on TF as they leave it, so IA32_FMASK keeps it out of the kernel, and it
 * comes right after SYSRET. @kvm em_syscall
 */
export function stepByNewFlags(): void {
  checked = true;
  if (!(load<u32>(EFLAGS_REST) & FLAG_TF)) return;
  store<u64>(PENDING_DEBUG, load<u64>(PENDING_DEBUG) | DR6_BS);
  store<u32>(EXTRA, 1);
}
