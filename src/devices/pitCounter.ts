// One counter of an 8254. Times are ticks of its own clock, counted from power-up.
//
// A count written at tick t is in the counting element from the next CLK, t + 1, on: tick `load`. From there on the element
// holds count - (tick - load) and OUT is a function of tick - load ("elapsed"). While the gate stops the counter, elapsed
// stays at `frozen`.

/** Ticks beyond which no counter has an edge of its own. */
const FULL = 0x10000n;

export interface PitCounterState {
  /** 0-5. */
  mode: number;
  /** Control word bits 3:1 as they were written: modes 2 and 3 have two codes. */
  modeBits: number;
  bcd: boolean;
  /** Control word bits 5:4: 1 low byte, 2 high byte, 3 both. */
  access: number;
  /** As a number of ticks, 1-65536; 0: none was written since the control word. */
  count: bigint;
  /** Count that replaces it at the end of the present period, 0: none. Modes 2 and 3. */
  nextCount: bigint;
  nextLoad: bigint;
  load: bigint;
  gate: boolean;
  /** Elapsed ticks while the gate holds the counter, else undefined. */
  frozen: bigint | undefined;
  /** Modes 1 and 5: a rising gate started the counter. */
  triggered: boolean;
  /** First byte of a two-byte count. */
  firstByte: number | undefined;
  readHigh: boolean;
  /** Latched bytes, next one first. */
  latch: readonly number[];
  latchedStatus: number | undefined;
}

export class PitCounter {
  s: PitCounterState;

  constructor(gate: boolean) {
    this.s = {
      mode: 3,
      modeBits: 3,
      bcd: false,
      access: 3,
      count: 0n,
      nextCount: 0n,
      nextLoad: 0n,
      load: 0n,
      gate,
      frozen: undefined,
      triggered: false,
      firstByte: undefined,
      readHigh: false,
      latch: [],
      latchedStatus: undefined,
    };
  }

  get #periodic(): boolean {
    return this.s.mode === 2 || this.s.mode === 3;
  }

  /** From the end of the period in which a count was written, that count holds. */
  #settle(now: bigint): void {
    const { s } = this;
    if (s.nextCount === 0n || s.frozen !== undefined || now < s.nextLoad) return;
    s.load = s.nextLoad;
    s.count = s.nextCount;
    s.nextCount = 0n;
  }

  #elapsed(now: bigint): bigint {
    this.#settle(now);
    const { s } = this;
    if (s.frozen !== undefined) return s.frozen;
    return now < s.load ? -1n : now - s.load;
  }

  /** Level of OUT. */
  output(now: bigint): boolean {
    const { s } = this;
    const { mode, count } = s;
    if (count === 0n || ((mode === 1 || mode === 5) && !s.triggered)) return mode !== 0;
    if (this.#periodic && !s.gate) return true;
    const elapsed = this.#elapsed(now);
    switch (mode) {
      case 0:
        return elapsed >= count && s.firstByte === undefined;
      case 1:
        return elapsed < 0n || elapsed >= count;
      case 2:
        return elapsed < 0n || elapsed % count !== count - 1n;
      case 3:
        return elapsed < 0n || elapsed % count < (count + 1n) / 2n;
      default:
        return elapsed !== count;
    }
  }

  /** Tick of the first rising edge of OUT after tick `after`, undefined when none comes by itself. */
  nextRise(after: bigint): bigint | undefined {
    this.#settle(after);
    const { s } = this;
    const { count, load } = s;
    if (count === 0n || s.frozen !== undefined) return undefined;
    if (!this.#periodic) {
      if ((s.mode === 1 || s.mode === 5) && !s.triggered) return undefined;
      const rise = load + count + (s.mode >= 4 ? 1n : 0n);
      return rise > after ? rise : undefined;
    }
    if (!s.gate) return undefined;
    if (count === 1n) return undefined;
    return after < load ? load + count : load + ((after - load) / count + 1n) * count;
  }

  control(word: number, now: bigint): void {
    const access = (word >> 4) & 3;
    if (access === 0) {
      this.latchCount(now);
      return;
    }
    const { s } = this;
    const mode = (word >> 1) & 7;
    s.mode = mode > 5 ? mode - 4 : mode;
    s.modeBits = mode;
    s.bcd = (word & 1) !== 0;
    s.access = access;
    s.count = 0n;
    s.nextCount = 0n;
    s.frozen = undefined;
    s.triggered = false;
    s.firstByte = undefined;
    s.readHigh = false;
    s.latch = [];
    s.latchedStatus = undefined;
  }

  write(byte: number, now: bigint): void {
    const { s } = this;
    if (s.access === 1) this.#setCount(byte, now);
    else if (s.access === 2) this.#setCount(byte << 8, now);
    else if (s.firstByte === undefined) {
      s.firstByte = byte;
      // the first byte of a new count stops mode 0
      if (s.mode === 0 && s.count !== 0n && s.frozen === undefined) s.frozen = this.#elapsed(now);
    } else {
      const low = s.firstByte;
      s.firstByte = undefined;
      this.#setCount(low | (byte << 8), now);
    }
  }

  #setCount(raw: number, now: bigint): void {
    const { s } = this;
    const value = BigInt(s.bcd ? fromBcd(raw) : raw) || (s.bcd ? 10000n : FULL);
    if (this.#periodic && s.count !== 0n && s.frozen === undefined && s.gate) {
      this.#settle(now);
      if (now >= s.load) {
        s.nextCount = value;
        s.nextLoad = s.load + ((now - s.load) / s.count + 1n) * s.count;
        return;
      }
    }
    s.count = value;
    s.nextCount = 0n;
    if (s.mode === 1 || s.mode === 5) return; // taken at the next trigger
    s.load = now + 1n;
    s.frozen = s.gate ? undefined : 0n;
  }

  setGate(level: boolean, now: bigint): void {
    const { s } = this;
    if (level === s.gate) return;
    const elapsed = s.count === 0n ? 0n : this.#elapsed(now);
    s.gate = level;
    if (s.count === 0n) return;
    switch (s.mode) {
      case 0:
      case 4:
        if (!level) s.frozen = elapsed < 0n ? 0n : elapsed;
        else if (s.frozen !== undefined) {
          s.load = now - s.frozen;
          s.frozen = undefined;
        }
        break;
      case 1:
      case 5:
        if (level) {
          s.triggered = true;
          s.load = now + 1n;
        }
        break;
      default:
        if (!level) s.frozen = elapsed < 0n ? 0n : elapsed;
        else {
          if (s.nextCount !== 0n) s.count = s.nextCount;
          s.nextCount = 0n;
          s.frozen = undefined;
          s.load = now + 1n;
        }
    }
  }

  /** What the counting element holds. */
  #value(now: bigint): number {
    const { s } = this;
    if (s.count === 0n) return 0;
    const full = s.bcd ? 10000n : FULL;
    const elapsed = this.#elapsed(now);
    const done = elapsed < 0n ? 0n : elapsed;
    let value: bigint;
    if (s.mode === 2) value = s.count - (done % s.count);
    else if (s.mode === 3) value = squareValue(s.count, done % s.count);
    else value = s.count - done;
    value = ((value % full) + full) % full;
    return s.bcd ? toBcd(Number(value)) : Number(value);
  }

  latchCount(now: bigint): void {
    const { s } = this;
    if (s.latch.length > 0) return; // a second latch before the first is read does nothing
    const value = this.#value(now);
    const bytes = [value & 0xff, value >> 8];
    s.latch = s.access === 1 ? bytes.slice(0, 1) : s.access === 2 ? bytes.slice(1) : bytes;
  }

  /** OUT 7, null count 6, access 5:4, mode 3:1, BCD 0. */
  latchStatus(now: bigint): void {
    const { s } = this;
    if (s.latchedStatus !== undefined) return;
    const out = this.output(now);
    const waiting = s.count === 0n || s.nextCount !== 0n || (s.frozen === undefined && now < s.load);
    s.latchedStatus = (out ? 0x80 : 0) | (waiting ? 0x40 : 0) | (s.access << 4) | (s.modeBits << 1) | (s.bcd ? 1 : 0);
  }

  read(now: bigint): number {
    const { s } = this;
    if (s.latchedStatus !== undefined) {
      const status = s.latchedStatus;
      s.latchedStatus = undefined;
      return status;
    }
    if (s.latch.length > 0) {
      const [byte, ...rest] = s.latch;
      s.latch = rest;
      return byte!;
    }
    const value = this.#value(now);
    if (s.access === 1) return value & 0xff;
    if (s.access === 2) return value >> 8;
    s.readHigh = !s.readHigh;
    return s.readHigh ? value & 0xff : value >> 8;
  }
}

/** Mode 3 counts down by two, twice a period; an odd count loads one less and stays at 0 for a tick of its high half. */
function squareValue(count: bigint, at: bigint): bigint {
  const half = (count + 1n) / 2n;
  return (count & ~1n) - 2n * (at < half ? at : at - half);
}

function fromBcd(raw: number): number {
  return (raw & 15) + 10 * ((raw >> 4) & 15) + 100 * ((raw >> 8) & 15) + 1000 * (raw >> 12);
}

function toBcd(value: number): number {
  return (
    (value % 10) |
    ((Math.trunc(value / 10) % 10) << 4) |
    ((Math.trunc(value / 100) % 10) << 8) |
    (Math.trunc(value / 1000) << 12)
  );
}
