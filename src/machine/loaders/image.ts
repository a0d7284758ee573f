import { GuestImageError } from "../../core/index.ts";

/** How the processor stands when the guest's first instruction runs. */
export type StartMode = "real" | "protected" | "long";
export const START_MODES: readonly StartMode[] = ["real", "protected", "long"];

export interface ImageSegment {
  readonly address: number;
  readonly data: Uint8Array;
  /** Bytes in memory; what `data` does not fill is zero. */
  readonly memorySize: number;
}

/** A guest as data: what goes where, and where it starts. */
export interface GuestImage {
  readonly format: "flat" | "elf32" | "elf64" | "multiboot";
  readonly mode: StartMode;
  readonly entry: number;
  /** Lowest address, sorted order. */
  readonly segments: readonly ImageSegment[];
  /** Its boot protocol, when it has one: how a command line, modules and the memory map reach it. */
  readonly boot?: BootProtocol;
}

export interface BootProtocol {
  readonly protocol: "multiboot" | "pvh";
  /** Modules start at pages. They always do here. */
  readonly alignModules: boolean;
}

/** Bytes at the top of RAM that start mode `long` takes for its page tables. */
export const LONG_MODE_TABLES = 32 << 10;

const hex = (value: number) => `0x${value.toString(16)}`;
const range = (s: ImageSegment) => `${hex(s.address)}-${hex(s.address + s.memorySize - 1)}`;

/** Throws GuestImageError when the image does not fit into `ramSize` bytes from address 0. */
export function checkImage(image: GuestImage, ramSize: number): void {
  const sorted = [...image.segments].sort((a, b) => a.address - b.address);
  for (const segment of sorted) {
    if (segment.address + segment.memorySize > ramSize) {
      throw new GuestImageError(
        `segment ${range(segment)} lies outside the ${ramSize} bytes of RAM (0x0-${hex(ramSize - 1)}); give the guest more memory or another load address`,
      );
    }
  }
  for (let i = 1; i < sorted.length; i++) {
    const [low, high] = [sorted[i - 1]!, sorted[i]!];
    if (low.address + low.memorySize > high.address) {
      throw new GuestImageError(`segments ${range(low)} and ${range(high)} overlap`);
    }
  }
  if (image.entry >= ramSize) {
    throw new GuestImageError(
      `entry ${hex(image.entry)} lies outside the ${ramSize} bytes of RAM (0x0-${hex(ramSize - 1)})`,
    );
  }
  if (image.mode !== "long") return;
  const tables = ramSize - LONG_MODE_TABLES;
  if (tables < 0) {
    throw new GuestImageError(`long mode needs ${LONG_MODE_TABLES} bytes of RAM for page tables, not ${ramSize}`);
  }
  const last = sorted.at(-1);
  if (last && last.address + last.memorySize > tables) {
    throw new GuestImageError(
      `segment ${range(last)} overlaps the page tables of long mode in the top 32 KiB of RAM (${hex(tables)}-${hex(ramSize - 1)})`,
    );
  }
}
