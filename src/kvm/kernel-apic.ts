import { LocalApic } from "../devices/index.ts";
import type { IrqChip } from "./irqchip.ts";

/** What the APIC needs of its vCPU. */
export interface ApicOwner {
  readonly id: number;
  /** LINT0 of the boot processor passes the 8259s' interrupts on. @kvm KVM_X86_QUIRK_LINT0_REENABLED */
  readonly virtualWire: boolean;
  readonly nmi: () => void;
  /** Tick of the host at which the guest's TSC has this value. */
  readonly tickOfTsc: (tsc: bigint) => bigint;
}

/** struct kvm_lapic: the device and the events that its vCPU has not taken yet. */
export class KernelApic {
  readonly device: LocalApic;
  initPending = false;
  /** Vector of a start-up IPI that waits. */
  sipiVector: number | undefined;
  /** Interrupt of a user-space 8259, with the split irqchip; -1: none. @kvm pending_external_vector */
  externalVector = -1;

  constructor(chip: IrqChip, { id, virtualWire, nmi, tickOfTsc }: ApicOwner) {
    this.device = new LocalApic({
      clock: chip.clock,
      bus: chip.bus,
      id,
      bsp: id === 0,
      nmi,
      init: () => {
        this.initPending = true;
        this.sipiVector = undefined;
      },
      startUp: (vector) => {
        this.sipiVector = vector;
      },
      tickOfTsc,
      ended: (vector) => chip.apicEnded(vector),
    });
    if (id === 0 && virtualWire) this.device.setVirtualWire();
    chip.bus.add(this.device);
    chip.apics.push(this.device);
  }
}
