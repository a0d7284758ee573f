// Codes run() returns.
export const enum RunCode {
  Instructions = 0, // COUNT reached the limit asked for
  Slice = 1, // the work bound was reached
  Halt = 2, // HLT with nothing pending that could wake the processor
  Shutdown = 3, // triple fault outside VMX non-root
  VmExit = 4, // VM exit to the host; the exit fields are in the VMCS
  HostError = 5, // a callback threw; the instruction had no effect
  Internal = 6, // a state that must not exist: COMM holds a number
  VmxAbort = 7, // VMX_ABORT holds the code
  EntryFailed = 8, // only vmlaunch/vmresume: VM-entry failure after host state was loaded (reason bit 31)
  Stopped = 9, // a callback asked to stop
  Breakpoint = 10, // before the instruction at RIP
  Watchpoint = 11, // after the instruction whose accesses COMM_WATCH holds
  Denied = 12, // before an instruction that must not have the access in COMM_DENIED
  Deadline = 13, // COUNT reached HOST_DEADLINE
}

/** Results of the VMX instructions as exports (SDM "Conventions"). */
export const enum VmxResult {
  Succeed = 0,
  FailInvalid = 1,
  FailValid = 2,
  Fault = 3, // #UD or #GP: COMM_VALUE holds the vector
}

// COMM, the exchange page (absolute addresses)
export const COMM_VALUE = 0x2000; // u64 result of rdmsr, vmread, ...
export const COMM_CPUID = 0x2010; // u32 eax, ebx, ecx, edx of a CPUID callback
export const COMM_BYTES = 0x2020; // up to 15 instruction bytes
export const COMM_TEXT = 0x2040; // u32 number of an internal error

export const COMM_DENIED = 0x2050; // u64 linear, u64 physical, u32 size, u32 TrapKind: the access of RunCode.Denied
export const COMM_DATA = 0x2080; // up to 64 bytes that a memory callback reads or replaces
export const COMM_WATCH_COUNT = 0x20f8; // u32 accesses in COMM_WATCH
export const COMM_WATCH = 0x2100; // accesses of the instruction that met watchpoints, oldest first
export const WATCH_MAX = 16;
export const WATCH_ENTRY = 96;
export const WA_LINEAR = 0; // u64
export const WA_PHYSICAL = 8; // u64
export const WA_SIZE = 16; // u32 bytes, at most 64
export const WA_KIND = 20; // u32 TrapKind.WatchRead or WatchWrite
export const WA_IS_RAM = 24; // u32 1: WA_DATA holds the contents before the access
export const WA_DATA = 32;

/** What the processor asks the host, by call() or callWide() (imports.ts), with its arguments in their order. */
export const enum Callback {
  PortIn = 0, // port, size 1, 2, 4: the value of IN
  PortOut = 1, // port, size, value
  Cpuid = 2, // leaf, sub-leaf. 1: EAX, EBX, ECX, EDX are in COMM_CPUID; 0: not overridden
  Rdmsr = 3, // index. 0: not overridden; 1: the value is in COMM_VALUE; 2: raise #GP(0)
  Acknowledge = 4, // the vector of the external interrupt that the processor takes; PENDING_INTR is the line's level after it
  ApicRead = 5, // MSR number of a local-APIC register. 1: the value is in COMM_VALUE; 0: #GP(0)
  Event = 6, // before an exception or interrupt (EV_*) is intercepted or delivered: type, vector. 1: the callback has dealt with it
  Vmcall = 7, // VMCALL outside VMX non-root operation, before its checks. 1: the callback has carried it out
  Rdtsc = 8, // 1: the value is in COMM_VALUE
  VmExit = 9, // before a VM exit (XR_*) is taken: reason. 1: it is not; the callback has dealt with it
  VmEntry = 10, // before VMLAUNCH (1) or VMRESUME (0) of guest code that may execute it. 1: the callback has carried it out
  // those of callWide()
  MmioWrite = 11, // size 1, 2, 4, 8, address, value
  Wrmsr = 12, // index, value. 0: not overridden; 1: the callback took the write; 2: raise #GP(0)
  ApicWrite = 13, // MSR number, value; IA32_TSC, IA32_TSC_ADJUST and IA32_APIC_BASE after they have changed. 0: #GP(0)
  Code = 14, // before the instruction that a code trap stands at: TrapKind.CodeHook, BlockHook, its linear address. 1: stop
  MemoryRead = 15, // before a read: size at most 64, linear, physical. 1: COMM_DATA holds what is read instead
  MemoryWrite = 16, // before memory changes to COMM_DATA: the same. 1: replaced there, 2: memory stays as it is
}
