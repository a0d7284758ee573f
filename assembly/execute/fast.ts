// Bodies of the short forms: what dispatch() carries out itself, without a call. R_FAST numbers them
// (dispatch.generated.ts). None of them can stop; where one could, dispatch() has the whole handler run instead.
import { TE_ADDEND, TE_READ } from "../abi/layout";
import { R_ADDR_SHIFT, R_BASE, R_DISP, R_DST, R_IDX, R_IMM, R_LEN, R_OFF, R_SIZE, R_SRC } from "../abi/record";
import {
  BLOCK_RIP,
  CODE_END,
  FLAG_CARRIES,
  FLAG_RESULT,
  GPR,
  HOOKS,
  HookBit,
  LINEAR_MASK,
  MODE,
  ModeBit,
  MSR_MISC_FEATURES_ENABLES,
  RAX,
  RBX,
  RCX,
  RDX,
  RSP,
  SEGS,
  SG_EFFECTIVE,
  SG_READ_END,
  TR_TABLE,
  TR_TAG,
} from "../abi/state";
import { MISC_CPUID_FAULTING } from "../abi/x86";
import { tlbMask } from "../memory/context";
import { getCF } from "../state/flags";
import { CPUID_CACHE_ENTRY, CPUID_CACHE_MASK, cpuidCache } from "../system/cpuidCache";
import { AluOp, ShiftOp, UnaryOp } from "./ops";

/** Bits that a value of R_SIZE bytes leaves free. */
function room(rec: usize): u64 {
  return 64 - (u64(load<u8>(rec, R_SIZE)) << 3);
}

export class Fast {
  @inline static dst<T>(rec: usize): T {
    return load<T>(load<u8>(rec, R_DST), GPR);
  }
  @inline static src<T>(rec: usize): T {
    return load<T>(load<u8>(rec, R_SRC), GPR);
  }
  /** 8 and 16 bits are merged: an access of another width than the one before it is slow on the machine below. */
  @inline static setDst<T>(rec: usize, value: T): void {
    const slot: usize = load<u8>(rec, R_DST);
    if (sizeof<T>() == 8) store<u64>(slot, u64(value), GPR);
    else if (sizeof<T>() == 4) store<u64>(slot, u64(u32(value)), GPR);
    else if (sizeof<T>() == 2) store<u64>(slot, (load<u64>(slot, GPR) & ~0xffff) | u64(u16(value)), GPR);
    else store<u64>(slot, (load<u64>(slot, GPR) & ~0xff) | u64(u8(value)), GPR);
  }

  /** Segment-relative address of the memory operand. */
  @inline static address(rec: usize): u64 {
    const shift = u64(load<u8>(rec, R_ADDR_SHIFT));
    const index: usize = load<u8>(rec, R_IDX);
    const sum =
      load<u64>(load<u8>(rec, R_BASE), GPR) + (load<u64>(index & 0xf8, GPR) << u64(index & 7)) + load<u64>(rec, R_DISP);
    return (sum << shift) >> shift;
  }

  /** Stack offset of a push (`down`) or pop of R_SIZE bytes; an offset that no segment holds when SP has 16 bits. */
  @inline static stackAddress(rec: usize, down: bool): u64 {
    const sp = load<u64>(RSP) - (down ? u64(load<u8>(rec, R_SIZE)) : 0);
    const mode = load<u32>(MODE);
    if (mode & ModeBit.Code64) return sp;
    return mode & ModeBit.Stack32 ? u64(u32(sp)) : 1 << 40;
  }

  /** Where R_SIZE bytes at an offset of a segment are, when the TLB has them and they may be accessed; else 0. */
  @inline static place(rec: usize, ea: u64, seg: usize, write: bool): usize {
    const way = u32(write) << 3; // from READ to WRITE
    const size = u32(load<u8>(rec, R_SIZE));
    const linear = (ea + load<u64>(seg, SEGS + SG_EFFECTIVE)) & load<u64>(LINEAR_MASK);
    const e = load<u32>(TR_TABLE) + ((u32(linear >> 12) & tlbMask) << 5);
    if (
      ea + size <= load<u64>(seg + way, SEGS + SG_READ_END) &&
      load<u64>(e + way, TE_READ) == ((linear >> 12) | load<u64>(TR_TAG)) &&
      (u32(linear) & 0xfff) + size <= 4096
    ) {
      return u32(linear) + load<u32>(e, TE_ADDEND);
    }
    return 0;
  }

  /** Can a near branch go there? */
  @inline static reachable(target: u64): bool {
    return target < load<u64>(CODE_END) && u64((i64(target) << 16) >> 16) == target;
  }

  /** CPUID by an answer that is kept; false: none may be given, or none is. */
  @inline static cpuid(): bool {
    const e: usize = cpuidCache + (load<u32>(RAX) & CPUID_CACHE_MASK) * CPUID_CACHE_ENTRY;
    if (
      load<u32>(HOOKS) & HookBit.Cpuid ||
      load<u32>(MSR_MISC_FEATURES_ENABLES) & MISC_CPUID_FAULTING ||
      load<u32>(e) != load<u32>(RAX) ||
      load<u32>(e, 4) != load<u32>(RCX)
    ) {
      return false;
    }
    store<u64>(RAX, <u64>load<u32>(e, 8));
    store<u64>(RBX, <u64>load<u32>(e, 12));
    store<u64>(RCX, <u64>load<u32>(e, 16));
    store<u64>(RDX, <u64>load<u32>(e, 20));
    return true;
  }

  /** Target of a relative branch, truncated to the operand size. */
  @inline static relative(rec: usize): u64 {
    const target = load<u64>(BLOCK_RIP) + load<u64>(rec, R_IMM);
    const size = load<u8>(rec, R_SIZE);
    return size == 4 ? u64(u32(target)) : size == 8 ? target : u64(u16(target));
  }

  /** RIP of the instruction after it. */
  @inline static next(rec: usize): u64 {
    return (load<u64>(BLOCK_RIP) + load<u16>(rec, R_OFF) + load<u8>(rec, R_LEN)) & load<u64>(LINEAR_MASK);
  }

  /** Does condition k hold? The low nibble of the opcode, as in condition.ts. */
  @inline static condition(k: u32): bool {
    const c = load<u32>(FLAG_CARRIES);
    let r = false;
    if (k >> 1 == 0) r = i32((c << 1) ^ c) < 0;
    else if (k >> 1 == 1) r = i32(c) < 0;
    else if (k >> 1 == 2) r = load<u64>(FLAG_RESULT) == 0;
    else if (k >> 1 == 3) r = (u32(i32(c) < 0) | u32(load<u64>(FLAG_RESULT) == 0)) != 0;
    else if (k >> 1 == 4) r = ((u32(load<u64>(FLAG_RESULT) >> 63) ^ c) & 1) != 0;
    else if (k >> 1 == 5) r = !(popcnt(u32(load<u8>(FLAG_RESULT)) ^ ((c >>> 8) & 0xff)) & 1);
    else {
      r = ((u32(load<u64>(FLAG_RESULT) >> 63) ^ c ^ (((c << 1) ^ c) >>> 31)) & 1) != 0;
      if (k >> 1 == 7) r = (u32(r) | u32(load<u64>(FLAG_RESULT) == 0)) != 0;
    }
    return k & 1 ? !r : r;
  }

  // --- arithmetic and logic ---

  @inline static flags<T>(r: T, c: T): void {
    if (sizeof<T>() == 4) {
      store<i64>(FLAG_RESULT, i64(i32(r)));
      store<u32>(FLAG_CARRIES, u32(c) & 0xc0000008);
    } else {
      store<u64>(FLAG_RESULT, u64(r));
      store<u32>(FLAG_CARRIES, (u32(u64(c) >> 32) & 0xc0000000) | (u32(c) & 8));
    }
  }

  /** The operation on 32 or 64 bits; quiet: without its flags. */
  @inline static alu<T>(k: AluOp, a: T, b: T, quiet: bool): T {
    let r: T;
    if (k == AluOp.add || k == AluOp.adc) {
      r = k == AluOp.add ? ((a + b) as T) : ((a + b + (getCF() as T)) as T);
      if (!quiet) Fast.flags<T>(r, ((a & b) | ((a | b) & ~r)) as T);
    } else if (k == AluOp.sub || k == AluOp.cmp || k == AluOp.sbb) {
      r = k == AluOp.sbb ? ((a - b - (getCF() as T)) as T) : ((a - b) as T);
      if (!quiet) Fast.flags<T>(r, ((~a & b) | (~(a ^ b) & r)) as T);
    } else {
      if (k == AluOp.or) r = (a | b) as T;
      else if (k == AluOp.xor) r = (a ^ b) as T;
      else r = (a & b) as T;
      if (!quiet) Fast.flags<T>(r, 0 as T);
    }
    return r;
  }

  @inline static into<T>(rec: usize, k: AluOp, a: T, b: T, quiet: bool): void {
    const r = Fast.alu<T>(k, a, b, quiet);
    if (k != AluOp.cmp && k != AluOp.test) Fast.setDst<T>(rec, r);
  }

  @inline static rr<T>(rec: usize, k: AluOp, quiet: bool): void {
    Fast.into<T>(rec, k, Fast.dst<T>(rec), Fast.src<T>(rec), quiet);
  }
  @inline static ri<T>(rec: usize, k: AluOp, quiet: bool): void {
    Fast.into<T>(rec, k, Fast.dst<T>(rec), load<T>(rec, R_IMM), quiet);
  }
  @inline static rm<T>(rec: usize, k: AluOp, at: usize): void {
    Fast.into<T>(rec, k, Fast.dst<T>(rec), load<T>(at), false);
  }
  @inline static mb<T>(k: AluOp, at: usize, b: T): void {
    const r = Fast.alu<T>(k, load<T>(at), b, false);
    if (k != AluOp.cmp && k != AluOp.test) store<T>(at, r);
  }
  @inline static mr<T>(rec: usize, k: AluOp, at: usize): void {
    Fast.mb<T>(k, at, Fast.src<T>(rec));
  }
  @inline static mi<T>(rec: usize, k: AluOp, at: usize): void {
    Fast.mb<T>(k, at, load<T>(rec, R_IMM));
  }

  // --- 8 and 16 bits: operands stand at the top of 64 ---

  @inline static narrow(k: AluOp, a: u64, b: u64, free: u64): u64 {
    let r: u64;
    let c: u64 = 0;
    if (k == AluOp.add || k == AluOp.adc) {
      r = k == AluOp.add ? a + b : a + b + (u64(getCF()) << free);
      c = (a & b) | ((a | b) & ~r);
    } else if (k == AluOp.sub || k == AluOp.cmp || k == AluOp.sbb) {
      r = k == AluOp.sbb ? a - b - (u64(getCF()) << free) : a - b;
      c = (~a & b) | (~(a ^ b) & r);
    } else if (k == AluOp.or) r = a | b;
    else if (k == AluOp.xor) r = a ^ b;
    else r = a & b;
    store<i64>(FLAG_RESULT, i64(r) >> i64(free));
    store<u32>(FLAG_CARRIES, (u32(c >> 32) & 0xc0000000) | (u32(c >> free) & 8));
    return r;
  }

  @inline static narrowInto(rec: usize, k: AluOp, b: u64): void {
    const free = room(rec);
    const slot: usize = load<u8>(rec, R_DST);
    const old = load<u64>(slot, GPR);
    const r = Fast.narrow(k, old << free, b << free, free);
    if (k != AluOp.cmp && k != AluOp.test) {
      store<u64>(slot, (old & ~(~(0 as u64) >> free)) | (r >> free), GPR);
    }
  }

  /** The bytes at `at`, in the low ones; what stands above them is not defined. */
  @inline static narrowAt(rec: usize, at: usize): u64 {
    return load<u8>(rec, R_SIZE) == 1 ? u64(load<u8>(at)) : u64(load<u16>(at));
  }

  @inline static narrowRr(rec: usize, k: AluOp): void {
    Fast.narrowInto(rec, k, load<u64>(load<u8>(rec, R_SRC), GPR));
  }
  @inline static narrowRi(rec: usize, k: AluOp): void {
    Fast.narrowInto(rec, k, load<u64>(rec, R_IMM));
  }
  @inline static narrowRm(rec: usize, k: AluOp, at: usize): void {
    Fast.narrowInto(rec, k, Fast.narrowAt(rec, at));
  }
  @inline static narrowMb(rec: usize, k: AluOp, at: usize, b: u64): void {
    const free = room(rec);
    const r = Fast.narrow(k, Fast.narrowAt(rec, at) << free, b << free, free);
    if (k != AluOp.cmp && k != AluOp.test) {
      if (load<u8>(rec, R_SIZE) == 1) store<u8>(at, u8(r >> free));
      else store<u16>(at, u16(r >> free));
    }
  }
  @inline static narrowMr(rec: usize, k: AluOp, at: usize): void {
    Fast.narrowMb(rec, k, at, load<u64>(load<u8>(rec, R_SRC), GPR));
  }
  @inline static narrowMi(rec: usize, k: AluOp, at: usize): void {
    Fast.narrowMb(rec, k, at, load<u64>(rec, R_IMM));
  }

  // --- one operand ---

  @inline static unary<T>(k: UnaryOp, a: T, quiet: bool): T {
    if (k == UnaryOp.not) return ~a as T;
    if (k == UnaryOp.neg) return Fast.alu<T>(AluOp.sub, 0 as T, a, quiet);
    const r = k == UnaryOp.inc ? ((a + 1) as T) : ((a - 1) as T);
    if (!quiet) {
      // CF stays; bit 30 holds OF ^ CF. INC overflows from the largest value only, DEC from the smallest
      const cf = i32(load<u32>(FLAG_CARRIES)) >> 31;
      const top: T = k == UnaryOp.inc ? r : a;
      const least: T = sizeof<T>() == 4 ? (0x80000000 as T) : (0x8000000000000000 as T);
      const of_ = u32(top == least) << 30;
      store<u32>(FLAG_CARRIES, ((u32(cf) & 0xc0000000) ^ of_) | (((u32(a) ^ u32(r)) >> 1) & 8));
      if (sizeof<T>() == 4) store<i64>(FLAG_RESULT, i64(i32(r)));
      else store<u64>(FLAG_RESULT, u64(r));
    }
    return r;
  }
  @inline static unaryReg<T>(rec: usize, k: UnaryOp, quiet: bool): void {
    Fast.setDst<T>(rec, Fast.unary<T>(k, Fast.dst<T>(rec), quiet));
  }
  @inline static unaryMem<T>(k: UnaryOp, at: usize): void {
    store<T>(at, Fast.unary<T>(k, load<T>(at), false));
  }

  /** SHL, SHR, SAR by an immediate. */
  @inline static shift<T>(rec: usize, k: ShiftOp, quiet: bool): void {
    const bits: u32 = sizeof<T>() * 8;
    const n: u32 = u32(load<u8>(rec, R_IMM)) & (bits - 1);
    const a = Fast.dst<T>(rec);
    let r: T;
    if (k == ShiftOp.shl) r = (a << (n as T)) as T;
    else if (k == ShiftOp.shr) r = (a >> (n as T)) as T;
    else if (sizeof<T>() == 4) r = (i32(a) >> i32(n)) as T;
    else r = (i64(a) >> i64(n)) as T;
    if (!quiet && n) {
      let cf: u32;
      let of_: u32;
      if (k == ShiftOp.shl) {
        cf = u32(a >> ((bits - n) as T)) & 1;
        of_ = u32(r >> ((bits - 1) as T)) ^ cf;
      } else {
        cf = u32(a >> ((n - 1) as T)) & 1;
        of_ = k == ShiftOp.shr ? u32(a >> ((bits - 1) as T)) : 0;
      }
      if (sizeof<T>() == 4) store<i64>(FLAG_RESULT, i64(i32(r)));
      else store<u64>(FLAG_RESULT, u64(r));
      store<u32>(FLAG_CARRIES, (cf << 31) | ((cf ^ of_) << 30));
    }
    Fast.setDst<T>(rec, r);
  }

  /** ROL and ROR by an immediate: CF and OF alone. */
  @inline static rotate<T>(rec: usize, k: ShiftOp): void {
    const bits: u32 = sizeof<T>() * 8;
    const n: u32 = u32(load<u8>(rec, R_IMM)) & (bits - 1);
    const a = Fast.dst<T>(rec);
    const r: T = k == ShiftOp.rol ? rotl<T>(a, n as T) : rotr<T>(a, n as T);
    if (n) {
      const top = u32(r >> ((bits - 1) as T));
      const cf: u32 = k == ShiftOp.rol ? u32(r) & 1 : top;
      const of_: u32 = k == ShiftOp.rol ? top ^ cf : cf ^ (u32(r >> ((bits - 2) as T)) & 1);
      store<u32>(FLAG_CARRIES, (load<u32>(FLAG_CARRIES) & 0x3fffffff) | (cf << 31) | ((cf ^ of_) << 30));
    }
    Fast.setDst<T>(rec, r);
  }

  // --- moves ---

  @inline static movRr<T>(rec: usize): void {
    Fast.setDst<T>(rec, Fast.src<T>(rec));
  }
  @inline static movRi<T>(rec: usize): void {
    Fast.setDst<T>(rec, load<T>(rec, R_IMM));
  }
  @inline static movRm<T>(rec: usize, at: usize): void {
    Fast.setDst<T>(rec, load<T>(at));
  }
  @inline static movMr<T>(rec: usize, at: usize): void {
    store<T>(at, Fast.src<T>(rec));
  }
  @inline static movMi<T>(rec: usize, at: usize): void {
    store<T>(at, load<T>(rec, R_IMM));
  }
  @inline static lea<T>(rec: usize): void {
    Fast.setDst<T>(rec, Fast.address(rec) as T);
  }
  /** MOVZX, MOVSX, MOVSXD from S to T. */
  @inline static extend<T, S>(rec: usize): void {
    Fast.setDst<T>(rec, i64(Fast.src<S>(rec)) as T);
  }
  @inline static extendMem<T, S>(rec: usize, at: usize): void {
    Fast.setDst<T>(rec, i64(load<S>(at)) as T);
  }
}
