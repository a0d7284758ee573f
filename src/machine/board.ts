// The pc profile on a machine's core: time, interrupt line, ports, pages and MSRs of the devices.

import { type Core, checkInteger } from "../core/index.ts";
import { acpiTables, IOAPIC_ADDRESS, Pc, type PcEnding, type PcOptions } from "../devices/index.ts";
import type { SavedData } from "../snapshot/index.ts";
import type { Exit } from "./exits.ts";
import type { HookFace } from "./hookFace.ts";
import type { MemoryMap } from "./memoryMap.ts";

const PAGE = 4096;
const MSR_APIC_BASE = 0x1b;
const BASE_ENABLE = 1n << 11n;
const BASE_X2APIC = 1n << 10n;
/** Ticks of the devices' clock a second, unless the options say otherwise. */
const DEFAULT_HZ = 1_000_000_000;

export interface PcDevices extends Omit<PcOptions, "ramSize" | "apic"> {
  readonly profile: "pc";
  /** Virtual time: ticks of the TSC a second, one an instruction. Default 1,000,000,000. */
  readonly tscHz?: number;
}

/** Which devices a machine has. "none": ports and pages are for hooks; "pc": see docs/machine.md. */
export type Devices = "none" | "pc" | PcDevices;

type WithoutCount<T> = T extends unknown ? Omit<T, "instructions"> : never;
type PcExit = WithoutCount<Extract<Exit, { reason: PcEnding["kind"] }>>;

export function checkDevices(devices: Devices): PcDevices | undefined {
  if (devices === "none") return undefined;
  if (devices === "pc") return { profile: "pc" };
  if (typeof devices === "object" && devices !== null && devices.profile === "pc") return devices;
  throw new TypeError(`devices must be "none", "pc" or { profile: "pc", ... }, not ${JSON.stringify(devices)}`);
}

export class Board {
  readonly pc: Pc;
  readonly #core: Core;
  readonly #map: MemoryMap;
  readonly #ramSize: number;
  readonly #apic: boolean;
  /** Where the local APIC's page is mapped. */
  #page: bigint | undefined;
  /** How the guest ended the machine. */
  #ending: PcEnding | undefined;

  constructor(
    core: Core,
    map: MemoryMap,
    hooks: Pick<HookFace, "onPortIn" | "onPortOut">,
    ramSize: number,
    apic: boolean,
    options: PcDevices,
  ) {
    this.#core = core;
    this.#map = map;
    this.#ramSize = ramSize;
    this.#apic = apic;
    const hz = BigInt(checkInteger("tscHz", options.tscHz ?? DEFAULT_HZ, 1_000_000, 100_000_000_000));
    this.pc = new Pc(
      {
        clock: { hz, now: () => core.timing.ticks },
        get tscOffset() {
          return core.timing.tscOffset;
        },
        setInterruptLine: (level) => core.timing.setInterruptLine(level),
        setDeadline: (ticks, wakes) => core.timing.setDeadline(ticks, wakes),
        setCr8: (priority) => core.timing.setCr8(priority),
        nmi: () => core.exports.raiseNmi(),
        init: () => core.exports.reset(1),
        end: (ending) => {
          this.#ending = ending;
          core.stopAfterInstruction();
        },
      },
      { ...options, ramSize, apic },
    );
    const { pc } = this;
    hooks.onPortIn([0, 0xffff], (port, size) => pc.readPort(port, size));
    hooks.onPortOut([0, 0xffff], (port, value, size) => pc.writePort(port, value, size));
    core.setHandler("acknowledgeInterrupt", () => pc.acknowledge());
    if (!apic) return;
    core.setHandler("apicRead", (index) => pc.readApicMsr(index));
    core.setHandler("apicWrite", (index, value) => {
      const done = pc.writeApicMsr(index, value);
      // the pages change between instructions
      if (index === MSR_APIC_BASE) core.timing.setDeadline(0n);
      return done;
    });
    map.map({
      kind: "mmio",
      address: IOAPIC_ADDRESS,
      size: PAGE,
      read: (offset, size) => low(pc.readIoApic(offset), size),
      write: (offset, _size, value) => pc.writeIoApic(offset, Number(value & 0xffff_ffffn)),
    });
  }

  get ended(): boolean {
    return this.#ending !== undefined;
  }

  /** How the guest ended the machine since the last call. */
  takeEnding(): PcExit | undefined {
    const ending = this.#ending;
    if (ending === undefined) return undefined;
    this.#ending = undefined;
    const { kind, ...rest } = ending;
    return { reason: kind, ...rest } as PcExit;
  }

  /** COUNT has reached the deadline. */
  service(): void {
    this.#place();
    this.pc.service();
  }

  /** Puts the local APIC's page where IA32_APIC_BASE says. */
  #place(): void {
    const base = this.pc.lapic?.base ?? 0n;
    const on = (base & (BASE_ENABLE | BASE_X2APIC)) === BASE_ENABLE;
    const page = on ? base & ~0xfffn : undefined;
    if (page === this.#page) return;
    this.#page = page;
    const { pc } = this;
    this.#map.overlay(
      page === undefined
        ? undefined
        : {
            address: page,
            read: (offset, size) => low(pc.readLapic(offset), size),
            write: (offset, size, value) => {
              if (size >= 4) pc.writeLapic(offset, Number(value & 0xffff_ffffn));
            },
          },
    );
  }

  save(): SavedData {
    return this.pc.save() as unknown as SavedData;
  }

  /** The processor's state, and with it the clock, must be in place. */
  restore(state: SavedData): void {
    this.#ending = undefined;
    this.pc.restore(state as unknown as ReturnType<Pc["save"]>);
    this.service();
  }

  /** After a RESET of the processor: what firmware would do, too. */
  reset(): void {
    this.#ending = undefined;
    this.pc.reset();
    this.#place();
    const { address, data } = acpiTables(1, this.#apic);
    if (this.#ramSize >= address + data.length) this.#core.writePhysical(BigInt(address), data);
    if (this.#ramSize >= 0x500) this.#biosDataArea();
  }

  /** Segment of the extended BIOS data, KiB of conventional memory. */
  #biosDataArea(): void {
    this.#core.writePhysical(0x40en, Uint8Array.of(0xc0, 0x9f));
    this.#core.writePhysical(0x413n, Uint8Array.of(0x7f, 0x02));
  }
}

function low(value: number, size: number): number {
  return size >= 4 ? value >>> 0 : value & (2 ** (8 * size) - 1);
}
