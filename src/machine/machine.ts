import { FRAME_META, PAGE } from "../../assembly/abi/layout.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import {
  type CodeMode,
  Core,
  type CpuidResult,
  checkBytes,
  checkInteger,
  checkU8,
  checkU32,
  checkU64,
  InternalError,
  type JitOptions,
  type JitStatistics,
  MemoryMapError,
  StateError,
} from "../core/index.ts";
import type { Exit } from "./exits.ts";
import {
  type CpuidHook,
  Hooks,
  type PortInHook,
  type PortOutHook,
  type PortRange,
  type RdmsrHook,
  type RemoveHook,
  type WrmsrHook,
} from "./hooks.ts";
import { type MappedRegion, MemoryMap, type Region } from "./memoryMap.ts";
import { applyModel, type CpuModel, genericModel } from "./models.ts";
import { Registers } from "./registers.ts";
import { yieldToHost } from "./yield.ts";

export interface MachineOptions {
  /** Bytes of RAM from physical address 0, a multiple of 4096. Default 16 MiB; 0 for none. */
  readonly memory?: number;
  /** Bytes that later map() calls may add in all. Default 64 MiB; 13 bytes of metadata are reserved for each 4096. */
  readonly extraMemory?: number;
  readonly cpu?: CpuModel;
  /**
   * Generated code for hot blocks. Results are the same without it. false: interpreter only; a number: after how many runs
   * a block is hot; or more options. Default true. Where WebAssembly modules cannot be compiled the interpreter goes on alone.
   */
  readonly jit?: boolean | number | JitOptions;
}

export interface RunOptions {
  /** Stop after exactly this many instructions and deliveries. Default: no limit. */
  readonly maxInstructions?: number;
  /** Bound on instructions, deliveries and pieces of a REP (64 iterations, or 4 KiB moved at once); run() then returns "slice". */
  readonly maxWork?: number;
}

export interface RunAsyncOptions {
  readonly maxInstructions?: number;
  /** As for run(), over all slices. Default: no bound. */
  readonly maxWork?: number;
  readonly signal?: AbortSignal;
  /** Longest time between two looks at the signal and the event loop. Default 10 ms. */
  readonly sliceMs?: number;
}

const DEFAULT_MEMORY = 16 << 20;
const DEFAULT_EXTRA = 64 << 20;
/** Wasm pages are 64 KiB and the last one cannot be used. */
const WASM_LIMIT = 2 ** 32 - 2 ** 16;
const FRAME_OVERHEAD = 13;
const FIXED_OVERHEAD = FRAME_META;
const DEFAULT_WORK = 10_000_000;
/** Between two looks at the clock: 20,000 instructions, or as many pieces of a REP, which may take 0.1 s. */
const CHUNK_WORK = 20_000;
const MAX_COUNT = Number.MAX_SAFE_INTEGER;
const VM_EXIT_REASON = 0x4402;

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
export class Machine {
  readonly registers: Registers;
  readonly model: CpuModel;
  readonly #core: Core;
  readonly #map: MemoryMap;
  readonly #hooks: Hooks;
  readonly #ramSize: number;
  #stopRequested = false;
  #disposed = false;

  constructor(options: MachineOptions = {}) {
    const memory = options.memory ?? DEFAULT_MEMORY;
    const extra = options.extraMemory ?? DEFAULT_EXTRA;
    for (const [name, value] of Object.entries({ memory, extraMemory: extra })) {
      checkInteger(name, value, 0, MAX_COUNT);
      if (value % PAGE !== 0) throw new RangeError(`${name} must be a multiple of ${PAGE} bytes, not ${value}`);
    }
    const overhead = FIXED_OVERHEAD + ((memory + extra) / PAGE) * FRAME_OVERHEAD;
    if (memory + overhead > WASM_LIMIT) {
      throw new MemoryMapError(
        `${memory} bytes of RAM and ${overhead} bytes of tables exceed the ${WASM_LIMIT} bytes of a WebAssembly memory`,
        0n,
        memory,
      );
    }
    this.#core = new Core((memory + extra) / PAGE);
    const { jit } = options;
    if (typeof jit === "object") {
      if (jit.threshold !== undefined) checkInteger("jit.threshold", jit.threshold, 0, 2 ** 31 - 1);
      this.#core.linker.configure(jit);
    } else if (jit !== undefined && jit !== true) {
      this.#core.linker.configure({ threshold: checkInteger("jit", Number(jit), 0, 2 ** 31 - 1) });
    }
    this.#map = new MemoryMap(this.#core);
    this.#hooks = new Hooks(this.#core);
    this.registers = new Registers(this.#core);
    this.model = options.cpu ?? genericModel();
    this.#ramSize = memory;
    if (memory > 0) this.#map.map({ kind: "ram", address: 0n, size: memory });
    this.reset();
  }

  /** Power-up state: real mode, RIP 0xFFF0, CS base 0xFFFF0000. Memory stays. */
  reset(): void {
    this.#idle("reset()");
    applyModel(this.#core, this.model);
    this.#core.exports.reset(0);
    this.#core.applyHooks();
    this.#core.stateChanged();
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
  }

  /** Removes the region that starts at the address; what RAM held is lost. */
  unmap(address: bigint | number): void {
    this.#idle("unmap()");
    this.#map.unmap(address);
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
    this.#core.exports.raiseInterrupt(checkU8("vector", vector));
  }

  nmi(): void {
    this.#alive();
    this.#core.exports.raiseNmi();
  }

  // --- hooks ---

  onPortIn(range: PortRange, hook: PortInHook): RemoveHook {
    return this.#hooks.onPortIn(range, hook);
  }

  onPortOut(range: PortRange, hook: PortOutHook): RemoveHook {
    return this.#hooks.onPortOut(range, hook);
  }

  onCpuid(hook: CpuidHook): RemoveHook {
    return this.#hooks.onCpuid(hook);
  }

  onRdmsr(hook: RdmsrHook): RemoveHook {
    return this.#hooks.onRdmsr(hook);
  }

  onWrmsr(hook: WrmsrHook): RemoveHook {
    return this.#hooks.onWrmsr(hook);
  }

  // --- running ---

  /** Inside a callback: run() returns "stopped" after the instruction that called it. */
  stop(): void {
    this.#alive();
    if (!this.#core.running) throw new StateError("stop() is for callbacks: the machine is not running");
    this.#stopRequested = true;
    this.#core.stopAfterInstruction();
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
    return this.#run(limit, maxWork ?? Math.min(DEFAULT_WORK + (maxInstructions ?? 0) * 2, MAX_COUNT));
  }

  /**
   * Like run(), without a bound unless one is given, in slices between which the event loop turns.
   * Aborting the signal gives the exit "aborted"; the machine is whole and can go on.
   */
  async runAsync(options: RunAsyncOptions = {}): Promise<Exit> {
    const { maxInstructions, maxWork, signal, sliceMs = 10 } = options;
    if (maxInstructions !== undefined) checkInteger("maxInstructions", maxInstructions, 0, MAX_COUNT);
    if (maxWork !== undefined) checkInteger("maxWork", maxWork, 1, MAX_COUNT);
    checkInteger("sliceMs", sliceMs, 1, 10_000);
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
      await yieldToHost();
      yielded = performance.now();
    }
  }

  #run(maxInstructions: number, work: number): Exit {
    this.#idle("run()");
    const core = this.#core;
    const before = core.count;
    this.#stopRequested = false;
    const code = core.run(BigInt(maxInstructions), BigInt(work));
    const instructions = Number(core.count - before);
    switch (code) {
      case RunCode.Instructions:
        return { reason: this.#stopRequested ? "stopped" : "instructions", instructions };
      case RunCode.Slice:
        return { reason: "slice", instructions };
      case RunCode.Halt:
        return { reason: "halt", instructions };
      case RunCode.Shutdown:
        return { reason: "shutdown", instructions };
      case RunCode.Stopped:
        return { reason: "stopped", instructions };
      case RunCode.Unimplemented:
        return { reason: "unimplemented", instructions, ...core.unimplemented() };
      case RunCode.VmxAbort:
        return { reason: "vmxAbort", instructions, code: core.vmxAbortCode };
      case RunCode.VmExit:
        core.exports.vmread(VM_EXIT_REASON);
        return { reason: "vmExit", instructions, exitReason: Number(core.value) };
      default:
        throw new InternalError(`run() gave code ${code}, which no machine can give`, { code });
    }
  }

  // --- end of life ---

  /** Lets go of the memory; every later call throws. */
  dispose(): void {
    this.#idle("dispose()");
    this.#disposed = true;
  }

  [Symbol.dispose](): void {
    if (!this.#disposed) this.dispose();
  }

  #alive(): void {
    if (this.#disposed) throw new StateError("this machine has been disposed of");
  }

  #idle(what: string): void {
    this.#alive();
    this.#core.assertNotRunning(what);
  }
}
