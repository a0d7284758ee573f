import type { RegisterValues } from "../../src/machine/index.ts";
import type { Snapshot } from "../../src/snapshot/index.ts";
import type { ExitDetail, VmxView } from "./protocol.ts";

/** How a guest ended for good. */
export interface Ending {
  readonly text: string;
  /** It did not end as a guest should. */
  readonly failed: boolean;
}

/** The state of a session at an instruction count. */
export interface Mark {
  readonly snapshot: Snapshot;
  readonly ending: Ending | undefined;
}

/** What a session keeps of its VM exits. */
export interface ExitLog {
  detail(id: number): ExitDetail | undefined;
  view(
    cost: string,
    hostValue: number,
    inGuest: boolean,
    policy: { name: string; summary: string },
  ): VmxView | undefined;
}

/** A processor with one guest, bare or under KVM: the same face for both. */
export interface Session {
  /** Instructions completed and events delivered since the start. */
  readonly count: number;
  /** Linear address of the next instruction. */
  readonly rip: number;
  readonly codeMode: 16 | 32 | 64;
  readonly cpl: number;
  readonly ending: Ending | undefined;
  readonly vmx: ExitLog;
  /** advance() ends before these addresses, but for the one where it stands now. Without it the debugger steps. */
  breakAt?(addresses: ReadonlySet<number>): void;
  /** The last advance() ended at one of them. */
  readonly atBreakpoint?: boolean;
  /** A place to come back to, as it stands. Without it the debugger runs again from the start. */
  keep?(): Mark;
  /** Only marks of this session. */
  goBack?(mark: Mark): void;
  /** Runs at most that many instructions and units of work; less when the guest ends or the slice is over. */
  advance(instructions: number, work: number): void;
  registers(): RegisterValues;
  /** Bytes at a linear address; undefined where no page is. */
  read(address: number): number | undefined;
  /** Console input. */
  input(bytes: Uint8Array): void;
}

export interface SessionOptions {
  readonly console: (byte: number) => void;
}

export function exitText(status: number): Ending {
  return { text: `ended with status ${status & 0xff}`, failed: (status & 0xff) !== 0 };
}

export const HALTED: Ending = { text: "halted", failed: false };
export const SHUTDOWN: Ending = { text: "triple fault: the processor shut down", failed: true };
