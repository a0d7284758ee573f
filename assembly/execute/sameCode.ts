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
import { plainSystem, plainWrite } from "../memory/access";
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
import { nonRoot } from "../system/vmxMode";

const CS: usize = SEGS + SEG_CS;

/** 32-bit protected mode with a 32-bit stack, and nothing that waits or watches. */
function plain(): bool {
  return (
    (load<u32>(MODE) & (ModeBit.Protected | ModeBit.LongMode | ModeBit.Stack32)) ==
      (ModeBit.Protected | ModeBit.Stack32) &&
    !(load<u32>(EXTRA) | load<u32>(INTERRUPTIBILITY) | load<u32>(DEBUG_WATCH) | load<u32>(DELIVERING))
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

/** INT n; RIP is that of the next instruction. False: nothing was done. */
export function interruptHere(vector: u32): bool {
  if (!plain() || nonRoot() || load<u32>(HOOKS) & HookBit.Event) return false;
  if (vector * 8 + 7 > load<u32>(IDTR_LIMIT)) return false;
  const place = plainSystem((load<u64>(IDTR_BASE) + <u64>(vector * 8)) & 0xffffffff, 8);
  if (!place) return false;
  const gate = load<u64>(place);
  const attr = descriptorAttr(gate);
  const type = systemType(attr);
  if ((type != TYPE_INT32 && type != TYPE_TRAP32) || !(attr & SA_P) || attr & SA_S) return false;
  if (attrDpl(attr) < load<u32>(CPL) || !sameCode(gateSelector(gate))) return false;
  const offset = gateOffset(gate);
  if (offset > <u64>load<u32>(CS, SG_LIMIT)) return false;
  const sp = load<u64>(RSP) - 12;
  const frame = sp >> 32 ? 0 : plainWrite(SEG_SS, sp, 12);
  if (!frame) return false;
  store<u32>(frame, <u32>load<u64>(RIP));
  store<u32>(frame, load<u32>(CS, SG_SELECTOR), 4);
  store<u32>(frame, <u32>getRflags() & ~FLAG_RF, 8);
  store<u64>(RSP, sp);
  store<u64>(RIP, offset);
  clearFlags(type == TYPE_INT32);
  store<u64>(EV_DELIVERED, load<u64>(EV_DELIVERED) + 1);
  return true;
}

/** May an IRET of 32 bits to selector:rip with these flags skip the checks and the load of CS? */
export function returnsHere(selector: u32, rip: u64, flags: u64): bool {
  return (
    plain() &&
    !(<u32>flags & (FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM)) &&
    !(load<u32>(EFLAGS_REST) & FLAG_TF) &&
    (selector & SEL_RPL) == load<u32>(CPL) &&
    rip <= <u64>load<u32>(CS, SG_LIMIT) &&
    sameCode(selector)
  );
}
