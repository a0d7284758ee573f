// 8259A interrupt controllers. Source: Intel 8259A data sheet (231468); ELCR: 82371AB data sheet.
//
//   const pic = new PicPair({ output: (level) => ... });
//   pic.setIrq(4, true);        // any of 16 lines; 2 is the cascade and cannot be driven
//   if (pic.output) vector = pic.acknowledge();   // the two INTA cycles
//   pic.read(port) / pic.write(port, value)       // 0x20 0x21 0xA0 0xA1 0x4D0 0x4D1
//   pic.save() / pic.restore(state)
//
// `output` is the master's INT pin. The state is what KVM_GET_IRQCHIP gives for the chips 0 and 1 under other names.
import type { PortDevice } from "./bus.ts";
import { checkSaved, type Line, noLine } from "./clock.ts";

const ICW1 = 0x10;
const ICW1_IC4 = 0x01;
const ICW1_SINGLE = 0x02;
const ICW1_LEVEL = 0x08;
const OCW3 = 0x08;
const OCW3_READ = 0x02;
const OCW3_READ_ISR = 0x01;
const OCW3_POLL = 0x04;
const OCW3_MASK = 0x40;
const OCW3_MASK_ON = 0x20;
const ICW4_AUTO_EOI = 0x02;
const ICW4_FULLY_NESTED = 0x10;
const CASCADE = 2;
const SPURIOUS = 7;
/** Lines that can be level-triggered by ELCR: not the timer, keyboard, cascade, RTC and coprocessor. */
const ELCR_MASKS = [0xf8, 0xde] as const;

export interface PicState {
  readonly version: 1;
  readonly chips: readonly PicChipState[];
}

/** Registers of one 8259A. */
export interface PicChipState {
  /** Requests, masks, in service. */
  irr: number;
  imr: number;
  isr: number;
  /** Levels of the inputs. */
  inputs: number;
  /** One bit a line: level-triggered. */
  elcr: number;
  /** ICW2, bits 7:3. */
  base: number;
  /** Line of the lowest priority, 7 after initialization. */
  lowest: number;
  readIsr: boolean;
  poll: boolean;
  specialMask: boolean;
  autoEoi: boolean;
  rotateOnAutoEoi: boolean;
  specialFullyNested: boolean;
  single: boolean;
  levelTriggered: boolean;
  /** Next initialization word that the data port takes, 0: none. */
  icw: 0 | 2 | 3 | 4;
  needsIcw4: boolean;
}

class Chip {
  readonly master: boolean;
  s: PicChipState = {
    irr: 0,
    imr: 0,
    isr: 0,
    inputs: 0,
    elcr: 0,
    base: 0,
    lowest: 7,
    readIsr: false,
    poll: false,
    specialMask: false,
    autoEoi: false,
    rotateOnAutoEoi: false,
    specialFullyNested: false,
    single: false,
    levelTriggered: false,
    icw: 0,
    needsIcw4: false,
  };

  /** Told of each line whose interrupt a command or automatic EOI ends. */
  readonly #ended: (line: number) => void;

  constructor(master: boolean, ended: (line: number) => void = () => {}) {
    this.master = master;
    this.#ended = ended;
  }

  get #level(): number {
    return this.s.levelTriggered ? 0xff : this.s.elcr;
  }

  setInput(line: number, level: boolean): void {
    const { s } = this;
    const bit = 1 << line;
    if (this.#level & bit) {
      s.irr = level ? s.irr | bit : s.irr & ~bit;
    } else if (level && !(s.inputs & bit)) {
      s.irr |= bit;
    }
    s.inputs = level ? s.inputs | bit : s.inputs & ~bit;
  }

  /** 0 the highest; 8 when no bit is set. */
  #priority(lines: number): number {
    for (let p = 0; p < 8; p++) if (lines & (1 << ((p + this.s.lowest + 1) & 7))) return p;
    return 8;
  }

  /** The line that INT stands for, -1: none. */
  request(): number {
    const { s } = this;
    const wanted = this.#priority(s.irr & ~s.imr);
    if (wanted === 8) return -1;
    let busy = s.isr;
    if (s.specialMask) busy &= ~s.imr;
    if (s.specialFullyNested && this.master) busy &= ~(1 << CASCADE);
    return wanted < this.#priority(busy) ? (wanted + s.lowest + 1) & 7 : -1;
  }

  accept(line: number): void {
    const { s } = this;
    const bit = 1 << line;
    if (s.autoEoi) {
      if (s.rotateOnAutoEoi) s.lowest = line;
    } else s.isr |= bit;
    if (!(this.#level & bit)) s.irr &= ~bit;
    if (s.autoEoi) this.#ended(line);
  }

  writeCommand(value: number): void {
    const { s } = this;
    if (value & ICW1) {
      s.irr = 0; // the edge sense circuit is reset: a low-to-high change is needed again
      s.imr = 0;
      s.isr = 0;
      s.lowest = 7;
      s.readIsr = false;
      s.poll = false;
      s.specialMask = false;
      s.autoEoi = false;
      s.rotateOnAutoEoi = false;
      s.specialFullyNested = false;
      s.single = (value & ICW1_SINGLE) !== 0;
      s.levelTriggered = (value & ICW1_LEVEL) !== 0;
      s.needsIcw4 = (value & ICW1_IC4) !== 0;
      s.icw = 2;
      s.irr = s.inputs & this.#level;
    } else if (value & OCW3) {
      if (value & OCW3_POLL) s.poll = true;
      if (value & OCW3_READ) s.readIsr = (value & OCW3_READ_ISR) !== 0;
      if (value & OCW3_MASK) s.specialMask = (value & OCW3_MASK_ON) !== 0;
    } else this.#endOfInterrupt(value >> 5, value & 7);
  }

  /** OCW2: R, SL, EOI. */
  #endOfInterrupt(command: number, line: number): void {
    const { s } = this;
    switch (command) {
      case 0:
        s.rotateOnAutoEoi = false;
        break;
      case 4:
        s.rotateOnAutoEoi = true;
        break;
      case 1:
      case 5: {
        const served = s.specialMask ? s.isr & ~s.imr : s.isr;
        const priority = this.#priority(served);
        if (priority === 8) break;
        const highest = (priority + s.lowest + 1) & 7;
        this.#end(highest);
        if (command === 5) s.lowest = highest;
        break;
      }
      case 3:
        this.#end(line);
        break;
      case 6:
        s.lowest = line;
        break;
      case 7:
        this.#end(line);
        s.lowest = line;
        break;
    }
  }

  #end(line: number): void {
    this.s.isr &= ~(1 << line);
    this.#ended(line);
  }

  writeData(value: number): void {
    const { s } = this;
    switch (s.icw) {
      case 0:
        s.imr = value;
        break;
      case 2:
        s.base = value & 0xf8;
        s.icw = s.single ? (s.needsIcw4 ? 4 : 0) : 3;
        break;
      case 3: // which line the slave is on is wired
        s.icw = s.needsIcw4 ? 4 : 0;
        break;
      case 4:
        s.specialFullyNested = (value & ICW4_FULLY_NESTED) !== 0;
        s.autoEoi = (value & ICW4_AUTO_EOI) !== 0;
        s.icw = 0;
        break;
    }
  }
}

export interface PicOptions {
  readonly output?: Line;
  /** Told of each line whose interrupt has ended, by a command or automatically. */
  readonly ended?: (irq: number) => void;
}

export class PicPair implements PortDevice {
  readonly #chips: readonly [Chip, Chip];
  readonly #onOutput: Line;
  #output = false;

  constructor(options: PicOptions = {}) {
    const { ended } = options;
    this.#chips = [new Chip(true, ended), new Chip(false, ended && ((line) => ended(line + 8)))];
    this.#onOutput = options.output ?? noLine;
  }

  readonly ports = [
    [0x20, 0x21],
    [0xa0, 0xa1],
    [0x4d0, 0x4d1],
  ] as const;
  readonly width = 1;

  /** The master's INT. */
  get output(): boolean {
    return this.#output;
  }

  /** Would a request on this line reach the processor, whatever else is in service? */
  enabled(irq: number): boolean {
    const [master, slave] = this.#chips;
    if (irq < 8) return (master.s.imr & (1 << irq)) === 0;
    return (slave.s.imr & (1 << (irq - 8))) === 0 && (master.s.imr & (1 << CASCADE)) === 0;
  }

  setIrq(irq: number, level: boolean): void {
    if (irq === CASCADE) return;
    this.#chips[irq >> 3]!.setInput(irq & 7, level);
    this.#update();
  }

  /** Both INTA cycles. Without a request the vector is that of line 7, and nothing is in service. */
  acknowledge(): number {
    const [master, slave] = this.#chips;
    const line = master.request();
    let vector = master.s.base + SPURIOUS;
    if (line >= 0) {
      master.accept(line);
      vector = master.s.base + line;
      if (line === CASCADE) {
        const second = slave.request();
        if (second >= 0) slave.accept(second);
        vector = slave.s.base + (second >= 0 ? second : SPURIOUS);
      }
    }
    this.#update();
    return vector;
  }

  read(port: number): number {
    const chip = this.#chip(port);
    const { s } = chip;
    if (port >= 0x4d0) return s.elcr;
    let value: number;
    if (s.poll) {
      s.poll = false;
      const line = chip.request();
      value = line < 0 ? 0 : 0x80 | line;
      if (line >= 0) chip.accept(line);
      this.#update();
    } else if (port & 1) value = s.imr;
    else value = s.readIsr ? s.isr : s.irr;
    return value;
  }

  write(port: number, value: number): void {
    const chip = this.#chip(port);
    const byte = value & 0xff;
    if (port >= 0x4d0) chip.s.elcr = byte & ELCR_MASKS[port & 1]!;
    else if (port & 1) chip.writeData(byte);
    else chip.writeCommand(byte);
    this.#update();
  }

  #chip(port: number): Chip {
    return this.#chips[port >= 0x4d0 ? port & 1 : port >> 7]!;
  }

  #update(): void {
    const [master, slave] = this.#chips;
    // the slave's INT drops for a moment whenever it is acknowledged, so each request is an edge at the master
    const cascade = slave.request() >= 0;
    if (cascade) {
      master.setInput(CASCADE, false);
      master.setInput(CASCADE, true);
    } else {
      master.setInput(CASCADE, false);
      master.s.irr &= ~(1 << CASCADE);
    }
    const level = master.request() >= 0;
    if (level === this.#output) return;
    this.#output = level;
    this.#onOutput(level);
  }

  reset(): void {
    for (const chip of this.#chips) {
      const { inputs } = chip.s;
      chip.s = { ...new Chip(chip.master).s, inputs };
    }
    this.#update();
  }

  save(): PicState {
    return { version: 1, chips: this.#chips.map((chip) => ({ ...chip.s })) };
  }

  restore(state: PicState): void {
    checkSaved("interrupt controllers", state, 1);
    this.#chips.forEach((chip, i) => {
      chip.s = { ...state.chips[i]! };
    });
    this.#output = this.#chips[0].request() >= 0;
    this.#onOutput(this.#output);
  }
}
