export {
  AddressSpaceError,
  type CodeMode,
  type CpuidResult,
  compileCore,
  GuestImageError,
  InternalError,
  type JitOptions,
  type JitStatistics,
  MemoryMapError,
  type SegmentRegister,
  StateError,
  TranslationError,
  WasmVmxError,
} from "./core/index.ts";
export * from "./devices/index.ts";
export * from "./disasm/index.ts";
export * from "./machine/index.ts";
export {
  type FromBytesOptions,
  type Saveable,
  type SavedData,
  SNAPSHOT_VERSION,
  Snapshot,
  SnapshotError,
  type SnapshotModel,
  type SnapshotRegion,
  snapshotFromBytes,
  snapshotToBytes,
  type ToBytesOptions,
} from "./snapshot/index.ts";
