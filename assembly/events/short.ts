// The short way of an event: through a 32-bit gate of protected mode or a gate of 64-bit mode, to the same level or, by the
// TSS, to an inner one, when everything it touches is cached. It does what the long ways (protected.ts, long.ts, real.ts) would do.
import {
  CPL,
  EV_DELIVERED,
  EventType,
  HOOKS,
  HookBit,
  IDTR_BASE,
  IDTR_LIMIT,
  MODE,
  ModeBit,
  RIP,
  RSP,
  SEG_CS,
  SEG_SS,
  SEG_TR,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_EFFECTIVE,
  SG_LIMIT,
  SG_WRITE_END,
} from "../abi/state";
import { FLAG_RF, SA_P, SA_S, SEL_ERROR, TYPE_INT32, TYPE_TSS32_BUSY } from "../abi/x86";
import { Plain, plainPlace } from "../memory/access";
import { getRflags } from "../state/flags";
import { raiseSoft } from "../state/stop";
import {
  attrDpl,
  descriptorAttr,
  descriptorBase,
  descriptorLimit,
  gateOffset,
  gateSelector,
  systemType,
  tableAddress,
} from "../system/descriptor";
import { selectorOf, setFromDescriptor, setNull } from "../system/segments";
import { clearShadow } from "../system/shadow";
import { enterCode, Usual, usualCode, usualStack } from "../system/usual";
import { nonRoot } from "../system/vmxMode";
import { clearFlags } from "./protected";

// what findHandler() found
let gate: u64 = 0;
let code: u64 = 0;
let target: u64 = 0;

/** The gate of a vector, its code segment and offset. level: the gate's DPL must be at least that. */
function findHandler(vector: u32, level: u32): bool {
  if (!Usual.mode()) return false;
  const bytes: u32 = load<u32>(MODE) & ModeBit.LongMode ? 16 : 8;
  const at = vector * bytes;
  if (at + bytes - 1 > load<u32>(IDTR_LIMIT)) return false;
  const place = Plain.system(tableAddress(load<u64>(IDTR_BASE) + <u64>at), bytes);
  if (!place) return false;
  gate = load<u64>(place);
  const attr = descriptorAttr(gate);
  if ((attr & (SA_P | SA_S | TYPE_INT32)) != (SA_P | TYPE_INT32) || attrDpl(attr) < level) return false;
  target = gateOffset(gate);
  if (bytes == 16) target |= load<u64>(place, 8) << 32;
  code = usualCode(gateSelector(gate), target);
  return code != 0;
}

/** Where INT n leads when it stays in this code segment, as far as its selector tells; else all ones. */
export function handlerHere(vector: u32): u64 {
  const here = findHandler(vector, load<u32>(CPL)) && ((selectorOf(SEG_CS) ^ gateSelector(gate)) & SEL_ERROR) == 0;
  return here ? target : ~(0 as u64);
}

/** level: CPL where the gate's DPL matters, else 0; rip and flags go to the frame. False: nothing was done. */
export function deliverShort(vector: u32, level: u32, rip: u64, flags: u64, hasError: bool, error: u32): bool {
  if (!findHandler(vector, level)) return false;
  const from = load<u32>(CPL);
  const to = attrDpl(descriptorAttr(code));
  if (to > from) return false;
  const long = (load<u32>(MODE) & ModeBit.LongMode) != 0;
  const inner = to != from;
  const ist = long ? <u32>(gate >> 32) & 7 : 0;
  const before = load<u64>(RSP);
  let sp = before;
  let base = load<u64>(SEGS + SEG_SS + SG_EFFECTIVE);
  let end = load<u64>(SEGS + SEG_SS + SG_WRITE_END);
  let stack: u64 = 0;
  let stackSelector: u32 = 0;
  if (inner || ist) {
    const at = ist ? ist * 8 + 28 : to * 8 + 4;
    if (at + 7 > load<u32>(SEGS + SEG_TR + SG_LIMIT)) return false;
    const place = Plain.system(tableAddress(load<u64>(SEGS + SEG_TR + SG_BASE) + <u64>at), 8);
    if (!place) return false;
    sp = load<u64>(place);
    if (!long) {
      if (systemType(load<u32>(SEGS + SEG_TR + SG_ATTR)) != TYPE_TSS32_BUSY) return false;
      stackSelector = <u32>(sp >> 32) & 0xffff;
      stack = usualStack(stackSelector, to);
      if (!stack) return false;
      sp &= 0xffffffff;
      base = descriptorBase(stack);
      end = <u64>descriptorLimit(stack) + 1;
    }
  } else if (!long && !(load<u32>(MODE) & ModeBit.Stack32)) return false;
  const wide = long || inner;
  const size: u32 = long ? 8 : 4;
  const bytes = ((wide ? 5 : 3) + u32(hasError)) * size;
  let place: u32;
  if (long) {
    sp = (sp & ~(<u64>0xf)) - bytes;
    place = plainPlace(sp, bytes, to == 3);
  } else {
    if (sp < <u64>bytes || sp > end) return false;
    sp -= bytes;
    place = plainPlace((base + sp) & 0xffffffff, bytes, to == 3);
  }
  if (!place) return false;

  // values of 4 bytes are cut off by the next one
  if (hasError) {
    store<u64>(place, error);
    place += size;
  }
  store<u64>(place, rip);
  store<u64>(place + size, selectorOf(SEG_CS));
  let last = flags;
  place += size * 2;
  if (wide) {
    store<u64>(place, flags);
    store<u64>(place + size, before);
    last = <u64>selectorOf(SEG_SS);
    place += size * 2;
  }
  if (long) store<u64>(place, last);
  else store<u32>(place, <u32>last);
  store<u64>(RSP, sp);
  clearFlags(!(<u32>(gate >> 40) & 1));
  if (inner) {
    store<u32>(CPL, to);
    if (long) setNull(SEG_SS, to);
    else setFromDescriptor(SEG_SS, stackSelector, stack, descriptorAttr(stack));
  }
  enterCode(gateSelector(gate), code, inner);
  store<u64>(RIP, target);
  return true;
}

/** INT n, INT3 and INTO, `ilen` bytes long; RIP is that of the next instruction. */
export function softInterrupt(type: u32, vector: u32, ilen: u32): void {
  if (
    Usual.quiet() &&
    !(load<u32>(HOOKS) & HookBit.Event) &&
    (type == EventType.SoftInt || !nonRoot()) &&
    deliverShort(vector, load<u32>(CPL), load<u64>(RIP), getRflags() & ~(<u64>FLAG_RF), false, 0)
  ) {
    store<u64>(EV_DELIVERED, load<u64>(EV_DELIVERED) + 1);
    clearShadow();
  } else raiseSoft(type, vector, ilen);
}
