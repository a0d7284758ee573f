import type { CodeMode } from "../core/index.ts";
import type { RegisterUpdate, RegisterValues } from "../machine/index.ts";

/** The kinds of Z packets: 0 software breakpoint, 1 hardware, 2 write, 3 read, 4 access. */
export type PointKind = "software" | "hardware" | "write" | "read" | "access";
export const POINT_KINDS: readonly PointKind[] = ["software", "hardware", "write", "read", "access"];

export interface Point {
  readonly kind: PointKind;
  /** Linear address. */
  readonly address: bigint;
  /** Bytes that a watchpoint covers; of a breakpoint 1. */
  readonly size: number;
}

/** Why the guest stands still. */
export type Stop =
  | { readonly kind: "step" | "interrupt"; readonly thread: number }
  | { readonly kind: "breakpoint"; readonly thread: number; readonly point: "software" | "hardware" }
  | {
      readonly kind: "watchpoint";
      readonly thread: number;
      readonly point: "write" | "read" | "access";
      /** Linear address that was accessed. */
      readonly address: bigint;
    }
  /** Going back came to the beginning of what is recorded; `message` where nothing can be. */
  | { readonly kind: "beginning"; readonly thread: number; readonly message?: string }
  /** The guest cannot go on: `status` when it ended itself, else it halted, crashed or failed. */
  | {
      readonly kind: "end";
      readonly thread: number;
      readonly signal: number;
      readonly status?: number;
      readonly message: string;
    };

export interface Resume {
  /** One instruction of this thread; undefined: all run. */
  readonly step?: number;
  /** The threads that run beside; all others stand still. */
  readonly run: readonly number[];
  readonly reverse?: boolean;
}

/** What a GDB session debugs. Threads are processors, from 1. */
export interface GdbTarget {
  /** Set while the guest cannot go on. */
  readonly ended: Stop | undefined;
  readonly threads: readonly number[];
  threadName(thread: number): string;
  /** Width of the code at the processor's RIP. */
  codeMode(thread: number): CodeMode;
  readRegisters(thread: number): RegisterValues;
  writeRegisters(thread: number, update: RegisterUpdate): void;
  /** undefined: there is no such MSR. */
  readMsr(thread: number, index: number): bigint | undefined;
  writeMsr(thread: number, index: number, value: bigint): boolean;
  /** Physical address of a linear one for the code that runs; undefined: the access would fault. */
  translate(thread: number, linear: bigint): bigint | undefined;
  /** Bytes of one page at a linear address, whatever the privilege; undefined where there are none. */
  readLinear(thread: number, linear: bigint, size: number): Uint8Array | undefined;
  /** All or nothing, read-only pages too; false where there is no memory. */
  writeLinear(thread: number, linear: bigint, bytes: Uint8Array): boolean;
  /** Bytes of one physical page, undefined where there is no memory. */
  readPhysical(address: bigint, size: number): Uint8Array | undefined;
  /** False: this target has no such points, or no more of them. */
  insert(point: Point): boolean;
  remove(point: Point): void;
  /** Runs until something stops it; the signal is the user's interrupt. */
  resume(how: Resume, signal: AbortSignal): Promise<Stop>;
  /** Commands of `monitor` that this target has besides the common ones. */
  readonly commands: readonly MonitorCommand[];
}

export interface MonitorCommand {
  readonly name: string;
  readonly usage: string;
  readonly summary: string;
  /** The answer, with or without a last newline. MonitorError says what was wrong. */
  run(words: readonly string[], thread: number): string;
}

/** Wrong input of the user of `monitor`. */
export class MonitorError extends Error {
  override name = "MonitorError";
}

const PAGE = 4096n;

/** As many bytes as there are from the linear address on. */
export function readBytes(target: GdbTarget, thread: number, linear: bigint, size: number): Uint8Array {
  const found = new Uint8Array(size);
  for (let offset = 0; offset < size; ) {
    const at = BigInt.asUintN(64, linear + BigInt(offset));
    const n = Math.min(size - offset, Number(PAGE - (at & (PAGE - 1n))));
    const bytes = target.readLinear(thread, at, n);
    if (bytes === undefined) return found.subarray(0, offset);
    found.set(bytes, offset);
    offset += n;
  }
  return found;
}
