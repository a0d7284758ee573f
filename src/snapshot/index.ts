export {
  type FromBytesOptions,
  SNAPSHOT_VERSION,
  sameRegions,
  snapshotFromBytes,
  snapshotToBytes,
  type ToBytesOptions,
} from "./codec.ts";
export { encodeData, type Saveable, type SavedData } from "./data.ts";
export { SnapshotError } from "./errors.ts";
export { type Backed, type Tracked, TrackedMemory } from "./memory.ts";
export type { PageStore } from "./pages.ts";
export { captureState, restoreState } from "./processor.ts";
export { Snapshot, type SnapshotModel, type SnapshotRegion } from "./snapshot.ts";
