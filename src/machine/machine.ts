/// <reference lib="esnext.disposable" preserve="true" />
import { PAGE } from "../../assembly/abi/layout.ts";
import {
  type CodeMode,
  Core,
  type CpuidResult,
  checkBytes,
  checkFunction,
  checkInteger,
  checkU8,
  checkU32,
  checkU64,
  type JitStatistics,
  readLinear,
  StateError,
  WasmVmxError,
  writeLinear,
} from "../core/index.ts";
import type { Pc } from "../devices/index.ts";
import type { Saveable, Snapshot } from "../snapshot/index.ts";
import { Board, checkDevices } from "./board.ts";
import type { Exit } from "./exits.ts";
import { History } from "./history.ts";
import { HookFace } from "./hookFace.ts";
import type { RemoveHook } from "./hookList.ts";
import { type MappedRegion, MemoryMap, type MmioHooks, type Region } from "./memoryMap.ts";
import { applyModel, type CpuModel, defaultModel, hasApic } from "./models.ts";
import { Msrs } from "./msrs.ts";
import { checkMemory, checkUntil, type MachineOptions, type RunAsyncOptions, type RunOptions } from "./options.ts";
import { PermissionMap, type Permissions } from "./permissions.ts";
import type { RecordingRange, RecordOptions } from "./recording.ts";
import { Registers } from "./registers.ts";
import { Runner } from "./runner.ts";
import { optionsFor, Snapshots } from "./snapshots.ts";
import { ESTATE, type Inheriting, Spares } from "./spares.ts";
import { TrapSet } from "./traps.ts";
import { VmxState } from "./vmxState.ts";
import { yieldToHost } from "./yield.ts";

export interface FromOptions extends Omit<MachineOptions, "memory" | "cpu"> {
  /** Wires the new machine before it takes the state: hooks, MMIO windows, parts. */
  readonly setup?: (machine: Machine) => void;
}

export interface ForkOptions extends FromOptions {
  /** An earlier fork that is not needed any more. */
  readonly into?: Machine;
}

const DEFAULT_WORK = 10_000_000;
/** Between two looks at the clock: 20,000 instructions, or as many pieces of a REP, which may take 0.1 s. */
const CHUNK_WORK = 20_000;
const MAX_COUNT = Number.MAX_SAFE_INTEGER;

const ACCESS = { read: 0, write: 1, execute: 2 } as const;
export type Access = keyof typeof ACCESS;

/**
 * A bare x86 processor with memory: map, load, run, look.
 *
 * ```ts
 * const machine = new Machine();
 * machine.writeMemory(0x7c00, Uint8Array.of(0xb0, 0x2a, 0xf4)); // mov al, 42; hlt
 * machine.registers.write({ cs: { selector: 0, base: 0n }, rip: 0x7c00 });
 * machine.run().reason; // "halt"
 * ```
 */
export class Machine extends HookFace {
  readonly registers: Registers;
  /** Model-specific registers by name, one or many. */
  readonly msrs: Msrs;
  /** VMX operation and the current VMCS of the guest. */
  readonly vmx: VmxState;
  readonly model: CpuModel;
  readonly #core: Core;
  readonly #map: MemoryMap;
  readonly #runner: Runner;
  readonly #ramSize: number;
  readonly #board: Board | undefined;
  readonly #options: MachineOptions;
  readonly #snapshots: Snapshots;
  readonly #history: History;
  /** Of this machine and its forks. */
  #spares: Spares | undefined;
  /** It is a fork that leaves its processor to the next one. */
  #leaves = false;
  #disposed = false;

  constructor(options: MachineOptions = {}) {
    const { memory, extra } = checkMemory(options);
    const estate = (options as Inheriting)[ESTATE];
    const core = new Core((memory + extra) / PAGE, memory / PAGE, estate?.processor);
    const traps = new TrapSet(core);
    super(core, traps, () => readCode(core));
    this.#core = core;
    const { jit } = options;
    if (typeof jit === "object") {
      if (jit.threshold !== undefined) checkInteger("jit.threshold", jit.threshold, 0, 2 ** 31 - 1);
      this.#core.linker.configure(jit);
    } else if (jit !== undefined && jit !== true) {
      this.#core.linker.configure({ threshold: checkInteger("jit", Number(jit), 0, 2 ** 31 - 1) });
    }
    this.#map = new MemoryMap(core, new PermissionMap(traps), estate?.regions);
    this.registers = new Registers(core);
    this.msrs = new Msrs(core);
    this.vmx = new VmxState(core);
    const devices = checkDevices(options.devices ?? "none");
    this.model = options.cpu ?? defaultModel(devices !== undefined);
    this.#ramSize = memory;
    this.#options = options;
    this.#snapshots = new Snapshots(core, this.#map, this.model, estate?.tracked);
    if (memory > 0 && !estate) this.#map.map({ kind: "ram", address: 0n, size: memory });
    if (devices) {
      this.#board = new Board(this.#core, this.#map, this, memory, hasApic(this.model), devices);
    }
    if (this.#board) this.#snapshots.addState("devices", this.#board);
    this.#runner = new Runner(core, traps, this.points, this.#board);
    this.#history = new History(core, traps, this.#snapshots, this.#runner);
    this.reset();
  }

  /** Power-up state: real mode, RIP 0xFFF0, CS base 0xFFFF0000. Memory stays. */
  reset(): void {
    this.#idle("reset()");
    applyModel(this.#core, this.model);
    this.#core.exports.reset(0);
    this.#core.applyHooks();
    this.#core.stateChanged();
    this.#board?.reset();
  }

  /** The devices of the machine, undefined with `devices: "none"`. */
  get devices(): Pc | undefined {
    return this.#board?.pc;
  }

  // --- memory ---

  /** Bytes of RAM from address 0 that the machine was made with. */
  get ramSize(): number {
    return this.#ramSize;
  }

  get regions(): MappedRegion[] {
    return this.#map.regions;
  }

  /** Adds RAM, ROM or an MMIO window. MemoryMapError when it overlaps or there is no room. */
  map(region: Region): void {
    this.#idle("map()");
    this.#map.map(region);
    this.#snapshots.mapChanged();
    this.#history.restart();
  }

  /** Removes the region that starts at the address; what RAM held is lost. */
  unmap(address: bigint | number): void {
    this.#idle("unmap()");
    this.#map.unmap(address);
    this.#snapshots.mapChanged();
    this.#history.restart();
  }

  /** A copy of physical memory. MemoryMapError where nothing (or an MMIO window) is mapped. */
  readMemory(address: bigint | number, size: number): Uint8Array<ArrayBuffer> {
    this.#alive();
    return this.#core.readPhysical(checkU64("address", address), checkInteger("size", size, 0, 2 ** 32));
  }

  /** Writes physical memory, ROM too; code that was decoded from it is decoded again. All or nothing. */
  writeMemory(address: bigint | number, bytes: Uint8Array): void {
    this.#alive();
    checkBytes("bytes", bytes);
    this.#core.writePhysical(checkU64("address", address), bytes);
  }

  /** Replaces what the guest may do with physical memory; what is left out is not allowed. The host may always do everything. */
  protect(address: bigint | number, size: number, permissions: Permissions): void {
    this.#alive();
    this.#map.protect(address, size, permissions);
  }

  /** Hooks in front of the callbacks of MMIO windows, by physical address. */
  onMmio(range: { readonly address: bigint | number; readonly size: number }, hooks: MmioHooks): RemoveHook {
    return this.#map.onMmio(range.address, range.size, hooks);
  }

  /**
   * A copy of memory at a linear address, whatever the privilege; accessed bits stay. TranslationError where no page is
   * mapped, MemoryMapError where the page leads to no RAM.
   */
  readVirtual(linear: bigint | number, size: number): Uint8Array<ArrayBuffer> {
    this.#alive();
    return readLinear(this.#core, checkU64("linear", linear), checkInteger("size", size, 0, 2 ** 32));
  }

  /** Writes memory at a linear address, read-only pages too. All or nothing; errors as readVirtual(). */
  writeVirtual(linear: bigint | number, bytes: Uint8Array): void {
    this.#alive();
    checkBytes("bytes", bytes);
    writeLinear(this.#core, checkU64("linear", linear), bytes);
  }

  /** Physical address of a linear one by the present paging, undefined where the access would fault. */
  translate(linear: bigint | number, access: Access = "read"): bigint | undefined {
    this.#alive();
    const kind = ACCESS[access];
    if (kind === undefined) throw new TypeError(`access must be "read", "write" or "execute", not ${String(access)}`);
    return this.#core.translate(checkU64("linear", linear), kind);
  }

  // --- processor ---

  /** Width of the code that runs: CS.D outside 64-bit mode. */
  get codeMode(): CodeMode {
    return this.#core.codeMode;
  }

  /** Instructions completed and events delivered since the machine was made. */
  get instructionCount(): bigint {
    return this.#core.count;
  }

  /** What generated code has cost so far. */
  get jitStatistics(): JitStatistics {
    return this.#core.linker.statistics;
  }

  get tsc(): bigint {
    return this.#core.tsc;
  }

  /** RDMSR as at CPL 0; undefined where it would raise #GP(0). Hooks are not asked. */
  readMsr(index: number): bigint | undefined {
    this.#alive();
    return this.#core.rdmsr(checkU32("index", index));
  }

  /** WRMSR as at CPL 0; false where it would raise #GP(0). Hooks are not asked. */
  writeMsr(index: number, value: bigint | number): boolean {
    this.#alive();
    return this.#core.wrmsr(checkU32("index", index), checkU64("value", value));
  }

  /** CPUID as the model answers it. Hooks are not asked. */
  cpuid(leaf: number, subleaf = 0): CpuidResult {
    this.#alive();
    return this.#core.cpuid(checkU32("leaf", leaf), checkU32("subleaf", subleaf));
  }

  /** Requests an external interrupt; it stays pending until RFLAGS.IF and blocking let it in. */
  interrupt(vector: number): void {
    this.#alive();
    if (this.#board) {
      throw new StateError(
        "the interrupt controllers of this machine give the vectors: raise a line with machine.devices.setIrq()",
      );
    }
    this.#core.exports.raiseInterrupt(checkU8("vector", vector));
  }

  nmi(): void {
    this.#alive();
    this.#core.exports.raiseNmi();
  }

  // --- running ---

  /** Inside a callback: run() returns "stopped" after the instruction that called it. */
  stop(): void {
    this.#alive();
    if (!this.#runner.active) throw new StateError("stop() is for callbacks: the machine is not running");
    this.#runner.requestStop();
  }

  /** Executes one instruction, or delivers one pending event. */
  step(): Exit {
    return this.run({ maxInstructions: 1 });
  }

  /**
   * Runs synchronously until something needs the caller. Without limits it returns "slice" after 10 million units of
   * work, so that no guest can hold the caller for ever. An exception thrown by a callback comes out here; the
   * instruction that called it has then had no effect.
   */
  run(options: RunOptions = {}): Exit {
    const { maxInstructions, maxWork } = options;
    if (maxInstructions !== undefined) checkInteger("maxInstructions", maxInstructions, 0, MAX_COUNT);
    if (maxWork !== undefined) checkInteger("maxWork", maxWork, 1, MAX_COUNT);
    const limit = maxInstructions ?? MAX_COUNT;
    this.#runner.setUntil(checkUntil(options.until));
    return this.#run(limit, maxWork ?? Math.min(DEFAULT_WORK + (maxInstructions ?? 0) * 2, MAX_COUNT));
  }

  /**
   * Like run(), without a bound unless one is given, in slices between which the event loop turns.
   * Aborting the signal gives the exit "aborted"; the machine is whole and can go on.
   */
  async runAsync(options: RunAsyncOptions = {}): Promise<Exit> {
    const { maxInstructions, maxWork, signal, sliceMs = 10, onProgress } = options;
    if (maxInstructions !== undefined) checkInteger("maxInstructions", maxInstructions, 0, MAX_COUNT);
    if (maxWork !== undefined) checkInteger("maxWork", maxWork, 1, MAX_COUNT);
    checkInteger("sliceMs", sliceMs, 1, 10_000);
    if (onProgress !== undefined) checkFunction("onProgress", onProgress);
    this.#runner.setUntil(checkUntil(options.until));
    const limit = maxInstructions ?? MAX_COUNT;
    const bound = maxWork === undefined ? undefined : this.#core.work + BigInt(maxWork);
    let done = 0;
    let yielded = performance.now();
    for (;;) {
      if (signal?.aborted) return { reason: "aborted", instructions: done };
      const work = bound === undefined ? CHUNK_WORK : Math.min(CHUNK_WORK, Number(bound - this.#core.work));
      const exit = this.#run(limit - done, work);
      done += exit.instructions;
      if (exit.reason !== "slice" || (bound !== undefined && this.#core.work >= bound)) {
        return { ...exit, instructions: done };
      }
      if (performance.now() - yielded < sliceMs) continue;
      onProgress?.({ instructions: done, rip: this.#core.rip });
      await yieldToHost();
      yielded = performance.now();
    }
  }

  #run(maxInstructions: number, work: number): Exit {
    this.#idle("run()");
    return this.#runner.run(maxInstructions, work);
  }

  // --- snapshots ---

  /**
   * Makes something's state part of this machine's snapshots, under a name: a device, or a program around the machine. A snapshot
   * is restored only where the same names are known.
   */
  addState(name: string, part: Saveable): void {
    this.#alive();
    this.#snapshots.addState(name, part);
  }

  /**
   * The whole state: registers, MSRs, VMX, memory, parts added with addState(). Only pages that changed since the last
   * snapshot or restore are copied. Hooks, breakpoints and callbacks belong to the machine, not to the snapshot.
   */
  snapshot(): Snapshot {
    this.#idle("snapshot()");
    return this.#snapshots.take();
  }

  /** Goes back to a snapshot, of this machine or of one with the same memory map and CPU model. SnapshotError says what does not fit. */
  restore(snapshot: Snapshot): void {
    this.#idle("restore()");
    this.#snapshots.restore(snapshot);
    this.#history.restart();
  }

  /**
   * A machine with the state, memory map and CPU model of a snapshot. `setup` maps its MMIO windows, sets its hooks and adds
   * its parts.
   */
  static from(snapshot: Snapshot, options: FromOptions = {}): Machine {
    return Machine.#from(snapshot, options, undefined);
  }

  static #from(snapshot: Snapshot, { setup, ...options }: FromOptions, spares: Spares | undefined): Machine {
    const estate = spares?.take(snapshot.regions);
    const inheriting: Inheriting = { ...optionsFor(snapshot), ...options, [ESTATE]: estate };
    const machine = new Machine(inheriting);
    machine.#spares = spares;
    machine.#leaves = spares !== undefined;
    for (const { address, size, kind } of snapshot.regions) {
      if (kind === "mmio" || machine.regions.some((region) => region.address === address)) continue;
      machine.map({ kind, address, size });
    }
    if (!estate) machine.#snapshots.beginWithZeros();
    setup?.(machine);
    machine.restore(snapshot);
    return machine;
  }

  /**
   * Another machine in the same state. With `into`, an earlier fork takes the state: only pages that differ are copied. Without
   * it, a fork that was disposed of leaves its memory to the new one, unless options ask for another kind of machine.
   */
  fork(options: ForkOptions = {}): Machine {
    const { into, ...rest } = options;
    const snapshot = this.snapshot();
    if (into === undefined) {
      const { jit = true, devices = "none" } = this.#options;
      this.#spares ??= new Spares();
      const alike = Object.keys(rest).every((name) => name === "setup");
      return Machine.#from(snapshot, { jit, devices, ...rest }, alike ? this.#spares : undefined);
    }
    into.restore(snapshot);
    return into;
  }

  // --- going back ---

  /**
   * Records from here on: keyframes, and what comes from outside (answers of callbacks, changes by the caller). Begins anew when
   * called again, after restore(), and when the memory map or a hook on code or memory changes.
   */
  record(options: RecordOptions = {}): void {
    this.#idle("record()");
    this.#history.begin(options);
  }

  /** In the past: the machine stays there, and is live from there on. */
  stopRecording(): void {
    this.#idle("stopRecording()");
    this.#history.end();
  }

  /** Instruction counts that the recording reaches, and what it costs; undefined without one. */
  get recording(): RecordingRange | undefined {
    return this.#history.range;
  }

  /**
   * Goes back by this many instructions and deliveries. run() then plays the recording again up to its end, without calling
   * callbacks, and is live after it; a change of registers or memory in the past cuts the future off instead. RangeError when
   * the recording does not reach so far.
   */
  rewind(instructions: number): void {
    this.#idle("rewind()");
    this.#history.rewind(instructions);
  }

  /** Goes back by one instruction or delivery. */
  reverseStep(): void {
    this.rewind(1);
  }

  /** Goes to an instruction count of the recording, back or forth. */
  seek(instructionCount: bigint | number): void {
    this.#idle("seek()");
    this.#history.seek(checkU64("instructionCount", instructionCount));
  }

  /**
   * Goes back to the last breakpoint or watchpoint that was met before this instruction, or to the beginning ("recordingStart").
   * `instructions` of the exit is negative.
   */
  reverseContinue(): Exit {
    this.#idle("reverseContinue()");
    return this.#history.reverseContinue();
  }

  // --- end of life ---

  /** Lets go of the processor and its memory, though the machine itself is still held; every later call throws. */
  dispose(): void {
    this.#idle("dispose()");
    this.#disposed = true;
    if (this.#leaves) {
      const regions = this.#map.leave();
      const { tracked } = this.#snapshots;
      const processor = this.#core.leave();
      if (processor) this.#spares?.add({ processor, regions, tracked });
    } else this.#core.release();
  }

  [Symbol.dispose](): void {
    if (!this.#disposed) this.dispose();
  }

  #alive(): void {
    if (this.#disposed) throw new StateError("this machine has been disposed of");
  }

  #idle(what: string): void {
    this.#alive();
    if (this.#runner?.active)
      throw new StateError(`${what} cannot be called inside a callback: the machine is running`);
  }
}

/** The longest readable start of the 15 bytes at RIP. */
function readCode(core: Core): Uint8Array {
  const at = core.codeAddress;
  const inPage = Math.min(15, PAGE - Number(at & 0xfffn));
  for (const size of inPage < 15 ? [15, inPage] : [15]) {
    try {
      return readLinear(core, at, size);
    } catch (error) {
      if (!(error instanceof WasmVmxError)) throw error;
    }
  }
  return new Uint8Array(0);
}
