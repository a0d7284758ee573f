// A bare machine as GDB sees it: one thread.
import { type CodeMode, MemoryMapError, TranslationError } from "../core/index.ts";
import type { Exit, Machine, RecordOptions, RegisterUpdate, RegisterValues } from "../machine/index.ts";
import { vmxCommands } from "./bareVmx.ts";
import type { GdbTarget, MonitorCommand, Point, Resume, Stop } from "./target.ts";

const THREAD = 1;
const SIGTRAP = 5;
const SIGABRT = 6;

export interface MachineTargetOptions {
  /** What the guest wrote to its exit port, once it has. */
  readonly status?: () => number | undefined;
  /** Record from now on, so that GDB can go back. */
  readonly record?: boolean | RecordOptions;
}

function end(signal: number, message: string, status?: number): Stop {
  return { kind: "end", thread: THREAD, signal, message, ...(status === undefined ? {} : { status }) };
}

/** What there is no memory for is undefined. */
function ifMapped<T>(access: () => T): T | undefined {
  try {
    return access();
  } catch (error) {
    if (error instanceof MemoryMapError || error instanceof TranslationError) return undefined;
    throw error;
  }
}

/**
 * A machine for a GdbSession. Breakpoints and watchpoints are the machine's own: the guest does not see them, and there is no
 * limit but memory.
 */
export class MachineTarget implements GdbTarget {
  readonly threads: readonly number[] = [THREAD];
  ended: Stop | undefined;
  readonly #machine: Machine;
  readonly #options: MachineTargetOptions;
  /** By the machine's number. */
  readonly #points = new Map<number, Point>();
  /** Where the guest ended itself: a recording that is played again calls no callback that would say so. */
  #over: { readonly count: bigint; readonly stop: Stop } | undefined;

  constructor(machine: Machine, options: MachineTargetOptions = {}) {
    this.#machine = machine;
    this.#options = options;
    this.commands = this.#commands();
    const { record = false } = options;
    if (record !== false) machine.record(record === true ? {} : record);
  }

  /** What is changed in the past cuts the future off. */
  #changed(): void {
    if (this.#over !== undefined && this.#machine.instructionCount < this.#over.count) this.#over = undefined;
  }

  threadName(): string {
    return `CPU, ${this.#machine.codeMode}-bit code, CPL ${this.#machine.registers.cpl}`;
  }

  codeMode(): CodeMode {
    return this.#machine.codeMode;
  }

  readRegisters(): RegisterValues {
    return this.#machine.registers.read();
  }

  writeRegisters(_thread: number, update: RegisterUpdate): void {
    this.#machine.registers.write(update);
    this.#changed();
  }

  readMsr(_thread: number, index: number): bigint | undefined {
    return this.#machine.readMsr(index);
  }

  writeMsr(_thread: number, index: number, value: bigint): boolean {
    const done = this.#machine.writeMsr(index, value);
    this.#changed();
    return done;
  }

  translate(_thread: number, linear: bigint): bigint | undefined {
    return this.#machine.translate(linear);
  }

  readLinear(_thread: number, linear: bigint, size: number): Uint8Array | undefined {
    return ifMapped(() => this.#machine.readVirtual(linear, size));
  }

  writeLinear(_thread: number, linear: bigint, bytes: Uint8Array): boolean {
    const done = ifMapped(() => this.#machine.writeVirtual(linear, bytes) ?? true) === true;
    this.#changed();
    return done;
  }

  readPhysical(address: bigint, size: number): Uint8Array | undefined {
    return ifMapped(() => this.#machine.readMemory(address, size));
  }

  insert(point: Point): boolean {
    const { kind, address, size } = point;
    const machine = this.#machine;
    const { id } =
      kind === "software" || kind === "hardware"
        ? machine.addBreakpoint(address)
        : machine.addWatchpoint(address, { size, access: kind });
    this.#points.set(id, point);
    return true;
  }

  remove({ kind, address, size }: Point): void {
    for (const [id, point] of this.#points) {
      if (point.kind !== kind || point.address !== address || point.size !== size) continue;
      this.#points.delete(id);
      this.#machine.removeBreakpoint(id);
    }
  }

  readonly commands: readonly MonitorCommand[];

  #commands(): readonly MonitorCommand[] {
    const count: MonitorCommand = {
      name: "count",
      usage: "count",
      summary: "instructions completed and events delivered so far",
      run: () => String(this.#machine.instructionCount),
    };
    return [...vmxCommands(this.#machine), count];
  }

  async resume(how: Resume, signal: AbortSignal): Promise<Stop> {
    const stop = how.reverse ? this.#back(how.step !== undefined) : await this.#run(how, signal);
    this.ended = stop.kind === "end" ? stop : undefined;
    return stop;
  }

  async #run(how: Resume, signal: AbortSignal): Promise<Stop> {
    const machine = this.#machine;
    const left = this.#over === undefined ? undefined : Number(this.#over.count - machine.instructionCount);
    const otherwise = how.step === undefined ? "interrupt" : "step";
    const exit =
      how.step === undefined
        ? await machine.runAsync({ signal, ...(left === undefined ? {} : { maxInstructions: left }) })
        : machine.step();
    if (this.#over !== undefined && machine.instructionCount >= this.#over.count) return this.#over.stop;
    const status = this.#options.status?.();
    // a callback asks to stop only when the guest has ended itself
    if (status === undefined || exit.reason !== "stopped") return this.#stop(exit, otherwise);
    const stop = end(SIGTRAP, `the guest ended itself with status ${status}`, status);
    this.#over = { count: machine.instructionCount, stop };
    return stop;
  }

  #back(step: boolean): Stop {
    const machine = this.#machine;
    if (machine.recording === undefined) {
      const message = "nothing is recorded, so there is no way back (wasm-vmx gdb records unless --no-record is given)";
      return { kind: "beginning", thread: THREAD, message };
    }
    if (machine.instructionCount <= machine.recording.from) return { kind: "beginning", thread: THREAD };
    if (step) {
      machine.reverseStep();
      return { kind: "step", thread: THREAD };
    }
    const exit = machine.reverseContinue();
    // the machine stands after the access, GDB wants to be before it
    if (exit.reason === "watchpoint" && machine.instructionCount > machine.recording.from) machine.reverseStep();
    if (exit.reason === "recordingStart") return { kind: "beginning", thread: THREAD };
    return this.#stop(exit, "interrupt");
  }

  #stop(exit: Exit, otherwise: "interrupt" | "step"): Stop {
    switch (exit.reason) {
      case "breakpoint": {
        const point = exit.ids.map((id) => this.#points.get(id)).find((known) => known !== undefined);
        return { kind: "breakpoint", thread: THREAD, point: point?.kind === "hardware" ? "hardware" : "software" };
      }
      case "watchpoint":
        return this.#watch(exit) ?? { kind: otherwise, thread: THREAD };
      case "halt":
        return end(SIGTRAP, "the guest halted and nothing can wake it", 0);
      case "shutdown":
        return end(SIGABRT, "the guest crashed: triple fault");
      case "vmExit":
      case "vmxAbort":
      case "denied":
        return end(SIGABRT, `the run ended with ${exit.reason}`);
      default:
        return { kind: otherwise, thread: THREAD };
    }
  }

  /** The first of the accesses that GDB asked for, by an address inside what it watches. */
  #watch({ hits }: Extract<Exit, { reason: "watchpoint" }>): Stop | undefined {
    for (const hit of hits) {
      for (const id of hit.ids) {
        const point = this.#points.get(id);
        if (point === undefined || point.kind === "software" || point.kind === "hardware") continue;
        const address = hit.address > point.address ? hit.address : point.address;
        return { kind: "watchpoint", thread: THREAD, point: point.kind, address };
      }
    }
    return undefined;
  }
}
