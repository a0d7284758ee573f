// Bodies of the short forms: what short() carries out itself, without a call. R_FAST numbers them
// (short.generated.ts). None of them can stop; where one could, its whole handler runs instead.

import { CPUID_ANSWER, CPUID_ANSWER_MASK, CPUID_ANSWERS } from "../abi/layout";
import { R_ADDR_SHIFT, R_BASE, R_DISP, R_DST, R_IDX, R_IMM, R_LEN, R_OFF, R_SIZE, R_SRC } from "../abi/record";
import {
  BLOCK_RIP,
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
  TR_TABLE,
  TR_TAG,
} from "../abi/state";
import { MISC_CPUID_FAULTING } from "../abi/x86";
import { tlbMask } from "../memory/context";
import { getCF } from "../state/flags";
import { AluOp, ShiftOp, UnaryOp } from "./ops";

/** R_IDX: no index. */
const NO_INDEX: usize = 128;

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

  /** Segment-relative address of the memory operand. Branches that are foreseen cost less than shifts by a variable. */
  @inline static address(rec: usize): u64 {
    let sum = load<u64>(load<u8>(rec, R_BASE), GPR) + load<u64>(rec, R_DISP);
    const index: usize = load<u8>(rec, R_IDX);
    if (index != NO_INDEX) sum += load<u64>(index & 0xf8, GPR) << u64(index & 7);
    const shift = load<u8>(rec, R_ADDR_SHIFT);
    if (shift == 32) sum = u64(u32(sum));
    else if (shift) sum = u64(u16(sum));
    return sum;
  }

  /** Where the TLB has an address, if it has it. */
  @inline static entry(linear: u64): usize {
    return load<u32>(TR_TABLE) + ((u32(linear >> 12) & tlbMask) << 5);
  }
  /** 0: the tag is that of an address, and `size` bytes from there lie in one page. */
  @inline static differs(tag: u64, linear: u64, size: u64): u64 {
    return (tag ^ ((linear >> 12) | load<u64>(TR_TAG))) | ((linear ^ (linear + size - 1)) >> 12);
  }

  // --- the stack: records of POP, RET and PUSH address it as an operand, those of calls do not ---

  @inline static stackMask(): u64 {
    const mode = load<u32>(MODE);
    return mode & ModeBit.Code64 ? ~(0 as u64) : mode & ModeBit.Stack32 ? 0xffffffff : 0xffff;
  }
  /** RSP, ESP or SP of a record that addresses the stack as an operand. */
  @inline static moveStack(rec: usize, to: u64): void {
    const shift = load<u8>(rec, R_ADDR_SHIFT);
    if (shift == 48) to = (load<u64>(RSP) & ~0xffff) | u64(u16(to));
    else if (shift) to = u64(u32(to));
    store<u64>(RSP, to);
  }
  /** What was read at `ea` is off the stack. */
  @inline static popped(rec: usize, ea: u64): void {
    Fast.moveStack(rec, ea + u64(load<u8>(rec, R_SIZE)));
  }
  @inline static pop(rec: usize, ea: u64, at: usize): void {
    Fast.popped(rec, ea);
    Fast.setAny(rec, Fast.any(rec, at));
  }
  @inline static push(rec: usize, value: u64, ea: u64, at: usize): void {
    Fast.storeAny(rec, at, value);
    Fast.moveStack(rec, ea);
  }

  // --- operands of R_SIZE bytes ---

  /** At an address that place() has given. */
  @inline static any(rec: usize, at: usize): u64 {
    const size = load<u8>(rec, R_SIZE);
    return size == 4
      ? u64(load<u32>(at))
      : size == 8
        ? load<u64>(at)
        : size == 1
          ? u64(load<u8>(at))
          : u64(load<u16>(at));
  }
  @inline static storeAny(rec: usize, at: usize, value: u64): void {
    const size = load<u8>(rec, R_SIZE);
    if (size == 4) store<u32>(at, u32(value));
    else if (size == 8) store<u64>(at, value);
    else if (size == 1) store<u8>(at, u8(value));
    else store<u16>(at, u16(value));
  }
  @inline static anyDst(rec: usize): u64 {
    const free = room(rec);
    return (Fast.dst<u64>(rec) << free) >> free;
  }
  /** 2, 4 or 8 bytes. */
  @inline static setAny(rec: usize, value: u64): void {
    const size = load<u8>(rec, R_SIZE);
    if (size == 2) Fast.setDst<u16>(rec, u16(value));
    else Fast.setDst<u64>(rec, size == 4 ? u64(u32(value)) : value);
  }

  /** SETcc and CMOVcc. */
  @inline static conditional(rec: usize, holds: bool): void {
    if (load<u8>(rec, R_SIZE) == 1) Fast.setDst<u8>(rec, u8(holds));
    else Fast.setAny(rec, holds ? Fast.src<u64>(rec) : Fast.dst<u64>(rec));
  }

  /** Can a near branch go there? */
  @inline static reachable(target: u64, end: u64): bool {
    return target < end && u64((i64(target) << 16) >> 16) == target;
  }
  /** CPUID by an answer that is kept; false: none may be given, or none is. */
  @inline static cpuid(): bool {
    const e: usize = CPUID_ANSWERS + (load<u32>(RAX) & CPUID_ANSWER_MASK) * CPUID_ANSWER;
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

  @inline static narrowRr(rec: usize, k: AluOp): void {
    Fast.narrowInto(rec, k, load<u64>(load<u8>(rec, R_SRC), GPR));
  }
  @inline static narrowRi(rec: usize, k: AluOp): void {
    Fast.narrowInto(rec, k, load<u64>(rec, R_IMM));
  }
  @inline static narrowRm(rec: usize, k: AluOp, at: usize): void {
    Fast.narrowInto(rec, k, Fast.any(rec, at));
  }
  @inline static compare(rec: usize, k: AluOp, at: usize, b: u64): void {
    const free = room(rec);
    Fast.narrow(k, Fast.any(rec, at) << free, b << free, free);
  }
  @inline static anyMr(rec: usize, k: AluOp, at: usize): void {
    Fast.compare(rec, k, at, Fast.src<u64>(rec));
  }
  @inline static anyMi(rec: usize, k: AluOp, at: usize): void {
    Fast.compare(rec, k, at, load<u64>(rec, R_IMM));
  }
  /** ADD to XOR of memory; k: AluOp, 7 more with an immediate. */
  @inline static modify(rec: usize, k: u32, at: usize): void {
    const free = room(rec);
    const a = Fast.any(rec, at) << free;
    let b = k < 7 ? Fast.src<u64>(rec) : load<u64>(rec, R_IMM);
    if (k >= 7) k -= 7;
    b <<= free;
    let r: u64;
    let c: u64 = 0;
    if (k == AluOp.or) r = a | b;
    else if (k == AluOp.and) r = a & b;
    else if (k == AluOp.xor) r = a ^ b;
    else {
      const carry = k == AluOp.adc || k == AluOp.sbb ? u64(getCF()) << free : 0;
      if (k < 3) {
        r = a + b + carry;
        c = (a & b) | ((a | b) & ~r);
      } else {
        r = a - b - carry;
        c = (~a & b) | (~(a ^ b) & r);
      }
    }
    store<i64>(FLAG_RESULT, i64(r) >> i64(free));
    store<u32>(FLAG_CARRIES, (u32(c >> 32) & 0xc0000000) | (u32(c >> free) & 8));
    Fast.storeAny(rec, at, r >> free);
  }
  /** INC and DEC of an operand at the top of 64 bits. */
  @inline static step(k: UnaryOp, a: u64, free: u64): u64 {
    const one = (1 as u64) << free;
    const r = k == UnaryOp.inc ? a + one : a - one;
    // all but CF; bit 30 holds OF ^ CF
    const cf = load<u32>(FLAG_CARRIES) & 0x80000000;
    const overflow = u32((k == UnaryOp.inc ? r : a) == (1 as u64) << 63) << 30;
    store<i64>(FLAG_RESULT, i64(r) >> i64(free));
    store<u32>(FLAG_CARRIES, cf | ((cf >>> 1) ^ overflow) | ((u32((a ^ r) >> free) >>> 1) & 8));
    return r;
  }
  /** A register operand of 8 or 16 bits takes the low bits of a value. */
  @inline static narrowSet(rec: usize, value: u64, free: u64): void {
    const slot: usize = load<u8>(rec, R_DST);
    const old = load<u64>(slot, GPR);
    store<u64>(slot, old ^ ((old ^ value) & (~(0 as u64) >> free)), GPR);
  }
  @inline static narrowUnary(rec: usize, k: UnaryOp): void {
    const free = room(rec);
    Fast.narrowSet(rec, Fast.step(k, Fast.dst<u64>(rec) << free, free) >> free, free);
  }
  /**
   * Rotates and shifts of 8 and 16 bits by an immediate, in the order of their short forms; false: nothing was done, the count
   * is 0 or not below the bits.
   */
  @inline static narrowShift(rec: usize, form: u32): bool {
    const k: ShiftOp = form < 2 ? form : form + 2;
    const free = room(rec);
    const bits = 64 - free;
    const n = u64(load<u8>(rec, R_IMM)) & 31;
    if (n - 1 >= bits - 1) return false;
    const v = i64(Fast.dst<u64>(rec) << free) >> i64(free);
    const a = (u64(v) << free) >> free;
    let r: u64;
    let cf: u32;
    let of_: u32 = 0;
    if (k == ShiftOp.shl) {
      r = a << n;
      cf = u32(r >> bits) & 1;
      of_ = (u32(r >> (bits - 1)) & 1) ^ cf;
    } else if (k == ShiftOp.shr || k == ShiftOp.sar) {
      r = k == ShiftOp.shr ? a >> n : u64(v >> i64(n));
      cf = u32(a >> (n - 1)) & 1;
      if (k == ShiftOp.shr) of_ = u32(v < 0);
    } else {
      r = k == ShiftOp.rol ? (a << n) | (a >> (bits - n)) : (a << (bits - n)) | (a >> n);
      const top = u32(r >> (bits - 1)) & 1;
      cf = k == ShiftOp.rol ? u32(r) & 1 : top;
      of_ = top ^ (k == ShiftOp.rol ? cf : u32(r >> (bits - 2)) & 1);
    }
    let rest: u32 = 0;
    if (form < 2) rest = load<u32>(FLAG_CARRIES) & 0x3fffffff;
    else store<i64>(FLAG_RESULT, i64(r << free) >> i64(free));
    store<u32>(FLAG_CARRIES, rest | (cf << 31) | ((cf ^ of_) << 30));
    Fast.narrowSet(rec, r, free);
    return true;
  }

  /** Truncated product with CF = OF = the full product does not fit. */
  @inline static product(rec: usize, a: i32, b: i32): void {
    const p = i64(a) * i64(b);
    store<i64>(FLAG_RESULT, i64(i32(p)));
    store<u32>(FLAG_CARRIES, u32(i64(i32(p)) != p) << 31);
    Fast.setDst<u32>(rec, u32(p));
  }
  @inline static imul(rec: usize, b: i32): void {
    Fast.product(rec, Fast.dst<i32>(rec), b);
  }
  @inline static imulBy(rec: usize, a: i32): void {
    Fast.product(rec, a, load<i32>(rec, R_IMM));
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

  /** SHL, SHR, SAR. */
  @inline static shift<T>(rec: usize, k: ShiftOp, count: u32, quiet: bool): void {
    const bits: u32 = sizeof<T>() * 8;
    const n: u32 = count & (bits - 1);
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
