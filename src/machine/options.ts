// What machines are made with and run with.
import type { JitOptions } from "../core/index.ts";
import { checkU64 } from "../core/index.ts";
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
