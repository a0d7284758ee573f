// A bare machine as GDB sees it: one thread.
import { type CodeMode, MemoryMapError } from "../core/index.ts";
import type { Exit, Machine, RegisterUpdate, RegisterValues } from "../machine/index.ts";
import { yieldToHost } from "../machine/index.ts";
import { programCounter } from "./registers.ts";
import type { GdbTarget, MonitorCommand, Point, Resume, Stop } from "./target.ts";
import { walkTables } from "./walk.ts";

const THREAD = 1;
const SIGILL = 4;
const SIGABRT = 6;
const SIGTRAP = 5;
const CR4_VMXE = 1n << 13n;

export interface MachineTargetOptions {
  /** What the guest wrote to its exit port, once it has. */
  readonly status?: () => number | undefined;
}

function end(signal: number, message: string, status?: number): Stop {
  return { kind: "end", thread: THREAD, signal, message, ...(status === undefined ? {} : { status }) };
}

const hexBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

export class MachineTarget implements GdbTarget {
  readonly threads: readonly number[] = [THREAD];
  readonly reversible: boolean = false;
  readonly #machine: Machine;
  readonly #options: MachineTargetOptions;
  ended: Stop | undefined;
  readonly #points = new Map<bigint, Point>();

  constructor(machine: Machine, options: MachineTargetOptions = {}) {
    this.#machine = machine;
    this.#options = options;
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
  }

  readMsr(_thread: number, index: number): bigint | undefined {
    return this.#machine.readMsr(index);
  }

  writeMsr(_thread: number, index: number, value: bigint): boolean {
    return this.#machine.writeMsr(index, value);
  }

  translate(_thread: number, linear: bigint): bigint | undefined {
    const machine = this.#machine;
    const found = machine.translate(linear);
    // supervisor pages at CPL 3; under VMX the tables may themselves be translated
    if (found !== undefined || machine.registers.cpl < 3 || (machine.registers.cr4 & CR4_VMXE) !== 0n) return found;
    return walkTables((address, size) => this.readPhysical(address, size), machine.registers.read(), linear);
  }

  readPhysical(address: bigint, size: number): Uint8Array | undefined {
    return this.#ifMapped(() => this.#machine.readMemory(address, size));
  }

  writePhysical(address: bigint, bytes: Uint8Array): boolean {
    return this.#ifMapped(() => this.#machine.writeMemory(address, bytes) ?? true) === true;
  }

  #ifMapped<T>(access: () => T): T | undefined {
    try {
      return access();
    } catch (error) {
      if (error instanceof MemoryMapError) return undefined;
      throw error;
    }
  }

  insert(point: Point): boolean {
    if (point.kind !== "software" && point.kind !== "hardware") return false;
    this.#points.set(point.address, point);
    return true;
  }

  remove(point: Point): void {
    this.#points.delete(point.address);
  }

  readonly commands: readonly MonitorCommand[] = [
    {
      name: "count",
      usage: "count",
      summary: "instructions completed and events delivered so far",
      run: () => String(this.#machine.instructionCount),
    },
  ];

  async resume(how: Resume, signal: AbortSignal): Promise<Stop> {
    const stop = await this.#run(how, signal);
    this.ended = stop.kind === "end" ? stop : undefined;
    return stop;
  }

  async #run(how: Resume, signal: AbortSignal): Promise<Stop> {
    if (how.step !== undefined) return this.#after(this.#machine.step(), signal) ?? { kind: "step", thread: THREAD };
    if (this.#points.size === 0) {
      return this.#after(await this.#machine.runAsync({ signal }), signal) ?? { kind: "interrupt", thread: THREAD };
    }
    for (let steps = 1; ; steps++) {
      const stop = this.#after(this.#machine.step(), signal);
      if (stop !== undefined) return stop;
      const point = this.#points.get(programCounter(this.#machine.registers.read()));
      if (point?.kind === "software" || point?.kind === "hardware") {
        return { kind: "breakpoint", thread: THREAD, point: point.kind };
      }
      if (steps % 5_000 === 0) await yieldToHost();
    }
  }

  /** undefined: the guest can go on. */
  #after(exit: Exit, signal: AbortSignal): Stop | undefined {
    const status = this.#options.status?.();
    if (status !== undefined) return end(SIGTRAP, `the guest ended itself with status ${status}`, status);
    switch (exit.reason) {
      case "instructions":
      case "slice":
      case "stopped":
        return signal.aborted ? { kind: "interrupt", thread: THREAD } : undefined;
      case "aborted":
        return { kind: "interrupt", thread: THREAD };
      case "halt":
        return end(SIGTRAP, "the guest halted and nothing can wake it", 0);
      case "shutdown":
        return end(SIGABRT, "the guest crashed: triple fault");
      case "unimplemented":
        return end(
          SIGILL,
          `the instruction ${hexBytes(exit.bytes)} at rip 0x${exit.rip.toString(16)} is not implemented`,
        );
      default:
        return end(SIGABRT, `the run ended with ${exit.reason}`);
    }
  }
}
