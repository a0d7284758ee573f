// What machines are made with and run with.
import { PAGE } from "../../assembly/abi/layout.ts";
import { checkInteger, checkU64, type JitOptions, linearBytes, MemoryMapError } from "../core/index.ts";
import type { Devices } from "./board.ts";
import type { CpuModel } from "./models.ts";

export interface MachineOptions {
  /** Bytes of RAM from physical address 0, a multiple of 4096. Default 16 MiB; 0 for none. */
  readonly memory?: number;
  /** Bytes that later map() calls may add in all. Default 64 MiB; 13 bytes of metadata are reserved for each 4096. */
  readonly extraMemory?: number;
  /** Default: genericModel(), with a local APIC when the machine has devices. */
  readonly cpu?: CpuModel;
  /** Devices on ports and pages. Default "none". */
  readonly devices?: Devices;
  /**
   * Generated code for hot blocks. Results are the same without it. false: interpreter only; a number: after how many runs
   * a block is hot; or more options. Default true. Where WebAssembly modules cannot be compiled the interpreter goes on alone.
   */
  readonly jit?: boolean | number | JitOptions;
}

const DEFAULT_MEMORY = 16 << 20;
const DEFAULT_EXTRA = 64 << 20;
/** Wasm pages are 64 KiB and the last one cannot be used. */
const WASM_LIMIT = 2 ** 32 - 2 ** 16;

/** Bytes of RAM from address 0, and of what may be mapped later. */
export function checkMemory(options: MachineOptions): { readonly memory: number; readonly extra: number } {
  const memory = options.memory ?? DEFAULT_MEMORY;
  const extra = options.extraMemory ?? DEFAULT_EXTRA;
  for (const [name, value] of Object.entries({ memory, extraMemory: extra })) {
    checkInteger(name, value, 0, Number.MAX_SAFE_INTEGER);
    if (value % PAGE !== 0) throw new RangeError(`${name} must be a multiple of ${PAGE} bytes, not ${value}`);
  }
  const overhead = linearBytes(memory / PAGE, (memory + extra) / PAGE) - memory;
  if (memory + overhead > WASM_LIMIT) {
    throw new MemoryMapError(
      `${memory} bytes of RAM and ${overhead} bytes of tables exceed the ${WASM_LIMIT} bytes of a WebAssembly memory`,
      0n,
      memory,
    );
  }
  return { memory, extra };
}

/** Linear addresses before which a run ends. */
export type Until = bigint | number | readonly (bigint | number)[];

export interface RunOptions {
  /** Stop before the instruction at this linear address, or one of these. A run that stopped there goes on with it. */
  readonly until?: Until;
  /** Stop after exactly this many instructions and deliveries. Default: no limit. */
  readonly maxInstructions?: number;
  /** Bound on instructions, deliveries and pieces of a REP (64 iterations, or 4 KiB moved at once); run() then returns "slice". */
  readonly maxWork?: number;
}

export interface RunProgress {
  /** Completed in this call so far. */
  readonly instructions: number;
  readonly rip: bigint;
}

export interface RunAsyncOptions {
  readonly until?: Until;
  readonly maxInstructions?: number;
  /** As for run(), over all slices. Default: no bound. */
  readonly maxWork?: number;
  readonly signal?: AbortSignal;
  /** Longest time between two looks at the signal and the event loop. Default 10 ms. */
  readonly sliceMs?: number;
  /** Called between slices. What it throws ends the run. */
  readonly onProgress?: (progress: RunProgress) => void;
}

export function checkUntil(until: Until | undefined): bigint[] {
  if (until === undefined) return [];
  return (Array.isArray(until) ? until : [until]).map((address) => checkU64("until", address));
}
