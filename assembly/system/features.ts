// Names of the CPUID bits that decide which control bits and MSRs exist.
import { CE_EAX, CE_EBX, CE_ECX, CE_EDX } from "../abi/layout";
import { FORM_XSAVES, STATE_HDC, STATE_X87 } from "../abi/x86";
import { feature, modelWord } from "./cpuid";

const EXT1: u32 = 0x80000001;

export function hasVme(): bool {
  return feature(1, CE_EDX, 1);
}
export function hasDe(): bool {
  return feature(1, CE_EDX, 2);
}
export function hasPse(): bool {
  return feature(1, CE_EDX, 3);
}
export function hasTsc(): bool {
  return feature(1, CE_EDX, 4);
}
export function hasPae(): bool {
  return feature(1, CE_EDX, 6);
}
export function hasMce(): bool {
  return feature(1, CE_EDX, 7);
}
export function hasApic(): bool {
  return feature(1, CE_EDX, 9);
}
export function hasSep(): bool {
  return feature(1, CE_EDX, 11);
}
export function hasMtrr(): bool {
  return feature(1, CE_EDX, 12);
}
export function hasPge(): bool {
  return feature(1, CE_EDX, 13);
}
export function hasMca(): bool {
  return feature(1, CE_EDX, 14);
}
export function hasPat(): bool {
  return feature(1, CE_EDX, 16);
}
export function hasFxsr(): bool {
  return feature(1, CE_EDX, 24);
}
export function hasSse(): bool {
  return feature(1, CE_EDX, 25);
}
export function hasVmx(): bool {
  return feature(1, CE_ECX, 5);
}
export function hasPcid(): bool {
  return feature(1, CE_ECX, 17);
}
export function hasX2apic(): bool {
  return feature(1, CE_ECX, 21);
}
export function hasTscDeadline(): bool {
  return feature(1, CE_ECX, 24);
}
export function hasXsave(): bool {
  return feature(1, CE_ECX, 26);
}
/** FORM bits. */
export function xsaveForms(): u32 {
  return modelWord(0xd, 1, CE_EAX);
}
export function hasXsaves(): bool {
  return hasXsave() && (xsaveForms() & FORM_XSAVES) != 0;
}
/** Bits that XCR0 may have: of the states that are built. */
export function xcr0Supported(): u64 {
  return modelWord(0xd, 0, CE_EAX) & STATE_X87;
}
export function xssSupported(): u64 {
  return modelWord(0xd, 1, CE_ECX) & STATE_HDC;
}
export function hasHdc(): bool {
  return feature(6, CE_EAX, 13);
}
/** FCS and FDS are always 0. */
export function hasNoX87Selectors(): bool {
  return feature(7, CE_EBX, 13);
}
export function hasFsgsbase(): bool {
  return feature(7, CE_EBX, 0);
}
export function hasTscAdjust(): bool {
  return feature(7, CE_EBX, 1);
}
export function hasSmep(): bool {
  return feature(7, CE_EBX, 7);
}
export function hasSmap(): bool {
  return feature(7, CE_EBX, 20);
}
export function hasUmip(): bool {
  return feature(7, CE_ECX, 2);
}
export function hasSpecCtrl(): bool {
  return feature(7, CE_EDX, 26);
}
export function hasNx(): bool {
  return feature(EXT1, CE_EDX, 20);
}
export function hasLongMode(): bool {
  return feature(EXT1, CE_EDX, 29);
}
export function hasSyscall(): bool {
  return feature(EXT1, CE_EDX, 11);
}
export function hasRdtscp(): bool {
  return feature(EXT1, CE_EDX, 27);
}
export function hasRdpid(): bool {
  return feature(7, CE_ECX, 22);
}
export function hasRdrand(): bool {
  return feature(1, CE_ECX, 30);
}
export function hasRdseed(): bool {
  return feature(7, CE_EBX, 18);
}
export function hasInvpcid(): bool {
  return feature(7, CE_EBX, 10);
}
export function hasCmpxchg16b(): bool {
  return feature(1, CE_ECX, 13);
}
