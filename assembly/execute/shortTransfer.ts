// The short ways of IRET, RETF and far JMP and CALL in 64-bit mode and 32-bit protected mode, when everything they touch is
// cached and of the usual kind: what the long ways would do, without the machinery they need for the rest.
import { CPL, EFLAGS_REST, MODE, ModeBit, RIP, RSP, SEG_CS, SEG_SS } from "../abi/state";
import { FLAG_NT, FLAG_TF, FLAG_VM, SEL_RPL } from "../abi/x86";
import { plainRead, plainWrite } from "../memory/access";
import { attrDpl, descriptorAttr } from "../system/descriptor";
import { changeableFlags, replaceFlags } from "../system/flagControl";
import { selectorOf, setFromDescriptor, setNull } from "../system/segments";
import { enterCode, Usual, usualCode, usualStack } from "../system/usual";
import { dropDataSegments } from "./farTarget";

class Short {
  /** Is this the operand size and the stack of 64-bit or 32-bit code, with nothing that waits or watches? */
  @inline static usual(size: u32): bool {
    const mode = load<u32>(MODE);
    const native = mode & ModeBit.Code64 ? 8 : mode & ModeBit.Stack32 ? 4 : 0;
    return size == native && Usual.mode() && Usual.quiet();
  }
}

/** JMP or CALL without a change of privilege; RIP is that of the next instruction. False: nothing was done. */
export function transferShort(selector: u32, offset: u64, size: u32, call: bool): bool {
  const level = load<u32>(CPL);
  if (!Short.usual(size) || (selector & SEL_RPL) > level) return false;
  const code = usualCode(selector, offset);
  if (!code || attrDpl(descriptorAttr(code)) != level) return false;
  if (call) {
    const sp = load<u64>(RSP) - <u64>(2 * size);
    const frame = plainWrite(SEG_SS, sp, 2 * size);
    if (!frame) return false;
    store<u64>(frame, load<u64>(RIP));
    if (size == 8) store<u64>(frame, <u64>selectorOf(SEG_CS), 8);
    else store<u32>(frame, selectorOf(SEG_CS), 4);
    store<u64>(RSP, sp);
  }
  enterCode(selector, code, false);
  store<u64>(RIP, offset);
  return true;
}

function loadSized(at: u32, size: u32): u64 {
  return size == 8 ? load<u64>(at) : <u64>load<u32>(at);
}

/** IRET, or RETF that drops `extra` bytes. False: nothing was done. */
export function returnShort(size: u32, iret: bool, extra: u32): bool {
  if (!Short.usual(size) || load<u32>(EFLAGS_REST) & (FLAG_TF | FLAG_NT)) return false;
  const sp = load<u64>(RSP);
  const head = (iret ? 3 : 2) * size;
  let frame = plainRead(SEG_SS, sp, head);
  if (!frame) return false;
  const rip = loadSized(frame, size);
  const selector = <u32>load<u16>(frame + size);
  const flags = iret ? load<u32>(frame + 2 * size) : 0;
  const from = load<u32>(CPL);
  const level = selector & SEL_RPL;
  if (flags & (FLAG_TF | FLAG_NT | FLAG_VM) || level < from) return false;
  const code = usualCode(selector, rip);
  if (!code || attrDpl(descriptorAttr(code)) != level) return false;
  let next = sp + head + extra;
  // IRET of 64-bit code pops SS:RSP whether or not the privilege changes
  const pops = level != from || (iret && size == 8);
  if (pops) {
    frame = plainRead(SEG_SS, next, 2 * size);
    if (!frame) return false;
    const selectorOfStack = <u32>load<u16>(frame + size);
    const stack = usualStack(selectorOfStack, level);
    if (!stack && (size == 4 || level == 3 || selectorOfStack != level)) return false;
    next = loadSized(frame, size) + extra;
    const mask = iret ? changeableFlags(size, from, true) : 0;
    store<u32>(CPL, level);
    if (stack) setFromDescriptor(SEG_SS, selectorOfStack, stack, descriptorAttr(stack));
    else setNull(SEG_SS, selectorOfStack);
    if (level != from) dropDataSegments(level);
    if (iret) replaceFlags(flags, mask);
    enterCode(selector, code, true);
  } else enterCode(selector, code, iret && replaceFlags(flags, changeableFlags(size, from, true)));
  store<u64>(RSP, size == 8 ? next : next & 0xffffffff);
  store<u64>(RIP, rip);
  return true;
}
