export { CPU_FEATURES, type CpuFeature } from "./cpuFeatures.ts";
export type { Exit, ExitReason } from "./exits.ts";
export type {
  CpuidHook,
  PortInHook,
  PortOutHook,
  PortRange,
  RdmsrHook,
  RemoveHook,
  WrmsrHook,
} from "./hooks.ts";
export * from "./loaders/index.ts";
export { type Access, Machine, type MachineOptions, type RunAsyncOptions, type RunOptions } from "./machine.ts";
export type { MappedRegion, MmioRead, MmioWrite, Region } from "./memoryMap.ts";
export {
  applyModel,
  type CpuidLeaf,
  type CpuModel,
  genericModel,
  loadCpuid,
  type ModelOptions,
  minimalModel,
  nehalemModel,
  skylakeModel,
} from "./models.ts";
export {
  CONTROL_NAMES,
  type ControlName,
  type DescriptorTable,
  GPR_NAMES,
  type GprName,
  Registers,
  type RegisterUpdate,
  type RegisterValues,
  SEGMENT_NAMES,
  type SegmentName,
} from "./registers.ts";
export { yieldToHost } from "./yield.ts";
