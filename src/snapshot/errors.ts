import { WasmVmxError } from "../core/index.ts";

/** A snapshot that cannot be read, or does not fit the machine. */
export class SnapshotError extends WasmVmxError {
  override name = "SnapshotError";
  constructor(
    message: string,
    /**
     * "format": no snapshot; "version": of another version of this package; "damaged": bytes are missing or changed;
     * "parent": a delta without what it builds on; "misfit": for another memory map, CPU model or set of devices.
     */
    readonly why: "format" | "version" | "damaged" | "parent" | "misfit",
  ) {
    super(message);
  }
}
