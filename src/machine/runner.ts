// From the processor's run codes to typed exits.
import { TrapKind } from "../../assembly/abi/layout.ts";
import { COMM_DENIED, RunCode } from "../../assembly/abi/run.ts";
import { type Core, InternalError } from "../core/index.ts";
import type { Board } from "./board.ts";
import type { Breakpoints } from "./breakpoints.ts";
import type { Exit } from "./exits.ts";
import type { Recorder } from "./recorder.ts";
import type { Keyframe } from "./recording.ts";
import type { TrapSet } from "./traps.ts";

const VM_EXIT_REASON = 0x4402;

const DENIED = {
  [TrapKind.DenyRead]: "read",
  [TrapKind.DenyWrite]: "write",
  [TrapKind.DenyFetch]: "execute",
} as const;

export class Runner {
  readonly #core: Core;
  readonly #traps: TrapSet;
  readonly #breakpoints: Breakpoints;
  readonly #board: Board | undefined;
  recorder: Recorder | undefined;
  #until: readonly bigint[] = [];
  #stopRequested = false;
  #active = false;

  constructor(core: Core, traps: TrapSet, breakpoints: Breakpoints, board: Board | undefined) {
    this.#core = core;
    this.#traps = traps;
    this.#breakpoints = breakpoints;
    this.#board = board;
  }

  /** run() is on its way; a callback asks. */
  get active(): boolean {
    return this.#active;
  }

  requestStop(): void {
    this.#stopRequested = true;
    if (this.#core.running) this.#core.stopAfterInstruction();
  }

  /** Linear addresses that end the runs that follow. */
  setUntil(addresses: readonly bigint[]): void {
    this.#until = addresses;
    this.#breakpoints.setUntil(addresses);
  }

  run(maxInstructions: number, work: number): Exit {
    this.#active = true;
    try {
      return this.#loop(maxInstructions, work);
    } finally {
      this.#active = false;
    }
  }

  #loop(maxInstructions: number, work: number): Exit {
    const core = this.#core;
    const before = core.count;
    const lastWork = core.work + BigInt(work);
    this.#stopRequested = false;
    for (;;) {
      const limit = BigInt(maxInstructions) - (core.count - before);
      const room = lastWork - core.work;
      if (room <= 0n && limit > 0n) return { reason: "slice", instructions: Number(core.count - before) };
      this.#traps.apply();
      const code = (this.recorder ?? core).run(limit, room > 0n ? room : 1n);
      // a recording stops for its own purposes too
      const early = code === RunCode.Instructions && this.recorder && core.count - before < BigInt(maxInstructions);
      if (early && !this.#stopRequested && !this.#board?.ended) continue;
      const exit = this.#exit(code, Number(core.count - before));
      if (exit) return exit;
    }
  }

  /** The last stop of a recording before a count, with the machine put there; undefined: it stands at the beginning. */
  reverse(count: bigint): Exit | undefined {
    const core = this.#core;
    const recorder = this.recorder!;
    for (const keyframe of recorder.keyframesBefore(count)) {
      const stops = this.#stopsAfter(keyframe, count, Number.MAX_SAFE_INTEGER).stops;
      if (stops === 0) continue;
      const { exit } = this.#stopsAfter(keyframe, count, stops);
      return { ...exit!, instructions: Number(core.count - count) };
    }
    recorder.seek(recorder.range.from);
    return undefined;
  }

  /** Plays from a keyframe to a count, and stops at the n-th stop before it. */
  #stopsAfter(keyframe: Keyframe, count: bigint, nth: number): { stops: number; exit: Exit | undefined } {
    const core = this.#core;
    this.recorder!.load(keyframe);
    this.#until = [];
    let stops = 0;
    while (core.count < count) {
      this.#traps.apply();
      const code = this.recorder!.run(count - core.count, 1n << 40n);
      const stopped = code === RunCode.Breakpoint || code === RunCode.Watchpoint;
      const exit = stopped ? this.#exit(code, 0) : undefined;
      if (exit && core.count < count && ++stops === nth) return { stops, exit };
      if (!stopped && core.count < count && !this.recorder!.playing) break;
    }
    return { stops, exit: undefined };
  }

  /** undefined: nothing the caller asked for, go on. */
  #exit(code: RunCode, instructions: number): Exit | undefined {
    const core = this.#core;
    switch (code) {
      case RunCode.Deadline:
        // while a recording plays, what devices did comes from its log
        if (!this.recorder?.playing) this.#board?.service();
        return undefined;
      case RunCode.Instructions: {
        const ending = this.#board?.takeEnding();
        if (ending) return { ...ending, instructions };
        return { reason: this.#stopRequested ? "stopped" : "instructions", instructions };
      }
      case RunCode.Slice:
        return { reason: "slice", instructions };
      case RunCode.Halt:
        return { reason: "halt", instructions };
      case RunCode.Shutdown:
        return { reason: "shutdown", instructions };
      case RunCode.Stopped:
        return { reason: "stopped", instructions };
      case RunCode.VmxAbort:
        return { reason: "vmxAbort", instructions, code: core.vmxAbortCode };
      case RunCode.VmExit:
        core.exports.vmread(VM_EXIT_REASON);
        return { reason: "vmExit", instructions, exitReason: Number(core.value) };
      case RunCode.Breakpoint:
        return this.#breakpoint(instructions);
      case RunCode.Watchpoint: {
        const hits = this.#breakpoints.hits();
        const [first] = hits;
        if (!first) return undefined;
        const { address, physical, size, access, before, after } = first;
        return { reason: "watchpoint", instructions, address, physical, size, access, before, after, hits };
      }
      case RunCode.Denied:
        return {
          reason: "denied",
          instructions,
          rip: core.rip,
          address: core.read64(COMM_DENIED),
          physical: core.read64(COMM_DENIED + 8),
          size: core.read32(COMM_DENIED + 16),
          access: DENIED[core.read32(COMM_DENIED + 20) as keyof typeof DENIED],
        };
      default:
        throw new InternalError(`run() gave code ${code}, which no machine can give`, { code });
    }
  }

  #breakpoint(instructions: number): Exit | undefined {
    const address = this.#core.codeAddress;
    const ids = this.#breakpoints.at(address, this.#core.translate(address, 2));
    if (ids.length > 0) return { reason: "breakpoint", instructions, address, ids };
    if (this.#until.includes(address)) return { reason: "until", instructions, address };
    // left over from an earlier run
    this.#breakpoints.dropUntil(address);
    return undefined;
  }
}
