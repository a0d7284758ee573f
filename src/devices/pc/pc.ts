// The pc profile: the chips of a PC around one processor, wired together.
//
// The owner gives the processor's side (PcHost), passes port, page, MSR and acknowledge accesses in, and calls service() when
// the clock reaches deadline(). Nothing here runs by itself.
import { ApicBus } from "../apicBus.ts";
import { PortBus } from "../bus.ts";
import { type Clock, checkSaved, earlier } from "../clock.ts";
import { DebugConsole, DebugExit } from "../debugPorts.ts";
import { IoApic, type IoApicState } from "../ioapic.ts";
import { LocalApic } from "../lapic.ts";
import type { LapicState } from "../lapicOptions.ts";
import { PicPair, type PicState } from "../pic.ts";
import { Pit, type PitState } from "../pit.ts";
import { Rtc, type RtcState } from "../rtc.ts";
import { Serial, type SerialState } from "../serial.ts";
import { fillCmos } from "./cmos.ts";
import { FwCfg, type FwCfgState } from "./fwCfg.ts";
import { KeyboardController, type KeyboardState } from "./keyboard.ts";
import { type MemoryRange, memoryRanges } from "./memoryRanges.ts";
import { EmptyPci, type PciState } from "./pci.ts";
import { PowerManagement, type PowerState } from "./power.ts";

const MSR_TSC_DEADLINE = 0x6e0;
const MSR_APIC_BASE = 0x1b;
const MSR_TPR = 0x808;
const MSR_EOI = 0x80b;
const PAGE_EOI = 0xb0;
const MSR_X2APIC = 0x800;
const MSR_X2APIC_LAST = 0x8ff;
const TIMER_IRQ = 0;
const RTC_IRQ = 8;
const SERIAL_IRQ = 4;
/** I/O APIC input of the timer; the others have their ISA number. */
const TIMER_PIN = 2;

/** How a guest ends the machine. */
export type PcEnding =
  | { readonly kind: "powerOff"; readonly port: number; readonly value: number }
  | { readonly kind: "reset"; readonly port: number; readonly value: number }
  | { readonly kind: "debugExit"; readonly value: number };

/** The processor and the machine around it, as the devices see them. */
export interface PcHost {
  readonly clock: Clock;
  /** Added to a tick of the clock it gives the TSC. */
  readonly tscOffset: bigint;
  /** Level of the processor's interrupt request. */
  setInterruptLine(level: boolean): void;
  /** service() is wanted at this tick. */
  setDeadline(ticks: bigint | undefined, wakes: boolean): void;
  /** TPR bits 7:4 changed. */
  setCr8(priority: number): void;
  nmi(): void;
  init(): void;
  end(ending: PcEnding): void;
}

export interface PcOptions {
  /** Bytes of RAM from address 0. */
  readonly ramSize: number;
  /** The processor has a local APIC, and the machine an I/O APIC. */
  readonly apic: boolean;
  /** Time of the clock at tick 0, milliseconds since 1970 UTC. Default 2000-01-01. */
  readonly epochMs?: number;
  /** Bytes that the guest sends through the serial port at 0x3F8. */
  readonly serial?: (byte: number) => void;
  /** Bytes that the guest writes to port 0xE9. */
  readonly debugConsole?: (byte: number) => void;
  /** Files of fw_cfg, by name. */
  readonly fwCfg?: Readonly<Record<string, Uint8Array>>;
}

export interface PcState {
  readonly version: 1;
  readonly pic: PicState;
  readonly pit: PitState;
  readonly rtc: RtcState;
  readonly serial: SerialState;
  readonly lapic: LapicState | undefined;
  readonly ioapic: IoApicState | undefined;
  readonly pci: PciState;
  readonly keyboard: KeyboardState;
  readonly power: PowerState;
  readonly fwCfg: FwCfgState;
}

const nothing = () => {};

export class Pc {
  readonly pic: PicPair;
  readonly pit: Pit;
  readonly rtc: Rtc;
  readonly serial: Serial;
  readonly lapic: LocalApic | undefined;
  readonly ioapic: IoApic | undefined;
  readonly memoryRanges: readonly MemoryRange[];
  readonly #host: PcHost;
  readonly #options: PcOptions;
  readonly #ports = new PortBus();
  readonly #keyboard: KeyboardController;
  readonly #pci: EmptyPci;
  readonly #power: PowerManagement;
  readonly #fwCfg: FwCfg;

  constructor(host: PcHost, options: PcOptions) {
    this.#host = host;
    this.#options = options;
    const { clock } = host;
    const { ramSize } = options;
    const reset = (port: number, value: number) => host.end({ kind: "reset", port, value });
    this.memoryRanges = memoryRanges(ramSize);
    this.pic = new PicPair({ output: () => this.#updateLine() });
    this.pit = new Pit({ clock, irq: (level) => this.setIrq(TIMER_IRQ, level) });
    this.rtc = new Rtc({
      clock,
      irq: (level) => this.setIrq(RTC_IRQ, level),
      ...(options.epochMs === undefined ? {} : { epochMs: options.epochMs }),
    });
    this.serial = new Serial(options.serial ?? nothing, { irq: (level) => this.setIrq(SERIAL_IRQ, level) });
    if (options.apic) {
      const bus = new ApicBus();
      this.ioapic = new IoApic({ bus });
      this.lapic = new LocalApic({
        clock,
        bus,
        id: 0,
        bsp: true,
        changed: () => this.#updateLine(),
        nmi: () => host.nmi(),
        init: () => host.init(),
        tickOfTsc: (tsc) => clock.now() + tsc - BigInt.asUintN(64, clock.now() + host.tscOffset),
      });
      bus.add(this.lapic);
      this.lapic.setVirtualWire();
    }
    this.#keyboard = new KeyboardController(reset);
    this.#pci = new EmptyPci((value) => reset(0xcf9, value));
    this.#power = new PowerManagement(clock, (value) => host.end({ kind: "powerOff", port: 0x604, value }));
    this.#fwCfg = new FwCfg({ ramSize, cpus: 1, ranges: this.memoryRanges, files: options.fwCfg ?? {} });
    this.#ports
      .add(this.pic)
      .add(this.pit)
      .add(this.rtc)
      .add(this.serial)
      .add(this.#keyboard)
      .add(this.#pci)
      .add(this.#power)
      .add(this.#fwCfg)
      .add(new DebugConsole(options.debugConsole ?? nothing))
      .add(new DebugExit((value) => host.end({ kind: "debugExit", value })));
    fillCmos(this.rtc, ramSize, 1);
  }

  /** An ISA interrupt line, 0-15. */
  setIrq(irq: number, level: boolean): void {
    this.pic.setIrq(irq, level);
    this.ioapic?.setIrq(irq === TIMER_IRQ ? TIMER_PIN : irq, level);
  }

  // --- what the processor does ---

  readPort(port: number, size: number): number {
    this.#sync(port);
    const value = this.#ports.read(port, size);
    this.#schedule(port);
    return value;
  }

  writePort(port: number, value: number, size: number): void {
    this.#sync(port);
    this.#ports.write(port, value, size);
    this.#schedule(port);
  }

  /** The I/O APIC's page. Accesses of other widths than 32 bits read as the part of the register they cover. */
  readIoApic(offset: number): number {
    this.#syncTimers();
    return this.ioapic!.read(offset & ~3) >>> (8 * (offset & 3));
  }

  writeIoApic(offset: number, value: number): void {
    this.#syncTimers();
    this.ioapic!.write(offset, value);
    this.#setDeadline();
  }

  /** The local APIC's page, in xAPIC mode. */
  readLapic(offset: number): number {
    return this.lapic!.readPage(offset);
  }

  writeLapic(offset: number, value: number): void {
    const lapic = this.lapic!;
    lapic.writePage(offset, value);
    this.#host.setCr8(lapic.cr8);
    this.#setDeadline();
  }

  /** Undefined: #GP(0). */
  readApicMsr(index: number): bigint | undefined {
    const { lapic } = this;
    if (index === MSR_TSC_DEADLINE) return lapic?.tscDeadline ?? 0n;
    return lapic?.readMsr(index);
  }

  /** False: #GP(0). IA32_APIC_BASE, the TSC and CR8 have changed already; CR8 and EOI may come in xAPIC mode. */
  writeApicMsr(index: number, value: bigint): boolean {
    const { lapic } = this;
    if (lapic === undefined) return index < MSR_X2APIC || index === MSR_TPR;
    if (index === MSR_TSC_DEADLINE) lapic.tscDeadline = value;
    else if (index === MSR_APIC_BASE) lapic.setBase(value);
    else if (index === MSR_TPR && !lapic.x2apic) lapic.taskPriority = Number(value & 0xffn);
    else if (index === MSR_EOI && !lapic.x2apic) lapic.writePage(PAGE_EOI, 0);
    else if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST) {
      if (!lapic.writeMsr(index, value)) return false;
      this.#host.setCr8(lapic.cr8);
    }
    this.#setDeadline();
    return true;
  }

  /** The processor takes the interrupt that the line announced. An 8259's comes first, as in KVM. */
  acknowledge(): number {
    const { pic, lapic } = this;
    const vector = lapic === undefined || (lapic.extInt && pic.output) ? pic.acknowledge() : lapic.acknowledge();
    this.#updateLine();
    return vector;
  }

  // --- time ---

  #syncTimers(): void {
    this.pit.sync();
    this.rtc.sync();
    this.lapic?.sync();
  }

  /** A change of level that only time made must be in the 8259s before they are looked at. */
  #sync(port: number): void {
    if ((port & ~0x81) === 0x20) this.#syncTimers();
  }

  /** What the 8259s, the 8254 or the RTC are told may move the next interrupt. */
  #schedule(port: number): void {
    if (port < 0xb0) this.#setDeadline();
  }

  /** Would the line reach the processor as an interrupt? */
  #wanted(irq: number): boolean {
    const pin = irq === TIMER_IRQ ? TIMER_PIN : irq;
    if (this.ioapic?.enabled(pin)) return true;
    return this.pic.enabled(irq) && (this.lapic?.extInt ?? true);
  }

  /** Tick of the next timer that would interrupt the processor. */
  deadline(): bigint | undefined {
    const pit = this.#wanted(TIMER_IRQ) ? this.pit.next() : undefined;
    const rtc = this.#wanted(RTC_IRQ) ? this.rtc.next() : undefined;
    return earlier(earlier(pit, rtc), this.lapic?.next());
  }

  #setDeadline(): void {
    const wakes = [TIMER_PIN, RTC_IRQ].some((pin) => this.ioapic?.unmaskable(pin));
    this.#host.setDeadline(this.deadline(), wakes);
  }

  #updateLine(): void {
    const { pic, lapic } = this;
    const extInt = pic?.output && (lapic?.extInt ?? true);
    this.#host.setInterruptLine(extInt || (lapic !== undefined && lapic.pending() >= 0));
  }

  /** Brings everything up to the clock. Call it when deadline() is reached, and after restore(). */
  service(): void {
    this.#syncTimers();
    this.#updateLine();
    this.#setDeadline();
  }

  /** RESET of the machine: memory, the CMOS and the time stay. */
  reset(): void {
    const { lapic } = this;
    this.pit.reset();
    this.rtc.reset();
    this.serial.reset();
    this.#keyboard.reset();
    this.#pci.reset();
    this.#power.reset();
    this.#fwCfg.reset();
    this.ioapic?.reset();
    this.pic.reset();
    lapic?.reset();
    lapic?.setVirtualWire();
    fillCmos(this.rtc, this.#options.ramSize, 1);
    this.service();
  }

  save(): PcState {
    this.#syncTimers();
    return {
      version: 1,
      pic: this.pic.save(),
      pit: this.pit.save(),
      rtc: this.rtc.save(),
      serial: this.serial.save(),
      lapic: this.lapic?.save(),
      ioapic: this.ioapic?.save(),
      pci: this.#pci.save(),
      keyboard: this.#keyboard.save(),
      power: this.#power.save(),
      fwCfg: this.#fwCfg.save(),
    };
  }

  /** Into a machine of the same options whose clock stands where it stood. */
  restore(state: PcState): void {
    checkSaved("pc devices", state, 1);
    if ((state.lapic === undefined) !== (this.lapic === undefined)) {
      throw new RangeError("the saved devices and these differ in the local APIC: use the same CPU model");
    }
    // sources first: the levels they drive must not count as new edges in the controllers restored after them
    this.pit.restore(state.pit);
    this.rtc.restore(state.rtc);
    this.serial.restore(state.serial);
    this.#keyboard.restore(state.keyboard);
    this.#pci.restore(state.pci);
    this.#power.restore(state.power);
    this.#fwCfg.restore(state.fwCfg);
    if (state.ioapic) this.ioapic!.restore(state.ioapic);
    if (state.lapic) this.lapic!.restore(state.lapic);
    this.pic.restore(state.pic);
    this.service();
  }
}
