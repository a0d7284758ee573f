import {
  ApicBus,
  type ApicMessage,
  type Clock,
  Delivery,
  IOAPIC_ADDRESS,
  IoApic,
  type LocalApic,
  PicPair,
} from "../devices/index.ts";
import { KvmError } from "./errors.ts";
import type { Host } from "./host.ts";
import { KernelPit } from "./kernel-pit.ts";

export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;
const PIC_PINS = 8;
const IOAPIC_WINDOW = 0x10;
const FIRST_ENTRY = 0x10;
/** Bits 55:32 and 31:17. */
export const ENTRY_RESERVED = 0x00ff_ffff_fffe_0000n;
export const IOAPIC_PINS = 24;
/** KVM_MAX_IRQ_ROUTES */
const MAX_GSI = 4096;

/** One entry of KVM_SET_GSI_ROUTING. */
export type GsiRoute =
  | { readonly gsi: number; readonly irqchip: number; readonly pin: number }
  | {
      readonly gsi: number;
      readonly msi: { readonly addressLo: number; readonly addressHi?: number; readonly data: number };
    };

/** struct kvm_msi */
export interface Msi {
  readonly addressLo: number;
  readonly addressHi?: number;
  readonly data: number;
  readonly flags?: number;
}

/** GSI 0 to 15 go to the 8259s and to the I/O APIC, the rest to the I/O APIC. @kvm kvm_setup_default_irq_routing */
function defaultRoutes(): GsiRoute[] {
  const ioapic = Array.from({ length: IOAPIC_PINS }, (_, gsi) => ({ gsi, irqchip: KVM_IRQCHIP_IOAPIC, pin: gsi }));
  const pic = Array.from({ length: 2 * PIC_PINS }, (_, gsi) => ({ gsi, irqchip: gsi >> 3, pin: gsi & 7 }));
  return [...ioapic, ...pic];
}

/** An interrupt message by its address and data. @kvm kvm_set_msi_irq */
function msiMessage({ addressLo, data }: { readonly addressLo: number; readonly data: number }): ApicMessage {
  const lowest = (addressLo & 8) !== 0;
  return {
    vector: data & 0xff,
    delivery: lowest ? Delivery.LowestPriority : (data >> 8) & 7,
    level: (data & 0x8000) !== 0,
    destination: (addressLo >>> 12) & 0xff,
    logical: (addressLo & 4) !== 0,
  };
}

/** Interrupt controllers in the kernel: 8259s, I/O APIC, 8254, and the bus of the local APICs. */
export class IrqChip {
  readonly clock: Clock;
  readonly bus: ApicBus = new ApicBus();
  readonly apics: LocalApic[] = [];
  /** undefined with the split irqchip, where 8259s and I/O APIC are user space's. */
  readonly pic: PicPair | undefined;
  readonly ioapic: IoApic | undefined;
  pit: KernelPit | undefined;
  /** KVM_PIT_* */
  pitFlags = 0;
  /** Edges of I/O APIC pins that were delivered; KVM_GET_IRQCHIP does not report them in irr. @kvm irr_delivered */
  irrDelivered = 0;
  /** Where KVM_SET_IRQCHIP says that the I/O APIC is. */
  ioapicBase = BigInt(IOAPIC_ADDRESS);
  /** Bits of redirection entries that the hardware does not have and KVM stores. */
  readonly reserved: bigint[] = Array.from({ length: IOAPIC_PINS }, () => 0n);
  /** Vector that the guest ended and whose I/O APIC is user space's. @kvm pending_ioapic_eoi */
  ioapicEoi: number | undefined;
  #routes: readonly GsiRoute[];

  constructor(
    private readonly host: Host,
    /** GSIs of the user-space I/O APIC, 0 when it is in the kernel. */
    readonly splitPins = 0,
  ) {
    const { core } = host;
    this.clock = { hz: 1_000_000_000n, now: () => core.tsc };
    if (splitPins === 0) {
      this.pic = new PicPair({ ended: (irq) => this.#pitEnded(irq >> 3, irq & 7) });
      this.ioapic = new IoApic({ bus: this.bus });
    }
    this.#routes = splitPins === 0 ? defaultRoutes() : [];
    this.bus.eoiTargets.push((vector) => {
      if (this.#handledByUserSpace(vector)) this.ioapicEoi = vector;
    });
  }

  /** KVM_CREATE_PIT2 */
  createPit(flags: number): void {
    this.pitFlags = flags;
    const pulse = (): void => {
      this.setIrq(0, true);
      this.setIrq(0, false);
    };
    this.pit = new KernelPit({ clock: this.clock, pulse });
  }

  /** The interrupt of this pin has ended: if it is the 8254's, the next tick may come. @kvm kvm_notify_acked_irq */
  #pitEnded(irqchip: number, pin: number): void {
    if (this.pit !== undefined && this.#isPit(irqchip, pin)) this.pit.ended();
  }

  #isPit(irqchip: number, pin: number): boolean {
    return this.#routes.some(
      (route) => "irqchip" in route && route.gsi === 0 && route.irqchip === irqchip && route.pin === pin,
    );
  }

  /** A local APIC has ended this vector. @kvm kvm_ioapic_update_eoi */
  apicEnded(vector: number): void {
    for (const pin of this.ioapic?.pinsOf(vector) ?? []) this.#pitEnded(KVM_IRQCHIP_IOAPIC, pin);
  }

  /** Pins of GSI 0 that pass interrupts on. */
  #pitPins(): boolean[] {
    return this.#routes.map((route) => {
      if (!("irqchip" in route) || route.gsi !== 0) return false;
      if (route.irqchip === KVM_IRQCHIP_IOAPIC) return this.ioapic!.enabled(route.pin);
      return this.pic!.enabled(8 * route.irqchip + route.pin);
    });
  }

  /** Carries out a write to a controller and tells the 8254 when its pin is masked no longer. @kvm kvm_fire_mask_notifiers */
  #watchingMask(write: () => void): void {
    const before = this.pit === undefined ? [] : this.#pitPins();
    write();
    if (this.pit !== undefined && this.#pitPins().some((on, i) => on && !before[i])) this.pit.unmasked();
  }

  /** A port of the 8259s. @kvm picdev_write */
  writePic(port: number, value: number): void {
    this.#watchingMask(() => this.pic!.write(port, value));
  }

  /** Brings the timers' outputs up to now. @kvm kvm_inject_pending_timer_irqs */
  sync(): void {
    this.pit?.sync();
    for (const apic of this.apics) apic.sync();
  }

  /** Time passes with nobody executing, up to this tick. */
  skipTo(tick: bigint): void {
    const now = this.clock.now();
    if (tick > now) this.host.passTime(tick - now);
    this.sync();
  }

  /** A register of the I/O APIC. @kvm ioapic_mmio_read */
  readIoapic(offset: number): number {
    const value = this.ioapic!.read(offset);
    const at = this.#entryHalf(offset);
    return at === undefined ? value : value | Number((this.reserved[at.pin]! >> at.shift) & 0xffff_ffffn);
  }

  /** @kvm ioapic_mmio_write, ioapic_write_indirect */
  writeIoapic(offset: number, value: number): void {
    const at = this.#entryHalf(offset);
    if (at !== undefined) {
      const half = 0xffff_ffffn << at.shift;
      const bits = (BigInt(value >>> 0) << at.shift) & ENTRY_RESERVED;
      this.reserved[at.pin] = (this.reserved[at.pin]! & ~half) | bits;
    }
    this.#watchingMask(() => this.ioapic!.write(offset, value));
  }

  /** The redirection entry behind the window. */
  #entryHalf(offset: number): { readonly pin: number; readonly shift: bigint } | undefined {
    if (offset !== IOAPIC_WINDOW) return undefined;
    const index = this.ioapic!.read(0) - FIRST_ENTRY;
    return index < 0 || index >= 2 * IOAPIC_PINS ? undefined : { pin: index >> 1, shift: index & 1 ? 32n : 0n };
  }

  /** Would OUT 0 of the 8254 reach a controller's output? */
  pitHeard(apic: LocalApic): boolean {
    return this.#routes.some((route) => {
      if (route.gsi !== 0 || !("irqchip" in route)) return route.gsi === 0;
      if (route.irqchip === KVM_IRQCHIP_IOAPIC) return this.ioapic?.enabled(route.pin) ?? false;
      return apic.extInt && (this.pic?.enabled(8 * route.irqchip + route.pin) ?? false);
    });
  }

  /** KVM_SET_GSI_ROUTING: the whole table. KvmError EINVAL. */
  setRoutes(routes: readonly GsiRoute[]): void {
    const bad = routes.find((route) => {
      if (route.gsi < 0 || route.gsi >= MAX_GSI) return true;
      if ("msi" in route) return false;
      const pins = route.irqchip === KVM_IRQCHIP_IOAPIC ? IOAPIC_PINS : PIC_PINS;
      return this.ioapic === undefined || route.irqchip > KVM_IRQCHIP_IOAPIC || route.pin < 0 || route.pin >= pins;
    });
    if (bad !== undefined) throw new KvmError("KVM_SET_GSI_ROUTING", "EINVAL", `no such route: ${JSON.stringify(bad)}`);
    this.#routes = [...routes];
  }

  /** Vectors of level-triggered MSI routes of the user-space I/O APIC's pins. @kvm kvm_scan_ioapic_routes */
  #handledByUserSpace(vector: number): boolean {
    return this.#routes.some((route) => {
      if (!("msi" in route) || route.gsi >= this.splitPins) return false;
      const message = msiMessage(route.msi);
      return message.level && message.vector === vector;
    });
  }

  /**
   * Level of a GSI. How many targets it reached: 0 when it is merged with one that is pending, -1 when all routes are
   * masked or there is none. @kvm kvm_set_irq
   */
  setIrq(gsi: number, level: boolean): number {
    let result = -1;
    for (const route of this.#routes) {
      if (route.gsi !== gsi) continue;
      const one = this.#setOne(route, level);
      if (one >= 0) result = one + Math.max(result, 0);
    }
    return result;
  }

  /** Requests that KVM_SET_IRQCHIP brings. @kvm kvm_ioapic_inject_all */
  injectAll(irr: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) if (irr & (1 << pin)) this.#setPin(pin, true);
  }

  #setOne(route: GsiRoute, level: boolean): number {
    if ("msi" in route) return level ? this.deliver(msiMessage(route.msi)) : -1;
    if (route.irqchip === KVM_IRQCHIP_IOAPIC) return this.#setPin(route.pin, level);
    return this.#setPic(8 * route.irqchip + route.pin, level);
  }

  /** @kvm kvm_pic_set_irq */
  #setPic(irq: number, level: boolean): number {
    const pic = this.pic!;
    const chip = (): { irr: number; imr: number } => pic.save().chips[irq >> 3]!;
    const bit = 1 << (irq & 7);
    const before = chip();
    pic.setIrq(irq, level);
    if (before.imr & bit) return -1;
    return level && before.irr & bit ? 0 : 1;
  }

  /** @kvm ioapic_set_irq, ioapic_service */
  #setPin(pin: number, level: boolean): number {
    const ioapic = this.ioapic!;
    const bit = 1 << pin;
    const { table, inputs } = ioapic.save();
    const entry = Number(table[pin]! & 0xffff_ffffn);
    const edge = (entry & 0x8000) === 0;
    const targets = this.#targets({
      vector: entry & 0xff,
      delivery: (entry >> 8) & 7,
      level: !edge,
      destination: Number(table[pin]! >> 56n),
      logical: (entry & 0x800) !== 0,
    });
    ioapic.setIrq(pin, level);
    if (!level) return 1;
    if (edge) {
      this.irrDelivered &= ~bit;
      if (inputs & bit) return 0;
    }
    if (entry & 0x1_0000 || (!edge && entry & 0x4000)) return -1;
    if (edge) this.irrDelivered |= bit;
    return targets;
  }

  /** APICs that take the message. @kvm kvm_irq_delivery_to_apic */
  #targets(message: ApicMessage): number {
    const fixed = message.delivery === Delivery.Fixed || message.delivery === Delivery.LowestPriority;
    const takers = this.apics.filter((apic) => apic.isAddressed(message) && (!fixed || apic.softwareEnabled));
    return message.delivery === Delivery.LowestPriority ? Math.min(1, takers.length) : takers.length;
  }

  /** Sends a message; how many APICs took it. */
  deliver(message: ApicMessage): number {
    const targets = this.#targets(message);
    this.bus.send(message);
    return targets;
  }

  /** KVM_SIGNAL_MSI: how many APICs took it. KvmError EINVAL. */
  signalMsi(msi: Msi): number {
    if ((msi.flags ?? 0) !== 0 || (msi.addressHi ?? 0) !== 0) {
      throw new KvmError("KVM_SIGNAL_MSI", "EINVAL", "flags and the high half of the address must be 0");
    }
    return this.deliver(msiMessage(msi));
  }
}
