// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NOT NEG. Flags as state/flags.ts describes them.
import { R_IMM } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT } from "../abi/state";
import { getCF } from "../state/flags";
import { aborted } from "../state/stop";
import { dst, modifyMemory, readMemory, setDst, src } from "./operands";

export enum AluOp {
  add,
  or,
  adc,
  sbb,
  and,
  sub,
  xor,
  cmp,
  test,
}

export enum UnaryOp {
  inc,
  dec,
  not,
  neg,
}

/** A carry-out vector of T in the form FLAG_CARRIES keeps. */
function carries<T>(c: T): u32 {
  if (sizeof<T>() == 1) return ((u32(c) & 0xc0) << 24) | (u32(c) & 8);
  if (sizeof<T>() == 2) return ((u32(c) & 0xc000) << 16) | (u32(c) & 8);
  if (sizeof<T>() == 4) return u32(c) & 0xc0000008;
  return (u32(u64(c) >> 32) & 0xc0000000) | (u32(c) & 8);
}

export function setResult<T>(r: T): void {
  if (sizeof<T>() == 1) store<i64>(FLAG_RESULT, i64(i8(r)));
  else if (sizeof<T>() == 2) store<i64>(FLAG_RESULT, i64(i16(r)));
  else if (sizeof<T>() == 4) store<i64>(FLAG_RESULT, i64(i32(r)));
  else store<i64>(FLAG_RESULT, i64(r));
}

/** Flags of r = a - b (- borrow). */
export function flagsOfSub<T>(a: T, b: T, r: T): void {
  setResult<T>(r);
  store<u32>(FLAG_CARRIES, carries<T>(((~a & b) | (~(a ^ b) & r)) as T));
}

export function flagsOfAdd<T>(a: T, b: T, r: T): void {
  setResult<T>(r);
  store<u32>(FLAG_CARRIES, carries<T>(((a & b) | ((a | b) & ~r)) as T));
}

export function flagsOfLogic<T>(r: T): void {
  setResult<T>(r);
  store<u32>(FLAG_CARRIES, 0);
}

export class Alu {
  /** The operation with its flags; CMP and TEST return a. */
  @inline static apply<T>(k: AluOp, a: T, b: T): T {
    let r: T = a;
    if (k == AluOp.add) {
      r = (a + b) as T;
      flagsOfAdd<T>(a, b, r);
    } else if (k == AluOp.adc) {
      r = (a + b + (getCF() as T)) as T;
      flagsOfAdd<T>(a, b, r);
    } else if (k == AluOp.sub) {
      r = (a - b) as T;
      flagsOfSub<T>(a, b, r);
    } else if (k == AluOp.sbb) {
      r = (a - b - (getCF() as T)) as T;
      flagsOfSub<T>(a, b, r);
    } else if (k == AluOp.cmp) {
      flagsOfSub<T>(a, b, (a - b) as T);
    } else if (k == AluOp.and) {
      r = (a & b) as T;
      flagsOfLogic<T>(r);
    } else if (k == AluOp.or) {
      r = (a | b) as T;
      flagsOfLogic<T>(r);
    } else if (k == AluOp.xor) {
      r = (a ^ b) as T;
      flagsOfLogic<T>(r);
    } else {
      flagsOfLogic<T>((a & b) as T);
    }
    return r;
  }

  @inline static rr<T>(rec: usize, k: AluOp): void {
    const r = Alu.apply<T>(k, dst<T>(rec), src<T>(rec));
    if (k != AluOp.cmp && k != AluOp.test) setDst<T>(rec, r);
  }

  @inline static ri<T>(rec: usize, k: AluOp): void {
    const r = Alu.apply<T>(k, dst<T>(rec), load<T>(rec, R_IMM));
    if (k != AluOp.cmp && k != AluOp.test) setDst<T>(rec, r);
  }

  @inline static rm<T>(rec: usize, k: AluOp): void {
    const b = readMemory<T>(rec);
    if (!aborted()) {
      const r = Alu.apply<T>(k, dst<T>(rec), b);
      if (k != AluOp.cmp && k != AluOp.test) setDst<T>(rec, r);
    }
  }

  @inline static memory<T>(rec: usize, k: AluOp, b: T): void {
    if (k == AluOp.cmp || k == AluOp.test) {
      const a = readMemory<T>(rec);
      if (!aborted()) Alu.apply<T>(k, a, b);
    } else {
      const at = modifyMemory<T>(rec);
      if (at) store<T>(at, Alu.apply<T>(k, load<T>(at), b));
    }
  }

  @inline static mr<T>(rec: usize, k: AluOp): void {
    Alu.memory<T>(rec, k, src<T>(rec));
  }

  @inline static mi<T>(rec: usize, k: AluOp): void {
    Alu.memory<T>(rec, k, load<T>(rec, R_IMM));
  }
}

export class Unary {
  @inline static apply<T>(k: UnaryOp, a: T): T {
    let r: T = a;
    if (k == UnaryOp.inc) {
      r = (a + 1) as T;
      keepCF(((a & 1) | ((a | 1) & ~r)) as T, r);
    } else if (k == UnaryOp.dec) {
      r = (a - 1) as T;
      keepCF(((~a & 1) | (~(a ^ 1) & r)) as T, r);
    } else if (k == UnaryOp.neg) {
      r = (0 - a) as T;
      flagsOfSub<T>(0 as T, a, r);
    } else {
      r = ~a as T;
    }
    return r;
  }

  @inline static reg<T>(rec: usize, k: UnaryOp): void {
    setDst<T>(rec, Unary.apply<T>(k, dst<T>(rec)));
  }

  @inline static mem<T>(rec: usize, k: UnaryOp): void {
    const at = modifyMemory<T>(rec);
    if (at) store<T>(at, Unary.apply<T>(k, load<T>(at)));
  }
}

/** Flags of INC and DEC: all but CF. */
function keepCF<T>(c: T, r: T): void {
  const old = load<u32>(FLAG_CARRIES) & 0x80000000;
  const n = carries<T>(c);
  setResult<T>(r);
  // bit 30 holds OF ^ CF
  store<u32>(FLAG_CARRIES, (n & 8) | old | ((old >>> 1) ^ (((n >>> 1) ^ n) & 0x40000000)));
}
