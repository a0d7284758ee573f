import type { JitOptions } from "../core/index.ts";
import { DebugConsole, DebugExit, PortBus, Serial } from "../devices/index.ts";
import { type BootOptions, type CpuModel, type Exit, type GuestImage, loadImage, Machine } from "../machine/index.ts";
import type { DeviceProfile } from "./boot.ts";
import type { Ending, Outcome } from "./outcome.ts";

export interface GuestRunOptions {
  readonly image: GuestImage;
  /** Bytes of RAM. */
  readonly memory: number;
  readonly boot?: BootOptions | undefined;
  readonly devices?: DeviceProfile | undefined;
  readonly cpu?: CpuModel | undefined;
  readonly maxInstructions?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly console: (byte: number) => void;
  readonly trace?: ((line: string) => void) | undefined;
}

/** Units of work that the REP instructions of a run with --max-instructions may use beyond its instructions: seconds. */
const REP_ALLOWANCE = 4_000_000;

/** How a run that cannot go on ended. */
export function toEnding(exit: Exit, status: number | undefined): Ending {
  if (status !== undefined) return { kind: "exit", status };
  switch (exit.reason) {
    case "instructions":
      return { kind: "limit" };
    case "slice":
      return { kind: "workLimit" };
    case "halt":
    case "shutdown":
      return { kind: exit.reason };
    case "aborted":
      return { kind: "interrupted" };
    case "debugExit":
      return { kind: "exit", status: exit.value };
    case "powerOff":
    case "reset":
      return { kind: exit.reason };
    default:
      return { kind: "failed", message: `the run ended with ${exit.reason}` };
  }
}

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

function traceTo(machine: Machine, line: (text: string) => void): void {
  const at = () => `${machine.instructionCount} ${hex(machine.registers.rip)}`;
  machine.onPortIn([0, 0xffff], (port, size) => {
    line(`${at()} in ${hex(port)} size ${size}`);
    return undefined;
  });
  machine.onPortOut([0, 0xffff], (port, value, size) => {
    line(`${at()} out ${hex(port)} = ${hex(value)} size ${size}`);
    return false;
  });
  machine.onCpuid((leaf, subleaf) => {
    line(`${at()} cpuid ${hex(leaf)} ${hex(subleaf)}`);
    return undefined;
  });
  machine.onRdmsr((index) => {
    line(`${at()} rdmsr ${hex(index)}`);
    return undefined;
  });
  machine.onWrmsr((index, value) => {
    line(`${at()} wrmsr ${hex(index)} = ${hex(value)}`);
  });
}

/** A bare processor about to run the guest, with the debug ports and a serial console. */
export function bareMachine(
  options: Pick<GuestRunOptions, "image" | "memory" | "boot" | "devices" | "cpu" | "console" | "trace">,
  jit?: false | JitOptions,
): { readonly machine: Machine; readonly status: () => number | undefined } {
  const { console } = options;
  const pc = options.devices === "pc";
  const machine = new Machine({
    memory: options.memory,
    extraMemory: 0,
    ...(pc ? { devices: { profile: "pc", serial: console, debugConsole: console } } : {}),
    ...(options.cpu ? { cpu: options.cpu } : {}),
    ...(jit === undefined ? {} : { jit }),
  });
  let status: number | undefined;
  if (!pc) {
    const bus = new PortBus()
      .add(new DebugConsole(console))
      .add(new Serial(console))
      .add(
        new DebugExit((value) => {
          status = value;
          machine.stop();
        }),
      );
    machine.onPortIn([0, 0xffff], (port, size) => bus.read(port, size));
    machine.onPortOut([0, 0xffff], (port, value, size) => bus.write(port, value, size));
  }
  if (options.trace) traceTo(machine, options.trace);
  loadImage(machine, options.image, options.boot);
  return { machine, status: () => status };
}

/** Runs a guest on the bare processor. */
export async function runBare(options: GuestRunOptions): Promise<Outcome> {
  const { machine, status } = bareMachine(options);
  const { maxInstructions, signal } = options;
  const exit = await machine.runAsync({
    ...(maxInstructions === undefined ? {} : { maxInstructions, maxWork: 2 * maxInstructions + REP_ALLOWANCE }),
    ...(signal === undefined ? {} : { signal }),
  });
  return {
    ending: toEnding(exit, status()),
    instructions: exit.instructions,
    registers: machine.registers.read(),
    cpl: machine.registers.cpl,
    codeMode: machine.codeMode,
  };
}
