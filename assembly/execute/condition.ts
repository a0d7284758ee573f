// Conditions of Jcc, SETcc, CMOVcc; k is the low nibble of the opcode.
import { Fast } from "./fast";

export function condition(k: u32): bool {
  return evenCondition(k >> 1) != ((k & 1) != 0);
}

function evenCondition(n: u32): bool {
  switch (n) {
    case 0:
      return Fast.condition(0);
    case 1:
      return Fast.condition(2);
    case 2:
      return Fast.condition(4);
    case 3:
      return Fast.condition(6);
    case 4:
      return Fast.condition(8);
    case 5:
      return Fast.condition(10);
    case 6:
      return Fast.condition(12);
    default:
      return Fast.condition(14);
  }
}
