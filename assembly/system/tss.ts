// Reads of the current TSS. @sdm 3A "Task Management", "64-Bit TSS"; @sdm 1 "I/O Permission Bit Map"
import { CPL, EFLAGS_REST, SEG_TR, SEGS, SG_ATTR, SG_BASE, SG_LIMIT, SG_SELECTOR } from "../abi/state";
import { FLAG_IOPL, FLAG_IOPL_SHIFT, SEL_ERROR, TYPE_TSS32_BUSY, VEC_GP, VEC_TS } from "../abi/x86";
import { readSystem } from "../memory/access";
import { aborted, raiseError } from "../state/stop";
import { systemType, tableAddress } from "./descriptor";
import { protectionEnabled, vm86 } from "./mode";

const IO_MAP_BASE: u32 = 102;
const TSS32_LIMIT: u32 = 103;

/** Results of readStack. */
export let stackSelector: u32 = 0;
export let stackPointer: u64 = 0;

function tssAddress(offset: u32): u64 {
  return tableAddress(load<u64>(SEGS + SEG_TR + SG_BASE) + <u64>offset);
}

function outside(last: u32, ext: u32): bool {
  if (last <= load<u32>(SEGS + SEG_TR + SG_LIMIT)) return false;
  raiseError(VEC_TS, (load<u32>(SEGS + SEG_TR + SG_SELECTOR) & SEL_ERROR) | ext);
  return true;
}

/** SS:(E)SP of a privilege level from a 16- or 32-bit TSS, into stackSelector and stackPointer. False: a fault is recorded. */
export function readStack(level: u32, ext: u32): bool {
  if (systemType(load<u32>(SEGS + SEG_TR + SG_ATTR)) == TYPE_TSS32_BUSY) {
    const at = level * 8 + 4;
    if (outside(at + 5, ext)) return false;
    stackPointer = <u64>readSystem<u32>(tssAddress(at));
    if (aborted()) return false;
    stackSelector = <u32>readSystem<u16>(tssAddress(at + 4));
  } else {
    const at = level * 4 + 2;
    if (outside(at + 3, ext)) return false;
    stackPointer = <u64>readSystem<u16>(tssAddress(at));
    if (aborted()) return false;
    stackSelector = <u32>readSystem<u16>(tssAddress(at + 2));
  }
  return !aborted();
}

/** RSP of a privilege level, or of an IST entry (1-7) when ist is not 0, from a 64-bit TSS, into stackPointer. */
export function readStack64(level: u32, ist: u32, ext: u32): bool {
  const at = ist ? ist * 8 + 28 : level * 8 + 4;
  if (outside(at + 7, ext)) return false;
  stackPointer = readSystem<u64>(tssAddress(at));
  return !aborted();
}

export function iopl(): u32 {
  return (load<u32>(EFLAGS_REST) & FLAG_IOPL) >> FLAG_IOPL_SHIFT;
}

/** May the program access size ports from port? False: #GP(0), or a fault of the TSS read, is recorded. */
export function portAllowed(port: u32, size: u32): bool {
  if (!protectionEnabled() || (load<u32>(CPL) <= iopl() && !vm86())) return true;
  const limit = load<u32>(SEGS + SEG_TR + SG_LIMIT);
  if (systemType(load<u32>(SEGS + SEG_TR + SG_ATTR)) == TYPE_TSS32_BUSY && limit >= TSS32_LIMIT) {
    const base = <u32>readSystem<u16>(tssAddress(IO_MAP_BASE));
    if (aborted()) return false;
    const at = base + (port >> 3);
    // two bytes are read whatever the size
    if (at + 1 <= limit) {
      const bits = <u32>readSystem<u16>(tssAddress(at));
      if (aborted()) return false;
      if (!((bits >> (port & 7)) & (((<u32>1) << size) - 1))) return true;
    }
  }
  raiseError(VEC_GP, 0);
  return false;
}
