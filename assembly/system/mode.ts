// What follows from control registers, CS, SS and CPL: the mode word, the derived fields of segments, the translation mode.
import {
  CODE_END,
  CPL,
  CR0,
  CR4,
  EFER,
  EFLAGS_REST,
  GPR,
  LINEAR_MASK,
  MODE,
  ModeBit,
  RIP,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_SIZE,
  SEG_SS,
  SEG_TR,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_EFFECTIVE,
  SG_LIMIT,
  SG_READ_END,
  SG_WRITE_END,
  TAG_REAL,
  TR_APIC_PAGE,
  TR_EPTP,
  TR_MODE,
  TR_TABLE,
  TR_TAG,
  TransBit,
} from "../abi/state";
import {
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_PAE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_LMA,
  EFER_NXE,
  FLAG_AC,
  FLAG_VM,
  SA_CODE,
  SA_DB,
  SA_DOWN,
  SA_L,
  SA_P,
  SA_READ,
  SA_S,
  SA_UNUSABLE,
  SA_WRITE,
} from "../abi/x86";
import { checksAlignment, selectContext, tlbTable } from "../memory/context";
import { Watch } from "../memory/watch";
import { CpuidAnswers } from "./cpuidCache";

/** TR_APIC_PAGE: no page. */
export const NO_APIC_PAGE: u64 = 0xffffffffffffffff;
const ALL: u64 = 0xffffffffffffffff;
const LOW32: u64 = 0xffffffff;

export function protectedMode(): bool {
  return (load<u32>(MODE) & ModeBit.Protected) != 0;
}

/** CR0.PE = 1, vm86 included. */
export function protectionEnabled(): bool {
  return (load<u64>(CR0) & CR0_PE) != 0;
}

export function vm86(): bool {
  return (load<u32>(MODE) & ModeBit.Vm86) != 0;
}

export function code64(): bool {
  return (load<u32>(MODE) & ModeBit.Code64) != 0;
}

/** IA-32e mode: 64-bit or compatibility. */
export function longMode(): bool {
  return (load<u32>(MODE) & ModeBit.LongMode) != 0;
}

export function cpl(): u32 {
  return load<u32>(CPL);
}

/** Rises with every change of a segment or descriptor-table register by an instruction or event: vmx/ saves what has changed. */
export let segmentChanges: u32 = 0;

export function noteSegmentChange(): void {
  segmentChanges++;
}

/** Derived fields of one segment; seg is SEG_*. Needs an up-to-date mode word. */
export function deriveSegment(seg: u32): void {
  segmentChanges++;
  const at: usize = SEGS + seg;
  const mode = load<u32>(MODE);
  const attr = load<u32>(at, SG_ATTR);
  const base = load<u64>(at, SG_BASE);
  let effective = base;
  let readEnd: u64 = 0;
  let writeEnd: u64 = 0;
  if (mode & ModeBit.Code64) {
    if (seg <= <u32>SEG_SS || seg == SEG_SS + SEG_SIZE) effective = 0; // ES CS SS DS
    readEnd = ALL;
    writeEnd = ALL;
  } else {
    if (!(mode & ModeBit.LongMode)) effective = base & LOW32;
    const end = <u64>load<u32>(at, SG_LIMIT) + 1;
    if (!(mode & ModeBit.Protected)) {
      // real mode and vm86: CS is writable whatever its cached type says
      if (seg == SEG_CS || !(attr & (SA_CODE | SA_DOWN | SA_UNUSABLE))) {
        readEnd = end;
        writeEnd = end;
      }
    } else if (!(attr & SA_UNUSABLE) && (attr & (SA_S | SA_P)) == (SA_S | SA_P)) {
      if (attr & SA_CODE) {
        if (attr & SA_READ) readEnd = end;
      } else if (!(attr & SA_DOWN)) {
        readEnd = end;
        if (attr & SA_WRITE) writeEnd = end;
      }
    }
  }
  store<u64>(at, effective, SG_EFFECTIVE);
  store<u64>(at, readEnd, SG_READ_END);
  store<u64>(at, writeEnd, SG_WRITE_END);
}

function modeWord(): u32 {
  const user: u32 = load<u32>(CPL) == 3 ? ModeBit.User : 0;
  const cs = load<u32>(SEGS + SEG_CS + SG_ATTR);
  const code: u32 = cs & SA_DB ? ModeBit.Code32 : 0;
  const stack: u32 = load<u32>(SEGS + SEG_SS + SG_ATTR) & SA_DB ? ModeBit.Stack32 : 0;
  if (!(load<u64>(CR0) & CR0_PE)) return user | code | stack;
  if (load<u64>(EFER) & EFER_LMA) {
    if (cs & SA_L) return user | ModeBit.Protected | ModeBit.LongMode | ModeBit.Code64;
    return user | code | stack | ModeBit.Protected | ModeBit.LongMode;
  }
  if (load<u32>(EFLAGS_REST) & FLAG_VM) return user | ModeBit.Vm86;
  return user | code | stack | ModeBit.Protected;
}

export class UnderVmx {
  /** The bits of TR_MODE that VMX controls decide. */
  @inline static translation(): u32 {
    return (load<u64>(TR_EPTP) ? TransBit.Ept : 0) | (load<u64>(TR_APIC_PAGE) == NO_APIC_PAGE ? 0 : TransBit.Apic);
  }
}

function translationMode(): u32 {
  const cr0 = load<u64>(CR0);
  const cr4 = load<u64>(CR4);
  const efer = load<u64>(EFER);
  let bits = UnderVmx.translation();
  if (cr0 & CR0_PG) bits |= TransBit.Paging;
  if (cr0 & CR0_WP) bits |= TransBit.Wp;
  if (cr4 & CR4_PAE) bits |= TransBit.Pae;
  if (cr4 & CR4_PSE) bits |= TransBit.Pse;
  if (cr4 & CR4_SMEP) bits |= TransBit.Smep;
  if (efer & EFER_LMA) bits |= TransBit.Long;
  if (efer & EFER_NXE) bits |= TransBit.Nx;
  if (cr4 & CR4_SMAP) {
    bits |= TransBit.Smap;
    if (load<u32>(EFLAGS_REST) & FLAG_AC) bits |= TransBit.Ac;
  }
  return bits;
}

/** Do all segments that 32-bit code uses by default cover the whole address space? */
function flat(mode: u32): bool {
  if ((mode & (ModeBit.Code32 | ModeBit.Stack32)) != (ModeBit.Code32 | ModeBit.Stack32)) return false;
  const code = load<u64>(SEGS + SEG_CS + SG_EFFECTIVE) | (<u64>load<u32>(SEGS + SEG_CS + SG_LIMIT) ^ 0xffffffff);
  return (code | bounds(SEG_ES) | bounds(SEG_SS) | bounds(SEG_DS)) == 0;
}

/** Must follow a change of ES, DS, FS or GS alone. */
export function deriveData(seg: u32): void {
  deriveSegment(seg);
  if (seg > <u32>SEG_DS) return;
  const mode = load<u32>(MODE) & ~ModeBit.Flat;
  const others = (load<u32>(MODE) & ModeBit.Flat) != 0;
  store<u32>(MODE, (others ? bounds(seg) == 0 : flat(mode)) ? mode | ModeBit.Flat : mode);
}

/** 0 when a data segment covers the whole address space. */
function bounds(seg: u32): u64 {
  return load<u64>(SEGS + seg + SG_EFFECTIVE) | (load<u64>(SEGS + seg + SG_WRITE_END) ^ 0x100000000);
}

/** 63:32 are undefined after 64-bit mode is left; here they are 0. @sdm 1 "General-Purpose Registers in 64-Bit Mode" */
export function leaveMode64(before: u32, mode: u32): void {
  if (!(before & ~mode & ModeBit.Code64)) return;
  for (let r = 0; r < 8; r++) store<u64>(GPR + r * 8, <u64>load<u32>(GPR + r * 8));
  store<u64>(RIP, <u64>load<u32>(RIP));
}

/** Does RFLAGS.AC mean to accesses at this CPL what it meant before? */
function alignmentStays(): bool {
  if (load<u64>(TR_TAG) != load<u64>(TAG_REAL) || checksAlignment()) return false;
  const mode = load<u32>(TR_MODE);
  const ac = (load<u32>(EFLAGS_REST) & FLAG_AC) != 0;
  return !(mode & TransBit.Smap) || ac == ((mode & TransBit.Ac) != 0);
}

/** Must follow a change of CPL, CS, SS or RFLAGS.AC that nothing else went with: a gate, a return, a system call. */
export function recomputeTransfer(): void {
  const before = load<u32>(MODE);
  const mode = modeWord();
  if ((before ^ mode) & ~(ModeBit.User | ModeBit.Flat)) {
    recomputeMode();
    return;
  }
  store<u32>(MODE, mode);
  // 64-bit code has the same derived fields at every level
  if (!(mode & ModeBit.Code64)) {
    deriveSegment(SEG_CS);
    deriveSegment(SEG_SS);
    if (flat(mode)) store<u32>(MODE, mode | ModeBit.Flat);
    store<u64>(CODE_END, <u64>load<u32>(SEGS + SEG_CS + SG_LIMIT) + 1);
  }
  store<u32>(TR_TABLE, tlbTable(load<u32>(CPL) == 3));
  if (alignmentStays()) return;
  store<u32>(TR_MODE, translationMode());
  selectContext();
}

/** Must follow every change of CR0, CR4, EFER, CPL, CS, SS, RFLAGS.VM or RFLAGS.AC. */
export function recomputeMode(): void {
  CpuidAnswers.forget();
  const mode = modeWord();
  leaveMode64(load<u32>(MODE), mode);
  store<u32>(MODE, mode);
  const long = (mode & ModeBit.Code64) != 0;
  for (let seg: u32 = 0; seg <= <u32>SEG_TR; seg += SEG_SIZE) deriveSegment(seg);
  if (flat(mode)) store<u32>(MODE, mode | ModeBit.Flat);
  store<u64>(CODE_END, long ? ALL : <u64>load<u32>(SEGS + SEG_CS + SG_LIMIT) + 1);
  store<u64>(LINEAR_MASK, long ? ALL : LOW32);
  store<u32>(TR_MODE, translationMode());
  Watch.followDr7();
  selectContext();
}
