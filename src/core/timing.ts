// How devices follow the processor's time and interrupt it.
import {
  COUNT,
  COUNT_LIMIT,
  CR8,
  DEADLINE,
  EXTRA,
  HOST_DEADLINE,
  HOST_WAKES,
  INTR_ASK,
  PENDING_INTR,
  RUN_LIMIT,
  STOP,
  StopBit,
  TIME_SKIPPED,
  TSC_BASE,
  TSC_RATIO,
} from "../../assembly/abi/state.ts";

const NEVER = 0xffff_ffff_ffff_ffffn;

/** The state block of a processor. */
interface StateBlock {
  read32(address: number): number;
  write32(address: number, value: number): void;
  read64(address: number): bigint;
  write64(address: number, value: bigint): void;
}

export class Timing {
  readonly #state: StateBlock;

  constructor(state: StateBlock) {
    this.#state = state;
  }

  /** Ticks since power-up: instructions times the TSC ratio, and what passed in HLT. Writes to the TSC do not change it. */
  get ticks(): bigint {
    const state = this.#state;
    return state.read64(COUNT) * BigInt(state.read32(TSC_RATIO)) + state.read64(TIME_SKIPPED);
  }

  /** Added to ticks it gives the TSC, modulo 2**64. */
  get tscOffset(): bigint {
    return BigInt.asUintN(64, this.#state.read64(TSC_BASE) - this.#state.read64(TIME_SKIPPED));
  }

  /**
   * run() returns RunCode.Deadline at the first boundary at which `ticks` has reached this; undefined: never. A halted
   * processor that an interrupt can wake passes the time to it at once.
   * @param wakes it may wake a processor with RFLAGS.IF clear too (NMI, INIT)
   */
  setDeadline(ticks: bigint | undefined, wakes = false): void {
    const state = this.#state;
    state.write32(HOST_WAKES, wakes ? 1 : 0);
    const ratio = BigInt(state.read32(TSC_RATIO));
    let count = NEVER;
    if (ticks !== undefined && ratio > 0n) {
      const left = ticks - state.read64(TIME_SKIPPED);
      count = left <= 0n ? 0n : (left + ratio - 1n) / ratio;
    }
    if (count === state.read64(HOST_DEADLINE)) return;
    state.write64(HOST_DEADLINE, count);
    this.#bound();
  }

  /** Inside a callback: ends run() after the current instruction, with RunCode.Instructions. */
  stopAfterInstruction(): void {
    // a limit that the count has passed already is looked at once the instruction is over
    this.#state.write64(RUN_LIMIT, 0n);
    this.#bound();
  }

  /** Level of the external-interrupt request; the vector is asked for by handlers.acknowledgeInterrupt. */
  setInterruptLine(level: boolean): void {
    this.#state.write32(PENDING_INTR, level ? (0x8000_0000 | INTR_ASK) >>> 0 : 0);
    if (level) this.#lookAtBoundary();
  }

  /** Task priority as MOV from CR8 reads it, 0-15. */
  setCr8(priority: number): void {
    this.#state.write64(CR8, BigInt(priority));
  }

  /** The limits changed: an instruction that runs is the last of its block. */
  #bound(): void {
    const state = this.#state;
    const [run, exit, host] = [state.read64(RUN_LIMIT), state.read64(DEADLINE), state.read64(HOST_DEADLINE)];
    const deadline = exit < host ? exit : host;
    state.write64(COUNT_LIMIT, run < deadline ? run : deadline);
    this.#lookAtBoundary();
  }

  #lookAtBoundary(): void {
    const state = this.#state;
    state.write32(EXTRA, state.read32(EXTRA) | 1);
    state.write32(STOP, state.read32(STOP) | StopBit.Leave);
  }
}
