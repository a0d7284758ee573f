import type { WatchHit } from "./breakpoints.ts";

interface ExitBase {
  /** Instructions completed and events delivered during this call; a REP counts once. */
  readonly instructions: number;
}

/** Why run() came back. */
export type Exit = ExitBase &
  (
    | {
        /** Before the instruction at a breakpoint; `address` is linear, `ids` are the breakpoints'. run() goes on with it. */
        readonly reason: "breakpoint";
        readonly address: bigint;
        readonly ids: readonly number[];
      }
    | {
        /** Before the instruction at one of the addresses of `until`. */
        readonly reason: "until";
        readonly address: bigint;
      }
    | ({
        /** After an instruction (or an iteration of a REP, or a delivery) that accessed watched bytes. The first access is spread here. */
        readonly reason: "watchpoint";
        /** All of them, oldest first; at most 16. */
        readonly hits: readonly WatchHit[];
      } & Omit<WatchHit, "ids">)
    | {
        /** Before an instruction that would access memory against its permissions; it had no effect. */
        readonly reason: "denied";
        readonly rip: bigint;
        /** Linear and physical address of the access. */
        readonly address: bigint;
        readonly physical: bigint;
        readonly size: number;
        readonly access: "read" | "write" | "execute";
      }
    | {
        /** Only of reverseContinue(): nothing stopped it, the machine stands at the beginning of the recording. */
        readonly reason: "recordingStart";
      }
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
        /** machine.stop() was called in a callback; the instruction that called it has completed. */
        readonly reason: "stopped";
      }
    | {
        /** The guest switched the machine off by ACPI's PM1a control port. */
        readonly reason: "powerOff";
        readonly port: number;
        readonly value: number;
      }
    | {
        /** The guest asked for a reset: port 0xCF9, 0x64 or 0x92. Nothing has been reset. */
        readonly reason: "reset";
        readonly port: number;
        readonly value: number;
      }
    | {
        /** The guest wrote to the debug exit port 0xF4. */
        readonly reason: "debugExit";
        readonly value: number;
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
