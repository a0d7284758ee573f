// MC146818 real-time clock with 128 bytes of CMOS memory. Source: Motorola MC146818 data sheet.
//
//   const rtc = new Rtc({ clock, epochMs: Date.UTC(2000, 0, 1), irq: (level) => pic.setIrq(8, level) });
//   rtc.sync(); rtc.next();
//   rtc.read(port) / rtc.write(port, value)        // 0x70 index, 0x71 data
//   rtc.setCmos(index, value)                      // what firmware leaves in memory
//   rtc.save() / rtc.restore(state)
//
// The time is `epochMs` at tick 0 and follows the clock only. An update happens at each whole second of it.
import type { PortDevice } from "./bus.ts";
import { atUnits, type Clock, checkSaved, earlier, type Line, noLine, type TimedDevice, toUnits } from "./clock.ts";
import { alarmAfter, dateOf, fieldValue, secondsOf, storedValue } from "./rtcTime.ts";

const SECONDS_ALARM = 1;
const MINUTES_ALARM = 3;
const HOURS_ALARM = 5;
const YEAR = 9;
const A = 10;
const B = 11;
const C = 12;
const D = 13;
const CENTURY = 0x32;
const TIME_FIELDS = [0, 2, 4, 6, 7, 8, 9, CENTURY];

const A_UIP = 0x80;
const A_DIVIDER = 0x70;
const A_DIVIDER_ON = 0x20;
const B_SET = 0x80;
const B_PIE = 0x40;
const B_AIE = 0x20;
const B_UIE = 0x10;
const C_IRQF = 0x80;
const C_PF = 0x40;
const C_AF = 0x20;
const C_UF = 0x10;
const D_VALID = 0x80;

const HZ = 32_768n;
/** UIP rises 244 us before the update: 8 periods of the crystal. */
const UIP_TICKS = 8n;

export interface RtcState {
  readonly version: 1;
  readonly index: number;
  readonly cmos: readonly number[];
  /** Seconds since 1970 at crystal tick `baseTick`. */
  readonly base: bigint;
  readonly baseTick: bigint;
  readonly seen: bigint;
}

export interface RtcOptions {
  readonly clock: Clock;
  /** Time at tick 0, milliseconds since 1970 UTC; whole seconds count. Default 2000-01-01. */
  readonly epochMs?: number;
  readonly irq?: Line;
}

export class Rtc implements PortDevice, TimedDevice {
  readonly ports = [[0x70, 0x71]] as const;
  readonly width = 1;
  readonly #clock: Clock;
  readonly #irq: Line;
  #index = 0;
  #cmos = new Uint8Array(128);
  /** Seconds since 1970 at tick #baseTick; while SET or the divider holds the clock, at all ticks. */
  #base: bigint;
  #baseTick = 0n;
  #seen = 0n;

  constructor(options: RtcOptions) {
    this.#clock = options.clock;
    this.#irq = options.irq ?? noLine;
    this.#base = BigInt(Math.floor((options.epochMs ?? Date.UTC(2000, 0, 1)) / 1000));
    this.#cmos[A] = 0x26; // 32,768 Hz, periodic rate 1,024 Hz
    this.#cmos[B] = 0x02; // 24 hours, BCD
    this.#cmos[D] = D_VALID;
    this.#store(this.#base);
  }

  get #now(): bigint {
    return toUnits(this.#clock.now(), this.#clock.hz, HZ);
  }

  get #stopped(): boolean {
    return (this.#cmos[B]! & B_SET) !== 0 || (this.#cmos[A]! & A_DIVIDER) !== A_DIVIDER_ON;
  }

  #secondsAt(tick: bigint): bigint {
    return this.#stopped ? this.#base : this.#base + (tick - this.#baseTick) / HZ;
  }

  /** Crystal ticks of one periodic interrupt, 0: none. */
  get #period(): bigint {
    const rate = this.#cmos[A]! & 15;
    if (rate === 0) return 0n;
    return 1n << BigInt((rate <= 2 ? rate + 7 : rate) - 1);
  }

  #nextUpdate(after: bigint): bigint {
    return this.#baseTick + ((after - this.#baseTick) / HZ + 1n) * HZ;
  }

  next(): bigint | undefined {
    const b = this.#cmos[B]!;
    if (this.#cmos[C]! & C_IRQF) return undefined;
    let due: bigint | undefined;
    const period = this.#period;
    if (b & B_PIE && period !== 0n) due = (this.#seen / period + 1n) * period;
    if (b & (B_UIE | B_AIE) && !this.#stopped) {
      const update = this.#nextUpdate(this.#seen);
      due = earlier(due, b & B_UIE ? update : this.#nextAlarm(update));
    }
    return due === undefined ? undefined : atUnits(due, this.#clock.hz, HZ);
  }

  /** Tick of the first update at `update` or later that the alarm matches, undefined: no time of day does. */
  #nextAlarm(update: bigint): bigint | undefined {
    const cmos = this.#cmos;
    const alarm = [cmos[HOURS_ALARM]!, cmos[MINUTES_ALARM]!, cmos[SECONDS_ALARM]!] as const;
    const wait = alarmAfter(this.#secondsAt(update), alarm, cmos[B]!);
    return wait === undefined ? undefined : update + BigInt(wait) * HZ;
  }

  sync(): void {
    const now = this.#now;
    const period = this.#period;
    let flags = 0;
    if (period !== 0n && now / period > this.#seen / period) flags |= C_PF;
    if (!this.#stopped) {
      const update = this.#nextUpdate(this.#seen);
      if (update <= now) {
        flags |= C_UF;
        const alarm = this.#nextAlarm(update);
        if (alarm !== undefined && alarm <= now) flags |= C_AF;
        this.#store(this.#secondsAt(now));
      }
    }
    this.#seen = now;
    if (flags) this.#flag(flags);
  }

  #flag(flags: number): void {
    const c = (this.#cmos[C]! | flags) & 0x70;
    const pending = (c & this.#cmos[B]! & 0x70) !== 0;
    this.#cmos[C] = c | (pending ? C_IRQF : 0);
    this.#irq(pending);
  }

  /** Time fields of a second, in the format register B asks for. */
  #store(second: bigint): void {
    const date = dateOf(second);
    for (const at of TIME_FIELDS) this.#cmos[at] = storedValue(at, date, this.#cmos[B]!);
  }

  /** The time that software has set takes effect. */
  #load(): void {
    const b = this.#cmos[B]!;
    const values = TIME_FIELDS.map((at) => fieldValue(at, this.#cmos[at]!, b));
    this.#base = secondsOf(values);
    this.#baseTick = this.#now;
  }

  read(port: number): number {
    if (port === 0x70) return 0xff; // the index cannot be read back
    this.sync();
    const index = this.#index;
    if (index === A) {
      const updating = !this.#stopped && this.#nextUpdate(this.#seen) - this.#seen <= UIP_TICKS;
      return (this.#cmos[A]! & ~A_UIP) | (updating ? A_UIP : 0);
    }
    const value = this.#cmos[index]!;
    if (index === C) {
      this.#cmos[C] = 0;
      this.#irq(false);
    }
    return value;
  }

  write(port: number, value: number): void {
    if (port === 0x70) {
      this.#index = value & 0x7f; // bit 7 masks NMI on a PC; no device here raises one
      return;
    }
    this.sync();
    const index = this.#index;
    if (index === A) this.#writeA(value & 0x7f);
    else if (index === B) this.#writeB(value & 0xff);
    else if (index !== C && index !== D) {
      this.#cmos[index] = value;
      if ((index <= YEAR || index === CENTURY) && TIME_FIELDS.includes(index) && !this.#stopped) this.#setRunning();
    }
  }

  /** A time field written without SET: seconds go on from their fraction. */
  #setRunning(): void {
    const fraction = (this.#seen - this.#baseTick) % HZ;
    this.#load();
    this.#baseTick -= fraction;
  }

  #writeA(value: number): void {
    const was = this.#stopped;
    if (!was) this.#hold();
    this.#cmos[A] = value;
    // the first update comes half a second after the divider starts
    if (was && !this.#stopped) this.#go(HZ / 2n);
    else if (!was && !this.#stopped) this.#go((this.#seen - this.#baseTick) % HZ);
  }

  #writeB(value: number): void {
    const was = this.#stopped;
    const fraction = (this.#seen - this.#baseTick) % HZ;
    if (!was) this.#hold();
    this.#cmos[B] = value;
    if (!this.#stopped) this.#go(was ? 0n : fraction);
    this.#flag(0);
  }

  /** Keeps the second that it is. */
  #hold(): void {
    this.#base = this.#secondsAt(this.#seen);
  }

  /** Starts from the time in memory, `fraction` ticks into its second. */
  #go(fraction: bigint): void {
    this.#load();
    this.#baseTick = this.#seen - fraction;
  }

  setCmos(index: number, value: number): void {
    this.#cmos[index & 0x7f] = value;
  }

  cmos(index: number): number {
    return this.#cmos[index & 0x7f]!;
  }

  /** RESET clears the interrupt enables and flags; time and memory stay. */
  reset(): void {
    this.sync();
    this.#cmos[B] = this.#cmos[B]! & ~(B_PIE | B_AIE | B_UIE | 0x08);
    this.#cmos[C] = 0;
    this.#index = 0;
    this.#irq(false);
  }

  save(): RtcState {
    return {
      version: 1,
      index: this.#index,
      cmos: Array.from(this.#cmos),
      base: this.#base,
      baseTick: this.#baseTick,
      seen: this.#seen,
    };
  }

  restore(state: RtcState): void {
    checkSaved("real-time clock", state, 1);
    this.#index = state.index;
    this.#cmos = Uint8Array.from(state.cmos);
    this.#base = state.base;
    this.#baseTick = state.baseTick;
    this.#seen = state.seen;
    this.#irq((this.#cmos[C]! & C_IRQF) !== 0);
  }
}
