// Recording and going back, as machines show it.
import { type Core, checkInteger, StateError } from "../core/index.ts";
import type { Exit } from "./exits.ts";
import { Recorder } from "./recorder.ts";
import type { RecordingRange, RecordOptions } from "./recording.ts";
import type { Runner } from "./runner.ts";
import type { Snapshots } from "./snapshots.ts";
import type { TrapSet } from "./traps.ts";

export class History {
  readonly #core: Core;
  readonly #traps: TrapSet;
  readonly #snapshots: Snapshots;
  readonly #runner: Runner;

  constructor(core: Core, traps: TrapSet, snapshots: Snapshots, runner: Runner) {
    this.#core = core;
    this.#traps = traps;
    this.#snapshots = snapshots;
    this.#runner = runner;
  }

  /** What is recorded; undefined: nothing is. */
  get range(): RecordingRange | undefined {
    return this.#runner.recorder?.range;
  }

  begin(options: RecordOptions): void {
    const { interval, maxKeyframes, maxBytes } = options;
    if (interval !== undefined) checkInteger("interval", interval, 1, Number.MAX_SAFE_INTEGER);
    if (maxKeyframes !== undefined) checkInteger("maxKeyframes", maxKeyframes, 2, 1_000_000);
    if (maxBytes !== undefined) checkInteger("maxBytes", maxBytes, 1, Number.MAX_SAFE_INTEGER);
    this.end();
    this.#runner.recorder = new Recorder(this.#core, this.#traps, this.#snapshots, options);
  }

  end(): void {
    const { recorder } = this.#runner;
    if (!recorder) return;
    recorder.end();
    this.#runner.recorder = undefined;
    this.#core.applyHooks();
  }

  /** What was recorded no longer leads here: begin again. */
  restart(): void {
    this.#runner.recorder?.begin();
  }

  seek(count: bigint): void {
    this.#recorder("seek()").seek(count);
  }

  rewind(instructions: number): void {
    checkInteger("instructions", instructions, 0, Number.MAX_SAFE_INTEGER);
    this.#recorder("rewind()").seek(this.#core.count - BigInt(instructions));
  }

  reverseContinue(): Exit {
    this.#recorder("reverseContinue()");
    const { count } = this.#core;
    const exit = this.#runner.reverse(count);
    return exit ?? { reason: "recordingStart", instructions: Number(this.#core.count - count) };
  }

  #recorder(what: string): Recorder {
    const { recorder } = this.#runner;
    if (!recorder) throw new StateError(`${what} needs a recording: call record() before the guest runs`);
    return recorder;
  }
}
