// MOV to and from control and debug registers, CLTS, LMSW, SMSW. @sdm 2B "MOV-Move to/from Control Registers"
import { PRIMARY_USE_TPR_SHADOW } from "../abi/controls";
import { R_SIZE } from "../abi/record";
import { CR0, CR2, CR3, CR4, CR8, DR7, EV_PAYLOAD, GPR, MODE, ModeBit, SEGS, SG_EFFECTIVE } from "../abi/state";
import { CR0_PE, CR0_TS, CR4_DE, CR4_UMIP, DR6_BD, DR7_GD, VEC_DB, VEC_UD } from "../abi/x86";
import { aborted, raise } from "../state/stop";
import { writeCr0, writeCr3, writeCr4, writeCr8 } from "../system/control";
import { readDr, writeDr } from "../system/debug";
import { code64, cpl, recomputeMode } from "../system/mode";
import {
  exitClts,
  exitLmsw,
  exitMovDr,
  exitMovFromCr,
  exitMovToCr,
  guestCr0,
  guestCr4,
  maskCr0,
  maskCr4,
  nonRoot,
  primary,
} from "../vmx/intercept";
import { setVirtualCr8, virtualCr8 } from "../vmx/virtualApic";
import { effectiveAddress, isMem, probeMemory, readRm, segmentOf, setDst } from "./operands";
import { gp0, gpr, regField, requireCpl0, rmField } from "./privilege";

/** CR0, CR2, CR3, CR4, and CR8 in 64-bit mode. */
function crExists(cr: u32): bool {
  return cr == 0 || (cr >= 2 && cr <= 4) || (cr == 8 && code64());
}

function operand(rec: usize): u64 {
  const value = gpr(rmField(rec));
  return code64() ? value : value & 0xffffffff;
}

export function movToCr(rec: usize): void {
  const cr = regField(rec);
  if (!crExists(cr)) {
    raise(VEC_UD);
    return;
  }
  if (!requireCpl0()) return;
  let value = operand(rec);
  if (nonRoot()) {
    if (exitMovToCr(cr, rmField(rec), value, rec)) return;
    if (cr == 0) value = maskCr0(value);
    if (cr == 4) value = maskCr4(value);
    if (cr == 8 && primary(PRIMARY_USE_TPR_SHADOW)) {
      if (value >> 4) gp0();
      else setVirtualCr8(value);
      return;
    }
  }
  if (!writeCr(cr, value) && !aborted()) gp0();
}

function writeCr(cr: u32, value: u64): bool {
  if (cr == 0) return writeCr0(value);
  if (cr == 3) return writeCr3(value);
  if (cr == 4) return writeCr4(value);
  if (cr == 8) return writeCr8(value);
  store<u64>(CR2, value);
  return true;
}

export function movFromCr(rec: usize): void {
  const cr = regField(rec);
  if (!crExists(cr)) {
    raise(VEC_UD);
    return;
  }
  if (!requireCpl0()) return;
  if (nonRoot() && exitMovFromCr(cr, rmField(rec), rec)) return;
  const value = readCr(cr);
  store<u64>(GPR + rmField(rec) * 8, code64() ? value : value & 0xffffffff);
}

function readCr(cr: u32): u64 {
  if (cr == 0) return visibleCr0();
  if (cr == 2) return load<u64>(CR2);
  if (cr == 3) return load<u64>(CR3);
  if (cr == 4) return nonRoot() ? guestCr4() : load<u64>(CR4);
  return nonRoot() && primary(PRIMARY_USE_TPR_SHADOW) ? virtualCr8() : load<u64>(CR8);
}

/** CR0 as software sees it: read shadow in the bits that the host owns. */
function visibleCr0(): u64 {
  return nonRoot() ? guestCr0() : load<u64>(CR0);
}

/** @sdm 2A "CLTS-Clear Task-Switched Flag in CR0" */
export function clts(rec: usize): void {
  if (!requireCpl0()) return;
  if (nonRoot()) {
    if (exitClts(rec)) return;
    // a TS that the host owns stays as it is
    store<u64>(CR0, (load<u64>(CR0) & ~(<u64>CR0_TS)) | (maskCr0(load<u64>(CR0) & ~(<u64>CR0_TS)) & CR0_TS));
    return;
  }
  store<u64>(CR0, load<u64>(CR0) & ~(<u64>CR0_TS));
}

/** PE MP EM TS; PE can be set but not cleared. @sdm 2A "LMSW-Load Machine Status Word" */
export function lmsw(rec: usize): void {
  if (!requireCpl0()) return;
  const source = <u32>readRm<u16>(rec);
  if (aborted()) return;
  const memory = isMem(rec);
  const old = load<u64>(CR0);
  if (nonRoot()) {
    const linear = memory ? load<u64>(SEGS + segmentOf(rec) + SG_EFFECTIVE) + effectiveAddress(rec) : 0;
    if (exitLmsw(source, memory, code64() ? linear : linear & 0xffffffff, rec)) return;
  }
  let value = (old & ~(<u64>0xe)) | (<u64>source & 0xf);
  if (nonRoot()) value = maskCr0(value) | (old & CR0_PE);
  if (!writeCr0(value) && !aborted()) gp0();
}

/** A register operand takes 16, 32 or 64 bits, memory always 16. @sdm 2B "SMSW-Store Machine Status Word" */
export function smsw(rec: usize): void {
  if (umip()) return;
  storeSystem(rec, visibleCr0());
}

/** #GP(0) of SGDT, SIDT, SLDT, STR and SMSW under CR4.UMIP. */
export function umip(): bool {
  if (!(load<u64>(CR4) & CR4_UMIP) || cpl() == 0) return false;
  gp0();
  return true;
}

/** Destination of SMSW, SLDT and STR. */
export function storeSystem(rec: usize, value: u64): void {
  const size = <u32>load<u8>(rec, R_SIZE);
  if (isMem(rec)) {
    const host = probeMemory<u16>(rec);
    if (host) store<u16>(host, <u16>value);
  } else if (size == 2) setDst<u16>(rec, <u16>value);
  else if (size == 4) setDst<u32>(rec, <u32>value);
  else setDst<u64>(rec, value);
}

// --- debug registers: the exit comes before every fault. @sdm 3C "Instructions That Cause VM Exits Conditionally" (MOV DR) ---

/** DR number, 4 and 5 as aliases of 6 and 7; 8 when a fault is recorded. */
function debugRegister(rec: usize): u32 {
  let dr = regField(rec);
  if (dr > 7 || ((dr == 4 || dr == 5) && load<u64>(CR4) & CR4_DE)) {
    raise(VEC_UD);
    return 8;
  }
  if (!requireCpl0()) return 8;
  if (load<u64>(DR7) & DR7_GD) {
    raise(VEC_DB);
    store<u64>(EV_PAYLOAD, DR6_BD);
    return 8;
  }
  if (dr == 4 || dr == 5) dr += 2;
  return dr;
}

export function movToDr(rec: usize): void {
  if (nonRoot() && exitMovDr(regField(rec), false, rmField(rec), rec)) return;
  const dr = debugRegister(rec);
  if (dr == 8) return;
  const before = load<u64>(DR7);
  if (!writeDr(dr, operand(rec))) gp0();
  else if (load<u64>(DR7) != before) recomputeMode();
}

export function movFromDr(rec: usize): void {
  if (nonRoot() && exitMovDr(regField(rec), true, rmField(rec), rec)) return;
  const dr = debugRegister(rec);
  if (dr == 8) return;
  const value = readDr(dr);
  store<u64>(GPR + rmField(rec) * 8, load<u32>(MODE) & ModeBit.Code64 ? value : value & 0xffffffff);
}
