// Accesses to the APIC-access page in VMX non-root operation: served by the virtual-APIC page, or a VM exit.
// @sdm 3C "Virtualizing Memory-Mapped APIC Accesses"
import {
  PRIMARY_USE_TPR_SHADOW,
  SECONDARY_APIC_REGISTER_VIRTUALIZATION,
  SECONDARY_VIRTUAL_INTERRUPT_DELIVERY,
} from "../abi/controls";
import { APIC_WRITE, DELIVERING, StopBit, TR_APIC_PAGE, VMCS_HOST, XR_QUALIFICATION, XR_REASON } from "../abi/state";
import { V_VIRTUAL_APIC_ADDRESS } from "../abi/vmcsLayout";
import { recordExit } from "../state/exitRecord";
import { stop } from "../state/stop";
import { primaryControl, secondaryControl } from "../state/vmcs";

const REASON_APIC_ACCESS: u32 = 44;

// exit qualification: 11:0 page offset   15:12 access type
const TYPE_READ: u32 = 0;
const TYPE_WRITE: u32 = 1;
const TYPE_FETCH: u32 = 2;
const TYPE_DELIVERY: u32 = 3;
const TYPE_PHYSICAL_DELIVERY: u32 = 10;
const TYPE_PHYSICAL: u32 = 15;

const TPR: u32 = 0x80;
const EOI: u32 = 0xb0;
const ICR_LOW: u32 = 0x300;

// registers by their number (page offset >> 4), one bit each
//   2 ID  3 version  8 TPR  11 EOI  13 LDR  14 DFR  15 SVR  16-39 ISR TMR IRR  40 ESR  48 49 ICR  50-55 LVT  56 count  62 DCR
const READABLE: u64 = 0x41ff_01ff_ffff_e90c;
const WRITABLE: u64 = 0x41ff_0100_0000_e904;

/** Is the 4 KiB page at this physical address the APIC-access page? */
export function apicPage(page: u64): bool {
  return page == load<u64>(TR_APIC_PAGE);
}

function delivering(): bool {
  return load<u32>(DELIVERING) >>> 31 != 0;
}

/** A guest paging structure lies in the page. */
export function apicTableAccess(): void {
  recordExit(REASON_APIC_ACCESS, <u64>((delivering() ? TYPE_PHYSICAL_DELIVERY : TYPE_PHYSICAL) << 12), 0);
}

export function apicFetch(linear: u64): void {
  recordExit(REASON_APIC_ACCESS, <u64>((TYPE_FETCH << 12) | (<u32>linear & 0xfff)), 0);
}

/** At most 32 bits within the low 4 bytes of a 16-byte region. */
function fits(offset: u32, size: u32): bool {
  return size <= 4 && (offset & 12) == 0 && ((offset + size - 1) & 12) == 0;
}

function virtualizesRead(offset: u32, size: u32): bool {
  if (!primaryControl(PRIMARY_USE_TPR_SHADOW) || !fits(offset, size)) return false;
  if (!secondaryControl(SECONDARY_APIC_REGISTER_VIRTUALIZATION)) return offset == TPR;
  return offset < 0x400 && ((READABLE >> <u64>(offset >> 4)) & 1) != 0;
}

function virtualizesWrite(offset: u32, size: u32): bool {
  if (!primaryControl(PRIMARY_USE_TPR_SHADOW) || !fits(offset, size)) return false;
  const before = load<u32>(APIC_WRITE);
  if (before != 0 && before != (offset | (size << 16))) return false;
  if (secondaryControl(SECONDARY_APIC_REGISTER_VIRTUALIZATION)) {
    return offset < 0x400 && ((WRITABLE >> <u64>(offset >> 4)) & 1) != 0;
  }
  if (offset == TPR) return true;
  return secondaryControl(SECONDARY_VIRTUAL_INTERRUPT_DELIVERY) && (offset == EOI || offset == ICR_LOW);
}

function exits(offset: u32, type: u32): bool {
  recordExit(REASON_APIC_ACCESS, <u64>(((delivering() ? TYPE_DELIVERY : type) << 12) | offset), 0);
  return false;
}

/** A read by a linear address; false: the exit is recorded. An instruction that has written the page does not read it. */
export function apicRead(linear: u64, size: u32): bool {
  const offset = <u32>linear & 0xfff;
  return (virtualizesRead(offset, size) && load<u32>(APIC_WRITE) == 0) || exits(offset, TYPE_READ);
}

/** A write by a linear address; false: the exit is recorded. The register is acted on after the instruction. */
export function apicWrite(linear: u64, size: u32): bool {
  const offset = <u32>linear & 0xfff;
  if (!virtualizesWrite(offset, size)) return exits(offset, TYPE_WRITE);
  store<u32>(APIC_WRITE, offset | (size << 16));
  stop(StopBit.Leave);
  return true;
}

/** The write just virtualized is that of an instruction which reads the operand first. False: the exit is recorded. */
export function apicModify(): bool {
  const write = load<u32>(APIC_WRITE);
  return write == 0 || virtualizesRead(write & 0xfff, write >> 16) || exits(write & 0xfff, TYPE_READ);
}

/**
 * An instruction that reads its operand and then writes it has exited where the write was looked at. The read comes first,
 * and where it is not virtualized it is what exits.
 */
export function apicModifyExits(size: u32): void {
  const qualification = <u32>load<u64>(XR_QUALIFICATION);
  if (load<u32>(XR_REASON) != REASON_APIC_ACCESS || qualification >> 12 != TYPE_WRITE) return;
  const offset = qualification & 0xfff;
  if (!virtualizesRead(offset, size)) store<u64>(XR_QUALIFICATION, offset | (TYPE_READ << 12));
}

/** Physical address on the virtual-APIC page of the byte that stands for a linear address. */
export function virtualApicAddress(linear: u64): u64 {
  return load<u64>(load<u32>(VMCS_HOST), V_VIRTUAL_APIC_ADDRESS) | (linear & 0xfff);
}
