// Records a machine's run and plays it again, so that it can go back. While it plays, callbacks are not called: their answers
// come from the log. At the end of the log the machine is live again.
import { COMM } from "../../assembly/abi/layout.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import {
  COUNT,
  COUNT_LIMIT,
  DEADLINE,
  EFLAGS_REST,
  GPR,
  HOST_DEADLINE,
  JIT_WHY,
  MSR_SYSENTER_CS,
  RCX,
  RUN_LIMIT,
  STATE_END,
  STOP,
  STOP_CODE,
  StopBit,
  TAG_REAL,
  TR_TABLE,
  TR_TAG,
  TR_TAG_IMPLICIT,
  WORK,
  WORK_LIMIT,
} from "../../assembly/abi/state.ts";
import { type Core, InternalError } from "../core/index.ts";
import { captureState } from "../snapshot/index.ts";
import { type Keyframe, type Patch, Recording, type RecordingRange, type RecordOptions } from "./recording.ts";
import type { Snapshots } from "./snapshots.ts";
import { STOPS, type TrapSet } from "./traps.ts";

/** Words that are not what somebody outside says, but how the processor is being run. */
const SKIPPED = new Set(
  [STOP, STOP_CODE, JIT_WHY, TR_TABLE].concat(
    [COUNT_LIMIT, RUN_LIMIT, WORK, WORK_LIMIT, TR_TAG, TR_TAG_IMPLICIT, TAG_REAL].flatMap((at) => [at, at + 4]),
  ),
);
/** What a callback answers through, too. */
const COMM_WORDS = 64;
const STATE_WORDS = (STATE_END - GPR) / 4;
const MIN = (...values: bigint[]) => values.reduce((a, b) => (a < b ? a : b));

export class Recorder {
  readonly #core: Core;
  readonly #traps: TrapSet;
  readonly #snapshots: Snapshots;
  readonly #options: RecordOptions;
  #recording: Recording;
  /** Place in the log while playing; undefined: live. */
  #playing: number | undefined;
  /** Where the machine was when it was last live. */
  #end: { count: bigint; rcx: bigint } = { count: 0n, rcx: 0n };
  /** The state block when the processor last stopped. */
  readonly #last = new Uint32Array(STATE_WORDS);
  readonly #before = new Uint32Array(STATE_WORDS + COMM_WORDS);
  #written: { host: number; bytes: Uint8Array }[] = [];
  #trapChanges: number;

  constructor(core: Core, traps: TrapSet, snapshots: Snapshots, options: RecordOptions) {
    this.#core = core;
    this.#traps = traps;
    this.#snapshots = snapshots;
    this.#options = options;
    this.#trapChanges = traps.changes;
    this.#recording = new Recording(options);
    this.begin();
    core.interpose = (body) => this.#call(body);
    core.onHostWrite = (host, bytes) => {
      this.#written.push({ host, bytes: core.u8.slice(host, host + bytes) });
    };
  }

  /** Forgets everything and begins here. */
  begin(): void {
    this.#recording = new Recording(this.#options);
    this.#playing = undefined;
    this.#trapChanges = this.#traps.changes;
    this.#written = [];
    this.#keep();
    this.#addKeyframe();
  }

  end(): void {
    this.#core.interpose = undefined;
    this.#core.onHostWrite = undefined;
    this.#traps.ignore(0);
  }

  get range(): RecordingRange {
    const { keyframes, bytes } = this.#recording;
    const to = this.#playing === undefined ? this.#core.count : this.#end.count;
    return { from: keyframes[0]!.count, to, keyframes: keyframes.length, bytes };
  }

  get playing(): boolean {
    return this.#playing !== undefined;
  }

  // --- running ---

  /** In the place of core.run(). It may return RunCode.Instructions earlier than asked, at a keyframe or the end of the log. */
  run(maxInstructions: bigint, work: bigint): RunCode {
    this.#noteOutside();
    if (this.#playing !== undefined) return this.#play(maxInstructions, work);
    const last = this.#recording.keyframes.at(-1)!;
    const room = last.count + this.#recording.interval - this.#core.count;
    if (room <= 0n) this.#addKeyframe();
    const limit = room > 0n ? room : this.#recording.interval;
    try {
      return this.#core.run(MIN(maxInstructions, limit), work);
    } finally {
      this.#keep();
    }
  }

  /** Changes that callers made since the processor stopped. In the past they cut the future off. */
  #noteOutside(): void {
    if (this.#traps.changes !== this.#trapChanges) {
      this.begin();
      return;
    }
    const words = this.#difference(this.#last, STATE_WORDS);
    const memory = this.#written;
    if (words.length === 0 && memory.length === 0) return;
    this.#written = [];
    // the count that the processor had stopped at, before the change
    const count = BigInt(this.#last[(COUNT - GPR) / 4]!) | (BigInt(this.#last[(COUNT - GPR) / 4 + 1]!) << 32n);
    const rcx = BigInt(this.#last[(RCX - GPR) / 4]!) | (BigInt(this.#last[(RCX - GPR) / 4 + 1]!) << 32n);
    if (this.#playing !== undefined) {
      this.#recording.cut(this.#playing, count);
      this.#playing = undefined;
    }
    this.#recording.append({ kind: "outside", count, rcx, patch: { words, memory } });
    this.#keep();
  }

  #keep(): void {
    this.#last.set(this.#core.u32.subarray(GPR / 4, GPR / 4 + STATE_WORDS));
  }

  #addKeyframe(): void {
    this.#recording.addKeyframe({
      count: this.#core.count,
      state: captureState(this.#core),
      contents: this.#snapshots.contents(),
      logAt: this.#recording.log.length,
    });
  }

  // --- callbacks ---

  #call<T>(body: () => T): T {
    const core = this.#core;
    if (this.#playing !== undefined) {
      const entry = this.#recording.log[this.#playing];
      if (entry?.kind !== "call")
        throw this.#diverged("asked for something that was not asked for when it was recorded");
      this.#playing++;
      if (entry.patch) this.#apply(entry.patch);
      return entry.result as T;
    }
    const state = core.u32.subarray(GPR / 4, GPR / 4 + STATE_WORDS);
    this.#before.set(state);
    this.#before.set(core.u32.subarray(COMM / 4, COMM / 4 + COMM_WORDS), STATE_WORDS);
    const result = body();
    const words = this.#difference(this.#before, STATE_WORDS + COMM_WORDS);
    const memory = this.#written;
    if (memory.length > 0) this.#written = [];
    const patch = words.length + memory.length > 0 ? { words, memory } : undefined;
    this.#recording.append({ kind: "call", result, patch });
    return result;
  }

  #difference(before: Uint32Array, words: number): Uint32Array {
    const { u32 } = this.#core;
    const found: number[] = [];
    for (let i = 0; i < words; i++) {
      const at = i < STATE_WORDS ? GPR / 4 + i : COMM / 4 + i - STATE_WORDS;
      if (u32[at] !== before[i] && !SKIPPED.has(at * 4)) found.push(at * 4, u32[at]!);
    }
    return Uint32Array.from(found);
  }

  #apply({ words, memory }: Patch): void {
    const core = this.#core;
    let mode = false;
    for (let i = 0; i < words.length; i += 2) {
      core.write32(words[i]!, words[i + 1]!);
      mode ||= words[i]! >= EFLAGS_REST && words[i]! < MSR_SYSENTER_CS;
    }
    for (const { host, bytes } of memory) {
      core.u8.set(bytes, host);
      core.exports.noteHostWrite(host, bytes.length);
    }
    if (mode) core.stateChanged();
    core.write64(COUNT_LIMIT, MIN(core.read64(DEADLINE), core.read64(HOST_DEADLINE), core.read64(RUN_LIMIT)));
    core.write32(STOP, core.read32(STOP) | StopBit.Leave);
  }

  #diverged(what: string): InternalError {
    return new InternalError(`the recording cannot be played again: the guest ${what}`, { rip: this.#core.rip });
  }

  // --- playing ---

  /** Next change from outside in the log. */
  #nextOutside(): number {
    const { log } = this.#recording;
    for (let i = this.#playing!; i < log.length; i++) if (log[i]!.kind === "outside") return i;
    return -1;
  }

  /** Runs on in the recording, to its end at most. */
  #play(maxInstructions: bigint, work: bigint): RunCode {
    const core = this.#core;
    const target = MIN(core.count + maxInstructions, this.#end.count);
    try {
      for (;;) {
        const at = this.#nextOutside();
        const entry = at < 0 ? undefined : this.#recording.log[at]!;
        const outside = entry?.kind === "outside" ? entry : undefined;
        // a place is what it was when the processor stopped there, before anything was changed; but the end has it all
        const here = outside !== undefined && outside.count === core.count;
        if (here && core.count >= target && target < this.#end.count) return RunCode.Instructions;
        if (here && this.#arrived(at, outside.rcx)) {
          this.#apply(outside.patch);
          this.#playing = at + 1;
          continue;
        }
        if (core.count >= this.#end.count && at < 0 && this.#arrived(this.#recording.log.length, this.#end.rcx)) {
          this.#playing = undefined;
          return RunCode.Instructions;
        }
        if (core.count >= target) return RunCode.Instructions;
        const stop = outside ? MIN(outside.count, target) : target;
        this.#traps.apply();
        const code = core.run(stop - core.count, work);
        if (code === RunCode.Deadline) continue;
        if (code === RunCode.Halt && outside && outside.count === core.count) continue;
        if (code !== RunCode.Instructions) return code;
      }
    } finally {
      this.#keep();
    }
  }

  /** Plays the pieces of a REP until the log and RCX are where they were. */
  #arrived(logAt: number, rcx: bigint): boolean {
    const core = this.#core;
    const { count } = core;
    while (this.#playing! < logAt || core.gpr(1) !== rcx) {
      core.run(1n, 1n);
      if (core.count !== count) throw this.#diverged("did not stop where it was stopped");
    }
    return true;
  }

  /** The state at a keyframe, in the past. */
  load(keyframe: Keyframe): void {
    this.#leaveLive();
    this.#snapshots.put(keyframe.state, keyframe.contents);
    this.#playing = keyframe.logAt;
    this.#written = [];
    this.#keep();
  }

  #leaveLive(): void {
    this.#noteOutside();
    if (this.#playing !== undefined) return;
    this.#end = { count: this.#core.count, rcx: this.#core.gpr(1) };
  }

  /** Goes to an instruction count. Breakpoints do not stop on the way. RangeError when it is not in the recording. */
  seek(count: bigint): void {
    const { from, to } = this.range;
    const keyframe = this.#recording.before(count);
    if (count > to || keyframe === undefined) {
      throw new RangeError(`the recording holds instruction counts ${from} to ${to}, not ${count}`);
    }
    this.load(keyframe);
    this.#traps.ignore(STOPS);
    try {
      while (this.#core.count < count && this.#playing !== undefined) {
        this.#play(count - this.#core.count, 1n << 40n);
      }
    } finally {
      this.#traps.ignore(0);
    }
  }

  /** Keyframes before a count, the last one first. */
  keyframesBefore(count: bigint): Keyframe[] {
    return this.#recording.keyframes.filter((keyframe) => keyframe.count < count).reverse();
  }
}
