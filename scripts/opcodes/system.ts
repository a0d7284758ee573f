/** System instructions of the 0F map, and the groups that mix them with others. */
import { hex, row } from "./row.ts";

row("0f 00 /0", "sldt", "RvMw", "sldt", "ends");
row("0f 00 /1", "str", "RvMw", "str", "ends");
row("0f 00 /2", "lldt", "Ew", "lldt", "ends");
row("0f 00 /3", "ltr", "Ew", "ltr", "ends");
row("0f 00 /4", "verr", "Ew", "verr");
row("0f 00 /5", "verw", "Ew", "verw");
row("0f 01 /0 mem", "sgdt", "Ms", "sgdt", "ends");
row("0f 01 /1 mem", "sidt", "Ms", "sidt", "ends");
row("0f 01 /2 mem", "lgdt", "Ms", "lgdt", "ends");
row("0f 01 /3 mem", "lidt", "Ms", "lidt", "ends");
row("0f 01 /4", "smsw", "RvMw", "smsw", "ends");
row("0f 01 /6", "lmsw", "Ew", "lmsw", "ends");
row("0f 01 /7 mem", "invlpg", "M", "invlpg", "ends");
row("n0 0f 01 c1", "vmcall", "", "vmcall", "ends");
row("n0 0f 01 c2", "vmlaunch", "", "vmlaunch", "ends");
row("n0 0f 01 c3", "vmresume", "", "vmresume", "ends");
row("n0 0f 01 c4", "vmxoff", "", "vmxoff", "ends");
row("n0 0f 01 c8", "monitor", "", "monitor", "monitor ends");
row("n0 0f 01 c9", "mwait", "", "mwait", "monitor ends");
row("n0 0f 01 ca", "clac", "", "clac", "smap ends");
row("n0 0f 01 cb", "stac", "", "stac", "smap ends");
row("n0 0f 01 d0", "xgetbv", "", "xgetbv", "xsave ends");
row("n0 0f 01 d1", "xsetbv", "", "xsetbv", "xsave ends");
row("n0 0f 01 d4", "vmfunc", "", "vmfunc", "ends");
row("n0 0f 01 d5", "xend", "", "ud", "ends");
row("n0 0f 01 d6", "xtest", "", "ud", "ends");
row("0f 01 f8", "swapgs", "", "swapgs", "only64 ends");
row("0f 01 f9", "rdtscp", "", "rdtscp", "rdtscp ends");
row("0f 02", "lar", "Gv,RvMw", "lar");
row("0f 03", "lsl", "Gv,RvMw", "lsl");
row("0f 05", "syscall", "", "syscall", "ends");
row("0f 06", "clts", "", "clts", "ends");
row("0f 07", "sysret|sysret|sysretq", "", "sysret", "ends");
row("0f 08", "invd", "", "invd", "ends");
row("0f 09", "wbinvd", "", "wbinvd", "ends");
for (const k of [0, 2, 3, 4]) {
  row(`0f 20 /${k}`, "mov", "Rn,Cn", "movFromCr", "natural ends");
  row(`0f 22 /${k}`, "mov", "Cn,Rn", "movToCr", "natural ends");
}
row("0f 21", "mov", "Rn,Dn", "movFromDr", "natural ends");
row("0f 23", "mov", "Dn,Rn", "movToDr", "natural ends");
row("0f 30", "wrmsr", "", "wrmsr", "msr ends");
row("0f 31", "rdtsc", "", "rdtsc", "tsc ends");
row("0f 32", "rdmsr", "", "rdmsr", "msr ends");
row("0f 33", "rdpmc", "", "rdpmc", "ends");
row("0f 34", "sysenter", "", "sysenter", "ends");
row("0f 35", "sysexit|sysexit|sysexitq", "", "sysexit", "ends");
row("0f 37", "getsec", "", "ud", "ends");
row("n0 0f 78", "vmread", "En,Gn", "vmread", "natural ends");
row("n0 0f 79", "vmwrite", "Gn,En", "vmwrite", "natural ends");
row("0f a2", "cpuid", "", "cpuid", "ends");

// group 15
for (const [k, name] of ["fxsave", "fxrstor", "ldmxcsr", "stmxcsr"].entries()) {
  row(`n0 0f ae /${k} mem`, name, "M", "ud", "ends");
}
for (const [k, name] of ["xsave", "xrstor", "xsaveopt"].entries()) {
  row(`n0 0f ae /${k + 4} mem`, `${name}|${name}|${name}64`, "M", name, "xsave ends");
}
row("n0 0f ae /7 mem", "clflush", "Mb", "clflush", "clfsh");
row("66 0f ae /7 mem", "clflushopt", "Mb", "clflush", "clflushopt");
row("66 0f ae /6 mem", "clwb", "Mb", "clflush", "clwb");
row("f3 0f ae /0 reg", "rdfsbase", "Ry", "rdfsbase", "only64 fsgsbase");
row("f3 0f ae /1 reg", "rdgsbase", "Ry", "rdgsbase", "only64 fsgsbase");
row("f3 0f ae /2 reg", "wrfsbase", "Ry", "wrfsbase", "only64 fsgsbase ends");
row("f3 0f ae /3 reg", "wrgsbase", "Ry", "wrgsbase", "only64 fsgsbase ends");
// processors with Intel 64 all have the fences, whatever else a model leaves out
row("n0 0f ae /5 reg", "lfence", "", "fence");
row("n0 0f ae /6 reg", "mfence", "", "fence");
row("n0 0f ae /7 reg", "sfence", "", "fence");

// group 9
row("0f c7 /1 mem", "cmpxchg8b|cmpxchg8b|cmpxchg16b", "Mx", "cmpxchg8b", "lock cx8");
for (const [k, name] of ["xrstors", "xsavec", "xsaves"].entries()) {
  row(`n0 0f c7 /${k + 3} mem`, `${name}|${name}|${name}64`, "M", name, "xsave ends");
}
row("n0 0f c7 /6 mem", "vmptrld", "Mq", "vmptrld", "ends");
row("66 0f c7 /6 mem", "vmclear", "Mq", "vmclear", "ends");
row("f3 0f c7 /6 mem", "vmxon", "Mq", "vmxon", "ends");
row("n0 0f c7 /7 mem", "vmptrst", "Mq", "vmptrst", "ends");
row("np 0f c7 /6 reg", "rdrand", "Rv", "rdrand", "rdrand ends");
row("np 0f c7 /7 reg", "rdseed", "Rv", "rdseed", "rdseed ends");
row("f3 0f c7 /7 reg", "rdpid", "Rn", "rdpid", "natural rdpid");

// hints: no effect
row("0f 0d /0 mem", "prefetch", "Mb", "nop");
row("0f 0d /1 mem", "prefetchw", "Mb", "nop");
row("0f 0d /2 mem", "prefetchwt1", "Mb", "nop");
row("0f 0d /3 mem", "prefetchw", "Mb", "nop");
for (let k = 4; k < 8; k++) row(`0f 0d /${k} mem`, "prefetch_reserved", "Mb", "nop");
row("0f 0d reg", "nop", "Ev,Gv", "nop");
for (const [k, name] of ["prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2"].entries()) {
  row(`0f 18 /${k} mem`, name, "Mb", "nop");
}
for (let k = 0x18; k < 0x1f; k++) row(`0f ${hex(k)}`, "nop", "Ev,Gv", "nop");
row("0f 1f /0", "nop", "Ev", "nop");
for (let k = 1; k < 8; k++) row(`0f 1f /${k}`, "nop", "Ev,Gv", "nop");
row("f3 0f 1e fa", "endbr64", "", "nop");
row("f3 0f 1e fb", "endbr32", "", "nop");
