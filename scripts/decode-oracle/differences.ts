/** Where the decoder departs from iced-x86 on purpose, and how texts are made comparable. */

/** Instructions that are something older, of the same length, on a processor without their CPUID feature. */
export const OLDER_MEANING: Readonly<Record<string, string>> = {
  wbnoinvd: "F3 is ignored: WBINVD",
  prefetchit0: "NOP",
  prefetchit1: "NOP",
  prefetchrst2: "NOP",
  cldemote: "NOP",
  rdsspd: "NOP",
  rdsspq: "NOP",
};

/** CPUID features of iced-x86 whose instructions are all built. */
export const BUILT_FEATURES: readonly string[] = [
  "INTEL8086",
  "INTEL8086_ONLY",
  "INTEL186",
  "INTEL286",
  "INTEL386",
  "INTEL486",
  "X64",
  "CPUID",
  "MSR",
  "TSC",
  "CX8",
  "CMPXCHG16B",
  "CMOV",
  "SEP",
  "SYSCALL",
  "RDPMC",
  "PAUSE",
  "MULTIBYTENOP",
  "CLFSH",
  "CLFLUSHOPT",
  "CLWB",
  "BMI1",
  "BMI2",
  "ADX",
  "LZCNT",
  "POPCNT",
  "MOVBE",
  "RDRAND",
  "RDSEED",
  "RDTSCP",
  "RDPID",
  "FSGSBASE",
  "SMAP",
  "INVPCID",
  "MONITOR",
  "VMX",
  "INVEPT",
  "INVVPID",
  "XSAVE",
  "XSAVEC",
  "XSAVEOPT",
  "XSAVES",
  "PREFETCHW",
  "PREFETCHWT1",
  "CET_IBT",
];

/** Instructions that are built although the rest of their feature is not. */
export const BUILT_MNEMONICS: readonly string[] = [
  "prefetchnta",
  "prefetcht0",
  "prefetcht1",
  "prefetcht2",
  "sfence",
  "lfence",
  "mfence",
  "movnti",
  "crc32",
];

/** Words that iced-x86 prints and the disassembler does not: they change nothing. */
export const NOISE =
  /\b(data16|data32|data64|addr16|addr32|addr64|hint-taken|hint-not-taken|bnd|notrack|xacquire|xrelease) /g;

/** Control and debug registers that REX.R names and that do not exist: the handler raises #UD, the decoder does not look. */
export const CHECKED_LATER = /^mov .*\b(cr9|cr1[0-5]|dr[89]|dr1[0-5])\b/;
