// I/O APIC with 24 inputs. Source: Intel 82093AA data sheet (290566).
//
//   const bus = new ApicBus();
//   const ioapic = new IoApic({ bus });
//   ioapic.setIrq(pin, level);               // true: asserted, whatever polarity the guest programs
//   ioapic.read(offset) / ioapic.write(offset, value)     // in its page: 0x00 select, 0x10 window
//   ioapic.endOfInterrupt(vector);           // registered at the bus by the constructor
//   ioapic.save() / ioapic.restore(state)    // redirection entries as 64-bit values, as in KVM_GET_IRQCHIP
import { type ApicBus, Delivery } from "./apicBus.ts";
import { checkSaved } from "./clock.ts";

export const IOAPIC_ADDRESS = 0xfec0_0000;
export const IOAPIC_PINS = 24;
const SELECT = 0x00;
const WINDOW = 0x10;
const INDEX_ID = 0;
const INDEX_VERSION = 1;
const INDEX_ARBITRATION = 2;
const INDEX_TABLE = 0x10;
const VERSION = 0x11 | ((IOAPIC_PINS - 1) << 16);

// low half of a redirection entry:
//   16 mask | 15 level | 14 remote IRR | 13 polarity | 12 status | 11 logical | 10:8 delivery | 7:0 vector
const LOGICAL = 1 << 11;
const STATUS = 1 << 12;
const REMOTE_IRR = 1 << 14;
const LEVEL = 1 << 15;
const MASK = 1 << 16;
const WRITABLE = 0x1afff;

export interface IoApicState {
  readonly version: 1;
  readonly id: number;
  readonly select: number;
  readonly table: readonly bigint[];
  /** Levels of the inputs, one bit each. */
  readonly inputs: number;
}

export class IoApic {
  readonly #bus: ApicBus;
  #id = 0;
  #select = 0;
  readonly #low = new Uint32Array(IOAPIC_PINS).fill(MASK);
  readonly #high = new Uint32Array(IOAPIC_PINS);
  #inputs = 0;

  constructor(options: { readonly bus: ApicBus }) {
    this.#bus = options.bus;
    this.#bus.eoiTargets.push((vector) => this.endOfInterrupt(vector));
  }

  /** Would an edge or level on this pin send a message? */
  enabled(pin: number): boolean {
    return (this.#low[pin]! & MASK) === 0;
  }

  /** Can the pin bring anything but a maskable interrupt? */
  unmaskable(pin: number): boolean {
    const delivery = (this.#low[pin]! >> 8) & 7;
    return this.enabled(pin) && (delivery === Delivery.Nmi || delivery === Delivery.Init);
  }

  /** Pins whose entries have this vector. */
  pinsOf(vector: number): number[] {
    return Array.from(this.#low.keys()).filter((pin) => (this.#low[pin]! & 0xff) === vector);
  }

  setIrq(pin: number, level: boolean): void {
    const bit = 1 << pin;
    const was = (this.#inputs & bit) !== 0;
    this.#inputs = level ? this.#inputs | bit : this.#inputs & ~bit;
    if (!level) return;
    const low = this.#low[pin]!;
    // an edge on a masked pin is lost; a level waits for the end of the interrupt that it made
    if (low & MASK || (low & LEVEL ? low & REMOTE_IRR : was)) return;
    this.#send(pin);
  }

  #send(pin: number): void {
    const low = this.#low[pin]!;
    const delivery = (low >> 8) & 7;
    const level = (low & LEVEL) !== 0 && (delivery === Delivery.Fixed || delivery === Delivery.LowestPriority);
    if (level) this.#low[pin] = low | REMOTE_IRR;
    this.#bus.send({
      vector: low & 0xff,
      delivery,
      level,
      destination: this.#high[pin]! >>> 24,
      logical: (low & LOGICAL) !== 0,
    });
  }

  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const low = this.#low[pin]!;
      if ((low & 0xff) !== vector || !(low & LEVEL) || !(low & REMOTE_IRR)) continue;
      this.#low[pin] = low & ~REMOTE_IRR;
      this.#again(pin);
    }
  }

  /** A level that is still there is sent anew. */
  #again(pin: number): void {
    const low = this.#low[pin]!;
    if (this.#inputs & (1 << pin) && low & LEVEL && !(low & (MASK | REMOTE_IRR))) this.#send(pin);
  }

  /** @param offset bytes into the page */
  read(offset: number): number {
    if (offset === SELECT) return this.#select;
    if (offset !== WINDOW) return 0;
    switch (this.#select) {
      case INDEX_ID:
      case INDEX_ARBITRATION:
        return (this.#id << 24) >>> 0;
      case INDEX_VERSION:
        return VERSION;
    }
    const pin = (this.#select - INDEX_TABLE) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return 0;
    return this.#select & 1 ? this.#high[pin]! : this.#low[pin]!;
  }

  write(offset: number, value: number): void {
    if (offset === SELECT) this.#select = value & 0xff;
    if (offset !== WINDOW) return;
    if (this.#select === INDEX_ID) this.#id = (value >>> 24) & 15;
    const pin = (this.#select - INDEX_TABLE) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return;
    if (this.#select & 1) {
      this.#high[pin] = value & 0xff00_0000;
      return;
    }
    const kept = value & LEVEL ? this.#low[pin]! & REMOTE_IRR : 0;
    this.#low[pin] = (value & WRITABLE & ~(STATUS | REMOTE_IRR)) | kept;
    this.#again(pin);
  }

  reset(): void {
    this.#id = 0;
    this.#select = 0;
    this.#low.fill(MASK);
    this.#high.fill(0);
  }

  save(): IoApicState {
    const table = Array.from(this.#low, (low, pin) => (BigInt(this.#high[pin]!) << 32n) | BigInt(low));
    return { version: 1, id: this.#id, select: this.#select, table, inputs: this.#inputs };
  }

  restore(state: IoApicState): void {
    checkSaved("I/O APIC", state, 1);
    this.#id = state.id;
    this.#select = state.select;
    state.table.forEach((entry, pin) => {
      this.#low[pin] = Number(entry & 0xffff_ffffn);
      this.#high[pin] = Number(entry >> 32n);
    });
    this.#inputs = state.inputs;
  }
}
