// Layout of the processor state block, as absolute addresses in linear memory (STATE = 0x1000, 4 KiB).
// Everything that differs between two processors lies here: switching processors copies the block.

// --- general registers: 16 slots of 8 bytes (RAX RCX RDX RBX RSP RBP RSI RDI R8..R15) ---
export const GPR = 0x1000;
export const RAX = 0x1000;
export const RCX = 0x1008;
export const RDX = 0x1010;
export const RBX = 0x1018;
export const RSP = 0x1020;
export const RBP = 0x1028;
export const RSI = 0x1030;
export const RDI = 0x1038;
export const ZERO_SLOT = 0x1080; // always 0: the "no register" of an address
export const BLOCK_RIP = 0x1088; // RIP of the first instruction of the running block
export const RIP = 0x1090; // exact at every instruction boundary the host or events/ can see

// --- flags (see state/flags.ts) ---
export const FLAG_RESULT = 0x1098; // i64 sign-extended result of the last flag-setting operation
export const FLAG_CARRIES = 0x10a0; // u32, see state/flags.ts
export const EFLAGS_REST = 0x10a4; // u32 TF IF DF IOPL NT RF VM AC VIF VIP ID and bit 1; no arithmetic bit

export const MODE = 0x10a8; // u32 ModeBit
export const CPL = 0x10ac; // u32
export const CR0 = 0x10b0;
export const CR2 = 0x10b8;
export const CR3 = 0x10c0;
export const CR4 = 0x10c8;
export const CR8 = 0x10d0;
export const EFER = 0x10d8;
export const XCR0 = 0x10e0;
export const DR0 = 0x10e8; // DR0-DR3, 8 bytes each
export const DR6 = 0x1108;
export const DR7 = 0x1110;

// --- segments: ES CS SS DS FS GS LDTR TR, SEG_SIZE bytes each ---
export const SEGS = 0x1120;
export const SEG_SIZE = 48;
export const SG_BASE = 0; // u64 architectural base
export const SG_LIMIT = 8; // u32 byte-granular limit
export const SG_SELECTOR = 12; // u32
export const SG_ATTR = 16; // u32 VMCS access-rights format: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, DB 14, G 15, unusable 16
// derived by system/mode.ts; never written elsewhere
export const SG_EFFECTIVE = 24; // u64 base as it acts now (0 for ES CS SS DS in 64-bit mode)
export const SG_READ_END = 32; // u64 first offset past the readable range; 0: ask the slow path
export const SG_WRITE_END = 40; // u64 likewise for writes
export const SEG_ES = 0;
export const SEG_CS = 48;
export const SEG_SS = 96;
export const SEG_DS = 144;
export const SEG_FS = 192;
export const SEG_GS = 240;
export const SEG_LDTR = 288;
export const SEG_TR = 336;

export const GDTR_BASE = 0x12a0;
export const GDTR_LIMIT = 0x12a8; // u32
export const IDTR_BASE = 0x12b0;
export const IDTR_LIMIT = 0x12b8; // u32

// --- MSR storage, u64 each ---
export const MSR_SYSENTER_CS = 0x12c0;
export const MSR_SYSENTER_ESP = 0x12c8;
export const MSR_SYSENTER_EIP = 0x12d0;
export const MSR_STAR = 0x12d8;
export const MSR_LSTAR = 0x12e0;
export const MSR_CSTAR = 0x12e8;
export const MSR_FMASK = 0x12f0;
export const MSR_KERNEL_GS_BASE = 0x12f8;
export const MSR_TSC_AUX = 0x1300;
export const MSR_PAT = 0x1308;
export const MSR_APIC_BASE = 0x1310;
export const MSR_FEATURE_CONTROL = 0x1318;
export const MSR_MISC_ENABLE = 0x1320;
export const MSR_PLATFORM_INFO = 0x1328; // 0xCE, part of the CPU model
export const MSR_MISC_FEATURES_ENABLES = 0x1330; // 0x140
export const MISC_FEATURES_MASK = 0x1338; // model: bits of 0x140 that exist
export const MSR_DEBUGCTL = 0x1340;
export const MSR_XSS = 0x1348;
export const MSR_BIOS_SIGN_ID = 0x1350;
export const MSR_SPEC_CTRL = 0x1358;
export const MSR_TSC_DEADLINE = 0x1360;
export const MSR_TSC_ADJUST = 0x1368;
export const MSR_MTRR_DEF_TYPE = 0x1370;

// --- time and counts ---
export const COUNT = 0x1380; // u64 completed instructions and deliveries (architecture.md, Counts)
export const TSC_BASE = 0x1388; // u64; TSC = TSC_BASE + COUNT * TSC_RATIO
export const TSC_RATIO = 0x1390; // u32 ticks an instruction, default 1
export const COUNT_LIMIT = 0x1398; // u64 run() stops when COUNT reaches it
export const WORK = 0x13a0; // u64 instructions, deliveries and pieces of a REP (64 iterations, or 4 KiB moved at once)
export const WORK_LIMIT = 0x13a8; // u64
export const EV_DELIVERED = 0x13b0; // u64 exceptions and interrupts delivered to the guest (by hardware or injected)
export const EV_FAULTS = 0x13b8; // u64 hardware exceptions among them

// --- stop word and its records: what an instruction asks of run/ ---
export const STOP = 0x13c0; // u32 StopBit
export const STOP_CODE = 0x13c4; // u32 RunCode when StopBit.Host is set
// event record: an exception, software or external interrupt to be intercepted or delivered
export const EV_TYPE = 0x13c8; // u32 EventType (numbers of the VMX interruption-information field)
export const EV_VECTOR = 0x13cc; // u32
export const EV_HAS_ERROR = 0x13d0; // u32 0/1
export const EV_ERROR = 0x13d4; // u32
export const EV_ILEN = 0x13d8; // u32 instruction length, software events
export const EV_INJECTED = 0x13dc; // u32 1: by VM entry, so RF, CR2 and DR6 are not touched
export const EV_PAYLOAD = 0x13e0; // u64 #PF: linear address; #DB: DR6 bits
// VM-exit record, written by vmx/intercept.ts or memory/, consumed by vmx/exit.ts
export const XR_REASON = 0x13e8; // u32
export const XR_ILEN = 0x13ec; // u32
export const XR_QUALIFICATION = 0x13f0; // u64
export const XR_LINEAR = 0x13f8; // u64 guest-linear address
export const XR_PHYSICAL = 0x1400; // u64 guest-physical address
export const XR_INFO = 0x1408; // u32 instruction information
export const XR_INTR_INFO = 0x140c; // u32 exit interruption information
export const XR_INTR_ERROR = 0x1410; // u32
// event being delivered (interruption-information format, valid bit 31), for IDT-vectoring information and double faults
export const DELIVERING = 0x1414; // u32; 30: by VM entry
export const DELIVERING_ERROR = 0x1418; // u32
export const DELIVERING_ILEN = 0x141c; // u32

// --- pending and blocking ---
export const INTERRUPTIBILITY = 0x1420; // u32 VMCS layout: 0 STI, 1 MOV SS, 3 NMI
export const ACTIVITY = 0x1424; // u32 0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI
export const PENDING_INTR = 0x1428; // u32 external interrupt: vector | 0x80000000, else 0; INTR_ASK: the host knows the vector
export const PENDING_NMI = 0x142c; // u32 0/1
export const PENDING_DEBUG = 0x1430; // u64 pending debug exceptions, VMCS layout
export const SHADOW_COUNT = 0x1438; // u64 COUNT at which STI / MOV SS blocking was set; it lasts one instruction
export const EXTRA = 0x1440; // u32 bit set when something pending must be looked at before the next instruction

// --- translation (written by system/mode.ts and vmx/, read by memory/) ---
export const TR_MODE = 0x1448; // u32 TransBit: what changes permissions or format of a walk
export const TR_TAG = 0x1450; // u64 context << 52 of explicit accesses; all ones: no entry may match (alignment checks)
export const TR_TAG_IMPLICIT = 0x1458; // u64 context of implicit supervisor accesses (SMAP ignores AC)
export const TR_TABLE = 0x1460; // u32 TLB table of the current privilege
export const TR_EPTP = 0x1468; // u64 EPT pointer when EPT is on, else 0
export const TR_VPID = 0x1470; // u32
export const LINEAR_MASK = 0x1478; // u64 0xFFFFFFFF outside 64-bit mode, else all ones
export const PDPTE = 0x1480; // 4 x u64, PAE paging
export const CODE_END = 0x14a0; // u64 first offset past CS's executable range (all ones in 64-bit mode)
export const TAG_REAL = 0x14a8; // u64 the tag behind TR_TAG when alignment checks disable it

// --- VMX ---
export const VMX_STATE = 0x14c0; // u32 VmxBit
export const VMXON_POINTER = 0x14c8; // u64
export const CURRENT_VMCS = 0x14d0; // u64 physical address, all ones: none
export const VMCS_HOST = 0x14d8; // u32 address of the current VMCS in linear memory, 0: none
export const VMX_ABORT = 0x14dc; // u32 abort code, 0: none
export const PREEMPTION_DEADLINE = 0x14e0; // u64 TSC at which the VMX-preemption timer runs out
export const EXITS = 0x14e8; // u64 VM exits taken
export const ENTRIES = 0x14f0; // u64 VM entries that reached the guest
export const MTF = 0x14f8; // u32 1: a monitor-trap-flag exit comes after the next instruction, 2: at the next boundary

// --- hooks: one bit a kind; the imports are called only where a bit is set ---
export const HOOKS = 0x1500; // u32 HookBit
export const EMULATE = 0x1504; // u32 1: accesses that EPT does not allow go to the MMIO callbacks (memory/emulate.ts), task switches do not exit

// --- what rarely used instructions keep ---
export const RANDOM = 0x1508; // u64 state of the generator behind RDRAND and RDSEED
export const JIT_WHY = 0x1510; // u32 why a region was left (abi/generator.ts)
export const MONITOR_ARMED = 0x1514; // u32 1 after MONITOR, 0 after MWAIT

// --- debug ---
export const EV_DEFERRED = 0x1518; // u32 1: EV_* holds a fault that comes before the next instruction
export const DEBUG_WATCH = 0x151c; // u32 WatchBit: what the breakpoints that DR7 enables ask for
export const DEBUG_HITS = 0x1520; // u32 breakpoints that the running instruction has met
export const DEBUG_DR7 = 0x1524; // u32 DR7 that DEBUG_WATCH came from, 0 when it is 0

// --- deadlines ---
export const DEADLINE = 0x1528; // u64 COUNT at which the VMX-preemption timer runs out, all ones: none
export const RUN_LIMIT = 0x1530; // u64 COUNT that the caller of run() asked for; COUNT_LIMIT is the nearest of it and the deadlines

// --- what VMX controls ask of memory and of the next boundary ---
export const TR_APIC_PAGE = 0x1538; // u64 APIC-access address while the guest's accesses to it are virtualized, all ones: none
export const APIC_WRITE = 0x1540; // u32 page offset | size << 16 of a virtualized write that waits for the end of its instruction, 0: none
export const TRAP_EXIT = 0x1544; // u32 reason of a trap-like VM exit at the next boundary, 0: none (no event has exit reason 0 here)
export const TRAP_QUALIFICATION = 0x1548; // u32
export const VIRTUAL_INTERRUPT = 0x154c; // u32 1: a pending virtual interrupt is recognized
export const PAUSE_FIRST = 0x1550; // u64 TSC of the first PAUSE of a loop at CPL 0
export const PAUSE_LAST = 0x1558; // u64 TSC of the last PAUSE at CPL 0, all ones: none since VM entry

// --- the host's timers ---
export const HOST_DEADLINE = 0x1560; // u64 COUNT at which run() returns to the host for its timers, all ones: none
export const HOST_WAKES = 0x1568; // u32 1: that may end HLT though RFLAGS.IF is 0 (NMI, INIT)
export const REP_BYTES = 0x156c; // u32 bytes that REPs have moved towards the next unit of WORK
export const TIME_SKIPPED = 0x1570; // u64 ticks that passed while the processor was in HLT; time = COUNT * TSC_RATIO + this

// --- what the XSAVE feature set manages ---
/**
 * x87 state as XSAVE stores it, without bytes 31:24: FCW FSW u16, FTW abridged u8 and 0, FOP u16; FIP and FDP u64;
 * ST0-ST7, 16 bytes each, of which 6 are 0.
 */
export const X87 = 0x1578;
export const X87_WORDS = 19;
export const X87_SELECTORS = 0x1610; // u32 FCS, and FDS above it
export const X87_IN_USE = 0x1614; // u32 1: not in the initial configuration, as the processor tracks it (XINUSE[0])
export const MSR_PM_CTL1 = 0x1618; // HDC state
export const MSR_PKG_HDC_CTL = 0x1620;

export const STATE_END = 0x1628;

/** In PENDING_INTR: the vector is asked for when the processor takes the interrupt (INTA cycle). */
export const INTR_ASK = 0x100;

export const enum ModeBit {
  Code32 = 1, // CS.D, outside 64-bit mode
  Code64 = 2, // CS.L with EFER.LMA
  Stack32 = 4, // SS.B, outside 64-bit mode
  Protected = 8, // CR0.PE and not vm86
  Vm86 = 16,
  LongMode = 32, // EFER.LMA (compatibility or 64-bit)
  User = 64, // CPL 3
  Flat = 128, // 32-bit code and stack; CS SS DS ES have base 0 and reach to 4 GiB, data readable and writable
}

export const enum TransBit {
  Paging = 1,
  Pae = 2,
  Long = 4,
  Pse = 8,
  Wp = 16,
  Nx = 32,
  Smep = 64,
  Smap = 128,
  Ac = 256, // RFLAGS.AC: only part of a context when Smap is set
  Ept = 512,
  Apic = 1024, // TR_APIC_PAGE names a page
}

export const enum StopBit {
  Event = 1, // EV_* holds an event
  Commit = 2, // staged writes wait for the end of the instruction
  Leave = 4, // leave the block after this instruction
  Exit = 8, // XR_* holds a VM exit
  Host = 16, // STOP_CODE holds a RunCode
  Repeat = 32, // a REP left its iteration loop early: the instruction resumes later and does not count
  Alone = 64, // the instruction met a device and had no effect: it runs again by itself, with RIP and COUNT exact
}

/** Types of the VMX interruption-information field. */
export const enum EventType {
  External = 0,
  Nmi = 2,
  Exception = 3, // hardware exception: fault
  SoftInt = 4, // INT n
  PrivSoft = 5, // INT1
  SoftException = 6, // INT3, INTO
  Trap = 8, // #DB after an instruction; recorded as type 3
}

/** Bit of DELIVERING, not of the VMCS: VM entry injects the event. */
export const DELIVERING_INJECTED: u32 = 0x40000000;

export const enum VmxBit {
  On = 1, // in VMX operation
  NonRoot = 2,
  HostEntered = 4, // the entry came from the host, so the exit returns to it
}

export const enum WatchBit {
  Code = 1,
  Data = 2,
  Io = 4,
}

export const enum HookBit {
  Cpuid = 1,
  Rdmsr = 2,
  Wrmsr = 4,
  PortIn = 8,
  PortOut = 16,
  Event = 32,
  Vmcall = 64,
  Rdtsc = 128,
  VmExit = 256,
  VmEntry = 512,
  Apic = 1024,
}
