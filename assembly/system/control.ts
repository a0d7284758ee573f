// Writes of control registers. Each returns false when the value is a #GP(0); the caller raises it.
// @sdm 2B "MOV-Move to/from Control Registers"; @sdm 3A "Control Registers", "Initializing IA-32e Mode"
import { CR0, CR3, CR4, CR8, EFER, PDPTE, SEG_CS, SEG_TR, SEGS, SG_ATTR, TR_EPTP } from "../abi/state";
import { PHYSICAL_WIDTH } from "../abi/width";
import {
  CR0_AM,
  CR0_CD,
  CR0_DEFINED,
  CR0_ET,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR3_PCID,
  CR4_DE,
  CR4_FSGSBASE,
  CR4_MCE,
  CR4_OSFXSR,
  CR4_OSXMMEXCPT,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PCE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PSE,
  CR4_PVI,
  CR4_SMAP,
  CR4_SMEP,
  CR4_TSD,
  CR4_UMIP,
  CR4_VME,
  CR4_VMXE,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
  SA_L,
  TYPE_TSS16_BUSY,
} from "../abi/x86";
import { noteTaskPriority } from "../apic/local";
import { selectContext } from "../memory/context";
import { EPT_READ, eptWalk } from "../memory/ept";
import { physRead64 } from "../memory/physical";
import { cpuidGeneration } from "./cpuid";
import { systemType } from "./descriptor";
import {
  hasDe,
  hasFsgsbase,
  hasFxsr,
  hasLongMode,
  hasMce,
  hasNx,
  hasPae,
  hasPcid,
  hasPge,
  hasPse,
  hasSmap,
  hasSmep,
  hasSse,
  hasSyscall,
  hasTsc,
  hasUmip,
  hasVme,
  hasVmx,
  hasXsave,
} from "./features";
import { code64, longMode, recomputeMode } from "./mode";
import { inVmxOperation, requiredCr0 } from "./vmxMode";

const PHYSICAL_MASK: u64 = ((<u64>1) << PHYSICAL_WIDTH) - 1;
const PDPTE_RESERVED: u64 = 0x1e6 | ~PHYSICAL_MASK;

/** Guest-physical quadword of a PDPTE; an EPT violation is recorded as an exit. */
function readPdpte(address: u64): u64 {
  if (!load<u64>(TR_EPTP)) return physRead64(address);
  const page = eptWalk(address, EPT_READ, 0, 0);
  return page ? physRead64((page & ~(<u64>0xfff)) | (address & 0xfff)) : 0;
}

/**
 * PAE paging: loads the four PDPTEs; the caller chooses the context then. False (nothing loaded) when a present one has a
 * reserved bit set. @sdm 3A "PDPTE Registers"
 */
export function loadPdptes(cr3: u64): bool {
  const table = cr3 & 0xffffffe0;
  const e0 = readPdpte(table);
  const e1 = readPdpte(table + 8);
  const e2 = readPdpte(table + 16);
  const e3 = readPdpte(table + 24);
  if (badPdpte(e0) || badPdpte(e1) || badPdpte(e2) || badPdpte(e3)) return false;
  store<u64>(PDPTE, e0);
  store<u64>(PDPTE + 8, e1);
  store<u64>(PDPTE + 16, e2);
  store<u64>(PDPTE + 24, e3);
  return true;
}

export function badPdpte(entry: u64): bool {
  return (entry & 1) != 0 && (entry & PDPTE_RESERVED) != 0;
}

/** Reserved bits of 31:0 are ignored, ET stays 1. */
export function writeCr0(value: u64): bool {
  if (value >> 32) return false;
  const old = load<u64>(CR0);
  const next = (value & CR0_DEFINED) | CR0_ET;
  if ((next & (CR0_PG | CR0_PE)) == CR0_PG) return false;
  if ((next & (CR0_NW | CR0_CD)) == CR0_NW) return false;
  const required = requiredCr0();
  if ((next & required) != required) return false;
  const efer = load<u64>(EFER);
  const cr4 = load<u64>(CR4);
  const changed = old ^ next;
  if (changed & CR0_PG) {
    if (next & CR0_PG) {
      if (efer & EFER_LME) {
        if (!(cr4 & CR4_PAE) || load<u32>(SEGS + SEG_CS + SG_ATTR) & SA_L) return false;
        if (systemType(load<u32>(SEGS + SEG_TR + SG_ATTR)) == TYPE_TSS16_BUSY) return false;
      }
    } else if (code64() || cr4 & CR4_PCIDE) {
      return false;
    }
  }
  if (next & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LME) && changed & (CR0_PG | CR0_CD | CR0_NW)) {
    if (!loadPdptes(load<u64>(CR3))) return false;
  }
  if (changed & CR0_PG) {
    const lma: u64 = next & CR0_PG && efer & EFER_LME ? EFER_LMA : 0;
    store<u64>(EFER, (efer & ~(<u64>EFER_LMA)) | lma);
  }
  store<u64>(CR0, next);
  if (changed & (CR0_PE | CR0_PG | CR0_WP | CR0_AM)) recomputeMode();
  return true;
}

/** Bit 63 (keep the PCID's translations) is not stored. */
export function writeCr3(value: u64): bool {
  const cr4 = load<u64>(CR4);
  let next = value;
  if (longMode()) {
    if (cr4 & CR4_PCIDE) next &= 0x7fffffffffffffff;
    if (next & ~PHYSICAL_MASK) return false;
  } else {
    next &= 0xffffffff;
    if (load<u64>(CR0) & CR0_PG && cr4 & CR4_PAE && !loadPdptes(next)) return false;
  }
  store<u64>(CR3, next);
  selectContext();
  return true;
}

let cr4Bits: u64 = 0;
let eferBits: u64 = 0;
let bitsGeneration: u32 = 0;

function refreshBits(): void {
  if (bitsGeneration == cpuidGeneration) return;
  bitsGeneration = cpuidGeneration;
  cr4Bits = modelCr4();
  eferBits = modelEfer();
}

/** CR4 bits of the model. */
export function cr4Supported(): u64 {
  refreshBits();
  return cr4Bits;
}

function modelCr4(): u64 {
  let bits: u64 = CR4_PCE;
  if (hasVme()) bits |= CR4_VME | CR4_PVI;
  if (hasTsc()) bits |= CR4_TSD;
  if (hasDe()) bits |= CR4_DE;
  if (hasPse()) bits |= CR4_PSE;
  if (hasPae()) bits |= CR4_PAE;
  if (hasMce()) bits |= CR4_MCE;
  if (hasPge()) bits |= CR4_PGE;
  if (hasFxsr()) bits |= CR4_OSFXSR;
  if (hasSse()) bits |= CR4_OSXMMEXCPT;
  if (hasUmip()) bits |= CR4_UMIP;
  if (hasVmx()) bits |= CR4_VMXE;
  if (hasFsgsbase()) bits |= CR4_FSGSBASE;
  if (hasPcid()) bits |= CR4_PCIDE;
  if (hasXsave()) bits |= CR4_OSXSAVE;
  if (hasSmep()) bits |= CR4_SMEP;
  if (hasSmap()) bits |= CR4_SMAP;
  return bits;
}

export function writeCr4(value: u64): bool {
  if (value & ~cr4Supported()) return false;
  const old = load<u64>(CR4);
  const changed = old ^ value;
  if (inVmxOperation() && !(value & CR4_VMXE)) return false;
  if (longMode() && !(value & CR4_PAE)) return false;
  if (changed & CR4_PCIDE && value & CR4_PCIDE) {
    if (!longMode() || load<u64>(CR3) & CR3_PCID) return false;
  }
  if (load<u64>(CR0) & CR0_PG && value & CR4_PAE && !longMode() && changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) {
    if (!loadPdptes(load<u64>(CR3))) return false;
  }
  store<u64>(CR4, value);
  if (changed) recomputeMode();
  return true;
}

export function writeCr8(value: u64): bool {
  if (value & ~(<u64>0xf)) return false;
  store<u64>(CR8, value);
  noteTaskPriority(value);
  return true;
}

/** EFER bits of the model. */
export function eferSupported(): u64 {
  refreshBits();
  return eferBits;
}

function modelEfer(): u64 {
  let bits: u64 = 0;
  if (hasSyscall()) bits |= EFER_SCE;
  if (hasLongMode()) bits |= EFER_LME | EFER_LMA;
  if (hasNx()) bits |= EFER_NXE;
  return bits;
}

/** LMA is read-only: a write leaves it as it is. @sdm 3A "Extended Feature Enable Register" */
export function writeEfer(value: u64): bool {
  if (value & ~eferSupported()) return false;
  const old = load<u64>(EFER);
  if ((old ^ value) & EFER_LME && load<u64>(CR0) & CR0_PG) return false;
  store<u64>(EFER, (value & ~(<u64>EFER_LMA)) | (old & EFER_LMA));
  recomputeMode();
  return true;
}
