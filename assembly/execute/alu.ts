// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NOT NEG. Flags as state/flags.ts describes them.
import { FORM_MEM, FORM_MR, FORM_RM } from "../abi/forms.generated";
import { R_IMM } from "../abi/record";
import { aborted } from "../state/stop";
import { Fast } from "./fast";
import { AluOp, UnaryOp } from "./ops";
import { dstSized, loadSized, modifySized, readSized, setDstSized, sizeOf, srcSized, storeSized } from "./sized";

/** The operation with its flags on operands that stand at the top of 64 bits, `free` bits above them; CMP and TEST return anything. */
function apply(k: AluOp, a: u64, b: u64, free: u64): u64 {
  return Fast.narrow(k, a, b, free);
}

function freeBits(rec: usize): u64 {
  return 64 - (u64(sizeOf(rec)) << 3);
}

/** The operation with its flags on operands of the record's size. */
export function withFlags(rec: usize, k: AluOp, a: u64, b: u64): u64 {
  const free = freeBits(rec);
  return apply(k, a << free, b << free, free) >> free;
}

/** Forms with memory; those of registers alone are short. */
export function alu(rec: usize, k: AluOp, form: u32): void {
  const compares = k == AluOp.cmp || k == AluOp.test;
  if (form == FORM_RM) {
    const b = readSized(rec);
    if (aborted()) return;
    const r = withFlags(rec, k, dstSized(rec), b);
    if (!compares) setDstSized(rec, r);
    return;
  }
  const b = form == FORM_MR ? srcSized(rec) : load<u64>(rec, R_IMM);
  const size = sizeOf(rec);
  if (compares) {
    const a = readSized(rec);
    if (!aborted()) withFlags(rec, k, a, b);
    return;
  }
  const at = modifySized(rec);
  if (at) storeSized(at, withFlags(rec, k, loadSized(at, size), b), size);
}

function changed(k: UnaryOp, a: u64, free: u64): u64 {
  if (k == UnaryOp.not) return ~a;
  if (k == UnaryOp.neg) return apply(AluOp.sub, 0, a, free);
  return Fast.step(k, a, free);
}

export function unary(rec: usize, k: UnaryOp, form: u32): void {
  const free = freeBits(rec);
  const size = sizeOf(rec);
  if (form == FORM_MEM) {
    const at = modifySized(rec);
    if (at) storeSized(at, changed(k, loadSized(at, size) << free, free) >> free, size);
  } else setDstSized(rec, changed(k, dstSized(rec) << free, free) >> free);
}
