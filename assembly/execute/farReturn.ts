// RETF and IRET. @sdm 2B "RET-Return from Procedure", 2A "IRET/IRETD/IRETQ-Interrupt Return"
import { R_IMM, R_SIZE } from "../abi/record";
import {
  CPL,
  EFLAGS_REST,
  INTERRUPTIBILITY,
  RIP,
  RSP,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_SS,
  SEGS,
  SG_LIMIT,
  STOP,
  StopBit,
} from "../abi/state";
import {
  BLOCK_NMI,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_RF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  SEL_RPL,
  UNBLOCKED_BY_IRET,
  VEC_GP,
} from "../abi/x86";
import { aborted } from "../state/stop";
import { changeableFlags, FLAGS_FREE, FLAGS_WIDE, replaceFlags } from "../system/flagControl";
import { code64, cpl, longMode, protectedMode, recomputeMode, recomputeTransfer, vm86 } from "../system/mode";
import { selectorOf, setRealSegment, setVm86Segment } from "../system/segments";
import { iopl } from "../system/tss";
import { setVif, virtualFlags, virtualImageFaults } from "../system/virtualInterrupt";
import { mergeSp } from "../system/width";
import { iretUnblocksNmi } from "../vmx/boundary";
import {
  checkOffset,
  chooseReturnCode,
  chooseReturnStack,
  commitCode,
  commitReturnStack,
  dropDataSegments,
  fault,
  stackOperand,
} from "./farTarget";
import { returnShort } from "./shortTransfer";
import { returnToTask } from "./task";

const VM86_LIMIT: u64 = 0xffff;
/** IF and IOPL, besides the free ones, of an IRET in real mode. */
const REAL_FLAGS: u64 = 0x3200;

export function retFar(rec: usize): void {
  far(load<u8>(rec, R_SIZE), 0);
}

export function retFarImm(rec: usize): void {
  far(load<u8>(rec, R_SIZE), load<u16>(rec, R_IMM));
}

function far(size: u32, extra: u32): void {
  if (returnShort(size, false, extra)) return;
  const rip = stackOperand(size, 0);
  if (aborted()) return;
  const selector = <u32>stackOperand(size, size) & 0xffff;
  if (aborted()) return;
  const popped = 2 * size + extra;
  if (!protectedMode()) {
    if (realTarget(selector, rip)) store<u64>(RSP, mergeSp(load<u64>(RSP) + popped));
    return;
  }
  if (!chooseReturnCode(selector)) return;
  const level = selector & SEL_RPL;
  const outer = level > cpl();
  let sp: u64 = 0;
  if (outer) {
    sp = stackOperand(size, popped);
    if (aborted()) return;
    const stack = <u32>stackOperand(size, popped + size) & 0xffff;
    if (aborted() || !chooseReturnStack(stack, level)) return;
  }
  const offset = checkOffset(rip);
  if (aborted()) return;
  if (!outer) store<u64>(RSP, mergeSp(load<u64>(RSP) + popped));
  commitCode(level);
  if (outer) {
    commitReturnStack(sp + extra);
    dropDataSegments(level);
  }
  recomputeTransfer();
  store<u64>(RIP, offset);
}

/** Real mode and vm86: CS and RIP; false when a fault is recorded. */
function realTarget(selector: u32, rip: u64): bool {
  if (rip > <u64>load<u32>(SEGS + SEG_CS + SG_LIMIT)) return fault(VEC_GP, 0);
  store<u64>(RIP, rip);
  if (selector == selectorOf(SEG_CS)) return true;
  setRealSegment(SEG_CS, selector);
  recomputeTransfer();
  return true;
}

/** IRET ends the blocking of NMIs even when it faults. @sdm 3A "Handling Multiple NMIs" */
export function iret(rec: usize): void {
  if (returnShort(load<u8>(rec, R_SIZE), true, 0)) return;
  const blocking = load<u32>(INTERRUPTIBILITY);
  const unblocks = (blocking & BLOCK_NMI) != 0 && iretUnblocksNmi();
  if (unblocks) store<u32>(INTERRUPTIBILITY, (blocking & ~BLOCK_NMI) | UNBLOCKED_BY_IRET);
  iretAny(load<u8>(rec, R_SIZE), rec);
  // a fault or exit reports it; a stop for the host leaves no effect
  const stop = load<u32>(STOP);
  if (!unblocks || stop & (StopBit.Event | StopBit.Exit)) return;
  store<u32>(
    INTERRUPTIBILITY,
    stop & (StopBit.Host | StopBit.Alone) ? blocking : load<u32>(INTERRUPTIBILITY) & ~UNBLOCKED_BY_IRET,
  );
}

function iretAny(size: u32, rec: usize): void {
  if (vm86()) {
    if (iopl() == 3) iretReal(size, true);
    else if (virtualFlags(size)) iretVirtual();
    else fault(VEC_GP, 0);
    return;
  }
  if (!protectedMode()) {
    iretReal(size, false);
    return;
  }
  if (load<u32>(EFLAGS_REST) & FLAG_NT) {
    if (longMode()) fault(VEC_GP, 0);
    else returnToTask(rec);
    return;
  }
  iretProtected(size);
}

function iretReal(size: u32, virtual: bool): void {
  const rip = stackOperand(size, 0);
  if (aborted()) return;
  const selector = <u32>stackOperand(size, size) & 0xffff;
  if (aborted()) return;
  const flags = stackOperand(size, 2 * size);
  if (aborted()) return;
  let mask = FLAGS_FREE | REAL_FLAGS;
  if (size > 2) mask |= FLAGS_WIDE | FLAG_RF;
  if (virtual) mask &= ~(<u64>FLAG_IOPL);
  const sp = mergeSp(load<u64>(RSP) + 3 * size);
  if (!realTarget(selector, rip)) return;
  store<u64>(RSP, sp);
  if (replaceFlags(flags, mask)) recomputeMode();
}

/** vm86 under VME with IOPL below 3: the popped IF goes to VIF. */
function iretVirtual(): void {
  const ip = stackOperand(2, 0);
  if (aborted()) return;
  const selector = <u32>stackOperand(2, 2);
  if (aborted()) return;
  const flags = stackOperand(2, 4);
  if (aborted()) return;
  if (virtualImageFaults(flags)) {
    fault(VEC_GP, 0);
    return;
  }
  const sp = mergeSp(load<u64>(RSP) + 6);
  if (!realTarget(selector, ip)) return;
  store<u64>(RSP, sp);
  replaceFlags(flags, FLAGS_FREE);
  setVif((flags & FLAG_IF) != 0);
}

function iretProtected(size: u32): void {
  const from = cpl();
  const rip = stackOperand(size, 0);
  if (aborted()) return;
  const selector = <u32>stackOperand(size, size) & 0xffff;
  if (aborted()) return;
  const flags = stackOperand(size, 2 * size);
  if (aborted()) return;
  if (size == 4 && flags & FLAG_VM && from == 0 && !longMode()) {
    toVm86(rip, selector, flags);
    return;
  }
  if (!chooseReturnCode(selector)) return;
  const level = selector & SEL_RPL;
  const outer = level > from;
  // 64-bit mode pops SS:RSP whether or not the privilege changes
  const popsStack = outer || code64();
  let sp: u64 = 0;
  if (popsStack) {
    sp = stackOperand(size, 3 * size);
    if (aborted()) return;
    const stack = <u32>stackOperand(size, 4 * size) & 0xffff;
    if (aborted() || !chooseReturnStack(stack, level)) return;
  }
  const offset = checkOffset(rip);
  if (aborted()) return;
  if (!popsStack) store<u64>(RSP, mergeSp(load<u64>(RSP) + 3 * size));
  const mask = changeableFlags(size, from, true);
  commitCode(level);
  if (popsStack) commitReturnStack(sp);
  if (outer) dropDataSegments(level);
  replaceFlags(flags, mask);
  recomputeTransfer();
  store<u64>(RIP, offset);
}

/** @sdm 3B "Entering Virtual-8086 Mode" */
function toVm86(rip: u64, selector: u32, flags: u64): void {
  const sp = stackOperand(4, 12);
  if (aborted()) return;
  const ss = <u32>stackOperand(4, 16);
  if (aborted()) return;
  const es = <u32>stackOperand(4, 20);
  if (aborted()) return;
  const ds = <u32>stackOperand(4, 24);
  if (aborted()) return;
  const fs = <u32>stackOperand(4, 28);
  if (aborted()) return;
  const gs = <u32>stackOperand(4, 32);
  if (aborted()) return;
  if (rip > VM86_LIMIT) {
    fault(VEC_GP, 0);
    return;
  }
  setVm86Segment(SEG_CS, selector);
  setVm86Segment(SEG_SS, ss);
  setVm86Segment(SEG_ES, es);
  setVm86Segment(SEG_DS, ds);
  setVm86Segment(SEG_FS, fs);
  setVm86Segment(SEG_GS, gs);
  store<u64>(RSP, sp);
  store<u32>(CPL, 3);
  replaceFlags(flags, FLAGS_FREE | FLAGS_WIDE | REAL_FLAGS | FLAG_RF | FLAG_VM | FLAG_VIF | FLAG_VIP);
  recomputeMode();
  store<u64>(RIP, rip);
}
