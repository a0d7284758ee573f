export { ApicBus, type ApicMessage, type ApicTarget, Delivery, Shorthand } from "./apicBus.ts";
export { PortBus, type PortDevice } from "./bus.ts";
export { atUnits, type Clock, earlier, type Line, type TimedDevice, toUnits } from "./clock.ts";
export { DebugConsole, DebugExit } from "./debugPorts.ts";
export { IOAPIC_ADDRESS, IOAPIC_PINS, IoApic, type IoApicState } from "./ioapic.ts";
export { APIC_ADDRESS, LocalApic } from "./lapic.ts";
export type { LapicOptions, LapicState } from "./lapicOptions.ts";
export { ApicRegister } from "./lapicRegisters.ts";
export type { LapicTimerState } from "./lapicTimer.ts";
export { acpiTables } from "./pc/acpi.ts";
export type { FwCfgState } from "./pc/fwCfg.ts";
export type { KeyboardState } from "./pc/keyboard.ts";
export {
  FIRMWARE_AREA,
  HIGH_MEMORY,
  LOW_MEMORY_END,
  type MemoryRange,
  memoryRanges,
  RangeType,
} from "./pc/memoryRanges.ts";
export { Pc, type PcEnding, type PcHost, type PcOptions, type PcState } from "./pc/pc.ts";
export type { PciState } from "./pc/pci.ts";
export type { PowerState } from "./pc/power.ts";
export { type PicChipState, type PicOptions, PicPair, type PicState } from "./pic.ts";
export { PIT_HZ, Pit, type PitState } from "./pit.ts";
export type { PitCounterState } from "./pitCounter.ts";
export { Rtc, type RtcOptions, type RtcState } from "./rtc.ts";
export { Serial, type SerialOptions, type SerialState } from "./serial.ts";
