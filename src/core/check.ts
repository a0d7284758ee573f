// Checks of values that come from JavaScript callers, who may have no type checker.

export const U64_MAX = 0xffff_ffff_ffff_ffffn;

function show(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "string") return JSON.stringify(value);
  if (value !== null && typeof value === "object") return Object.prototype.toString.call(value);
  return String(value);
}

/** An integer number in [min, max]; TypeError or RangeError otherwise. */
export function checkInteger(name: string, value: number, min: number, max: number): number {
  if (typeof value !== "number") throw new TypeError(`${name} must be a number, not ${typeof value} ${show(value)}`);
  if (!Number.isInteger(value)) throw new RangeError(`${name} must be an integer, not ${value}`);
  if (value < min || value > max) {
    throw new RangeError(`${name} must be between ${min} and ${max} (0x${max.toString(16)}), not ${value}`);
  }
  return value;
}

export function checkU8(name: string, value: number): number {
  return checkInteger(name, value, 0, 0xff);
}

export function checkU32(name: string, value: number): number {
  return checkInteger(name, value, 0, 0xffff_ffff);
}

/** An unsigned 64-bit value from a bigint or a number that is exact. */
export function checkU64(name: string, value: bigint | number): bigint {
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) {
      throw new RangeError(`${name} must be a whole number below 2**53 or a bigint, not ${value}`);
    }
    value = BigInt(value);
  } else if (typeof value !== "bigint") {
    throw new TypeError(`${name} must be a bigint or a number, not ${typeof value} ${show(value)}`);
  }
  if (value < 0n || value > U64_MAX) throw new RangeError(`${name} must be between 0 and 2**64 - 1, not ${value}`);
  return value;
}

export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== "function") throw new TypeError(`${name} must be a function, not ${show(value)}`);
}

export function checkBytes(name: string, value: unknown): void {
  if (!(value instanceof Uint8Array)) throw new TypeError(`${name} must be a Uint8Array, not ${show(value)}`);
}

/** A positive multiple of 4096. */
export function checkPageAligned(name: string, value: bigint): void {
  if (value % 4096n !== 0n) {
    throw new RangeError(`${name} must be a multiple of 4096 (one page), not 0x${value.toString(16)}`);
  }
}
