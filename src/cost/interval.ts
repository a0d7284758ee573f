import { grouped } from "./grouped.ts";

/** A range of cycles. Sources rarely agree on one number, so every cost is kept as [low, high]. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

export const ZERO: Interval = { low: 0, high: 0 };

export function interval(low: number, high: number = low): Interval {
  if (!(low >= 0) || !(high >= low) || !Number.isFinite(high)) {
    throw new RangeError(`not an interval of cycles: [${low}, ${high}]`);
  }
  return { low, high };
}

export function add(a: Interval, b: Interval): Interval {
  return { low: a.low + b.low, high: a.high + b.high };
}

/** `times` occurrences of `each`. */
export function scale(each: Interval, times: number): Interval {
  return { low: each.low * times, high: each.high * times };
}

export function midpoint(value: Interval): number {
  return (value.low + value.high) / 2;
}

/** "2,500" or "2,500-3,000". */
export function formatInterval(value: Interval): string {
  return value.low === value.high ? grouped(value.low) : `${grouped(value.low)}-${grouped(value.high)}`;
}
