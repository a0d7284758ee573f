export { GPR_NAMES, type GprName } from "../core/index.ts";
export type { Devices, PcDevices } from "./board.ts";
export type {
  Breakpoint,
  BreakpointOptions,
  WatchAccess,
  WatchHit,
  Watchpoint,
  WatchpointOptions,
} from "./breakpoints.ts";
export { CPU_FEATURES, type CpuFeature } from "./cpuFeatures.ts";
export type {
  EventHook,
  EventKind,
  GuestEvent,
  InvalidOpcode,
  InvalidOpcodeHook,
  RdtscHook,
  VectorRange,
  VmcallHook,
  VmEntryHook,
  VmExitHook,
} from "./eventHooks.ts";
export type { Exit, ExitReason } from "./exits.ts";
export { HookFace } from "./hookFace.ts";
export type { RemoveHook } from "./hookList.ts";
export type {
  CpuidHook,
  IndexRange,
  PortInHook,
  PortOutHook,
  PortRange,
  RdmsrHook,
  WrmsrHook,
} from "./hooks.ts";
export * from "./loaders/index.ts";
export { type Access, type ForkOptions, type FromOptions, Machine } from "./machine.ts";
export type { AddressRange, CodeHook, MemoryAccess, ReadHook, WriteHook } from "./memoryHooks.ts";
export type {
  MappedRegion,
  MmioHooks,
  MmioRead,
  MmioReadHook,
  MmioWrite,
  MmioWriteHook,
  Region,
} from "./memoryMap.ts";
export {
  applyModel,
  type CpuidLeaf,
  type CpuModel,
  genericModel,
  hasApic,
  loadCpuid,
  type ModelOptions,
  minimalModel,
  nehalemModel,
  skylakeModel,
} from "./models.ts";
export { MSR_INDEX, MSR_NAMES, MsrError, type MsrName, Msrs, type MsrUpdate, type MsrValues } from "./msrs.ts";
export type { MachineOptions, RunAsyncOptions, RunOptions, RunProgress, Until } from "./options.ts";
export type { Permissions } from "./permissions.ts";
export type { RecordingRange, RecordOptions } from "./recording.ts";
export {
  CONTROL_NAMES,
  type ControlName,
  type DescriptorTable,
  Registers,
  type RegisterUpdate,
  type RegisterValues,
  SEGMENT_NAMES,
  type SegmentName,
} from "./registers.ts";
export type { AddressSpace } from "./traps.ts";
export {
  type VerifiedMachine,
  type VerifyJitOptions,
  type VerifyJitResult,
  verifyJit,
} from "./verifyJit.ts";
export {
  describeDifference,
  type JitDifference,
  type VerifiedInstruction,
  type VerifyResult,
  type VerifyTiersOptions,
} from "./verifyTiers.ts";
export { type VmxOperation, VmxState } from "./vmxState.ts";
export { yieldToHost } from "./yield.ts";
