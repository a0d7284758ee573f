// Placeholder signatures; the VMX work replaces the bodies.
/** Non-root operation. */
export function nonRoot(): bool {
  return false;
}
/** VM exit of an instruction that always exits: writes the exit record. */
export function exitInstruction(_reason: u32, _qualification: u64, _rec: usize): void {}
export function exitRdmsr(_index: u32, _rec: usize): bool { return false; }
export function exitWrmsr(_index: u32, _rec: usize): bool { return false; }
/** bits: exit-qualification bits 3 (IN), 4 (string), 5 (REP), 6 (immediate operand). linear: of the string operand. */
export function exitIo(_port: u32, _size: u32, _bits: u32, _linear: u64, _rec: usize): bool { return false; }
export function exitHlt(_rec: usize): bool { return false; }
export function exitMovToCr(_cr: u32, _gpr: u32, _value: u64, _rec: usize): bool { return false; }
export function exitMovFromCr(_cr: u32, _gpr: u32, _rec: usize): bool { return false; }
export function exitClts(_rec: usize): bool { return false; }
export function exitLmsw(_source: u32, _memory: bool, _linear: u64, _rec: usize): bool { return false; }
export function exitMovDr(_dr: u32, _fromDr: bool, _gpr: u32, _rec: usize): bool { return false; }
export function exitInvlpg(_linear: u64, _rec: usize): bool { return false; }
export function exitRdtsc(_reason: u32, _rec: usize): bool { return false; }
export function exitRdpmc(_rec: usize): bool { return false; }
export function exitWbinvd(_rec: usize): bool { return false; }
export function exitPause(_rec: usize): bool { return false; }
/** LGDT LIDT SGDT SIDT (46), LLDT LTR SLDT STR (47). */
export function exitDescriptorTable(_reason: u32, _rec: usize): bool { return false; }
/** CR0 or CR4 as guest software reads it: the read shadow in bits of the guest/host mask. */
export function guestCr0(): u64 { return 0; }
export function guestCr4(): u64 { return 0; }
/** New CR0 value after the guest/host mask: bits the host owns stay as they are. */
export function maskCr0(value: u64): u64 { return value; }
export function maskCr4(value: u64): u64 { return value; }
/** Guest view of the TSC: scaling and offset. */
export function guestTsc(tsc: u64): u64 { return tsc; }
/** Does the event in EV_* cause a VM exit? If so the exit record is written. Called by run/boundary.ts only. */
export function interceptEvent(): bool { return false; }
