import type { ApicBus } from "./apicBus.ts";
import type { Clock } from "./clock.ts";
import type { LapicTimerState } from "./lapicTimer.ts";

export interface LapicState {
  readonly version: 1;
  readonly base: bigint;
  readonly id: number;
  /** 64 registers, by offset / 16. */
  readonly registers: readonly number[];
  readonly errors: number;
  readonly lint: readonly boolean[];
  readonly timer: LapicTimerState;
}

export interface LapicOptions {
  readonly clock: Clock;
  readonly bus: ApicBus;
  /** APIC ID; below 255 it is the xAPIC ID too. */
  readonly id: number;
  readonly bsp?: boolean;
  readonly changed?: () => void;
  readonly nmi?: () => void;
  readonly init?: () => void;
  /** Told of each vector that the guest ends, before the EOI goes to the bus. */
  readonly ended?: (vector: number) => void;
  /** Start-up IPI: the processor starts at vector << 12. */
  readonly startUp?: (vector: number) => void;
  /** Timer counts a second before division; default 1 GHz. */
  readonly busHz?: bigint;
  /** Clock tick at which the TSC has reached a value; default: the TSC is the clock. */
  readonly tickOfTsc?: (tsc: bigint) => bigint;
}
