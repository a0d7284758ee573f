// Bits of the architectural registers and MSR indexes (SDM 3A "System Architecture Overview", volume 4).

// --- RFLAGS ---
export const FLAG_CF = 0x1;
export const FLAG_FIXED = 0x2; // always 1
export const FLAG_PF = 0x4;
export const FLAG_AF = 0x10;
export const FLAG_ZF = 0x40;
export const FLAG_SF = 0x80;
export const FLAG_TF = 0x100;
export const FLAG_IF = 0x200;
export const FLAG_DF = 0x400;
export const FLAG_OF = 0x800;
export const FLAG_IOPL = 0x3000;
export const FLAG_IOPL_SHIFT = 12;
export const FLAG_NT = 0x4000;
export const FLAG_RF = 0x10000;
export const FLAG_VM = 0x20000;
export const FLAG_AC = 0x40000;
export const FLAG_VIF = 0x80000;
export const FLAG_VIP = 0x100000;
export const FLAG_ID = 0x200000;

// --- CR0 ---
export const CR0_PE = 0x1;
export const CR0_MP = 0x2;
export const CR0_EM = 0x4;
export const CR0_TS = 0x8;
export const CR0_ET = 0x10; // always 1
export const CR0_NE = 0x20;
export const CR0_WP = 0x10000;
export const CR0_AM = 0x40000;
export const CR0_NW = 0x20000000;
export const CR0_CD = 0x40000000;
export const CR0_PG: u32 = 0x80000000;
export const CR0_DEFINED: u32 = 0xe005003f;

// --- CR3 ---
export const CR3_PCID = 0xfff;

// --- CR4 ---
export const CR4_VME = 0x1;
export const CR4_PVI = 0x2;
export const CR4_TSD = 0x4;
export const CR4_DE = 0x8;
export const CR4_PSE = 0x10;
export const CR4_PAE = 0x20;
export const CR4_MCE = 0x40;
export const CR4_PGE = 0x80;
export const CR4_PCE = 0x100;
export const CR4_OSFXSR = 0x200;
export const CR4_OSXMMEXCPT = 0x400;
export const CR4_UMIP = 0x800;
export const CR4_VMXE = 0x2000;
export const CR4_FSGSBASE = 0x10000;
export const CR4_PCIDE = 0x20000;
export const CR4_OSXSAVE = 0x40000;
export const CR4_SMEP = 0x100000;
export const CR4_SMAP = 0x200000;

// --- state components of XCR0 and IA32_XSS; forms of XSAVE, CPUID.(EAX=0DH,ECX=1):EAX ---
export const STATE_X87 = 0x1;
export const STATE_HDC = 0x2000; // hardware duty cycling
export const FORM_XSAVEOPT = 0x1;
export const FORM_XSAVEC = 0x2;
export const FORM_XGETBV1 = 0x4;
export const FORM_XSAVES = 0x8;

// --- EFER ---
export const EFER_SCE = 0x1;
export const EFER_LME = 0x100;
export const EFER_LMA = 0x400;
export const EFER_NXE = 0x800;

// --- debug registers ---
export const DR6_FIXED: u32 = 0xffff0ff0; // reads as 1
export const DR6_WRITABLE = 0xe00f; // B0-B3 BD BS BT
export const DR6_BREAKPOINTS = 0xf;
export const DR6_BD = 0x2000;
export const DR6_BS = 0x4000;
export const DR6_BT = 0x8000; // task switch: T bit of the TSS
export const DR7_FIXED = 0x400;
export const DR7_WRITABLE: u32 = 0xffff23ff;
export const DR7_GD = 0x2000;
export const DR7_LOCAL = 0x155; // L0-L3 LE: a task switch clears them
export const DR7_ENABLED = 0xff; // L0-L3 G0-G3

// --- segment attributes, VMCS access-rights format ---
export const SA_TYPE = 0xf;
export const SA_ACCESSED = 0x1;
export const SA_WRITE = 0x2; // data: writable
export const SA_READ = 0x2; // code: readable
export const SA_DOWN = 0x4; // data: expand-down
export const SA_CONFORMING = 0x4; // code
export const SA_CODE = 0x8;
export const SA_S = 0x10; // code or data
export const SA_DPL = 0x60;
export const SA_DPL_SHIFT = 5;
export const SA_P = 0x80;
export const SA_L = 0x2000;
export const SA_DB = 0x4000;
export const SA_G = 0x8000;
export const SA_UNUSABLE = 0x10000;

// --- system descriptor types ---
export const TYPE_TSS16 = 1;
export const TYPE_LDT = 2;
export const TYPE_TSS16_BUSY = 3;
export const TYPE_CALL16 = 4;
export const TYPE_TASK_GATE = 5;
export const TYPE_INT16 = 6;
export const TYPE_TRAP16 = 7;
export const TYPE_TSS32 = 9; // 64-bit TSS in IA-32e mode
export const TYPE_TSS32_BUSY = 11;
export const TYPE_CALL32 = 12; // 64-bit call gate in IA-32e mode
export const TYPE_INT32 = 14;
export const TYPE_TRAP32 = 15;

// --- selectors and error codes ---
export const SEL_RPL = 3;
export const SEL_TI = 4;
export const SEL_INDEX = 0xfff8;
export const SEL_ERROR = 0xfffc; // selector part of an error code
export const ERR_EXT = 1;
export const ERR_IDT = 2;

// --- vectors ---
export const VEC_DE = 0;
export const VEC_DB = 1;
export const VEC_NMI = 2;
export const VEC_BP = 3;
export const VEC_OF = 4;
export const VEC_BR = 5;
export const VEC_UD = 6;
export const VEC_NM = 7;
export const VEC_DF = 8;
export const VEC_TS = 10;
export const VEC_NP = 11;
export const VEC_SS = 12;
export const VEC_GP = 13;
export const VEC_PF = 14;
export const VEC_AC = 17;
export const VEC_VE = 20;
export const VEC_CP = 21;

// --- interruptibility state, VMCS layout ---
export const BLOCK_STI = 1;
export const BLOCK_MOV_SS = 2;
export const BLOCK_NMI = 8;
export const UNBLOCKED_BY_IRET = 0x10000; // not of that layout: the IRET that is failing now has ended blocking by NMI

export const enum Activity {
  Active = 0,
  Halt = 1,
  Shutdown = 2,
  WaitForSipi = 3,
}

export const enum Msr {
  Tsc = 0x10,
  PlatformId = 0x17,
  ApicBase = 0x1b,
  FeatureControl = 0x3a,
  TscAdjust = 0x3b,
  SpecCtrl = 0x48,
  PredCmd = 0x49,
  BiosUpdtTrig = 0x79,
  BiosSignId = 0x8b,
  PlatformInfo = 0xce,
  MtrrCap = 0xfe,
  MiscFeaturesEnables = 0x140,
  SysenterCs = 0x174,
  SysenterEsp = 0x175,
  SysenterEip = 0x176,
  McgCap = 0x179,
  McgStatus = 0x17a,
  MiscEnable = 0x1a0,
  Debugctl = 0x1d9,
  Pat = 0x277,
  MtrrDefType = 0x2ff,
  VmxFirst = 0x480,
  VmxLast = 0x491,
  TscDeadline = 0x6e0,
  Xss = 0xda0,
  PkgHdcCtl = 0xdb0,
  PmCtl1 = 0xdb1,
  ThreadStall = 0xdb2,
}
export const MSR_INDEX_EFER: u32 = 0xc0000080;
export const MSR_INDEX_STAR: u32 = 0xc0000081;
export const MSR_INDEX_LSTAR: u32 = 0xc0000082;
export const MSR_INDEX_CSTAR: u32 = 0xc0000083;
export const MSR_INDEX_FMASK: u32 = 0xc0000084;
export const MSR_INDEX_FS_BASE: u32 = 0xc0000100;
export const MSR_INDEX_GS_BASE: u32 = 0xc0000101;
export const MSR_INDEX_KERNEL_GS_BASE: u32 = 0xc0000102;
export const MSR_INDEX_TSC_AUX: u32 = 0xc0000103;

// --- bits of MSRs ---
export const PLATFORM_CPUID_FAULTING: u32 = 0x80000000;
export const DEBUGCTL_LBR = 1;
export const DEBUGCTL_BTF = 2;
export const MISC_CPUID_FAULTING = 1;
export const MISC_MONITOR_USER = 2; // MONITOR and MWAIT at CPL 3
export const APIC_BASE_BSP = 0x100;
export const APIC_BASE_X2APIC = 0x400;
export const APIC_BASE_ENABLE = 0x800;
export const FEATURE_LOCK = 1;
export const MISC_ENABLE_FAST_STRINGS = 1;
export const MISC_ENABLE_LIMIT_CPUID = 0x400000;
export const MISC_ENABLE_XD_DISABLE_HI = 4; // bit 34, as a bit of the high half
