// PDPTEs of PAE paging at VM entry. @sdm 3C "Checks on Guest Page-Directory-Pointer-Table Entries"
import { PDPTE } from "../abi/state";
import { V_GUEST_CR3, V_GUEST_PDPTE0 } from "../abi/vmcsLayout";
import { physRead64 } from "../memory/physical";
import { badPdpte } from "../system/control";
import { eptOn } from "./controls";
import { setVmcs64, vmcs64 } from "./vmcs";

/** From the VMCS when EPT is on, else from the table that CR3 names. */
function guestPdpte(i: u32): u64 {
  if (eptOn()) return vmcs64(V_GUEST_PDPTE0 + 8 * i);
  return physRead64((vmcs64(V_GUEST_CR3) & 0xffffffe0) + 8 * i);
}

export function guestPdptesValid(): bool {
  for (let i: u32 = 0; i < 4; i++) if (badPdpte(guestPdpte(i))) return false;
  return true;
}

export function loadGuestPdptes(): void {
  for (let i: u32 = 0; i < 4; i++) store<u64>(PDPTE + 8 * i, guestPdpte(i));
}

export function saveGuestPdptes(): void {
  for (let i: u32 = 0; i < 4; i++) setVmcs64(V_GUEST_PDPTE0 + 8 * i, load<u64>(PDPTE + 8 * i));
}
