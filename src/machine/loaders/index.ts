import { checkBytes, GuestImageError } from "../../core/index.ts";
import { FIRMWARE_AREA } from "../../devices/index.ts";
import type { Machine } from "../machine.ts";
import type { BootOptions } from "./boot.ts";
import { isElf, parseElf } from "./elf.ts";
import { type FlatOptions, parseFlat } from "./flat.ts";
import { checkImage, type GuestImage } from "./image.ts";
import { isMultiboot, parseMultiboot } from "./multiboot.ts";
import { isPvh, parsePvh } from "./pvh.ts";
import { startState } from "./start.ts";

export type { BootModule, BootOptions } from "./boot.ts";
export { isElf, parseElf } from "./elf.ts";
export { type FlatOptions, parseFlat } from "./flat.ts";
export {
  type BootProtocol,
  checkImage,
  type GuestImage,
  type ImageSegment,
  LONG_MODE_TABLES,
  START_MODES,
  type StartMode,
} from "./image.ts";
export { isMultiboot, parseMultiboot } from "./multiboot.ts";
export { isPvh, parsePvh } from "./pvh.ts";
export { type StartState, startState } from "./start.ts";

/**
 * What the file is, by its bytes: a Multiboot or PVH kernel, ELF, else a flat binary. With a mode, load or entry address
 * a boot protocol is not looked for.
 */
export function parseImage(bytes: Uint8Array, options: FlatOptions = {}): GuestImage {
  checkBytes("bytes", bytes);
  if (bytes.length === 0) throw new GuestImageError("the guest image is empty");
  if (Object.values(options).every((option) => option === undefined)) {
    if (isMultiboot(bytes)) return parseMultiboot(bytes);
    if (isPvh(bytes)) return parsePvh(bytes);
  }
  if (!isElf(bytes)) return parseFlat(bytes, options);
  if (options.load !== undefined) {
    throw new GuestImageError("an ELF file says itself where it is loaded: a load address is for flat binaries only");
  }
  return parseElf(bytes, options);
}

/** Every byte an image and its start state put into memory, for any memory that starts as zeros. */
export function imageMemory(
  image: GuestImage,
  ramSize: number,
  boot: BootOptions = {},
): { address: number; data: Uint8Array }[] {
  checkImage(image, ramSize);
  return [
    ...image.segments.map(({ address, data }) => ({ address, data })),
    ...startState(image, ramSize, boot).memory.map(({ address, data }) => ({ address, data })),
  ];
}

/**
 * Resets the machine, copies the image into its RAM and points the processor at the entry. A command line and modules are
 * for images with a boot protocol.
 */
export function loadImage(machine: Machine, image: GuestImage, boot: BootOptions = {}): void {
  checkImage(image, machine.ramSize);
  const options = machine.devices && boot.rsdp === undefined ? { ...boot, rsdp: FIRMWARE_AREA } : boot;
  const start = startState(image, machine.ramSize, options);
  machine.reset();
  for (const { address, data, memorySize } of image.segments) {
    const rest = memorySize - data.length;
    if (rest > 0) machine.writeMemory(address + data.length, new Uint8Array(rest));
  }
  for (const { address, data } of [...image.segments, ...start.memory]) machine.writeMemory(address, data);
  machine.registers.write(start.registers);
}
