export {
  type CodeMode,
  type CpuidResult,
  GuestImageError,
  InternalError,
  MemoryMapError,
  type SegmentRegister,
  StateError,
  UnimplementedError,
  WasmVmxError,
} from "./core/index.ts";
export * from "./devices/index.ts";
export * from "./disasm/index.ts";
export * from "./machine/index.ts";
