// PCI configuration mechanism 1 with no device behind it, and the reset control register at 0xCF9.
// Source: PCI Local Bus Specification 3.0, 3.2.2.3.2; 82371AB data sheet (RST_CNT).
import type { PortDevice } from "../bus.ts";

const ADDRESS = 0xcf8;
const RESET_CONTROL = 0xcf9;
const RESET_CPU = 0x04;
const ADDRESS_BITS = 0x80ff_fffc;

export interface PciState {
  readonly address: number;
  readonly control: number;
}

export class EmptyPci implements PortDevice {
  readonly ports = [[0xcf8, 0xcff]] as const;
  readonly #reset: (value: number) => void;
  #address = 0;
  #control = 0;

  constructor(reset: (value: number) => void) {
    this.#reset = reset;
  }

  read(port: number, size: number): number {
    if (port === ADDRESS && size === 4) return this.#address;
    if (port === RESET_CONTROL && size === 1) return this.#control;
    return 0xffff_ffff;
  }

  write(port: number, value: number, size: number): void {
    if (port === ADDRESS && size === 4) this.#address = (value & ADDRESS_BITS) >>> 0;
    if (port !== RESET_CONTROL || size !== 1) return;
    const rises = (value & ~this.#control & RESET_CPU) !== 0;
    this.#control = value & 0x0e;
    if (rises) this.#reset(value);
  }

  reset(): void {
    this.#address = 0;
    this.#control = 0;
  }

  save(): PciState {
    return { address: this.#address, control: this.#control };
  }

  restore(state: PciState): void {
    this.#address = state.address;
    this.#control = state.control;
  }
}
