import type { CodeMode } from "../core/index.ts";

interface ExitBase {
  /** Instructions completed and events delivered during this call; a REP counts once. */
  readonly instructions: number;
}

/** Why run() came back. */
export type Exit = ExitBase &
  (
    | {
        /** `maxInstructions` was reached, exactly. */
        readonly reason: "instructions";
      }
    | {
        /** The work bound was reached: a long REP, or no bound was given and the guest goes on. Call run() again. */
        readonly reason: "slice";
      }
    | {
        /** HLT, and nothing pending can wake the processor. */
        readonly reason: "halt";
      }
    | {
        /** Triple fault. */
        readonly reason: "shutdown";
      }
    | {
        /** The instruction at `rip` exists but is not built yet; it had no effect. */
        readonly reason: "unimplemented";
        readonly rip: bigint;
        readonly bytes: Uint8Array;
        readonly mode: CodeMode;
      }
    | {
        /** machine.stop() was called in a callback; the instruction that called it has completed. */
        readonly reason: "stopped";
      }
    | {
        /** The signal given to runAsync() was aborted. The machine can go on. */
        readonly reason: "aborted";
      }
    | {
        /** A VM exit to software outside the machine. */
        readonly reason: "vmExit";
        readonly exitReason: number;
      }
    | {
        /** The processor is in the VMX-abort shutdown state. */
        readonly reason: "vmxAbort";
        readonly code: number;
      }
  );

export type ExitReason = Exit["reason"];
