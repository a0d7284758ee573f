// SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS: flat segments from MSRs, no descriptor is read.
import { R_SIZE } from "../abi/record";
import {
  CPL,
  EFER,
  EFLAGS_REST,
  MSR_FMASK,
  MSR_KERNEL_GS_BASE,
  MSR_LSTAR,
  MSR_STAR,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  RCX,
  RDX,
  RIP,
  RSP,
  SEG_CS,
  SEG_GS,
  SEG_SS,
  SEGS,
  SG_BASE,
} from "../abi/state";
import {
  EFER_SCE,
  FLAG_IF,
  FLAG_RF,
  FLAG_VM,
  SA_ACCESSED,
  SA_CODE,
  SA_DB,
  SA_DPL_SHIFT,
  SA_G,
  SA_L,
  SA_P,
  SA_READ,
  SA_S,
  SA_WRITE,
  SEL_ERROR,
  VEC_UD,
} from "../abi/x86";
import { getRflags, setRflags } from "../state/flags";
import { raise } from "../state/stop";
import { stepByNewFlags } from "../system/debug";
import { hasSep } from "../system/features";
import { code64, cpl, deriveSegment, longMode, protectionEnabled, recomputeTransfer } from "../system/mode";
import { setSegment } from "../system/segments";
import { canonical } from "../system/width";
import { gp0 } from "./privilege";

const R11 = 0x1058;
const FLAT: u32 = 0xffffffff;
const CODE = SA_P | SA_S | SA_CODE | SA_READ | SA_ACCESSED | SA_G;
const DATA = SA_P | SA_S | SA_WRITE | SA_ACCESSED | SA_G | SA_DB;
/** RFLAGS bits that SYSRET loads. */
const SYSRET_FLAGS: u64 = 0x3c7fd7;

/** Flat CS and SS at a level; long: 64-bit code, else 32-bit. */
function flatSegments(cs: u32, ss: u32, level: u32, long: bool): void {
  const dpl = level << SA_DPL_SHIFT;
  setSegment(SEG_CS, (cs & SEL_ERROR) | level, 0, FLAT, CODE | dpl | (long ? SA_L : SA_DB));
  setSegment(SEG_SS, (ss & SEL_ERROR) | level, 0, FLAT, DATA | dpl);
  store<u32>(CPL, level);
}

function selectors(base: u64): u32 {
  return <u32>base & 0xffff;
}

/** @sdm 2B "SYSCALL-Fast System Call" */
export function syscall(_rec: usize): void {
  if (!code64() || !(load<u64>(EFER) & EFER_SCE)) {
    raise(VEC_UD);
    return;
  }
  const flags = getRflags() & ~(<u64>FLAG_RF);
  const cs = selectors(load<u64>(MSR_STAR) >> 32);
  store<u64>(RCX, load<u64>(RIP));
  store<u64>(R11, flags);
  setRflags(flags & ~load<u64>(MSR_FMASK));
  flatSegments(cs, (cs & SEL_ERROR) + 8, 0, true);
  recomputeTransfer();
  store<u64>(RIP, load<u64>(MSR_LSTAR));
  stepByNewFlags();
}

/** @sdm 2B "SYSRET-Return From Fast System Call" */
export function sysret(rec: usize): void {
  if (!code64() || !(load<u64>(EFER) & EFER_SCE)) {
    raise(VEC_UD);
    return;
  }
  const wide = load<u8>(rec, R_SIZE) == 8;
  const rip = wide ? load<u64>(RCX) : <u64>load<u32>(RCX);
  if (cpl() != 0 || (wide && !canonical(rip))) {
    gp0();
    return;
  }
  const star = selectors(load<u64>(MSR_STAR) >> 48);
  setRflags(load<u64>(R11) & SYSRET_FLAGS);
  flatSegments(wide ? star + 16 : star, star + 8, 3, wide);
  recomputeTransfer();
  store<u64>(RIP, rip);
  stepByNewFlags();
}

/** @sdm 2B "SYSENTER-Fast System Call" */
export function sysenter(_rec: usize): void {
  if (!hasSep()) {
    raise(VEC_UD);
    return;
  }
  const cs = selectors(load<u64>(MSR_SYSENTER_CS));
  if (!protectionEnabled() || (cs & SEL_ERROR) == 0) {
    gp0();
    return;
  }
  const long = longMode();
  store<u32>(EFLAGS_REST, load<u32>(EFLAGS_REST) & ~(FLAG_VM | FLAG_IF | FLAG_RF));
  flatSegments(cs, (cs & SEL_ERROR) + 8, 0, long);
  recomputeTransfer();
  const mask: u64 = long ? 0xffffffffffffffff : 0xffffffff;
  store<u64>(RSP, load<u64>(MSR_SYSENTER_ESP) & mask);
  store<u64>(RIP, load<u64>(MSR_SYSENTER_EIP) & mask);
}

/** @sdm 2B "SYSEXIT-Fast Return from Fast System Call" */
export function sysexit(rec: usize): void {
  if (!hasSep()) {
    raise(VEC_UD);
    return;
  }
  const cs = selectors(load<u64>(MSR_SYSENTER_CS)) & SEL_ERROR;
  const wide = load<u8>(rec, R_SIZE) == 8;
  const rip = wide ? load<u64>(RDX) : <u64>load<u32>(RDX);
  const rsp = wide ? load<u64>(RCX) : <u64>load<u32>(RCX);
  if (!protectionEnabled() || cs == 0 || cpl() != 0 || !canonical(rip) || !canonical(rsp)) {
    gp0();
    return;
  }
  if (wide) flatSegments(cs + 32, cs + 40, 3, true);
  else flatSegments(cs + 16, cs + 24, 3, false);
  recomputeTransfer();
  store<u64>(RSP, rsp);
  store<u64>(RIP, rip);
}

/** @sdm 2B "SWAPGS-Swap GS Base Register" */
export function swapgs(_rec: usize): void {
  if (!code64()) {
    raise(VEC_UD);
    return;
  }
  if (cpl() != 0) {
    gp0();
    return;
  }
  const base = load<u64>(SEGS + SEG_GS + SG_BASE);
  store<u64>(SEGS + SEG_GS + SG_BASE, load<u64>(MSR_KERNEL_GS_BASE));
  store<u64>(MSR_KERNEL_GS_BASE, base);
  deriveSegment(SEG_GS);
}
