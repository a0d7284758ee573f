export { architectureOf, describeTarget, type GdbArchitecture, type TargetDescription } from "./features.ts";
export { registerValues, updateRegisters } from "./kvmRegisters.ts";
export { KvmTarget, type KvmTargetOptions } from "./kvmTarget.ts";
export type { GuestEnd, KvmGuest } from "./kvmTimeline.ts";
export { MachineTarget, type MachineTargetOptions } from "./machineTarget.ts";
export { encodePacket, type Incoming, PacketReader } from "./packets.ts";
export { GdbSession, type SessionEnd, type SessionOptions } from "./session.ts";
export {
  type GdbTarget,
  type MonitorCommand,
  MonitorError,
  POINT_KINDS,
  type Point,
  type PointKind,
  type Resume,
  type Stop,
} from "./target.ts";
