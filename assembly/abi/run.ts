// Codes run() returns.
export const enum RunCode {
  Instructions = 0, // COUNT reached the limit asked for
  Slice = 1, // the work bound was reached
  Halt = 2, // HLT with nothing pending that could wake the processor
  Shutdown = 3, // triple fault outside VMX non-root
  VmExit = 4, // VM exit to the host; the exit fields are in the VMCS
  Unimplemented = 5, // the opcode exists but is not built: COMM holds rip, length and bytes
  HostError = 6, // a callback threw; the instruction had no effect
  Internal = 7, // a state that must not exist: COMM holds a number
  VmxAbort = 8, // VMX_ABORT holds the code
  EntryFailed = 9, // only vmlaunch/vmresume: VM-entry failure after host state was loaded (reason bit 31)
  Stopped = 10, // a callback asked to stop
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
export const COMM_BYTES_LEN = 0x2030; // u32
export const COMM_RIP = 0x2038; // u64
export const COMM_TEXT = 0x2040; // u32 number of an internal error
