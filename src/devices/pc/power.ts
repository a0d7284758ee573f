// ACPI fixed hardware: PM1a event and control blocks and the PM timer. Source: ACPI specification 6.5, 4.8.3.
// There is no SMI, so the machine is in ACPI mode from the start (SCI_EN is 1) and no event ever comes.
import type { PortDevice } from "../bus.ts";
import { type Clock, toUnits } from "../clock.ts";

export const PM1A_EVENT = 0x600;
export const PM1A_CONTROL = 0x604;
export const PM_TIMER = 0x608;
const PM_TIMER_HZ = 3_579_545n;
const ENABLE = PM1A_EVENT + 2;
const SCI_EN = 1;
const SLEEP_TYPE = 0x1c00;
const SLEEP_ENABLE = 0x2000;
/** SLP_TYP of S5 in the DSDT. */
export const S5_TYPE = 0;

export interface PowerState {
  readonly enable: number;
  readonly control: number;
}

export class PowerManagement implements PortDevice {
  readonly ports = [[PM1A_EVENT, PM_TIMER + 3]] as const;
  readonly #clock: Clock;
  readonly #off: (value: number) => void;
  #enable = 0;
  #control = SCI_EN;

  constructor(clock: Clock, off: (value: number) => void) {
    this.#clock = clock;
    this.#off = off;
  }

  read(port: number, size: number): number {
    if (port >= PM_TIMER) {
      const count = Number(toUnits(this.#clock.now(), this.#clock.hz, PM_TIMER_HZ) & 0xffff_ffffn);
      return count >>> (8 * (port - PM_TIMER));
    }
    const word = port & ~1;
    // the status register is always 0
    const value = word === ENABLE ? this.#enable : word === PM1A_CONTROL ? this.#control : 0;
    if (port === PM1A_EVENT && size === 4) return (this.#enable << 16) >>> 0;
    return value >>> (8 * (port & 1));
  }

  write(port: number, value: number, size: number): void {
    if (port === ENABLE && size >= 2) this.#enable = value & 0xffff;
    if (port === PM1A_EVENT && size === 4) this.#enable = value >>> 16;
    if (port !== PM1A_CONTROL || size < 2) return;
    this.#control = (value & ~SLEEP_ENABLE & 0xffff) | SCI_EN;
    if (value & SLEEP_ENABLE && (value & SLEEP_TYPE) >> 10 === S5_TYPE) this.#off(value);
  }

  reset(): void {
    this.#enable = 0;
    this.#control = SCI_EN;
  }

  save(): PowerState {
    return { enable: this.#enable, control: this.#control };
  }

  restore(state: PowerState): void {
    this.#enable = state.enable;
    this.#control = state.control;
  }
}
