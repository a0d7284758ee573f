// CPU models are data: what CPUID answers and which model-specific bits exist.
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
} from "../../assembly/abi/layout.ts";
import { MISC_FEATURES_MASK, MSR_PLATFORM_INFO } from "../../assembly/abi/state.ts";
import { LINEAR_WIDTH, PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import type { Core } from "../core/index.ts";

/** One row of CPUID. Rows with a `subleaf` answer for that ECX only, rows without for every ECX. */
export interface CpuidLeaf {
  readonly leaf: number;
  readonly subleaf?: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

export interface CpuModel {
  readonly name: string;
  readonly cpuid: readonly CpuidLeaf[];
  /** MSR_PLATFORM_INFO (0xCE). Bit 31: CPUID faulting exists. */
  readonly platformInfo: bigint;
  /** Bits of MSR_MISC_FEATURES_ENABLES (0x140) that exist; bit 0 is CPUID faulting. */
  readonly miscFeaturesMask: bigint;
}

/** CPUID.1:EDX of what is built. @sdm 2A "CPUID" table "Feature Information Returned in the EDX Register" */
const EDX_1 =
  (1 << 3) | // PSE
  (1 << 4) | // TSC
  (1 << 5) | // MSR
  (1 << 6) | // PAE
  (1 << 11) | // SYSENTER and SYSEXIT
  (1 << 13) | // PGE
  (1 << 15); // CMOV

/** CPUID.1:ECX bit 5. */
const ECX_1_VMX = 1 << 5;

/** CPUID.80000001H:EDX */
const EDX_80000001 =
  (1 << 11) | // SYSCALL and SYSRET in 64-bit mode
  (1 << 20) | // execute disable
  (1 << 29); // Intel 64

/** CPUID.80000001H:ECX bit 0: LAHF and SAHF in 64-bit mode. */
const ECX_80000001 = 1;

function text(value: string, offset: number): number {
  let word = 0;
  for (let i = 0; i < 4; i++) word |= (value.charCodeAt(offset + i) || 0) << (8 * i);
  return word >>> 0;
}

function vendorLeaf(leaf: number, highest: number, vendor: string): CpuidLeaf {
  return { leaf, eax: highest, ebx: text(vendor, 0), edx: text(vendor, 4), ecx: text(vendor, 8) };
}

function brandLeaves(brand: string): CpuidLeaf[] {
  return [0, 1, 2].map((i) => ({
    leaf: 0x80000002 + i,
    eax: text(brand, 16 * i),
    ebx: text(brand, 16 * i + 4),
    ecx: text(brand, 16 * i + 8),
    edx: text(brand, 16 * i + 12),
  }));
}

/** The default processor: advertises what is built and nothing else. */
export function genericModel(options: { readonly vmx?: boolean } = {}): CpuModel {
  return {
    name: "generic",
    cpuid: [
      vendorLeaf(0, 1, "GenuineIntel"),
      // family 6, model 0x9E, stepping 9; one logical processor, APIC ID 0
      { leaf: 1, eax: 0x000906e9, ebx: 0x00010000, ecx: options.vmx ? ECX_1_VMX : 0, edx: EDX_1 },
      { leaf: 0x80000000, eax: 0x80000008, ebx: 0, ecx: 0, edx: 0 },
      { leaf: 0x80000001, eax: 0, ebx: 0, ecx: ECX_80000001, edx: EDX_80000001 },
      ...brandLeaves("wasm-vmx processor"),
      { leaf: 0x80000008, eax: (LINEAR_WIDTH << 8) | PHYSICAL_WIDTH, ebx: 0, ecx: 0, edx: 0 },
    ],
    platformInfo: 1n << 31n,
    miscFeaturesMask: 1n,
  };
}

/** Fills the processor's CPUID table. Rows past the last never match a leaf that software asks for. */
export function loadCpuid(core: Core, rows: readonly CpuidLeaf[]): void {
  if (rows.length > CPUID_MAX) throw new RangeError(`a CPU model holds at most ${CPUID_MAX} CPUID rows`);
  for (let i = 0; i < CPUID_MAX; i++) {
    const at = CPUID_TABLE + i * CPUID_ENTRY;
    const row = rows[i];
    core.write32(at + CE_LEAF, row ? row.leaf : 0xffff_ffff);
    core.write32(at + CE_SUBLEAF, row?.subleaf ?? 0);
    core.write32(at + CE_FLAGS, row?.subleaf === undefined ? 0 : CPUID_HAS_SUBLEAF);
    core.write32(at + CE_EAX, row?.eax ?? 0);
    core.write32(at + CE_EBX, row?.ebx ?? 0);
    core.write32(at + CE_ECX, row?.ecx ?? 0);
    core.write32(at + CE_EDX, row?.edx ?? 0);
  }
  core.exports.cpuidChanged();
}

/** Makes the processor one of this model. reset(0) comes after it: the signature goes into EDX there. */
export function applyModel(core: Core, model: CpuModel): void {
  loadCpuid(core, model.cpuid);
  core.write64(MSR_PLATFORM_INFO, model.platformInfo);
  core.write64(MISC_FEATURES_MASK, model.miscFeaturesMask);
}
