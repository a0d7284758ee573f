// CPUID: the table of the CPU model and the bits that follow from processor state.
// The table starts with leaf 0; a later entry with leaf 0 or FFFFFFFFH ends it. An empty table answers 0 and restricts no feature.
// @sdm 2A "CPUID-CPU Identification"

import {
  CE_EAX,
  CE_EBX,
  CE_ECX,
  CE_EDX,
  CE_FLAGS,
  CE_LEAF,
  CE_SUBLEAF,
  CPUID_ENTRY,
  CPUID_HAS_SUBLEAF,
  CPUID_MAX,
  CPUID_TABLE,
} from "../abi/layout";
import { COMM_CPUID } from "../abi/run";
import { CR4, MSR_APIC_BASE, MSR_MISC_ENABLE, MSR_XSS } from "../abi/state";
import { APIC_BASE_ENABLE, CR4_OSXSAVE, MISC_ENABLE_LIMIT_CPUID, STATE_HDC } from "../abi/x86";
import { CpuidAnswers } from "./cpuidCache";
import { code64 } from "./mode";

const EXTENDED: u32 = 0x80000000;

function ends(leaf: u32, row: i32): bool {
  return leaf == 0xffffffff || (leaf == 0 && row > 0);
}

function tableEmpty(): bool {
  return (load<u32>(CPUID_TABLE + CE_EAX) | load<u32>(CPUID_TABLE + CE_EBX)) == 0;
}

/** Address of the entry, 0 when there is none. */
function findEntry(leaf: u32, subleaf: u32): usize {
  for (let i = 0; i < CPUID_MAX; i++) {
    const at: usize = CPUID_TABLE + i * CPUID_ENTRY;
    const entryLeaf = load<u32>(at, CE_LEAF);
    if (ends(entryLeaf, i)) return 0;
    if (entryLeaf == leaf && (!(load<u32>(at, CE_FLAGS) & CPUID_HAS_SUBLEAF) || load<u32>(at, CE_SUBLEAF) == subleaf))
      return at;
  }
  return 0;
}

function hasLeaf(leaf: u32): bool {
  for (let i = 0; i < CPUID_MAX; i++) {
    const entryLeaf = load<u32>(CPUID_TABLE + i * CPUID_ENTRY + CE_LEAF);
    if (ends(entryLeaf, i)) return false;
    if (entryLeaf == leaf) return true;
  }
  return false;
}

/** One register (CE_EAX ... CE_EDX) of the model, without the bits that follow from state; 0 where the table has no entry. */
export function modelCpuid(leaf: u32, subleaf: u32, register: u32): u32 {
  const at = findEntry(leaf, subleaf);
  return at ? load<u32>(at + register) : 0;
}

/** The same with every bit of an empty table. */
export function modelWord(leaf: u32, subleaf: u32, register: u32): u32 {
  return tableEmpty() ? 0xffffffff : modelCpuid(leaf, subleaf, register);
}

// the four registers of leaves 1, 7 and 80000001H
const words: usize = memory.data(48);
let wordsValid: bool = false;
/** Rises when the table changes; what is derived from features is kept with the number it was computed for. */
export let cpuidGeneration: u32 = 1;

/** Must follow every change of the table. */
export function cpuidChanged(): void {
  CpuidAnswers.forget();
  wordsValid = false;
  cpuidGeneration++;
}

function fillWords(): void {
  for (let i: u32 = 0; i < 12; i++) {
    const leaf: u32 = i < 4 ? 1 : i < 8 ? 7 : EXTENDED + 1;
    store<u32>(words + (i << 2), modelWord(leaf, 0, CE_EAX + ((i & 3) << 2)));
  }
  wordsValid = true;
}

/** Does the model have this feature bit? An empty table has every feature. */
export function feature(leaf: u32, register: u32, bit: u32): bool {
  if (!wordsValid) fillWords();
  if (leaf != 1 && leaf != 7 && leaf != EXTENDED + 1) {
    return ((modelWord(leaf, 0, register) >> bit) & 1) != 0;
  }
  const row: u32 = leaf == 7 ? 16 : (leaf >> 31) << 5;
  return ((load<u32>(words + row + (register - CE_EAX)) >> bit) & 1) != 0;
}

/** Leaves above the highest basic or extended one give the data of the highest basic leaf. */
function effectiveLeaf(leaf: u32): u32 {
  if (hasLeaf(leaf)) return leaf;
  const maxBasic = load<u32>(CPUID_TABLE + CE_EAX);
  if (leaf <= maxBasic) return leaf;
  if (leaf >= EXTENDED && leaf <= modelCpuid(EXTENDED, 0, CE_EAX)) return leaf;
  return maxBasic;
}

/** EAX, EBX, ECX, EDX into COMM_CPUID. */
export function answerCpuid(requested: u32, subleaf: u32): void {
  const leaf = effectiveLeaf(requested);
  const at = findEntry(leaf, subleaf);
  let eax: u32 = 0;
  let ebx: u32 = 0;
  let ecx: u32 = 0;
  let edx: u32 = 0;
  if (at) {
    eax = load<u32>(at, CE_EAX);
    ebx = load<u32>(at, CE_EBX);
    ecx = load<u32>(at, CE_ECX);
    edx = load<u32>(at, CE_EDX);
  } else if (leaf == 0xb || leaf == 0x1f) {
    // topology leaves: an invalid level keeps its number and the x2APIC id
    ecx = subleaf & 0xff;
    edx = modelCpuid(leaf, 0, CE_EDX);
  }
  if (leaf == 0) {
    if (load<u64>(MSR_MISC_ENABLE) & MISC_ENABLE_LIMIT_CPUID && eax > 2) eax = 2;
  } else if (leaf == 1) {
    ecx &= ~((<u32>1) << 27);
    if (load<u64>(CR4) & CR4_OSXSAVE) ecx |= 1 << 27;
    if (!(load<u64>(MSR_APIC_BASE) & APIC_BASE_ENABLE)) edx &= ~((<u32>1) << 9);
  } else if (leaf == 0xd && subleaf == 1 && ebx) {
    // the area in compacted format of what is enabled: the header ends at 576, HDC state has 8 bytes
    ebx = load<u64>(MSR_XSS) & STATE_HDC ? 584 : 576;
  } else if (leaf == EXTENDED + 1) {
    if (!code64()) edx &= ~((<u32>1) << 11); // SYSCALL exists in 64-bit mode only
    if ((load<u64>(MSR_MISC_ENABLE) >> 34) & 1) edx &= ~((<u32>1) << 20); // XD bit disable
  }
  store<u32>(COMM_CPUID, eax);
  store<u32>(COMM_CPUID + 4, ebx);
  store<u32>(COMM_CPUID + 8, ecx);
  store<u32>(COMM_CPUID + 12, edx);
}
