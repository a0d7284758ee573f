export { PortBus, type PortDevice } from "./bus.ts";
export { DebugConsole, DebugExit } from "./debugPorts.ts";
export { Serial } from "./serial.ts";
