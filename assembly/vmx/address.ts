// Validity of addresses that VMX structures hold.
import { PHYSICAL_WIDTH } from "../abi/width";

/** No bit above the physical-address width. */
export function physicalWidth(address: u64): bool {
  return address >> PHYSICAL_WIDTH == 0;
}

/** A 4 KiB aligned physical address: VMXON and VMCS regions, bitmaps. */
export function pageAddress(address: u64): bool {
  return (address & 0xfff) == 0 && physicalWidth(address);
}

// EPTP: 2:0 memory type   5:3 walk length - 1   6 accessed and dirty flags   11:7 reserved   N-1:12 PML4 table
const EPTP_TYPE: u64 = 7;
const EPTP_UC: u64 = 0;
const EPTP_WB: u64 = 6;
const EPTP_WALK: u64 = 0x38;
const EPTP_WALK_4: u64 = 0x18;
const EPTP_RESERVED: u64 = 0xf80;

/** May VM entry use this EPT pointer? @sdm 3C "VM-Execution Control Fields" (checks) */
export function eptpValid(eptp: u64): bool {
  const type = eptp & EPTP_TYPE;
  return (
    (type == EPTP_UC || type == EPTP_WB) &&
    (eptp & EPTP_WALK) == EPTP_WALK_4 &&
    (eptp & EPTP_RESERVED) == 0 &&
    physicalWidth(eptp)
  );
}
