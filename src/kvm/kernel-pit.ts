// The 8254 in the kernel: simpler than the chip in src/devices. It knows no BCD counting and no null count, a count that is
// written acts at once, and OUT 0 is a pulse on GSI 0. @kvm arch/x86/kvm/i8254.c
import { type Clock, toUnits } from "../devices/index.ts";

export const KVM_PIT_SPEAKER_DUMMY = 1;
/** kvm_pit_state2.flags */
export const KVM_PIT_FLAGS_SPEAKER_DATA_ON = 2;
const KVM_PIT_FREQ = 1_193_181n;
const NSEC_PER_SEC = 1_000_000_000n;
/** min_timer_period_us */
const MIN_PERIOD = 200_000n;
const FULL_COUNT = 0x1_0000;
/** kvm_pit_channel_state.mode before the first control word. */
const NO_MODE = 0xff;
/** RW_STATE_* */
const MSB = 2;
const WORD0 = 3;
const WORD1 = 4;
const CONTROL = 3;
const READ_BACK = 3;
const READ_BACK_NO_COUNT = 0x20;
const READ_BACK_NO_STATUS = 0x10;
const SPEAKER_DATA = 2;
const REFRESH_SHIFT = 14n;

/** struct kvm_pit_channel_state */
export interface PitChannelState {
  /** 1 to 65536. */
  count: number;
  latchedCount: number;
  /** RW_STATE_* of what is left of it to read, 0: not latched. */
  countLatched: number;
  statusLatched: number;
  status: number;
  /** RW_STATE_*: 1 low byte, 2 high byte, 3 and 4 the two of a word. */
  readState: number;
  writeState: number;
  writeLatch: number;
  /** Bits 5:4 of the control word, 0 before the first. */
  rwMode: number;
  /** 0 to 5; 255 before the first control word. */
  mode: number;
  bcd: number;
  gate: number;
  /** Nanoseconds of the host at the last count; not kept for channel 0. */
  countLoadTime: bigint;
}

/** struct kvm_pit_state2 */
export interface PitState2 {
  readonly channels: readonly PitChannelState[];
  readonly flags: number;
}

/** @kvm kvm_pit_reset_state */
const initial = (gate: number): PitChannelState => ({
  ...{ count: FULL_COUNT, latchedCount: 0, countLatched: 0, statusLatched: 0, status: 0 },
  ...{ readState: 0, writeState: 0, writeLatch: 0, rwMode: 0, mode: NO_MODE, bcd: 0, gate, countLoadTime: 0n },
});

interface Timer {
  /** Time at which it is due next. */
  expires: bigint;
  readonly period: bigint;
  readonly periodic: boolean;
}

export class KernelPit {
  readonly #clock: Clock;
  readonly #pulse: () => void;
  #channels = [initial(1), initial(1), initial(0)];
  #flags = 0;
  #timer: Timer | undefined;
  /** Period of channel 0 after a one-shot timer has expired. */
  #period = 0n;
  /** Ticks wait for the end of the interrupt before, each for its turn. */
  #reinject = true;
  /** Ticks whose interrupt has not ended. */
  #pending = 0n;
  /** The last interrupt has ended. */
  #irqAck = true;
  /** The next of the pending ticks is due. */
  #queued = false;

  constructor(options: { readonly clock: Clock; readonly pulse: () => void }) {
    this.#clock = options.clock;
    this.#pulse = options.pulse;
  }

  /** Time at which the timer of channel 0 is due. */
  next(): bigint | undefined {
    return this.#queued ? this.#clock.now() : this.#timer?.expires;
  }

  /** Pulses of GSI 0 up to now. Without reinjection several that nobody could take are one. @kvm pit_timer_fn */
  sync(): void {
    if (this.#queued) this.#work();
    const timer = this.#timer;
    const now = this.#clock.now();
    if (timer === undefined || now < timer.expires) return;
    const ticks = timer.periodic ? (now - timer.expires) / timer.period + 1n : 1n;
    if (timer.periodic) timer.expires += ticks * timer.period;
    else this.#timer = undefined;
    if (this.#reinject) this.#pending += ticks;
    this.#work();
  }

  /** @kvm pit_do_work */
  #work(): void {
    this.#queued = false;
    if (this.#reinject) {
      if (!this.#irqAck) return;
      this.#irqAck = false;
    }
    this.#pulse();
  }

  /** An interrupt controller says that the interrupt of GSI 0 has ended. @kvm kvm_pit_ack_irq */
  ended(): void {
    if (!this.#reinject) return;
    this.#irqAck = true;
    if (this.#pending > 0n) this.#pending -= 1n;
    if (this.#pending > 0n) this.#queued = true;
  }

  /** GSI 0 is masked no longer: what was missed is forgotten. @kvm pit_mask_notifer */
  unmasked(): void {
    if (this.#reinject) this.#resetReinject();
  }

  /** KVM_REINJECT_CONTROL. What is pending stays. @kvm kvm_pit_set_reinject */
  setReinject(reinject: boolean): void {
    this.#reinject = reinject;
  }

  /** @kvm kvm_pit_reset_reinject */
  #resetReinject(): void {
    this.#pending = 0n;
    this.#irqAck = true;
  }

  /** @kvm create_pit_timer */
  #createTimer(count: number, periodic: boolean): void {
    this.#resetReinject();
    const interval = (BigInt(count) * NSEC_PER_SEC) / KVM_PIT_FREQ;
    const period = periodic && interval < MIN_PERIOD ? MIN_PERIOD : interval;
    this.#period = period;
    this.#timer = { expires: this.#clock.now() + interval, period, periodic };
  }

  /** @kvm pit_load_count */
  #loadCount(channel: number, value: number): void {
    const state = this.#channels[channel]!;
    state.count = value === 0 ? FULL_COUNT : value;
    if (channel !== 0) {
      state.countLoadTime = this.#clock.now();
      return;
    }
    const { mode, count } = state;
    if (mode === 0 || mode === 1 || mode === 4) this.#createTimer(count, false);
    else if (mode === 2 || mode === 3) this.#createTimer(count, true);
    else this.#timer = undefined;
  }

  /** Ticks of the 8254 since the count was loaded, for channel 0 of the period. @kvm kpit_elapsed */
  #elapsed(channel: number): bigint {
    const now = this.#clock.now();
    let time = now - this.#channels[channel]!.countLoadTime;
    if (channel === 0) time = this.#period - (this.#timer === undefined ? 0n : this.#timer.expires - now);
    return toUnits(time, NSEC_PER_SEC, KVM_PIT_FREQ);
  }

  /** @kvm pit_get_count */
  #count(channel: number): number {
    const { mode, count } = this.#channels[channel]!;
    const elapsed = this.#elapsed(channel);
    const full = BigInt(count);
    if (mode === 0 || mode === 1 || mode === 4 || mode === 5) return Number(BigInt.asUintN(16, full - elapsed));
    return count - Number((mode === 3 ? 2n * elapsed : elapsed) % full);
  }

  /** @kvm pit_get_out */
  #out(channel: number): number {
    const { mode, count } = this.#channels[channel]!;
    const elapsed = this.#elapsed(channel);
    const full = BigInt(count);
    switch (mode) {
      case 1:
        return Number(elapsed < full);
      case 2:
        return Number(elapsed % full === 0n && elapsed !== 0n);
      case 3:
        return Number(elapsed % full < (full + 1n) >> 1n);
      case 4:
      case 5:
        return Number(elapsed === full);
      default:
        return Number(elapsed >= full);
    }
  }

  /** @kvm pit_latch_count */
  #latchCount(channel: number): void {
    const state = this.#channels[channel]!;
    if (state.countLatched !== 0) return;
    state.latchedCount = this.#count(channel) & 0xffff;
    state.countLatched = state.rwMode;
  }

  /** @kvm pit_latch_status */
  #latchStatus(channel: number): void {
    const state = this.#channels[channel]!;
    if (state.statusLatched) return;
    const { rwMode, mode, bcd } = state;
    state.status = ((this.#out(channel) << 7) | (rwMode << 4) | (mode << 1) | bcd) & 0xff;
    state.statusLatched = 1;
  }

  #control(value: number): void {
    const channel = value >> 6;
    if (channel === READ_BACK) {
      for (let i = 0; i < READ_BACK; i++) {
        if (!(value & (2 << i))) continue;
        if (!(value & READ_BACK_NO_COUNT)) this.#latchCount(i);
        if (!(value & READ_BACK_NO_STATUS)) this.#latchStatus(i);
      }
      return;
    }
    const access = (value >> 4) & 3;
    if (access === 0) {
      this.#latchCount(channel);
      return;
    }
    const mode = (value >> 1) & 7;
    const states = { rwMode: access, readState: access, writeState: access };
    Object.assign(this.#channels[channel]!, { ...states, mode: mode > 5 ? mode - 4 : mode, bcd: value & 1 });
  }

  /** Ports 0x40 to 0x43, and 0x61. @kvm pit_ioport_write, speaker_ioport_write */
  write(port: number, value: number): void {
    const byte = value & 0xff;
    if (port === 0x61) {
      this.#flags = byte & SPEAKER_DATA ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0;
      this.#setGate(byte & 1);
      return;
    }
    const channel = port & CONTROL;
    if (channel === CONTROL) {
      this.#control(byte);
      return;
    }
    const state = this.#channels[channel]!;
    switch (state.writeState) {
      case MSB:
        this.#loadCount(channel, byte << 8);
        break;
      case WORD0:
        state.writeLatch = byte;
        state.writeState = WORD1;
        break;
      case WORD1:
        this.#loadCount(channel, state.writeLatch | (byte << 8));
        state.writeState = WORD0;
        break;
      default:
        this.#loadCount(channel, byte);
    }
  }

  /** Gate 2: a rising one starts the counter anew in the modes that it triggers. @kvm pit_set_gate */
  #setGate(gate: number): void {
    const state = this.#channels[2]!;
    const triggers = state.mode === 1 || state.mode === 2 || state.mode === 3 || state.mode === 5;
    if (triggers && state.gate < gate) state.countLoadTime = this.#clock.now();
    state.gate = gate;
  }

  /** @kvm pit_ioport_read, speaker_ioport_read */
  read(port: number): number {
    if (port === 0x61) {
      const refresh = Number((this.#clock.now() >> REFRESH_SHIFT) & 1n);
      const data = this.#flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? SPEAKER_DATA : 0;
      return data | this.#channels[2]!.gate | (this.#out(2) << 5) | (refresh << 4);
    }
    const channel = port & CONTROL;
    // the control word register cannot be read
    if (channel === CONTROL) return 0;
    const state = this.#channels[channel]!;
    if (state.statusLatched) {
      state.statusLatched = 0;
      return state.status;
    }
    return state.countLatched === 0 ? this.#readCount(channel) : readLatch(state);
  }

  #readCount(channel: number): number {
    const state = this.#channels[channel]!;
    const count = this.#count(channel);
    const high = state.readState === MSB || state.readState === WORD1;
    if (state.readState === WORD0) state.readState = WORD1;
    else if (state.readState === WORD1) state.readState = WORD0;
    return (high ? count >> 8 : count) & 0xff;
  }

  /** @kvm kvm_vm_ioctl_get_pit2 */
  save(): PitState2 {
    return { channels: this.#channels.map((channel) => ({ ...channel })), flags: this.#flags };
  }

  /** As it is given; the count of channel 0 starts anew from now. @kvm kvm_vm_ioctl_set_pit2 */
  restore(state: PitState2): void {
    this.#channels = this.#channels.map((channel, i) => ({ ...channel, ...state.channels[i] }));
    this.#flags = state.flags;
    this.#loadCount(0, this.#channels[0]!.count & 0xffff);
  }
}

function readLatch(state: PitChannelState): number {
  const { latchedCount, countLatched } = state;
  state.countLatched = countLatched === WORD0 ? MSB : 0;
  return (countLatched === MSB ? latchedCount >> 8 : latchedCount) & 0xff;
}
