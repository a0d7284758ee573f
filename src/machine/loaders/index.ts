import { checkBytes, GuestImageError } from "../../core/index.ts";
import type { Machine } from "../machine.ts";
import { isElf, parseElf } from "./elf.ts";
import { type FlatOptions, parseFlat } from "./flat.ts";
import { checkImage, type GuestImage } from "./image.ts";
import { startState } from "./start.ts";

export { isElf, parseElf } from "./elf.ts";
export { type FlatOptions, parseFlat } from "./flat.ts";
export {
  checkImage,
  type GuestImage,
  type ImageSegment,
  LONG_MODE_TABLES,
  START_MODES,
  type StartMode,
} from "./image.ts";
export { type StartState, startState } from "./start.ts";

/** Flat binary or ELF, by its first bytes. */
export function parseImage(bytes: Uint8Array, options: FlatOptions = {}): GuestImage {
  checkBytes("bytes", bytes);
  if (bytes.length === 0) throw new GuestImageError("the guest image is empty");
  if (!isElf(bytes)) return parseFlat(bytes, options);
  if (options.load !== undefined) {
    throw new GuestImageError("an ELF file says itself where it is loaded: a load address is for flat binaries only");
  }
  return parseElf(bytes, options);
}

/** Every byte an image and its start state put into memory, for any memory that starts as zeros. */
export function imageMemory(image: GuestImage, ramSize: number): { address: number; data: Uint8Array }[] {
  checkImage(image, ramSize);
  return [
    ...image.segments.map(({ address, data }) => ({ address, data })),
    ...startState(image, ramSize).memory.map(({ address, data }) => ({ address, data })),
  ];
}

/** Resets the machine, copies the image into its RAM and points the processor at the entry. */
export function loadImage(machine: Machine, image: GuestImage): void {
  checkImage(image, machine.ramSize);
  machine.reset();
  for (const { address, memorySize } of image.segments) {
    machine.writeMemory(address, new Uint8Array(memorySize));
  }
  for (const { address, data } of imageMemory(image, machine.ramSize)) machine.writeMemory(address, data);
  machine.registers.write(startState(image, machine.ramSize).registers);
}
