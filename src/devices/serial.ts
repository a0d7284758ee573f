// 16550A serial port. Source: National Semiconductor PC16550D data sheet.
//
//   const serial = new Serial((byte) => ..., { base: 0x3f8, irq: (level) => pic.setIrq(4, level) });
//   serial.receive(bytes);        // input: kept until the guest has read it
//   serial.read(port) / serial.write(port, value)
//   serial.save() / serial.restore(state)
//
// A byte is sent at once, so the transmitter is always empty, and received bytes arrive as fast as they are read. The irq
// line is gated by OUT2 of the modem control register, as on a PC.
import type { PortDevice } from "./bus.ts";
import { checkSaved, type Line, noLine } from "./clock.ts";

const IER_RECEIVED = 1;
const IER_THRE = 2;
const IER_LINE = 4;
const IER_MODEM = 8;
const IIR_NONE = 1;
const IIR_MODEM = 0;
const IIR_THRE = 2;
const IIR_RECEIVED = 4;
const IIR_LINE = 6;
const IIR_TIMEOUT = 0x0c;
const IIR_FIFO = 0xc0;
const FCR_ENABLE = 1;
const FCR_CLEAR_RECEIVER = 2;
const LCR_DLAB = 0x80;
const MCR_OUT2 = 8;
const MCR_LOOP = 0x10;
const LSR_READY = 1;
const LSR_OVERRUN = 2;
const LSR_ERRORS = 0x1e;
/** Transmitter holding register and transmitter empty. */
const LSR_EMPTY = 0x60;
/** DCD, DSR and CTS. */
const MSR_READY = 0xb0;
/** Bytes in the receiver FIFO that request an interrupt, by FCR bits 7:6. */
const TRIGGERS = [1, 4, 8, 14] as const;
const FIFO_BYTES = 16;

export interface SerialState {
  readonly version: 1;
  readonly ier: number;
  readonly lcr: number;
  readonly mcr: number;
  readonly lsr: number;
  readonly msr: number;
  readonly scratch: number;
  readonly divisor: number;
  readonly fcr: number;
  /** The transmitter-empty interrupt waits. */
  readonly thre: boolean;
  /** Receiver FIFO or holding register. */
  readonly fifo: readonly number[];
  /** Input that has not reached the FIFO. */
  readonly waiting: readonly number[];
}

export interface SerialOptions {
  /** First of eight ports; default 0x3F8. */
  readonly base?: number;
  readonly irq?: Line;
}

export class Serial implements PortDevice {
  readonly ports: readonly (readonly [number, number])[];
  readonly width = 1;
  readonly #base: number;
  readonly #emit: (byte: number) => void;
  readonly #irq: Line;
  #ier = 0;
  #lcr = 0;
  #mcr = 0;
  #lsr = 0;
  #msr = MSR_READY;
  #scratch = 0;
  #divisor = 1;
  #fcr = 0;
  #thre = false;
  #fifo: number[] = [];
  #waiting: number[] = [];
  #level = false;

  constructor(emit: (byte: number) => void, options: SerialOptions = {}) {
    this.#base = options.base ?? 0x3f8;
    this.ports = [[this.#base, this.#base + 7]];
    this.#emit = emit;
    this.#irq = options.irq ?? noLine;
  }

  /** Input from the other end of the line. */
  receive(bytes: Iterable<number>): void {
    for (const byte of bytes) this.#waiting.push(byte & 0xff);
    this.#fill();
    this.#update();
  }

  get #fifoOn(): boolean {
    return (this.#fcr & FCR_ENABLE) !== 0;
  }

  #fill(): void {
    if (this.#mcr & MCR_LOOP) return;
    const room = this.#fifoOn ? FIFO_BYTES : 1;
    while (this.#fifo.length < room && this.#waiting.length > 0) this.#fifo.push(this.#waiting.shift()!);
  }

  /** Interrupt identification, by priority. */
  get #cause(): number {
    if (this.#ier & IER_LINE && this.#lsr & LSR_ERRORS) return IIR_LINE;
    if (this.#ier & IER_RECEIVED && this.#fifo.length > 0) {
      // bytes below the trigger level time out at once: the line is idle after them
      const trigger = this.#fifoOn ? TRIGGERS[(this.#fcr >> 6) as 0 | 1 | 2 | 3] : 1;
      return this.#fifo.length >= trigger ? IIR_RECEIVED : IIR_TIMEOUT;
    }
    if (this.#ier & IER_THRE && this.#thre) return IIR_THRE;
    if (this.#ier & IER_MODEM && this.#msr & 0x0f) return IIR_MODEM;
    return IIR_NONE;
  }

  #update(): void {
    const level = this.#cause !== IIR_NONE && (this.#mcr & MCR_OUT2) !== 0;
    if (level === this.#level) return;
    this.#level = level;
    this.#irq(level);
  }

  read(port: number): number {
    const value = this.#read(port - this.#base);
    this.#update();
    return value;
  }

  #read(register: number): number {
    switch (register) {
      case 0: {
        if (this.#lcr & LCR_DLAB) return this.#divisor & 0xff;
        const byte = this.#fifo.shift() ?? 0;
        this.#fill();
        return byte;
      }
      case 1:
        return this.#lcr & LCR_DLAB ? this.#divisor >> 8 : this.#ier;
      case 2: {
        const cause = this.#cause;
        if (cause === IIR_THRE) this.#thre = false;
        return cause | (this.#fifoOn ? IIR_FIFO : 0);
      }
      case 3:
        return this.#lcr;
      case 4:
        return this.#mcr;
      case 5: {
        const value = this.#lsr | LSR_EMPTY | (this.#fifo.length > 0 ? LSR_READY : 0);
        this.#lsr = 0;
        return value;
      }
      case 6: {
        const value = this.#msr;
        this.#msr &= 0xf0;
        return value;
      }
      default:
        return this.#scratch;
    }
  }

  write(port: number, value: number): void {
    this.#write(port - this.#base, value & 0xff);
    this.#update();
  }

  #write(register: number, byte: number): void {
    switch (register) {
      case 0:
        if (this.#lcr & LCR_DLAB) this.#divisor = (this.#divisor & 0xff00) | byte;
        else this.#transmit(byte);
        break;
      case 1:
        if (this.#lcr & LCR_DLAB) this.#divisor = (this.#divisor & 0xff) | (byte << 8);
        else {
          // enabling it requests the interrupt at once, for the transmitter is empty
          if (byte & ~this.#ier & IER_THRE) this.#thre = true;
          this.#ier = byte & 0x0f;
        }
        break;
      case 2:
        if ((byte ^ this.#fcr) & FCR_ENABLE || byte & FCR_CLEAR_RECEIVER) this.#fifo = [];
        this.#fcr = byte & FCR_ENABLE ? byte & 0xc9 : 0;
        this.#fill();
        break;
      case 3:
        this.#lcr = byte;
        break;
      case 4:
        this.#mcr = byte & 0x1f;
        this.#setModem(this.#mcr & MCR_LOOP ? looped(this.#mcr) : MSR_READY);
        this.#fill();
        break;
      case 7:
        this.#scratch = byte;
        break;
    }
  }

  #transmit(byte: number): void {
    this.#thre = true;
    if (!(this.#mcr & MCR_LOOP)) {
      this.#emit(byte);
      return;
    }
    if (this.#fifo.length < (this.#fifoOn ? FIFO_BYTES : 1)) this.#fifo.push(byte);
    else {
      this.#lsr |= LSR_OVERRUN;
      if (!this.#fifoOn) this.#fifo = [byte];
    }
  }

  /** New levels of CTS, DSR, RI and DCD; the delta bits remember changes, RI only its end. */
  #setModem(levels: number): void {
    const changed = (this.#msr ^ levels) >> 4;
    const delta = (changed & 0x0b) | (changed & 4 && !(levels & 0x40) ? 4 : 0);
    this.#msr = levels | (this.#msr & 0x0f) | delta;
  }

  reset(): void {
    this.#ier = 0;
    this.#lcr = 0;
    this.#mcr = 0;
    this.#lsr = 0;
    this.#msr = MSR_READY;
    this.#fcr = 0;
    this.#thre = false;
    this.#fifo = [];
    this.#update();
  }

  save(): SerialState {
    return {
      version: 1,
      ier: this.#ier,
      lcr: this.#lcr,
      mcr: this.#mcr,
      lsr: this.#lsr,
      msr: this.#msr,
      scratch: this.#scratch,
      divisor: this.#divisor,
      fcr: this.#fcr,
      thre: this.#thre,
      fifo: [...this.#fifo],
      waiting: [...this.#waiting],
    };
  }

  restore(state: SerialState): void {
    checkSaved("serial port", state, 1);
    this.#ier = state.ier;
    this.#lcr = state.lcr;
    this.#mcr = state.mcr;
    this.#lsr = state.lsr;
    this.#msr = state.msr;
    this.#scratch = state.scratch;
    this.#divisor = state.divisor;
    this.#fcr = state.fcr;
    this.#thre = state.thre;
    this.#fifo = [...state.fifo];
    this.#waiting = [...state.waiting];
    this.#update();
  }
}

/** In loopback DTR, RTS, OUT1 and OUT2 drive DSR, CTS, RI and DCD. */
function looped(mcr: number): number {
  return (mcr & 1 ? 0x20 : 0) | (mcr & 2 ? 0x10 : 0) | (mcr & 4 ? 0x40 : 0) | (mcr & 8 ? 0x80 : 0);
}
