// Decimal adjustment, SALC. @sdm 2A the instructions' own pages
import { R_IMM } from "../abi/record";
import { FLAG_CARRIES, FLAG_RESULT, RAX } from "../abi/state";
import { getAF, getCF } from "../state/flags";
import { raise } from "../state/stop";

/** SF ZF PF from AL, CF and AF as given, OF cleared (it is undefined). */
function adjustFlags(cf: bool, af: bool): void {
  store<i64>(FLAG_RESULT, load<i8>(RAX));
  // OF = bit 31 ^ bit 30
  store<u32>(FLAG_CARRIES, (cf ? 0xc0000000 : 0) | (af ? 8 : 0));
}

export function daa(_rec: usize): void {
  const old = load<u8>(RAX);
  const oldCf = getCF() != 0;
  let al = u32(old);
  let cf = false;
  const af = (al & 15) > 9 || getAF() != 0;
  if (af) {
    cf = oldCf || al + 6 > 0xff;
    al += 6;
  }
  if (old > 0x99 || oldCf) {
    al += 0x60;
    cf = true;
  }
  store<u8>(RAX, al);
  adjustFlags(cf, af);
}

export function das(_rec: usize): void {
  const old = load<u8>(RAX);
  const oldCf = getCF() != 0;
  let al = u32(old);
  let cf = false;
  const af = (al & 15) > 9 || getAF() != 0;
  if (af) {
    cf = oldCf || al < 6;
    al -= 6;
  }
  if (old > 0x99 || oldCf) {
    al -= 0x60;
    cf = true;
  }
  store<u8>(RAX, al);
  adjustFlags(cf, af);
}

export function aaa(_rec: usize): void {
  const adjust = (load<u8>(RAX) & 15) > 9 || getAF() != 0;
  if (adjust) store<u16>(RAX, load<u16>(RAX) + 0x106);
  store<u8>(RAX, load<u8>(RAX) & 15);
  adjustFlags(adjust, adjust);
}

export function aas(_rec: usize): void {
  const adjust = (load<u8>(RAX) & 15) > 9 || getAF() != 0;
  if (adjust) {
    store<u16>(RAX, load<u16>(RAX) - 6);
    store<u8>(RAX + 1, load<u8>(RAX + 1) - 1);
  }
  store<u8>(RAX, load<u8>(RAX) & 15);
  adjustFlags(adjust, adjust);
}

export function aam(rec: usize): void {
  const d = load<u8>(rec, R_IMM);
  if (d == 0) {
    raise(0);
    return;
  }
  const al = load<u8>(RAX);
  store<u8>(RAX + 1, al / d);
  store<u8>(RAX, al % d);
  adjustFlags(false, false);
}

export function aad(rec: usize): void {
  store<u16>(RAX, u16(u8(load<u8>(RAX) + load<u8>(RAX + 1) * load<u8>(rec, R_IMM))));
  adjustFlags(false, false);
}

export function salc(_rec: usize): void {
  store<u8>(RAX, getCF() ? 0xff : 0);
}
