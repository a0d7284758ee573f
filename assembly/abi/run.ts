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
