// Interrupt flag of programs that are sensitive to IOPL: virtual-8086 mode with CR4.VME, CPL 3 with CR4.PVI.
// @sdm 3B "Interrupt and Exception Handling in Virtual-8086 Mode", "Protected-Mode Virtual Interrupts"
import { CR4, EFLAGS_REST, SEG_TR, SEGS, SG_BASE, SG_LIMIT } from "../abi/state";
import { CR4_PVI, CR4_VME, FLAG_IF, FLAG_IOPL, FLAG_TF, FLAG_VIF, FLAG_VIP, VEC_GP } from "../abi/x86";
import { readSystem } from "../memory/access";
import { aborted, raiseError } from "../state/stop";
import { tableAddress } from "./descriptor";
import { cpl, protectionEnabled, vm86 } from "./mode";
import { iopl } from "./tss";

/** What CLI and STI of the running program act on. */
export const IF_REAL: u32 = 0;
export const IF_VIRTUAL: u32 = 1;
export const IF_FAULT: u32 = 2;

export function interruptFlag(): u32 {
  if (!protectionEnabled()) return IF_REAL;
  const cr4 = load<u64>(CR4);
  if (vm86()) {
    if (iopl() == 3) return IF_REAL;
    return cr4 & CR4_VME ? IF_VIRTUAL : IF_FAULT;
  }
  if (cpl() <= iopl()) return IF_REAL;
  return cpl() == 3 && cr4 & CR4_PVI ? IF_VIRTUAL : IF_FAULT;
}

export function setVif(on: bool): void {
  const flags = load<u32>(EFLAGS_REST) & ~FLAG_VIF;
  store<u32>(EFLAGS_REST, on ? flags | FLAG_VIF : flags);
}

/** vm86 with IOPL below 3: PUSHF, POPF and IRET act on VIF with 16-bit operands under VME, else they are #GP(0). */
export function virtualFlags(size: u32): bool {
  return size == 2 && (load<u64>(CR4) & CR4_VME) != 0;
}

/** The image that PUSHF and a redirected INT push then: VIF in the place of IF, IOPL 3. */
export function virtualImage(flags: u64): u64 {
  const image = (flags & ~(<u64>FLAG_IF)) | FLAG_IOPL;
  return flags & FLAG_VIF ? image | FLAG_IF : image;
}

/** #GP(0) of POPF and IRET: a pending virtual interrupt would become deliverable, or TF would be set. */
export function virtualImageFaults(image: u64): bool {
  return (image & FLAG_IF && load<u32>(EFLAGS_REST) & FLAG_VIP) || (image & FLAG_TF) != 0;
}

const IO_MAP_BASE: u32 = 102;
const REDIRECTION_BYTES: u32 = 32;

/**
 * INT n in vm86 under VME: true when the bit of the redirection map, below the I/O map of the TSS, is 0 and the 8086
 * handler is to run. Test aborted() after it.
 */
export function redirected(vector: u32): bool {
  const tr: usize = SEGS + SEG_TR;
  const base = load<u64>(tr, SG_BASE);
  const limit = load<u32>(tr, SG_LIMIT);
  if (limit < IO_MAP_BASE + 1) {
    raiseError(VEC_GP, 0);
    return false;
  }
  const map = <u32>readSystem<u16>(tableAddress(base + IO_MAP_BASE));
  if (aborted()) return false;
  const at = map - REDIRECTION_BYTES + (vector >> 3);
  if (at > limit) {
    raiseError(VEC_GP, 0);
    return false;
  }
  const bits = readSystem<u8>(tableAddress(base + <u64>at));
  return !aborted() && !((bits >> <u8>(vector & 7)) & 1);
}
