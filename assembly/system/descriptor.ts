// Descriptors in the GDT and LDT.
//
//   63:56 base 31:24 | 55 G | 54 D/B | 53 L | 52 AVL | 51:48 limit 19:16 | 47 P | 46:45 DPL | 44 S | 43:40 type
//   39:16 base 23:0  | 15:0 limit 15:0
import { GDTR_BASE, GDTR_LIMIT, SEG_LDTR, SEGS, SG_ATTR, SG_BASE, SG_LIMIT } from "../abi/state";
import {
  SA_ACCESSED,
  SA_CODE,
  SA_CONFORMING,
  SA_DPL,
  SA_DPL_SHIFT,
  SA_G,
  SA_P,
  SA_READ,
  SA_S,
  SA_TYPE,
  SA_UNUSABLE,
  SA_WRITE,
  SEL_ERROR,
  SEL_INDEX,
  SEL_TI,
} from "../abi/x86";
import { Plain, probeSystem, readSystem } from "../memory/access";
import { raiseError } from "../state/stop";
import { longMode } from "./mode";

/** Linear address of the descriptor that fetchDescriptor read last. */
export let descriptorAddress: u64 = 0;

/** Addresses of tables are 32 bits wide outside IA-32e mode. */
export function tableAddress(address: u64): u64 {
  return longMode() ? address : address & 0xffffffff;
}

export function isNull(selector: u32): bool {
  return (selector & SEL_ERROR) == 0;
}

/** What descriptorLimit() and locateDescriptor() do, for the short ways, where a call would tell. */
export class Descriptor {
  @inline static limit(d: u64): u32 {
    const raw = (<u32>d & 0xffff) | (<u32>(d >> 32) & 0xf0000);
    return <u32>(d >> 40) & SA_G ? (raw << 12) | 0xfff : raw;
  }

  @inline static inGdt(selector: u32, bytes: u32): u64 {
    if ((selector & SEL_INDEX) + bytes - 1 > load<u32>(GDTR_LIMIT)) return 0xffffffffffffffff;
    return tableAddress(load<u64>(GDTR_BASE) + <u64>(selector & SEL_INDEX));
  }

  /** That of a selector which the TLB has at hand; 0: it is null, outside of its table or not cached. */
  @inline static cached(selector: u32): u64 {
    if (isNull(selector)) return 0;
    const at = selector & SEL_TI ? locateDescriptor(selector, 8) : Descriptor.inGdt(selector, 8);
    const place = at == 0xffffffffffffffff ? 0 : Plain.system(at, 8);
    return place ? load<u64>(place) : 0;
  }
}

/** Linear address of the descriptor, all ones when it lies outside its table. `bytes` is 8, or 16 for system descriptors in IA-32e mode. */
export function locateDescriptor(selector: u32, bytes: u32): u64 {
  if (selector & SEL_TI) {
    if (load<u32>(SEGS + SEG_LDTR + SG_ATTR) & SA_UNUSABLE) return 0xffffffffffffffff;
    if ((selector & SEL_INDEX) + bytes - 1 > load<u32>(SEGS + SEG_LDTR + SG_LIMIT)) return 0xffffffffffffffff;
    return tableAddress(load<u64>(SEGS + SEG_LDTR + SG_BASE) + <u64>(selector & SEL_INDEX));
  }
  return Descriptor.inGdt(selector, bytes);
}

/** Reads the descriptor of a selector that is not null. Outside its table: `vector` with the selector | `ext`. Test aborted() after it. */
export function fetchDescriptor(selector: u32, vector: u32, ext: u32): u64 {
  const at = locateDescriptor(selector, 8);
  descriptorAddress = at;
  if (at == 0xffffffffffffffff) {
    raiseError(vector, (selector & SEL_ERROR) | ext);
    return 0;
  }
  return readSystem<u64>(at);
}

export function descriptorAttr(d: u64): u32 {
  return <u32>(d >> 40) & 0xf0ff;
}

export function descriptorBase(d: u64): u64 {
  return ((d >> 16) & 0xffffff) | ((d >> 32) & 0xff000000);
}

/** Byte-granular limit. */
export function descriptorLimit(d: u64): u32 {
  return Descriptor.limit(d);
}

export function attrDpl(attr: u32): u32 {
  return (attr & SA_DPL) >> SA_DPL_SHIFT;
}

/** Gate fields. 31:16 selector, 15:0 and 63:48 offset, 36:32 parameter count or IST. */
export function gateSelector(d: u64): u32 {
  return <u32>(d >> 16) & 0xffff;
}

export function gateOffset(d: u64): u64 {
  return (d & 0xffff) | ((d >> 32) & 0xffff0000);
}

export function isCode(attr: u32): bool {
  return (attr & (SA_S | SA_CODE)) == (SA_S | SA_CODE);
}

export function isConforming(attr: u32): bool {
  return (attr & SA_CONFORMING) != 0;
}

export function isWritableData(attr: u32): bool {
  return (attr & (SA_S | SA_CODE | SA_WRITE)) == (SA_S | SA_WRITE);
}

export function isReadable(attr: u32): bool {
  return (attr & SA_S) != 0 && (!(attr & SA_CODE) || (attr & SA_READ) != 0);
}

export function isPresent(attr: u32): bool {
  return (attr & SA_P) != 0;
}

/** S = 0 types keep their number, code and data give 16 and more. */
export function systemType(attr: u32): u32 {
  return attr & SA_S ? 16 : attr & SA_TYPE;
}

/**
 * Address in linear memory of the type byte to be written as accessed, 0 when the bit is set already.
 * Test aborted() after it; store with markAccessed().
 */
export function probeAccessed(attr: u32, address: u64): u32 {
  if (attr & SA_ACCESSED) return 0;
  return probeSystem(address + 5, 1);
}

export function markAccessed(attr: u32, host: u32): u32 {
  if (host) store<u8>(host, <u8>(attr | SA_ACCESSED));
  return attr | SA_ACCESSED;
}
