// VM-entry and VM-exit MSR lists: 16-byte entries {31:0 index, 63:32 zero, 127:64 data}.
// @sdm 3C "Loading MSRs" (entry and exit), "Saving MSRs"
import { COMM_VALUE } from "../abi/run";
import { MSR_INDEX_FS_BASE, MSR_INDEX_GS_BASE, Msr } from "../abi/x86";
import { physRead32, physRead64, physWrite64 } from "../memory/physical";
import { readMsr, writeMsr } from "../system/msr";
import { MSR_LIST_MAX } from "../system/vmxCaps";

const SMM_MONITOR_CTL: u32 = 0x9b;

/** MSRs that no list may hold: x2APIC registers and what only SMM may reach. */
function excluded(index: u32): bool {
  return index >> 8 == 8 || index == SMM_MONITOR_CTL;
}

function loadable(index: u32): bool {
  return (
    !excluded(index) &&
    index != MSR_INDEX_FS_BASE &&
    index != MSR_INDEX_GS_BASE &&
    index != Msr.BiosUpdtTrig &&
    index != Msr.BiosSignId
  );
}

/** Loads `count` MSRs. 0: all; else the 1-based number of the entry that failed. */
export function loadMsrList(address: u64, count: u32): u32 {
  for (let i: u32 = 0; i < count; i++) {
    // a list longer than IA32_VMX_MISC[27:25] allows is undefined: it fails here
    if (i == MSR_LIST_MAX) return i + 1;
    const entry = address + ((<u64>i) << 4);
    const index = physRead32(entry);
    if (physRead32(entry + 4) || !loadable(index) || !writeMsr(index, physRead64(entry + 8), 0)) return i + 1;
  }
  return 0;
}

/** Stores `count` MSRs. False: an entry failed. */
export function storeMsrList(address: u64, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) {
    if (i == MSR_LIST_MAX) return false;
    const entry = address + ((<u64>i) << 4);
    const index = physRead32(entry);
    if (physRead32(entry + 4) || excluded(index) || !readMsr(index, 0)) return false;
    physWrite64(entry + 8, load<u64>(COMM_VALUE));
  }
  return true;
}
