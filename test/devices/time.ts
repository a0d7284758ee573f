import type { Clock } from "../../src/devices/index.ts";

/** A clock that stands where the test puts it. */
export class TestClock implements Clock {
  ticks = 0n;
  constructor(readonly hz = 1_000_000_000n) {}
  now(): bigint {
    return this.ticks;
  }
}
