// Emulation of one instruction for a hypervisor: while EMULATE is set, an access that EPT does not allow is a device
// access, asked of the host by its guest-physical address in pieces of at most 8 bytes inside one page.
import { DELIVERING, EMULATE, STOP, StopBit, XR_PHYSICAL, XR_QUALIFICATION, XR_REASON } from "../abi/state";
import { EPT_FINAL } from "./ept";

const REASON_VIOLATION: u32 = 48;
/** Marks a guest-physical address that stands where a physical one would. */
const MARK: u64 = 0x8000000000000000;
const VALID: u32 = 0x80000000;

/**
 * After a walk that failed for a data access: its marked guest-physical address, 0 when the failure stands. Tables that
 * EPT hides, and frames of an event's delivery, are not emulated.
 */
export function emulatedAddress(): u64 {
  if (!load<u32>(EMULATE) || load<u32>(DELIVERING) & VALID) return 0;
  if (!(load<u32>(STOP) & StopBit.Exit) || load<u32>(XR_REASON) != REASON_VIOLATION) return 0;
  if (!(load<u64>(XR_QUALIFICATION) & EPT_FINAL)) return 0;
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Exit);
  return load<u64>(XR_PHYSICAL) | MARK;
}

export function isEmulated(pa: u64): bool {
  return (pa & MARK) != 0;
}

/** The address as the host knows it. */
export function deviceAddress(pa: u64): u64 {
  return pa & ~MARK;
}

/** Bytes of the next piece of a device access: a power of two and aligned in an MMIO window, at most 8 when emulated. */
export function pieceBytes(pa: u64, bytes: u32): u32 {
  if (isEmulated(pa)) return min<u32>(bytes, 8);
  let n: u32 = 8;
  while (n > bytes || pa & u64(n - 1)) n >>= 1;
  return n;
}
