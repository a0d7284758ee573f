import { exitReasonName } from "../../src/kvm/index.ts";
import type { Machine } from "../../src/machine/index.ts";
import type { SavedData } from "../../src/snapshot/index.ts";
import type { ExitDetail, VmxView } from "../session/protocol.ts";
import { exitText } from "./exit-text.ts";

const KEEP = 600;
const MSR_MISC_FEATURES_ENABLES = 0x140;

interface Kept {
  readonly exits: readonly ExitDetail[];
  readonly total: number;
  readonly entered: boolean;
  readonly from: number;
}

/** Exits of a guest whose hypervisor is itself a guest on the bare processor. */
export class GuestVmxLog {
  readonly #machine: Machine;
  #exits: ExitDetail[] = [];
  #total = 0;
  #entered = false;
  #from = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.onVmEntry(() => {
      this.#entered = true;
      this.#from = Number(machine.instructionCount);
    });
    machine.onVmExit(({ reason, qualification }) => this.#exit(reason, qualification));
  }

  /** Exits never change, so the list is enough. */
  save(): SavedData {
    return {
      exits: [...this.#exits] as unknown as SavedData[],
      total: this.#total,
      entered: this.#entered,
      from: this.#from,
    };
  }

  restore(state: SavedData): void {
    const { exits, total, entered, from } = state as unknown as Kept;
    this.#exits = [...exits];
    this.#total = total;
    this.#entered = entered;
    this.#from = from;
  }

  #bit(): number {
    return Number(this.#machine.readMsr(MSR_MISC_FEATURES_ENABLES) ?? 0n);
  }

  #exit(reason: number, qualification: bigint): void {
    const { rip, rax, rcx } = this.#machine.registers;
    const value = this.#bit();
    const failed = reason >>> 31 !== 0;
    const basic = reason & 0xffff;
    this.#exits.push({
      id: this.#total++,
      reason: `${exitReasonName(basic)}${failed ? " (entry failed)" : ""}`,
      text: exitText({ reason: basic, qualification, interruption: 0, guestPhysical: undefined, rax, rcx }),
      rip,
      from: this.#from,
      to: Number(this.#machine.instructionCount),
      physical: value,
      virtual: value,
      writes: 0,
      reads: 0,
      userSpace: false,
      injected: false,
      qualification,
      interruption: 0,
      handling: [],
      changed: [],
    });
    if (this.#exits.length > 2 * KEEP) this.#exits = this.#exits.slice(-KEEP);
  }

  detail(id: number): ExitDetail | undefined {
    return this.#exits.find((exit) => exit.id === id);
  }

  /** undefined until there is a guest's guest. */
  view(): VmxView | undefined {
    if (!this.#entered) return undefined;
    const value = this.#bit();
    const exits = this.#exits
      .slice(-KEEP)
      .map(({ handling: _h, changed: _c, qualification: _q, interruption: _i, ...rest }) => rest);
    return { inGuest: undefined, physical: value, virtual: value, exits, total: this.#total, kvm: undefined };
  }
}
