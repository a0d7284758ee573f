// Target descriptions: which registers there are, in which order. GDB manual, "Target Descriptions", "i386 Features".
import type { CodeMode } from "../core/index.ts";

/** GDB's names. i8086 is 16-bit code; its registers are those of i386. */
export type GdbArchitecture = "i8086" | "i386" | "i386:x86-64";

export interface GdbRegister {
  readonly name: string;
  readonly bits: 32 | 64 | 80;
  readonly type: string;
  readonly group?: string;
}

interface Feature {
  readonly name: string;
  readonly registers: readonly GdbRegister[];
}

type Flags = readonly (readonly [name: string, bit: number])[];

const EFLAGS: Flags = [
  ...([
    ["CF", 0],
    ["", 1],
    ["PF", 2],
    ["AF", 4],
    ["ZF", 6],
    ["SF", 7],
    ["TF", 8],
    ["IF", 9],
    ["DF", 10],
  ] as const),
  ...([
    ["OF", 11],
    ["NT", 14],
    ["RF", 16],
    ["VM", 17],
    ["AC", 18],
    ["VIF", 19],
    ["VIP", 20],
    ["ID", 21],
  ] as const),
];
const CR0: Flags = [
  ...([
    ["PE", 0],
    ["MP", 1],
    ["EM", 2],
    ["TS", 3],
    ["ET", 4],
    ["NE", 5],
  ] as const),
  ...([
    ["WP", 16],
    ["AM", 18],
    ["NW", 29],
    ["CD", 30],
    ["PG", 31],
  ] as const),
];
const CR4: Flags = [
  ...([
    ["VME", 0],
    ["PVI", 1],
    ["TSD", 2],
    ["DE", 3],
    ["PSE", 4],
    ["PAE", 5],
    ["MCE", 6],
    ["PGE", 7],
  ] as const),
  ...([
    ["PCE", 8],
    ["OSFXSR", 9],
    ["OSXMMEXCPT", 10],
    ["UMIP", 11],
    ["LA57", 12],
    ["VMXE", 13],
  ] as const),
  ...([
    ["SMXE", 14],
    ["FSGSBASE", 16],
    ["PCIDE", 17],
    ["OSXSAVE", 18],
    ["SMEP", 20],
    ["SMAP", 21],
  ] as const),
];
const EFER: Flags = [
  ["SCE", 0],
  ["LME", 8],
  ["LMA", 10],
  ["NXE", 11],
];
const FLAG_TYPES = { x86_eflags: EFLAGS, x86_cr0: CR0, x86_cr4: CR4, x86_efer: EFER } as const;

/** MSRs by the name they have as registers: the kernel's, in lower case. */
export const MSR_REGISTERS: Readonly<Record<string, number>> = {
  msr_tsc: 0x10,
  msr_apicbase: 0x1b,
  msr_feat_ctl: 0x3a,
  msr_platform_info: 0xce,
  msr_misc_features_enables: 0x140,
  msr_sysenter_cs: 0x174,
  msr_sysenter_esp: 0x175,
  msr_sysenter_eip: 0x176,
  msr_misc_enable: 0x1a0,
  msr_pat: 0x277,
  msr_star: 0xc000_0081,
  msr_lstar: 0xc000_0082,
  msr_cstar: 0xc000_0083,
  msr_syscall_mask: 0xc000_0084,
  msr_kernel_gs_base: 0xc000_0102,
  msr_tsc_aux: 0xc000_0103,
};

const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"];
const GPRS_32 = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
const GPRS_64 = [
  ...["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"],
  ...["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
];
const X87: readonly GdbRegister[] = [
  ...Array.from({ length: 8 }, (_, i): GdbRegister => ({ name: `st${i}`, bits: 80, type: "i387_ext" })),
  ...["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"].map(
    (name): GdbRegister => ({ name, bits: 32, type: "int", group: "float" }),
  ),
];

function core(wide: boolean): Feature {
  const bits = wide ? 64 : 32;
  const integer = wide ? "int64" : "int32";
  const type = (name: string): string => (/^[er][sb]p$/.test(name) ? "data_ptr" : integer);
  return {
    name: "org.gnu.gdb.i386.core",
    registers: [
      ...(wide ? GPRS_64 : GPRS_32).map((name): GdbRegister => ({ name, bits, type: type(name) })),
      { name: wide ? "rip" : "eip", bits, type: "code_ptr" },
      { name: "eflags", bits: 32, type: "x86_eflags" },
      ...SEGMENTS.map((name): GdbRegister => ({ name, bits: 32, type: "int32" })),
      ...X87,
    ],
  };
}

const SEGMENT_BASES: Feature = {
  name: "org.gnu.gdb.i386.segments",
  registers: ["fs_base", "gs_base"].map((name): GdbRegister => ({ name, bits: 64, type: "int64" })),
};

function system(wide: boolean): Feature {
  const bits = wide ? 64 : 32;
  const integer = wide ? "int64" : "int32";
  const plain = (name: string): GdbRegister => ({ name, bits, type: integer, group: "system" });
  const small = (name: string): GdbRegister => ({ name, bits: 32, type: "int32", group: "system" });
  const typed = (name: string, type: string): GdbRegister => ({ name, bits, type, group: "system" });
  const bases = wide ? ["cs", "ss", "ds", "es"] : SEGMENTS;
  return {
    name: "org.wasm-vmx.system",
    registers: [
      typed("cr0", "x86_cr0"),
      plain("cr2"),
      plain("cr3"),
      typed("cr4", "x86_cr4"),
      ...(wide ? [plain("cr8")] : []),
      typed("efer", "x86_efer"),
      ...["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"].map(plain),
      ...bases.map((name) => plain(`${name}_base`)),
      ...["gdtr_base", "idtr_base", "ldtr_base", "tr_base"].map(plain),
      ...["gdtr_limit", "idtr_limit", "ldtr", "tr"].map(small),
    ],
  };
}

const MSRS: Feature = {
  name: "org.wasm-vmx.msr",
  registers: Object.keys(MSR_REGISTERS).map((name): GdbRegister => ({ name, bits: 64, type: "int64", group: "msr" })),
};

/** The registers that GDB is told of, for one connection. */
export interface TargetDescription {
  readonly architecture: GdbArchitecture;
  /** By GDB's number. */
  readonly registers: readonly GdbRegister[];
  /** How many of them the packets g and G carry; the others are fetched one by one. */
  readonly general: number;
  readonly xml: string;
}

function flagsXml(id: string, bits: number, flags: Flags): string {
  const fields = flags.map(([name, bit]) => `<field name="${name}" start="${bit}" end="${bit}"/>`);
  return `<flags id="${id}" size="${bits / 8}">${fields.join("")}</flags>`;
}

function featureXml(feature: Feature): string {
  const types = [...new Map(feature.registers.map(({ type, bits }) => [type, bits]))].flatMap(([type, bits]) => {
    const flags = FLAG_TYPES[type as keyof typeof FLAG_TYPES];
    return flags === undefined ? [] : [flagsXml(type, bits, flags)];
  });
  const registers = feature.registers.map(
    ({ name, bits, type, group }) =>
      `<reg name="${name}" bitsize="${bits}" type="${type}"${group === undefined ? "" : ` group="${group}"`}/>`,
  );
  return `<feature name="${feature.name}">\n${[...types, ...registers].join("\n")}\n</feature>`;
}

export function describeTarget(architecture: GdbArchitecture): TargetDescription {
  const wide = architecture === "i386:x86-64";
  const general = wide ? [core(true), SEGMENT_BASES] : [core(false)];
  const features = [...general, system(wide), MSRS];
  return {
    architecture,
    registers: features.flatMap(({ registers }) => registers),
    general: general.reduce((sum, { registers }) => sum + registers.length, 0),
    xml: `<?xml version="1.0"?>
<!DOCTYPE target SYSTEM "gdb-target.dtd">
<target version="1.0">
<architecture>${architecture}</architecture>
${features.map(featureXml).join("\n")}
</target>
`,
  };
}

/** The architecture whose disassembly and registers fit code of this width. */
export function architectureOf(mode: CodeMode): GdbArchitecture {
  return mode === 64 ? "i386:x86-64" : mode === 32 ? "i386" : "i8086";
}
