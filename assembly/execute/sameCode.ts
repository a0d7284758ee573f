// The short way of interrupts and returns that stay in the same code segment of 32-bit protected mode, when everything they
// touch is cached: what the long way would do, without the machinery it needs for the rest.
import {
  CPL,
  DEBUG_WATCH,
  DELIVERING,
  EFLAGS_REST,
  EV_DELIVERED,
  EXTRA,
  HOOKS,
  HookBit,
  IDTR_BASE,
  IDTR_LIMIT,
  INTERRUPTIBILITY,
  MODE,
  ModeBit,
  RIP,
  RSP,
  SEG_CS,
  SEG_SS,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_LIMIT,
  SG_SELECTOR,
} from "../abi/state";
import {
  BLOCK_MOV_SS,
  BLOCK_STI,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  SA_ACCESSED,
  SA_P,
  SA_S,
  SEL_RPL,
  TYPE_INT32,
  TYPE_TRAP32,
} from "../abi/x86";
import { clearFlags } from "../events/protected";
import { plainRead, plainSystem, plainWrite } from "../memory/access";
import { getRflags } from "../state/flags";
import {
  attrDpl,
  descriptorAttr,
  descriptorBase,
  descriptorLimit,
  gateOffset,
  gateSelector,
  isCode,
  isConforming,
  locateDescriptor,
  systemType,
} from "../system/descriptor";
import { changeableFlags, replaceFlags } from "../system/flagControl";
import { recomputeTransfer } from "../system/mode";
import { clearShadow } from "../system/shadow";
import { nonRoot } from "../system/vmxMode";

const CS: usize = SEGS + SEG_CS;

/** 32-bit protected mode with a 32-bit stack, and nothing that waits or watches. */
function plain(): bool {
  return (
    (load<u32>(MODE) & (ModeBit.Protected | ModeBit.LongMode | ModeBit.Stack32)) ==
      (ModeBit.Protected | ModeBit.Stack32) &&
    !(
      load<u32>(EXTRA) |
      (load<u32>(INTERRUPTIBILITY) & ~(BLOCK_STI | BLOCK_MOV_SS)) |
      load<u32>(DEBUG_WATCH) |
      load<u32>(DELIVERING)
    )
  );
}

/** Would loading this selector give CS what it holds? */
function sameCode(selector: u32): bool {
  if (((selector ^ load<u32>(CS, SG_SELECTOR)) & 0xfffc) != 0) return false;
  const at = locateDescriptor(selector, 8);
  if (at == 0xffffffffffffffff) return false;
  const place = plainSystem(at, 8);
  if (!place) return false;
  const d = load<u64>(place);
  const attr = descriptorAttr(d);
  return (
    isCode(attr) &&
    !isConforming(attr) &&
    (attr & (SA_P | SA_ACCESSED)) == (SA_P | SA_ACCESSED) &&
    attrDpl(attr) == load<u32>(CPL) &&
    attr == load<u32>(CS, SG_ATTR) &&
    descriptorBase(d) == load<u64>(CS, SG_BASE) &&
    descriptorLimit(d) == load<u32>(CS, SG_LIMIT)
  );
}

/** The gate of an interrupt that stays in this code segment; 0: it does not, or that is not known without the long way. */
function gateHere(vector: u32): u64 {
  if (!plain() || nonRoot() || load<u32>(HOOKS) & HookBit.Event) return 0;
  if (vector * 8 + 7 > load<u32>(IDTR_LIMIT)) return 0;
  const place = plainSystem((load<u64>(IDTR_BASE) + <u64>(vector * 8)) & 0xffffffff, 8);
  if (!place) return 0;
  const gate = load<u64>(place);
  const attr = descriptorAttr(gate);
  const type = systemType(attr);
  if ((type != TYPE_INT32 && type != TYPE_TRAP32) || !(attr & SA_P) || attr & SA_S) return 0;
  if (attrDpl(attr) < load<u32>(CPL) || !sameCode(gateSelector(gate))) return 0;
  return gateOffset(gate) > <u64>load<u32>(CS, SG_LIMIT) ? 0 : gate;
}

/** Where INT n leads when it stays in this code segment, else all ones. */
export function handlerHere(vector: u32): u64 {
  const gate = gateHere(vector);
  return gate ? gateOffset(gate) : ~(0 as u64);
}

/** INT n; RIP is that of the next instruction. False: nothing was done. */
export function interruptHere(vector: u32): bool {
  const gate = gateHere(vector);
  if (!gate) return false;
  const sp = load<u64>(RSP) - 12;
  const frame = sp >> 32 ? 0 : plainWrite(SEG_SS, sp, 12);
  if (!frame) return false;
  store<u32>(frame, <u32>load<u64>(RIP));
  store<u32>(frame, load<u32>(CS, SG_SELECTOR), 4);
  store<u32>(frame, <u32>getRflags() & ~FLAG_RF, 8);
  store<u64>(RSP, sp);
  store<u64>(RIP, gateOffset(gate));
  clearFlags(systemType(descriptorAttr(gate)) == TYPE_INT32);
  store<u64>(EV_DELIVERED, load<u64>(EV_DELIVERED) + 1);
  clearShadow();
  return true;
}

/** JMP or CALL of 32 bits to a selector that is that of this code segment; RIP is that of the next instruction. False: nothing was done. */
export function transferHere(selector: u32, offset: u32, call: bool): bool {
  if (!plain() || (selector & SEL_RPL) > load<u32>(CPL)) return false;
  if (offset > load<u32>(CS, SG_LIMIT) || !sameCode(selector)) return false;
  if (call) {
    const sp = load<u64>(RSP) - 8;
    const frame = sp >> 32 ? 0 : plainWrite(SEG_SS, sp, 8);
    if (!frame) return false;
    store<u32>(frame, <u32>load<u64>(RIP));
    store<u32>(frame, load<u32>(CS, SG_SELECTOR), 4);
    store<u64>(RSP, sp);
  }
  store<u64>(RIP, <u64>offset);
  return true;
}

/** RETF of 32 bits that stays in this code segment and drops `extra` bytes. False: nothing was done. */
export function farReturnHere(extra: u32): bool {
  if (!plain()) return false;
  const sp = load<u64>(RSP);
  const frame = plainRead(SEG_SS, sp, 8);
  if (!frame) return false;
  const rip = load<u32>(frame);
  const selector = load<u32>(frame, 4) & 0xffff;
  if ((selector & SEL_RPL) != load<u32>(CPL) || rip > load<u32>(CS, SG_LIMIT) || !sameCode(selector)) return false;
  store<u64>(RSP, (sp + 8 + extra) & 0xffffffff);
  store<u64>(RIP, <u64>rip);
  return true;
}

/** IRET of 32 bits that stays in this code segment. False: nothing was done. */
export function returnHere(): bool {
  if (!plain() || load<u32>(EFLAGS_REST) & FLAG_TF) return false;
  const sp = load<u64>(RSP);
  const frame = plainRead(SEG_SS, sp, 12);
  if (!frame) return false;
  const rip = load<u32>(frame);
  const selector = load<u32>(frame, 4) & 0xffff;
  const flags = load<u32>(frame, 8);
  const level = load<u32>(CPL);
  if (flags & (FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM) || (selector & SEL_RPL) != level) return false;
  if (rip > load<u32>(CS, SG_LIMIT) || !sameCode(selector)) return false;
  store<u64>(RSP, (sp + 12) & 0xffffffff);
  store<u64>(RIP, <u64>rip);
  if (replaceFlags(flags, changeableFlags(4, level, true))) recomputeTransfer();
  return true;
}
