import { DebugConsole, DebugExit, PortBus, Serial } from "../../src/devices/index.ts";
import {
  type Exit,
  type GuestImage,
  genericModel,
  loadImage,
  Machine,
  type RegisterValues,
} from "../../src/machine/index.ts";
import type { SavedData } from "../../src/snapshot/index.ts";
import { GuestVmxLog } from "../vmx/guest-log.ts";
import { type Ending, exitText, HALTED, type Mark, type Session, type SessionOptions, SHUTDOWN } from "./session.ts";

const MEMORY = 16 << 20;

/** A guest on the bare processor. It has VMX, so a guest may be a hypervisor itself. */
export class BareSession implements Session {
  readonly vmx: GuestVmxLog;
  ending: Ending | undefined;
  atBreakpoint = false;
  /** It may stand at a breakpoint that it is to go on from. */
  #leaving = false;
  readonly #machine: Machine;
  readonly #serial: Serial;
  #status: number | undefined;

  constructor(image: GuestImage, options: SessionOptions) {
    const machine = new Machine({ memory: MEMORY, extraMemory: 0, cpu: genericModel({ vmx: true }) });
    this.#machine = machine;
    this.#serial = new Serial(options.console);
    const bus = new PortBus()
      .add(new DebugConsole(options.console))
      .add(this.#serial)
      .add(
        new DebugExit((value) => {
          this.#status = value;
          machine.stop();
        }),
      );
    machine.onPortIn([0, 0xffff], (port, size) => bus.read(port, size));
    machine.onPortOut([0, 0xffff], (port, value, size) => bus.write(port, value, size));
    this.vmx = new GuestVmxLog(machine);
    const serial = this.#serial;
    machine.addState("serial", {
      save: () => serial.save() as unknown as SavedData,
      restore: (state) => serial.restore(state as unknown as ReturnType<Serial["save"]>),
    });
    machine.addState("exits", this.vmx);
    loadImage(machine, image);
  }

  get count(): number {
    return Number(this.#machine.instructionCount);
  }

  get rip(): number {
    const { cs, rip } = this.#machine.registers;
    return Number(BigInt.asUintN(this.codeMode === 64 ? 64 : 32, (this.codeMode === 64 ? 0n : cs.base) + rip));
  }

  get codeMode(): 16 | 32 | 64 {
    return this.#machine.codeMode;
  }

  get cpl(): number {
    return this.#machine.registers.cpl;
  }

  breakAt(addresses: ReadonlySet<number>): void {
    for (const breakpoint of this.#machine.breakpoints) this.#machine.removeBreakpoint(breakpoint);
    for (const address of addresses) this.#machine.addBreakpoint(address);
    this.#leaving = true;
  }

  advance(instructions: number, work: number): void {
    const bounds = { maxInstructions: instructions, maxWork: work };
    let exit = this.#machine.run(bounds);
    if (exit.reason === "breakpoint" && exit.instructions === 0 && this.#leaving) exit = this.#machine.run(bounds);
    this.#leaving = false;
    this.atBreakpoint = exit.reason === "breakpoint";
    this.ending = this.#status === undefined ? endingOf(exit) : exitText(this.#status);
  }

  keep(): Mark {
    return { snapshot: this.#machine.snapshot(), ending: this.ending };
  }

  goBack({ snapshot, ending }: Mark): void {
    this.#machine.restore(snapshot);
    this.ending = ending;
    this.#status = undefined;
    this.atBreakpoint = false;
  }

  registers(): RegisterValues {
    return this.#machine.registers.read();
  }

  read(address: number): number | undefined {
    const physical = this.#machine.translate(address);
    if (physical === undefined) return undefined;
    try {
      return this.#machine.readMemory(physical, 1)[0];
    } catch {
      return undefined;
    }
  }

  input(bytes: Uint8Array): void {
    this.#serial.receive(bytes);
  }
}

function endingOf(exit: Exit): Ending | undefined {
  switch (exit.reason) {
    case "halt":
      return HALTED;
    case "shutdown":
      return SHUTDOWN;
    case "vmxAbort":
      return { text: `VMX abort ${exit.code}`, failed: true };
    default:
      return undefined;
  }
}
