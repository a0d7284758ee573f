// Interrupt messages between I/O APICs and local APICs. @sdm 3A "Handling Interrupts", "Issuing Interprocessor Interrupts"

/** Delivery modes of interrupt messages and local vector table entries. */
export const Delivery = { Fixed: 0, LowestPriority: 1, Smi: 2, Nmi: 4, Init: 5, StartUp: 6, ExtInt: 7 } as const;

/** Who gets an interprocessor interrupt: as addressed, the sender, all, all but the sender. */
export const Shorthand = { None: 0, Self: 1, All: 2, Others: 3 } as const;

export interface ApicMessage {
  readonly vector: number;
  readonly delivery: number;
  /** Level-triggered: an EOI must go back to the I/O APIC. */
  readonly level: boolean;
  /** Destination field: 8 bits from xAPIC and I/O APIC, 32 in x2APIC mode. */
  readonly destination: number;
  readonly logical: boolean;
  /** The destination has 32 bits. */
  readonly wide?: boolean;
  readonly shorthand?: number;
}

/** A local APIC, as the bus sees it. */
export interface ApicTarget {
  readonly softwareEnabled: boolean;
  /** Processor-priority register. */
  readonly priority: number;
  isAddressed(message: ApicMessage): boolean;
  accept(message: ApicMessage): void;
}

export class ApicBus {
  readonly #apics: ApicTarget[] = [];

  add(apic: ApicTarget): void {
    this.#apics.push(apic);
  }

  send(message: ApicMessage, from?: ApicTarget): void {
    const targets = this.#apics.filter((apic) => {
      switch (message.shorthand ?? Shorthand.None) {
        case Shorthand.Self:
          return apic === from;
        case Shorthand.All:
          return true;
        case Shorthand.Others:
          return apic !== from;
        default:
          return apic.isAddressed(message);
      }
    });
    if (message.delivery !== Delivery.LowestPriority) {
      for (const apic of targets) apic.accept(message);
      return;
    }
    // arbitration: lowest processor priority, the first one of equals
    const ready = targets.filter((apic) => apic.softwareEnabled);
    const lowest = ready.reduce<ApicTarget | undefined>(
      (best, apic) => (best === undefined || apic.priority < best.priority ? apic : best),
      undefined,
    );
    lowest?.accept({ ...message, delivery: Delivery.Fixed });
  }

  /** EOI broadcast of a local APIC. */
  readonly eoiTargets: ((vector: number) => void)[] = [];

  endOfInterrupt(vector: number): void {
    for (const target of this.eoiTargets) target(vector);
  }
}
