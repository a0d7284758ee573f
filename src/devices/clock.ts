// Virtual time of devices: ticks of one clock that the processor's instruction count drives. Nothing here knows wall time.

export interface Clock {
  /** Ticks since power-up; never goes back. */
  now(): bigint;
  /** Ticks a second. */
  readonly hz: bigint;
}

/** Whole units (periods of `unitHz`) that have passed at tick `ticks`. */
export function toUnits(ticks: bigint, hz: bigint, unitHz: bigint): bigint {
  return (ticks * unitHz) / hz;
}

/** First tick at which toUnits() reaches `units`. */
export function atUnits(units: bigint, hz: bigint, unitHz: bigint): bigint {
  return (units * hz + unitHz - 1n) / unitHz;
}

/** A device whose outputs change with time. */
export interface TimedDevice {
  /** Tick of the next change of an output, undefined when nothing is due. */
  next(): bigint | undefined;
  /** Brings the outputs up to the clock's now(). Calling it more often changes nothing. */
  sync(): void;
}

/** An interrupt line, or any other wire: called when the level changes. */
export type Line = (level: boolean) => void;

export const noLine: Line = () => {};

/** Throws unless `state` was made by save() of the same device and version. */
export function checkSaved(device: string, state: { readonly version: number }, version: number): void {
  if (typeof state !== "object" || state === null || state.version !== version) {
    const found = (state as { version?: unknown } | null)?.version;
    throw new RangeError(
      `state of the ${device} has version ${String(found)}, this build reads version ${version}: save it again`,
    );
  }
}

/** The earlier of two times; undefined is never. */
export function earlier(a: bigint | undefined, b: bigint | undefined): bigint | undefined {
  if (a === undefined) return b;
  return b === undefined || a < b ? a : b;
}
