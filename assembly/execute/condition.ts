// Conditions of Jcc, SETcc, CMOVcc; k is the low nibble of the opcode.
import { getCF, getOF, getPF, getSF, getZF } from "../state/flags";

export class Cond {
  @inline static test(k: u32): bool {
    let r: u32 = 0;
    if (k >> 1 == 0) r = getOF();
    else if (k >> 1 == 1) r = getCF();
    else if (k >> 1 == 2) r = getZF();
    else if (k >> 1 == 3) r = getCF() | getZF();
    else if (k >> 1 == 4) r = getSF();
    else if (k >> 1 == 5) r = getPF();
    else if (k >> 1 == 6) r = getSF() ^ getOF();
    else r = (getSF() ^ getOF()) | getZF();
    return (r ^ (k & 1)) != 0;
  }
}
