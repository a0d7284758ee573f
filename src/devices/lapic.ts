// Local APIC: xAPIC registers in a page, x2APIC registers as MSRs. @sdm 3A "Advanced Programmable Interrupt Controller (APIC)"
//
//   const apic = new LocalApic({ clock, bus, id: 0, bsp: true, changed: () => ..., nmi, init, startUp, tickOfTsc });
//   bus.add(apic);
//   apic.readPage(offset) / apic.writePage(offset, value)         // 32-bit registers at multiples of 16
//   apic.readMsr(index) / apic.writeMsr(index, value)             // 0x800-0x8FF; undefined or false: #GP(0)
//   apic.setBase(value)                  // IA32_APIC_BASE after the processor has checked the change
//   apic.sync(); apic.next()             // the timer, at the clock's time
//   apic.pending()                       // vector that the processor would take now, -1: none
//   apic.acknowledge()                   // it takes it: IRR -> ISR; the spurious vector when there is none
//   apic.extInt                          // LINT0 passes an 8259's interrupt on
//   apic.accept(message)                 // from the bus
//   apic.registers() / apic.setRegisters(page)     // the 1 KiB of KVM_GET_LAPIC
//   apic.save() / apic.restore(state)
//
// `changed` is called whenever pending() or extInt may have changed.
import { type ApicMessage, type ApicTarget, Delivery, Shorthand } from "./apicBus.ts";
import { checkSaved, type TimedDevice } from "./clock.ts";
import type { LapicOptions, LapicState } from "./lapicOptions.ts";
import {
  highest,
  LVT_DELIVERY_SHIFT,
  LVT_LEVEL,
  LVT_MASKED,
  LVT_REMOTE_IRR,
  LVT_WRITABLE,
  ApicRegister as R,
  x2apicRead,
  x2apicWritable,
} from "./lapicRegisters.ts";
import { LapicTimer } from "./lapicTimer.ts";

export const APIC_ADDRESS = 0xfee0_0000;
const BASE_BSP = 1n << 8n;
const BASE_X2APIC = 1n << 10n;
const BASE_ENABLE = 1n << 11n;
const SVR_ENABLE = 1 << 8;
/** Integrated APIC with six local vector table entries. */
const VERSION = 0x0005_0014;
const ESR_SEND_ILLEGAL = 1 << 5;
const ESR_RECEIVE_ILLEGAL = 1 << 6;
const ESR_ILLEGAL_REGISTER = 1 << 7;
const ICR_LOGICAL = 1 << 11;
const ICR_ASSERT = 1 << 14;
const ICR_LEVEL = 1 << 15;
const TIMER_MODE_SHIFT = 17;
const DEFAULT_BUS_HZ = 1_000_000_000n;

const nothing = () => {};

export class LocalApic implements TimedDevice, ApicTarget {
  readonly #options: LapicOptions;
  readonly #timer: LapicTimer;
  readonly #regs = new Uint32Array(64);
  readonly #lint = [false, false];
  /** Errors since the last write to the ESR. */
  #errors = 0;
  #base = 0n;

  constructor(options: LapicOptions) {
    this.#options = options;
    const { clock, busHz = DEFAULT_BUS_HZ, tickOfTsc = (tsc: bigint) => tsc } = options;
    this.#timer = new LapicTimer({ clock, busHz, tickOfTsc });
    this.reset();
  }

  /** Power-up state. @sdm 3A "Local APIC State After Power-Up or Reset" */
  reset(): void {
    this.#base = BigInt(APIC_ADDRESS) | BASE_ENABLE | (this.#options.bsp ? BASE_BSP : 0n);
    this.initialize();
  }

  /** INIT: as reset, but the ID and IA32_APIC_BASE stay. @sdm 3A "Local APIC State After It Receives an INIT-Deassert IPI" */
  initialize(): void {
    this.#resetRegisters();
    this.#changed();
  }

  #resetRegisters(): void {
    const regs = this.#regs;
    regs.fill(0);
    regs[R.Version] = VERSION;
    regs[R.Dfr] = 0xffff_ffff;
    regs[R.Svr] = 0xff;
    for (let lvt: number = R.LvtTimer; lvt <= R.LvtError; lvt++) regs[lvt] = LVT_MASKED;
    this.#errors = 0;
    this.#timer.reset();
    this.#setIds();
  }

  /** ID and, in x2APIC mode, the logical ID that follows from it. @sdm 3A "Logical Destination Mode in x2APIC Mode" */
  #setIds(): void {
    const { id } = this.#options;
    if (this.x2apic) {
      this.#regs[R.Id] = id;
      this.#regs[R.Ldr] = ((id >>> 4) << 16) | (1 << (id & 15));
    } else this.#regs[R.Id] = id << 24;
  }

  /** LINT0 as firmware leaves it on a PC: it passes the interrupts of the 8259s on ("virtual wire"). */
  setVirtualWire(): void {
    this.#regs[R.LvtLint0] = Delivery.ExtInt << LVT_DELIVERY_SHIFT;
    this.#changed();
  }

  #changed(): void {
    (this.#options.changed ?? nothing)();
  }

  // --- IA32_APIC_BASE ---

  get base(): bigint {
    return this.#base;
  }
  get enabled(): boolean {
    return (this.#base & BASE_ENABLE) !== 0n;
  }
  get x2apic(): boolean {
    return (this.#base & BASE_X2APIC) !== 0n;
  }
  get softwareEnabled(): boolean {
    return this.enabled && (this.#regs[R.Svr]! & SVR_ENABLE) !== 0;
  }

  /** A disabled APIC forgets its registers. @sdm 3A "Enabling or Disabling the Local APIC" */
  setBase(value: bigint): void {
    const was = this.#base;
    this.#base = value;
    if (was & BASE_ENABLE && !(value & BASE_ENABLE)) this.#resetRegisters();
    if ((was ^ value) & (BASE_X2APIC | BASE_ENABLE)) {
      this.#setIds();
      if (value & BASE_X2APIC) this.#regs[R.Icr2] = 0;
    }
    this.#changed();
  }

  // --- priority and the processor ---

  /** Processor-priority register. @sdm 3A "Task and Processor Priorities" */
  get priority(): number {
    const tpr = this.#regs[R.Tpr]!;
    const serving = Math.max(highest(this.#regs, R.Isr), 0);
    return tpr >> 4 >= serving >> 4 ? tpr : serving & 0xf0;
  }

  /** TPR bits 7:4, as CR8 reads them. */
  get cr8(): number {
    return this.#regs[R.Tpr]! >> 4;
  }

  /** Vector of the fixed interrupt that the processor would take now, -1: none. */
  pending(): number {
    if (!this.softwareEnabled) return -1;
    const vector = highest(this.#regs, R.Irr);
    return vector >= 0 && vector >> 4 > this.priority >> 4 ? vector : -1;
  }

  acknowledge(): number {
    const vector = this.pending();
    if (vector < 0) return this.#regs[R.Svr]! & 0xff;
    this.#set(R.Irr, vector, false);
    this.#set(R.Isr, vector);
    this.#changed();
    return vector;
  }

  /** An 8259's interrupt reaches the processor: by LINT0, or by the INTR pin of a processor without APIC. */
  get extInt(): boolean {
    if (!this.enabled) return true;
    const lvt = this.#regs[R.LvtLint0]!;
    return !(lvt & LVT_MASKED) && (lvt >> LVT_DELIVERY_SHIFT) % 8 === Delivery.ExtInt;
  }

  #set(register: number, vector: number, on = true): void {
    const bit = 1 << (vector & 31);
    const at = register + (vector >> 5);
    this.#regs[at] = on ? this.#regs[at]! | bit : this.#regs[at]! & ~bit;
  }

  // --- messages ---

  isAddressed(message: ApicMessage): boolean {
    if (!this.enabled) return false;
    const { destination, logical, wide } = message;
    const all = wide ? 0xffff_ffff : 0xff;
    if (destination === all) return true;
    if (!logical) return destination === (this.x2apic ? this.#regs[R.Id]! : this.#regs[R.Id]! >>> 24);
    const ldr = this.#regs[R.Ldr]!;
    if (this.x2apic) return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
    const own = ldr >>> 24;
    // model 1111 flat, 0000 cluster
    if (this.#regs[R.Dfr]! >>> 28 === 15) return (own & destination) !== 0;
    return destination >> 4 === own >> 4 && (destination & own & 15) !== 0;
  }

  accept(message: ApicMessage): void {
    switch (message.delivery) {
      case Delivery.Fixed:
      case Delivery.LowestPriority:
        this.#acceptFixed(message.vector, message.level);
        break;
      case Delivery.Nmi:
        (this.#options.nmi ?? nothing)();
        break;
      case Delivery.Init:
        (this.#options.init ?? nothing)();
        break;
      case Delivery.StartUp:
        this.#options.startUp?.(message.vector);
        break;
    }
  }

  #acceptFixed(vector: number, level: boolean): void {
    if (!this.softwareEnabled) return;
    if (vector < 16) {
      this.#error(ESR_RECEIVE_ILLEGAL);
      return;
    }
    this.#set(R.Irr, vector);
    this.#set(R.Tmr, vector, level);
    this.#changed();
  }

  #error(bit: number): void {
    if (this.#errors & bit) return;
    this.#errors |= bit;
    this.#deliverLocal(R.LvtError);
  }

  /** An entry of the local vector table fires. */
  #deliverLocal(register: number): void {
    const lvt = this.#regs[register]!;
    if (lvt & LVT_MASKED) return;
    const delivery = register === R.LvtTimer || register === R.LvtError ? 0 : (lvt >> LVT_DELIVERY_SHIFT) & 7;
    const level = register === R.LvtLint0 && delivery === Delivery.Fixed && (lvt & LVT_LEVEL) !== 0;
    if (level) this.#regs[register]! |= LVT_REMOTE_IRR;
    this.accept({ vector: lvt & 0xff, delivery, level, destination: 0, logical: false });
  }

  /** Level of a local interrupt pin. */
  setLint(pin: 0 | 1, level: boolean): void {
    const rose = level && !this.#lint[pin];
    this.#lint[pin] = level;
    const register = R.LvtLint0 + pin;
    const lvt = this.#regs[register]!;
    if (((lvt >> LVT_DELIVERY_SHIFT) & 7) === Delivery.ExtInt) this.#changed();
    else if (rose || (level && pin === 0 && (lvt & (LVT_LEVEL | LVT_REMOTE_IRR)) === LVT_LEVEL)) {
      this.#deliverLocal(register);
    }
  }

  #endOfInterrupt(): void {
    const vector = highest(this.#regs, R.Isr);
    if (vector < 0) return;
    this.#set(R.Isr, vector, false);
    this.#options.ended?.(vector);
    if (this.#regs[R.Tmr + (vector >> 5)]! & (1 << (vector & 31))) {
      const lvt = this.#regs[R.LvtLint0]!;
      if (lvt & LVT_REMOTE_IRR && (lvt & 0xff) === vector) {
        this.#regs[R.LvtLint0] = lvt & ~LVT_REMOTE_IRR;
        if (this.#lint[0]) this.#deliverLocal(R.LvtLint0);
      }
      this.#options.bus.endOfInterrupt(vector);
    }
    this.#changed();
  }

  /** @sdm 3A "Interrupt Command Register (ICR)" */
  #sendIpi(low: number, destination: number): void {
    const delivery = (low >> 8) & 7;
    const vector = low & 0xff;
    const shorthand = (low >> 18) & 3;
    if (delivery === Delivery.Fixed && vector < 16) {
      this.#error(ESR_SEND_ILLEGAL);
      return;
    }
    // INIT level de-assert has no effect on these processors
    if (delivery === Delivery.Init && low & ICR_LEVEL && !(low & ICR_ASSERT)) return;
    const logical = (low & ICR_LOGICAL) !== 0;
    const message = { vector, delivery, level: false, destination, logical, wide: this.x2apic, shorthand };
    this.#options.bus.send(message, this);
  }

  // --- timer ---

  next(): bigint | undefined {
    return this.#regs[R.LvtTimer]! & LVT_MASKED ? undefined : this.#timer.next();
  }

  sync(): void {
    if (this.#timer.expired()) this.#deliverLocal(R.LvtTimer);
  }

  get tscDeadline(): bigint {
    this.sync();
    return this.#timer.deadline;
  }

  set tscDeadline(value: bigint) {
    this.sync();
    this.#timer.deadline = value;
    this.sync();
  }

  // --- registers ---

  /** A register of the xAPIC page; `offset` is in bytes. */
  readPage(offset: number): number {
    const shift = 8 * (offset & 3);
    if ((offset & 15) > 3) return 0;
    return this.#read(offset >> 4) >>> shift;
  }

  /** Aligned 32-bit writes; others do nothing. */
  writePage(offset: number, value: number): void {
    if ((offset & 15) === 0) this.#write(offset >> 4, value >>> 0);
  }

  /** Undefined: #GP(0). */
  readMsr(index: number): bigint | undefined {
    const register = index - 0x800;
    if (!this.x2apic || !x2apicRead(register)) return undefined;
    const low = BigInt(this.#read(register));
    return register === R.Icr ? low | (BigInt(this.#regs[R.Icr2]!) << 32n) : low;
  }

  /** False: #GP(0). */
  writeMsr(index: number, value: bigint): boolean {
    const register = index - 0x800;
    const writable = this.x2apic ? x2apicWritable(register) : undefined;
    if (writable === undefined || (value & ~writable) !== 0n) return false;
    const low = Number(value & 0xffff_ffffn);
    if (register === R.SelfIpi) {
      this.#sendIpi(low | (Shorthand.Self << 18), 0);
      return true;
    }
    if (register === R.Icr) this.#regs[R.Icr2] = Number(value >> 32n);
    this.#write(register, low);
    return true;
  }

  #read(register: number): number {
    this.sync();
    switch (register) {
      case R.Ppr:
        return this.priority;
      case R.CurrentCount:
        return this.#timer.current;
      case R.InitialCount:
        return this.#timer.initial;
      case R.Divide:
        return this.#timer.divide;
      case R.Eoi:
        return 0;
    }
    if (register >= 64 || !x2apicRead(register, true)) {
      this.#error(ESR_ILLEGAL_REGISTER);
      return 0;
    }
    return this.#regs[register]!;
  }

  #write(register: number, value: number): void {
    this.sync();
    const regs = this.#regs;
    switch (register) {
      case R.Id:
        if (!this.x2apic) regs[R.Id] = value & 0xff00_0000;
        break;
      case R.Tpr:
        this.taskPriority = value;
        break;
      case R.Eoi:
        this.#endOfInterrupt();
        break;
      case R.Ldr:
        if (!this.x2apic) regs[R.Ldr] = value & 0xff00_0000;
        break;
      case R.Dfr:
        regs[R.Dfr] = value | 0x0fff_ffff;
        break;
      case R.Svr:
        this.#writeSvr(value);
        break;
      case R.Esr:
        regs[R.Esr] = this.#errors;
        this.#errors = 0;
        break;
      case R.Icr:
        regs[R.Icr] = value & 0x000c_cfff; // the delivery status is always idle
        this.#sendIpi(value, this.x2apic ? regs[R.Icr2]! : regs[R.Icr2]! >>> 24);
        break;
      case R.Icr2:
        regs[R.Icr2] = value & 0xff00_0000;
        break;
      case R.InitialCount:
        this.#timer.initial = value;
        break;
      case R.Divide:
        this.#timer.divide = value;
        break;
      default:
        if (register >= R.LvtTimer && register <= R.LvtError) this.#writeLvt(register, value);
        else if (!x2apicRead(register, true)) this.#error(ESR_ILLEGAL_REGISTER);
    }
  }

  get taskPriority(): number {
    return this.#regs[R.Tpr]!;
  }

  set taskPriority(value: number) {
    this.#regs[R.Tpr] = value & 0xff;
    this.#changed();
  }

  /** While the APIC is disabled by software all entries are masked. @sdm 3A "Spurious Interrupt" */
  #writeSvr(value: number): void {
    const was = this.softwareEnabled;
    this.#regs[R.Svr] = value & 0x3ff;
    if (!(value & SVR_ENABLE) && was) {
      for (let lvt: number = R.LvtTimer; lvt <= R.LvtError; lvt++) this.#regs[lvt]! |= LVT_MASKED;
    }
    this.#changed();
  }

  #writeLvt(register: number, value: number): void {
    const kept = this.#regs[register]! & LVT_REMOTE_IRR;
    let lvt = (value & LVT_WRITABLE[register - R.LvtTimer]!) | (value & LVT_LEVEL ? kept : 0);
    if (!(this.#regs[R.Svr]! & SVR_ENABLE)) lvt |= LVT_MASKED;
    this.#regs[register] = lvt;
    if (register === R.LvtTimer) this.#timer.setMode((lvt >> TIMER_MODE_SHIFT) & 3);
    this.#changed();
    if (register === R.LvtLint0 && this.#lint[0] && lvt & LVT_LEVEL && !(lvt & (LVT_MASKED | LVT_REMOTE_IRR))) {
      if (((lvt >> LVT_DELIVERY_SHIFT) & 7) === Delivery.Fixed) this.#deliverLocal(register);
    }
  }

  // --- state ---

  /** The registers as KVM_GET_LAPIC gives them: 64 of them, 16 bytes apart. */
  registers(): Uint8Array {
    this.sync();
    const bytes = new Uint8Array(1024);
    const view = new DataView(bytes.buffer);
    for (let register = 0; register < 64; register++) view.setUint32(16 * register, this.#raw(register), true);
    return bytes;
  }

  #raw(register: number): number {
    if (register === R.Ppr) return this.priority;
    if (register === R.CurrentCount) return this.#timer.current;
    if (register === R.InitialCount) return this.#timer.initial;
    if (register === R.Divide) return this.#timer.divide;
    return this.#regs[register]!;
  }

  /** The reverse, KVM_SET_LAPIC: the timer starts anew from its initial count. */
  setRegisters(bytes: Uint8Array): void {
    if (bytes.length !== 1024) throw new RangeError(`local-APIC registers are 1024 bytes, not ${bytes.length}`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, 1024);
    for (let register = 0; register < 64; register++) this.#regs[register] = view.getUint32(16 * register, true);
    this.#regs[R.Version] = VERSION;
    this.#timer.reset();
    this.#timer.setMode((this.#regs[R.LvtTimer]! >> TIMER_MODE_SHIFT) & 3);
    this.#timer.divide = this.#regs[R.Divide]!;
    this.#timer.initial = this.#regs[R.InitialCount]!;
    this.#setIds();
    this.#changed();
  }

  save(): LapicState {
    return {
      version: 1,
      base: this.#base,
      id: this.#options.id,
      registers: Array.from(this.#regs),
      errors: this.#errors,
      lint: [...this.#lint],
      timer: this.#timer.save(),
    };
  }

  restore(state: LapicState): void {
    checkSaved("local APIC", state, 1);
    if (state.id !== this.#options.id) {
      throw new RangeError(`this is the state of local APIC ${state.id}, not of ${this.#options.id}`);
    }
    this.#base = state.base;
    this.#regs.set(state.registers);
    this.#errors = state.errors;
    this.#lint[0] = state.lint[0]!;
    this.#lint[1] = state.lint[1]!;
    this.#timer.restore(state.timer, (this.#regs[R.LvtTimer]! >> TIMER_MODE_SHIFT) & 3);
    this.#changed();
  }
}
