import type { PortDevice } from "./bus.ts";

const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCRATCH = 7;
const LCR_DLAB = 0x80;
/** Transmitter holding register and transmitter empty. */
const LSR_EMPTY = 0x60;
/** DCD, DSR and CTS. */
const MSR_READY = 0xb0;

/** Transmit side of a 16450 UART that is always ready; it never raises an interrupt and never receives. */
export class Serial implements PortDevice {
  readonly first: number;
  readonly last: number;
  readonly #emit: (byte: number) => void;
  readonly #registers = new Uint8Array(8);
  readonly #divisor = Uint8Array.of(1, 0);

  constructor(emit: (byte: number) => void, base = 0x3f8) {
    this.first = base;
    this.last = base + 7;
    this.#emit = emit;
  }

  read(port: number): number {
    const register = port - this.first;
    switch (register) {
      case 0:
      case 1:
        if (this.#registers[LCR]! & LCR_DLAB) return this.#divisor[register]!;
        return register === 0 ? 0 : this.#registers[1]!;
      case 2:
        return 1; // no interrupt pending
      case LSR:
        return LSR_EMPTY;
      case MSR:
        return MSR_READY;
      default:
        return this.#registers[register]!;
    }
  }

  write(port: number, value: number): void {
    const register = port - this.first;
    const byte = value & 0xff;
    if (register < 2 && this.#registers[LCR]! & LCR_DLAB) this.#divisor[register] = byte;
    else if (register === 0) this.#emit(byte);
    else if (register === 1) this.#registers[1] = byte & 0x0f;
    else if (register === LCR || register === MCR || register === SCRATCH) this.#registers[register] = byte;
  }
}
