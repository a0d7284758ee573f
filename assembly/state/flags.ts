// RFLAGS. The arithmetic flags live in two words, free of the kind and size of the operation that set them:
//   FLAG_RESULT   the result, sign-extended to 64 bits: ZF = (result == 0), SF = its sign, PF = parity of its low byte
//   FLAG_CARRIES  31: carry out of the top bit (CF)   30: carry into the top bit (OF = bit 31 ^ bit 30)   3: AF
//                 15:8: xor-ed into the byte PF looks at   0: xor-ed into SF
// The last two corrections serve POPF and SAHF, which can set combinations no result has.
// Everything else of RFLAGS lies in EFLAGS_REST.
import { EFLAGS_REST, FLAG_CARRIES, FLAG_RESULT } from "../abi/state";
import { FLAG_AF } from "../abi/x86";

export {
  FLAG_AC,
  FLAG_AF,
  FLAG_CF,
  FLAG_DF,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_OF,
  FLAG_PF,
  FLAG_RF,
  FLAG_SF,
  FLAG_TF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  FLAG_ZF,
} from "../abi/x86";

export const FLAGS_ARITHMETIC = 0x8d5;

export function getCF(): u32 {
  return load<u32>(FLAG_CARRIES) >>> 31;
}

export function getOF(): u32 {
  const c = load<u32>(FLAG_CARRIES);
  return ((c << 1) ^ c) >>> 31;
}

export function getAF(): u32 {
  return (load<u32>(FLAG_CARRIES) >>> 3) & 1;
}

export function getZF(): u32 {
  return u32(load<u64>(FLAG_RESULT) == 0);
}

export function getSF(): u32 {
  return (u32(load<u64>(FLAG_RESULT) >> 63) ^ load<u32>(FLAG_CARRIES)) & 1;
}

export function getPF(): u32 {
  const b = (load<u8>(FLAG_RESULT) ^ load<u8>(FLAG_CARRIES + 1)) as u32;
  return (popcnt(b) & 1) ^ 1;
}

export function arithmeticFlags(): u32 {
  return getCF() | (getPF() << 2) | (getAF() << 4) | (getZF() << 6) | (getSF() << 7) | (getOF() << 11);
}

export function getRflags(): u64 {
  return u64(load<u32>(EFLAGS_REST) | arithmeticFlags());
}

/** Sets CF PF AF ZF SF OF from an RFLAGS image. */
export function setArithmetic(f: u32): void {
  const cf = f & 1;
  const pf = (f >>> 2) & 1;
  const zf = (f >>> 6) & 1;
  const sf = (f >>> 7) & 1;
  // no branches: predictors fail at flags
  store<u64>(FLAG_RESULT, u64(zf ^ 1) | (u64(sf & ~zf) << 63));
  const carries = (cf << 31) | ((cf ^ ((f >>> 11) & 1)) << 30) | ((f & FLAG_AF) >>> 1);
  store<u32>(FLAG_CARRIES, carries | ((pf ^ zf) << 8) | (sf & zf));
}

export class Arithmetic {
  /** CF PF AF ZF SF OF = 0. */
  @inline static clear(): void {
    store<u64>(FLAG_RESULT, 1);
    store<u32>(FLAG_CARRIES, 0);
  }
}

/** Replaces RFLAGS; bit 1 reads 1, bits 3, 5, 15 and 63:22 read 0. Callers recompute the mode when TF, VM or AC may change. */
export function setRflags(value: u64): void {
  const f = u32(value);
  setArithmetic(f);
  store<u32>(EFLAGS_REST, (f & 0x3f7fd5 & ~FLAGS_ARITHMETIC) | 2);
}

export function setCF(value: u32): void {
  const c = load<u32>(FLAG_CARRIES);
  const o = ((c << 1) ^ c) & 0x80000000;
  store<u32>(FLAG_CARRIES, (c & 0x3fffffff) | (value << 31) | (((value << 31) ^ o) >>> 1));
}
