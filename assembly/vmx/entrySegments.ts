// Checks on guest segment registers. @sdm 3C "Checks on Guest Segment Registers"
import { ENTRY_IA_32E_MODE_GUEST } from "../abi/controls";
import {
  V_GUEST_CR0,
  V_GUEST_CS_ACCESS_RIGHTS,
  V_GUEST_CS_SELECTOR,
  V_GUEST_ES_ACCESS_RIGHTS,
  V_GUEST_ES_BASE,
  V_GUEST_ES_LIMIT,
  V_GUEST_ES_SELECTOR,
  V_GUEST_RFLAGS,
  V_GUEST_SS_ACCESS_RIGHTS,
  V_GUEST_SS_SELECTOR,
} from "../abi/vmcsLayout";
import {
  CR0_PE,
  FLAG_VM,
  SA_ACCESSED,
  SA_CODE,
  SA_DB,
  SA_DPL_SHIFT,
  SA_G,
  SA_L,
  SA_P,
  SA_READ,
  SA_S,
  SA_TYPE,
  SA_UNUSABLE,
  SEL_RPL,
  SEL_TI,
} from "../abi/x86";
import { canonical } from "../system/width";
import { entryControl, unrestrictedGuest } from "./controls";
import { vmcs16, vmcs32, vmcs64 } from "./vmcs";

// the eight registers lie 8 bytes apart in each group of fields
const ES: u32 = 0;
const CS: u32 = 8;
const SS: u32 = 16;
const FS: u32 = 32;
const GS: u32 = 40;
const LDTR: u32 = 48;
const TR: u32 = 56;

/** Access rights 11:8 and 31:17. */
const RESERVED: u32 = 0xfffe0f00;
const TYPE_LDT: u32 = 2;
const TYPE_TSS16_BUSY: u32 = 3;
const TYPE_TSS32_BUSY: u32 = 11;
const VM86_RIGHTS: u32 = 0xf3;

function rights(seg: u32): u32 {
  return vmcs32(V_GUEST_ES_ACCESS_RIGHTS + seg);
}
function selector(seg: u32): u32 {
  return vmcs16(V_GUEST_ES_SELECTOR + seg);
}
function base(seg: u32): u64 {
  return vmcs64(V_GUEST_ES_BASE + seg);
}
function limit(seg: u32): u32 {
  return vmcs32(V_GUEST_ES_LIMIT + seg);
}
function usable(seg: u32): bool {
  return (rights(seg) & SA_UNUSABLE) == 0;
}
function dpl(access: u32): u32 {
  return (access >> SA_DPL_SHIFT) & 3;
}

/** G is 0 if a bit of limit 11:0 is 0, and 1 if a bit of limit 31:20 is 1. */
function granularity(seg: u32): bool {
  const size = limit(seg);
  return rights(seg) & SA_G ? (size & 0xfff) == 0xfff : size >> 20 == 0;
}

function vm86Segment(seg: u32): bool {
  return base(seg) == (<u64>selector(seg)) << 4 && limit(seg) == 0xffff && rights(seg) == VM86_RIGHTS;
}

function bases(): bool {
  if (!canonical(base(TR)) || !canonical(base(FS)) || !canonical(base(GS))) return false;
  if (usable(LDTR) && !canonical(base(LDTR))) return false;
  for (let seg = ES; seg < FS; seg += 8) if ((seg == CS || usable(seg)) && base(seg) >> 32) return false;
  return true;
}

function codeSegment(): bool {
  const cs = rights(CS);
  const type = cs & SA_TYPE;
  const stackDpl = dpl(rights(SS));
  switch (type) {
    case 3:
      if (!unrestrictedGuest() || dpl(cs)) return false;
      break;
    case 9:
    case 11:
      if (dpl(cs) != stackDpl) return false;
      break;
    case 13:
    case 15:
      if (dpl(cs) > stackDpl) return false;
      break;
    default:
      return false;
  }
  return !(entryControl(ENTRY_IA_32E_MODE_GUEST) && cs & SA_L && cs & SA_DB);
}

function stackSegment(): bool {
  const ss = rights(SS);
  const type = ss & SA_TYPE;
  if (usable(SS) && type != 3 && type != 7) return false;
  if (!unrestrictedGuest()) {
    const rpl = vmcs16(V_GUEST_SS_SELECTOR) & SEL_RPL;
    if (rpl != (vmcs16(V_GUEST_CS_SELECTOR) & SEL_RPL) || rpl != dpl(ss)) return false;
  }
  const mustBe0 = (vmcs32(V_GUEST_CS_ACCESS_RIGHTS) & SA_TYPE) == 3 || (vmcs64(V_GUEST_CR0) & CR0_PE) == 0;
  return !mustBe0 || dpl(vmcs32(V_GUEST_SS_ACCESS_RIGHTS)) == 0;
}

function dataSegment(seg: u32): bool {
  if (!usable(seg)) return true;
  const access = rights(seg);
  if (!(access & SA_ACCESSED)) return false;
  if (access & SA_CODE && !(access & SA_READ)) return false;
  return unrestrictedGuest() || (access & SA_TYPE) > 11 || dpl(access) >= (selector(seg) & SEL_RPL);
}

function common(seg: u32): bool {
  if (seg != CS && !usable(seg)) return true;
  const access = rights(seg);
  // bit 16 means nothing for CS
  return (access & (SA_S | SA_P)) == (SA_S | SA_P) && (access & RESERVED) == 0 && granularity(seg);
}

function taskRegister(): bool {
  const access = rights(TR);
  const type = access & SA_TYPE;
  if (type != TYPE_TSS32_BUSY && (type != TYPE_TSS16_BUSY || entryControl(ENTRY_IA_32E_MODE_GUEST))) return false;
  return systemSegment(TR, access) && (access & SA_UNUSABLE) == 0;
}

function systemSegment(seg: u32, access: u32): bool {
  return (
    (access & (SA_S | SA_P)) == SA_P && (access & RESERVED) == 0 && granularity(seg) && (selector(seg) & SEL_TI) == 0
  );
}

function localTable(): bool {
  return !usable(LDTR) || ((rights(LDTR) & SA_TYPE) == TYPE_LDT && systemSegment(LDTR, rights(LDTR)));
}

export function guestSegmentsValid(): bool {
  if (!taskRegister() || !localTable() || !bases()) return false;
  if (vmcs64(V_GUEST_RFLAGS) & FLAG_VM) {
    for (let seg = ES; seg < LDTR; seg += 8) if (!vm86Segment(seg)) return false;
    return true;
  }
  for (let seg = ES; seg < LDTR; seg += 8) {
    if (!common(seg)) return false;
    if (seg != CS && seg != SS && !dataSegment(seg)) return false;
  }
  return codeSegment() && stackSegment();
}
