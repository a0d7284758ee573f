import { checkBytes, checkInteger, GuestImageError } from "../../core/index.ts";
import { type GuestImage, START_MODES, type StartMode } from "./image.ts";

export interface FlatOptions {
  readonly mode?: StartMode;
  /** Address of the first byte. Default 0x7C00 in real mode, 1 MiB else. */
  readonly load?: number;
  /** Default: the load address. */
  readonly entry?: number;
}

/** A file that is the guest's memory, byte for byte. */
export function parseFlat(bytes: Uint8Array, options: FlatOptions = {}): GuestImage {
  checkBytes("bytes", bytes);
  if (bytes.length === 0) throw new GuestImageError("the guest image is empty");
  const mode = options.mode ?? "real";
  if (!START_MODES.includes(mode)) {
    throw new TypeError(`mode must be one of ${START_MODES.join(", ")}, not ${String(mode)}`);
  }
  const load = checkInteger("load", options.load ?? (mode === "real" ? 0x7c00 : 0x100000), 0, 0xffff_ffff);
  const entry = checkInteger("entry", options.entry ?? load, 0, 0xffff_ffff);
  return { format: "flat", mode, entry, segments: [{ address: load, data: bytes, memorySize: bytes.length }] };
}
