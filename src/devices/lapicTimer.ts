// The local APIC's timer: one-shot, periodic, TSC deadline. @sdm 3A "APIC Timer"
import { atUnits, type Clock, toUnits } from "./clock.ts";

export const TimerMode = { OneShot: 0, Periodic: 1, TscDeadline: 2 } as const;

export interface LapicTimerState {
  readonly initial: number;
  /** Divide configuration register. */
  readonly divide: number;
  /** Tick at which `remaining` counts were left; undefined while the timer stands. */
  readonly start: bigint | undefined;
  readonly remaining: bigint;
  readonly deadline: bigint;
}

export interface LapicTimerOptions {
  readonly clock: Clock;
  /** Counts a second before division. */
  readonly busHz: bigint;
  /** Tick at which the TSC has reached a value. */
  readonly tickOfTsc: (tsc: bigint) => bigint;
}

export class LapicTimer {
  readonly #options: LapicTimerOptions;
  mode: number = TimerMode.OneShot;
  #initial = 0;
  #divide = 0;
  #start: bigint | undefined;
  #remaining = 0n;
  #deadline = 0n;

  constructor(options: LapicTimerOptions) {
    this.#options = options;
  }

  get #divisor(): bigint {
    // bits 3, 1 and 0: 2, 4 ... 128, 1
    const code = (this.#divide & 3) | ((this.#divide >> 1) & 4);
    return 1n << BigInt((code + 1) & 7);
  }

  /** Counts since #start. */
  #elapsed(now: bigint): bigint {
    const { clock, busHz } = this.#options;
    return toUnits(now - this.#start!, clock.hz, busHz) / this.#divisor;
  }

  #tickAfter(start: bigint, counts: bigint): bigint {
    const { clock, busHz } = this.#options;
    return start + atUnits(counts * this.#divisor, clock.hz, busHz);
  }

  /** Tick of the next expiry. */
  next(): bigint | undefined {
    if (this.mode === TimerMode.TscDeadline) {
      return this.#deadline === 0n ? undefined : this.#options.tickOfTsc(this.#deadline);
    }
    return this.#start === undefined ? undefined : this.#tickAfter(this.#start, this.#remaining);
  }

  /** True when the timer has expired since the last call. */
  expired(): boolean {
    const due = this.next();
    const now = this.#options.clock.now();
    if (due === undefined || now < due) return false;
    if (this.mode === TimerMode.TscDeadline) this.#deadline = 0n;
    else if (this.mode === TimerMode.OneShot) this.#start = undefined;
    else {
      const period = BigInt(this.#initial);
      const over = this.#elapsed(now) - this.#remaining;
      this.#start = this.#tickAfter(this.#start!, this.#remaining + (over / period) * period);
      this.#remaining = period;
    }
    return true;
  }

  get initial(): number {
    return this.#initial;
  }

  set initial(count: number) {
    if (this.mode === TimerMode.TscDeadline) return;
    this.#initial = count;
    this.#remaining = BigInt(count);
    this.#start = count === 0 ? undefined : this.#options.clock.now();
  }

  get current(): number {
    if (this.#start === undefined || this.mode === TimerMode.TscDeadline) return 0;
    const left = this.#remaining - this.#elapsed(this.#options.clock.now());
    return left > 0n ? Number(left) : 0;
  }

  get divide(): number {
    return this.#divide;
  }

  /** The count goes on from what is left of it. */
  set divide(value: number) {
    if (this.#start !== undefined) {
      const now = this.#options.clock.now();
      this.#remaining -= this.#elapsed(now);
      this.#start = now;
    }
    this.#divide = value & 0x0b;
  }

  /** IA32_TSC_DEADLINE; 0 outside TSC-deadline mode and when no deadline is armed. */
  get deadline(): bigint {
    return this.mode === TimerMode.TscDeadline ? this.#deadline : 0n;
  }

  set deadline(tsc: bigint) {
    if (this.mode === TimerMode.TscDeadline) this.#deadline = tsc;
  }

  /** Going to TSC-deadline mode or leaving it disarms the timer. */
  setMode(mode: number): void {
    if ((mode === TimerMode.TscDeadline) !== (this.mode === TimerMode.TscDeadline)) {
      this.#start = undefined;
      this.#initial = 0;
      this.#deadline = 0n;
    }
    this.mode = mode;
  }

  reset(): void {
    this.mode = TimerMode.OneShot;
    this.#initial = 0;
    this.#divide = 0;
    this.#start = undefined;
    this.#remaining = 0n;
    this.#deadline = 0n;
  }

  save(): LapicTimerState {
    return {
      initial: this.#initial,
      divide: this.#divide,
      start: this.#start,
      remaining: this.#remaining,
      deadline: this.#deadline,
    };
  }

  restore(state: LapicTimerState, mode: number): void {
    this.mode = mode;
    this.#initial = state.initial;
    this.#divide = state.divide;
    this.#start = state.start;
    this.#remaining = state.remaining;
    this.#deadline = state.deadline;
  }
}
