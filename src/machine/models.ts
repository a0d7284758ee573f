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
import { FORM_XSAVEC, FORM_XSAVES, STATE_HDC, STATE_X87 } from "../../assembly/abi/x86.ts";
import type { Core } from "../core/index.ts";
import { CPU_FEATURES, type CpuFeature, type FeatureRegister } from "./cpuFeatures.ts";

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

/** Bytes CLFLUSH flushes, in units of 8, as leaf 1 EBX says them. */
const LINE_QUADWORDS = 8;

interface ModelSpec {
  readonly name: string;
  readonly brand: string;
  /** Family, model and stepping as leaf 1 EAX holds them. */
  readonly signature: number;
  readonly features: readonly CpuFeature[];
  readonly platformInfo: bigint;
  readonly miscFeaturesMask: bigint;
}

export interface ModelOptions {
  /** VMX beside the model's own features, with RDTSCP, PAT, PCID, INVPCID and MONITOR; default false. */
  readonly vmx?: boolean;
  /** A local APIC with x2APIC mode and TSC-deadline timer; default false. It needs a machine with devices that has one. */
  readonly apic?: boolean;
}

/** VMX, and what its controls speak of: RDTSCP, PAT, PCIDs and INVPCID, MONITOR. */
const VMX = ["vmx", "rdtscp", "pat", "pcid", "invpcid", "monitor"] as const;
const APIC = ["apic", "x2apic", "tscDeadline"] as const;
/** Legacy region and header. */
const XSAVE_AREA = 576;
const COMPACTED_FORMS = FORM_XSAVEC | FORM_XSAVES;
/** One thread and one core, x2APIC ID 0. */
const TOPOLOGY: readonly CpuidLeaf[] = [
  { leaf: 0xb, subleaf: 0, eax: 0, ebx: 1, ecx: 0x100, edx: 0 },
  { leaf: 0xb, subleaf: 1, eax: 0, ebx: 1, ecx: 0x201, edx: 0 },
];

/**
 * x87 state alone, in the legacy region; HDC state, 8 bytes, for XSAVES. forms: bits of sub-leaf 1.
 * @sdm 1 "Enumeration of CPU Support for XSAVE Instructions and XSAVE-Supported Features"
 */
function extendedState(forms: number, hdc: boolean): CpuidLeaf[] {
  const leaf = 0xd;
  return [
    { leaf, subleaf: 0, eax: STATE_X87, ebx: XSAVE_AREA, ecx: XSAVE_AREA, edx: 0 },
    { leaf, subleaf: 1, eax: forms, ebx: forms & COMPACTED_FORMS ? XSAVE_AREA : 0, ecx: hdc ? STATE_HDC : 0, edx: 0 },
    ...(hdc ? [{ leaf, subleaf: 13, eax: 8, ebx: 0, ecx: 1, edx: 0 }] : []),
  ];
}

/** Added to a leaf for each sub-leaf. */
const SUBLEAF = 2 ** 32;

/** Leaves from a list of features: what is listed is advertised, and nothing else. */
function modelOf(spec: ModelSpec, options: ModelOptions): CpuModel {
  const features = new Set<CpuFeature>([...spec.features, ...(options.vmx ? VMX : []), ...(options.apic ? APIC : [])]);
  const bits = new Map<number, Record<FeatureRegister, number>>();
  for (const name of features) {
    const [leaf, register, bit, subleaf = 0]: readonly [number, FeatureRegister, number, number?] = CPU_FEATURES[name];
    const row = bits.get(leaf + subleaf * SUBLEAF) ?? { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    row[register] = (row[register] | (1 << bit)) >>> 0;
    bits.set(leaf + subleaf * SUBLEAF, row);
  }
  const none = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const words = (leaf: number, subleaf = 0) => bits.get(leaf + subleaf * SUBLEAF) ?? none;
  const has = (leaf: number): boolean => bits.has(leaf);
  const extended = has(0x80000001);
  const xsave = features.has("xsave");
  const highest = xsave ? 0xd : features.has("x2apic") ? 0xb : has(7) ? 7 : features.has("monitor") ? 5 : 1;
  const line = features.has("clfsh") ? LINE_QUADWORDS << 8 : 0;
  const rows: CpuidLeaf[] = [vendorLeaf(0, highest, "GenuineIntel")];
  // one logical processor, APIC ID 0
  rows.push({ leaf: 1, ...words(1), eax: spec.signature, ebx: 0x00010000 | line });
  // monitored lines of 64 bytes; no extensions, no hints
  if (features.has("monitor")) rows.push({ leaf: 5, eax: 64, ebx: 64, ecx: 0, edx: 0 });
  if (features.has("hdc")) rows.push({ leaf: 6, ...words(6) });
  if (has(7)) rows.push({ leaf: 7, subleaf: 0, ...words(7) });
  if (features.has("x2apic")) rows.push(...TOPOLOGY);
  if (xsave) rows.push(...extendedState(words(0xd, 1).eax, features.has("xsaves") && features.has("hdc")));
  rows.push({ leaf: 0x80000000, eax: extended ? 0x80000008 : 0x80000004, ebx: 0, ecx: 0, edx: 0 });
  rows.push({ leaf: 0x80000001, ...words(0x80000001) });
  rows.push(...brandLeaves(spec.brand));
  if (extended) rows.push({ leaf: 0x80000008, eax: (LINEAR_WIDTH << 8) | PHYSICAL_WIDTH, ebx: 0, ecx: 0, edx: 0 });
  const { name, platformInfo, miscFeaturesMask } = spec;
  return { name, cpuid: rows, platformInfo, miscFeaturesMask };
}

const CPUID_FAULTING = 1n << 31n;

const P5: readonly CpuFeature[] = ["vme", "de", "pse", "tsc", "msr", "cx8"];
const P6_64: readonly CpuFeature[] = [...P5, "pae", "sep", "pge", "cmov", "clfsh", "syscall", "nx", "lm", "lahf64"];
const NEHALEM: readonly CpuFeature[] = [...P6_64, "mce", "mtrr", "mca", "pat", "monitor", "cx16", "popcnt", "rdtscp"];
const INTEGER: readonly CpuFeature[] = ["cx16", "movbe", "popcnt", "rdrand", "bmi1", "bmi2", "rdseed", "adx", "lzcnt"];

/**
 * The default processor: every instruction that is built and needs no support by an operating system, and what concerns
 * nobody who does not ask for it in CR4, with VMX on request.
 */
export function genericModel(options: ModelOptions = {}): CpuModel {
  return modelOf(
    {
      name: "generic",
      brand: "wasm-vmx processor",
      signature: 0x000906e9, // family 6, model 0x9E, stepping 9
      features: [...P6_64, ...INTEGER, "clflushopt", "clwb", "erms", "umip"],
      platformInfo: CPUID_FAULTING,
      miscFeaturesMask: 1n,
    },
    options,
  );
}

const defaults: Record<string, CpuModel> = {};

/** What a machine without a model has: one object for all of them, which nobody can change. */
export function defaultModel(apic: boolean): CpuModel {
  let model = defaults[`${apic}`];
  if (!model) {
    const { cpuid, ...rest } = genericModel({ apic });
    model = Object.freeze({ ...rest, cpuid: Object.freeze(cpuid.map((row) => Object.freeze(row))) });
    defaults[`${apic}`] = model;
  }
  return model;
}

/** A 32-bit processor of the Pentium's kind: no PAE, no CMOV, no SYSENTER, no CPUID faulting. */
export function minimalModel(): CpuModel {
  return modelOf(
    {
      name: "minimal",
      brand: "wasm-vmx minimal",
      signature: 0x00000543,
      features: P5,
      platformInfo: 0n,
      miscFeaturesMask: 0n,
    },
    {},
  );
}

/** The integer side of a Nehalem: 64 bits, POPCNT, RDTSCP, MONITOR; CPUID faulting came later. */
export function nehalemModel(options: ModelOptions = {}): CpuModel {
  return modelOf(
    {
      name: "nehalem",
      brand: "wasm-vmx Nehalem-like",
      signature: 0x000106a5,
      features: NEHALEM,
      platformInfo: 0n,
      miscFeaturesMask: 0n,
    },
    options,
  );
}

const XSAVE = ["xsave", "xsaveopt", "xsavec", "xgetbv1", "xsaves", "hdc", "noX87Selectors"] as const;

/** The integer side of a Skylake, with CPUID faulting, and the XSAVE feature set for x87 and HDC state. */
export function skylakeModel(options: ModelOptions = {}): CpuModel {
  return modelOf(
    {
      name: "skylake",
      brand: "wasm-vmx Skylake-like",
      signature: 0x000506e3,
      features: [
        ...NEHALEM,
        ...INTEGER,
        ...XSAVE,
        ...(["pcid", "fsgsbase", "tscAdjust", "smep", "erms", "invpcid", "smap", "clflushopt", "prefetchw"] as const),
      ],
      platformInfo: CPUID_FAULTING,
      miscFeaturesMask: 1n,
    },
    options,
  );
}

/** Does the model have a local APIC? */
export function hasApic(model: CpuModel): boolean {
  const [leaf, register, bit] = CPU_FEATURES.apic;
  return model.cpuid.some((row) => row.leaf === leaf && (row[register] & (1 << bit)) !== 0);
}

/** Fills the processor's CPUID table. Rows past the last never match a leaf that software asks for. */
export function loadCpuid(core: Core, rows: readonly CpuidLeaf[]): void {
  if (rows.length > CPUID_MAX) throw new RangeError(`a CPU model holds at most ${CPUID_MAX} CPUID rows`);
  const words = CPUID_ENTRY / 4;
  const table = core.u32.subarray(CPUID_TABLE / 4, CPUID_TABLE / 4 + CPUID_MAX * words);
  table.fill(0);
  let at = 0;
  for (const { leaf, subleaf, eax, ebx, ecx, edx } of rows) {
    table[at + CE_LEAF / 4] = leaf;
    table[at + CE_SUBLEAF / 4] = subleaf ?? 0;
    table[at + CE_FLAGS / 4] = subleaf === undefined ? 0 : CPUID_HAS_SUBLEAF;
    table[at + CE_EAX / 4] = eax;
    table[at + CE_EBX / 4] = ebx;
    table[at + CE_ECX / 4] = ecx;
    table[at + CE_EDX / 4] = edx;
    at += words;
  }
  for (; at < table.length; at += words) table[at + CE_LEAF / 4] = 0xffff_ffff;
  core.exports.cpuidChanged();
}

/** Makes the processor one of this model. reset(0) comes after it: the signature goes into EDX there. */
export function applyModel(core: Core, model: CpuModel): void {
  loadCpuid(core, model.cpuid);
  core.write64(MSR_PLATFORM_INFO, model.platformInfo);
  core.write64(MISC_FEATURES_MASK, model.miscFeaturesMask);
}
