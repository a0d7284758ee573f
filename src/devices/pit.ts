// 8254 programmable interval timer. Source: Intel 8254 data sheet (231164); port 0x61: 82371AB data sheet.
//
//   const pit = new Pit({ clock, irq: (level) => pic.setIrq(0, level) });
//   pit.sync();                    // before its line is looked at; pit.next() is the tick of the next rising edge
//   pit.read(port) / pit.write(port, value)        // 0x40-0x43 and 0x61
//   pit.save() / pit.restore(state)
//
// The counters run on 1,193,182 Hz periods of the clock. A counter that only time changes is computed when it is looked
// at. The irq line is OUT 0; pulses that nobody looked at between two sync() calls appear as one.
import type { PortDevice } from "./bus.ts";
import { atUnits, type Clock, checkSaved, type Line, noLine, type TimedDevice, toUnits } from "./clock.ts";
import { PitCounter, type PitCounterState } from "./pitCounter.ts";

export const PIT_HZ = 1_193_182n;

const READ_BACK = 3;
const READ_BACK_NO_COUNT = 0x20;
const READ_BACK_NO_STATUS = 0x10;

/** Port 0x61: what software sets, and the toggle of memory refresh (15.085 us a period of two). */
const GATE_2 = 0x01;
const SPEAKER = 0x02;
const CONTROL_BITS = 0x0f;
const REFRESH = 0x10;
const REFRESH_PERIOD = 18n;
const OUT_2 = 0x20;

export interface PitState {
  readonly version: 1;
  readonly counters: readonly PitCounterState[];
  readonly control: number;
  /** PIT tick up to which OUT 0 was passed on, and its level then. */
  readonly seen: bigint;
  readonly level: boolean;
}

export class Pit implements PortDevice, TimedDevice {
  readonly ports = [
    [0x40, 0x43],
    [0x61, 0x61],
  ] as const;
  readonly width = 1;
  readonly #clock: Clock;
  readonly #irq: Line;
  #counters = [new PitCounter(true), new PitCounter(true), new PitCounter(false)] as const;
  #control = 0;
  #seen = 0n;
  #level = true;

  constructor(options: { readonly clock: Clock; readonly irq?: Line }) {
    this.#clock = options.clock;
    this.#irq = options.irq ?? noLine;
  }

  #now(): bigint {
    return toUnits(this.#clock.now(), this.#clock.hz, PIT_HZ);
  }

  /** Level of OUT of a counter (0-2) now. */
  output(counter: number): boolean {
    this.sync();
    return this.#counters[counter]!.output(this.#seen);
  }

  /** Is the speaker's input high: bit 1 of port 0x61 and OUT 2? */
  get speaker(): boolean {
    return (this.#control & SPEAKER) !== 0 && this.output(2);
  }

  next(): bigint | undefined {
    const rise = this.#counters[0].nextRise(this.#seen);
    return rise === undefined ? undefined : atUnits(rise, this.#clock.hz, PIT_HZ);
  }

  sync(): void {
    const now = this.#now();
    const counter = this.#counters[0];
    const rise = counter.nextRise(this.#seen);
    if (rise !== undefined && rise <= now) {
      if (this.#level) this.#set(false);
      this.#set(true);
    }
    this.#seen = now;
    this.#set(counter.output(now));
  }

  #set(level: boolean): void {
    if (level === this.#level) return;
    this.#level = level;
    this.#irq(level);
  }

  read(port: number): number {
    this.sync();
    const now = this.#seen;
    if (port === 0x61) {
      const refresh = (now / REFRESH_PERIOD) & 1n ? REFRESH : 0;
      return this.#control | refresh | (this.#counters[2].output(now) ? OUT_2 : 0);
    }
    // the control word register cannot be read
    return port === 0x43 ? 0xff : this.#counters[port & 3]!.read(now);
  }

  write(port: number, value: number): void {
    this.sync();
    const now = this.#seen;
    if (port === 0x61) {
      this.#control = value & CONTROL_BITS;
      this.#counters[2].setGate((value & GATE_2) !== 0, now);
    } else if (port !== 0x43) this.#counters[port & 3]!.write(value & 0xff, now);
    else this.#command(value & 0xff, now);
    this.#set(this.#counters[0].output(now));
  }

  #command(value: number, now: bigint): void {
    const select = value >> 6;
    if (select !== READ_BACK) {
      this.#counters[select]!.control(value & 0x3f, now);
      return;
    }
    this.#counters.forEach((counter, i) => {
      if (!(value & (2 << i))) return;
      if (!(value & READ_BACK_NO_COUNT)) counter.latchCount(now);
      if (!(value & READ_BACK_NO_STATUS)) counter.latchStatus(now);
    });
  }

  reset(): void {
    this.#counters = [new PitCounter(true), new PitCounter(true), new PitCounter(false)];
    this.#control = 0;
    this.#seen = this.#now();
    this.#set(true);
  }

  save(): PitState {
    return {
      version: 1,
      counters: this.#counters.map((counter) => ({ ...counter.s })),
      control: this.#control,
      seen: this.#seen,
      level: this.#level,
    };
  }

  restore(state: PitState): void {
    checkSaved("interval timer", state, 1);
    this.#counters.forEach((counter, i) => {
      counter.s = { ...state.counters[i]! };
    });
    this.#control = state.control;
    this.#seen = state.seen;
    this.#level = state.level;
    this.#irq(this.#level);
  }
}
