// A recording: keyframes, and what came from outside between them. Everything else of a run follows from its beginning.
import { GPR, STATE_END } from "../../assembly/abi/state.ts";
import type { PageStore } from "../snapshot/index.ts";

/** Words of the state block, and of what callbacks answer through, that somebody outside changed; and memory. */
export interface Patch {
  /** Pairs of byte address and value. */
  readonly words: Uint32Array;
  readonly memory: readonly { readonly host: number; readonly bytes: Uint8Array }[];
}

/** A callback's answer. */
export interface CallEntry {
  readonly kind: "call";
  readonly result: unknown;
  readonly patch: Patch | undefined;
}

/** A change while the processor stood still, at an instruction count (and RCX, for a REP that has begun). */
export interface OutsideEntry {
  readonly kind: "outside";
  readonly count: bigint;
  readonly rcx: bigint;
  readonly patch: Patch;
}

export type Entry = CallEntry | OutsideEntry;

export interface Keyframe {
  readonly count: bigint;
  readonly state: Uint8Array;
  readonly contents: readonly PageStore[];
  /** Entries of the log that come before it. */
  readonly logAt: number;
}

export interface RecordOptions {
  /** Instructions between two keyframes; going back runs at most so many again. Default 1,000,000. */
  readonly interval?: number;
  /** Keyframes kept at a time; beyond it every second of the older half goes. Default 64. */
  readonly maxKeyframes?: number;
  /** Bytes of pages and entries kept; beyond it the beginning is forgotten, but for the last keyframe. Default 256 MiB. */
  readonly maxBytes?: number;
}

export interface RecordingRange {
  /** Instruction counts that can be gone back to. */
  readonly from: bigint;
  readonly to: bigint;
  readonly keyframes: number;
  readonly bytes: number;
}

const ENTRY_BYTES = 64;

function entryBytes({ patch }: Entry): number {
  if (!patch) return ENTRY_BYTES;
  return ENTRY_BYTES + patch.words.length * 4 + patch.memory.reduce((sum, { bytes }) => sum + bytes.length + 16, 0);
}

/** Keyframes and log, within a bound of memory. */
export class Recording {
  readonly interval: bigint;
  readonly #maxKeyframes: number;
  readonly #maxBytes: number;
  #keyframes: Keyframe[] = [];
  /** Pages that a keyframe does not share with the one before it. */
  #pages: number[] = [];
  #log: Entry[] = [];
  #logBytes = 0;

  constructor({ interval = 1_000_000, maxKeyframes = 64, maxBytes = 256 << 20 }: RecordOptions) {
    this.interval = BigInt(interval);
    this.#maxKeyframes = maxKeyframes;
    this.#maxBytes = maxBytes;
  }

  get log(): readonly Entry[] {
    return this.#log;
  }

  get keyframes(): readonly Keyframe[] {
    return this.#keyframes;
  }

  get bytes(): number {
    const states = this.#keyframes.length * (STATE_END - GPR);
    return this.#pages.reduce((sum, pages) => sum + pages, 0) * 4096 + this.#logBytes + states;
  }

  append(entry: Entry): void {
    this.#log.push(entry);
    this.#logBytes += entryBytes(entry);
  }

  addKeyframe(keyframe: Keyframe): void {
    this.#keyframes.push(keyframe);
    this.#pages.push(this.#newPages(this.#keyframes.length - 1));
    if (this.#keyframes.length > this.#maxKeyframes) this.#thin();
    while (this.bytes > this.#maxBytes && this.#keyframes.length > 1) this.#forgetFirst();
  }

  /** The last keyframe at or before a count. */
  before(count: bigint): Keyframe | undefined {
    return this.#keyframes.findLast((keyframe) => keyframe.count <= count);
  }

  /** Forgets what comes after this place of the log. */
  cut(logAt: number, count: bigint): void {
    this.#log.length = logAt;
    this.#logBytes = this.#log.reduce((sum, entry) => sum + entryBytes(entry), 0);
    const keep = this.#keyframes.filter((keyframe) => keyframe.count <= count && keyframe.logAt <= logAt).length;
    this.#keyframes.length = keep;
    this.#pages.length = keep;
  }

  #newPages(at: number): number {
    const { contents } = this.#keyframes[at]!;
    const before = this.#keyframes[at - 1]?.contents;
    return contents.reduce((sum, store, i) => {
      let pages = 0;
      for (const _ of before ? store.differences(before[i]!) : store.entries()) pages++;
      return sum + pages;
    }, 0);
  }

  #thin(): void {
    const half = this.#keyframes.length >> 1;
    this.#keyframes = this.#keyframes.filter((_, i) => i === 0 || i > half || i % 2 === 0);
    this.#pages = this.#keyframes.map((_, i) => this.#newPages(i));
  }

  #forgetFirst(): void {
    const [, second] = this.#keyframes;
    const gone = second!.logAt;
    this.#log = this.#log.slice(gone);
    this.#logBytes = this.#log.reduce((sum, entry) => sum + entryBytes(entry), 0);
    this.#keyframes = this.#keyframes.slice(1).map((keyframe) => ({ ...keyframe, logAt: keyframe.logAt - gone }));
    this.#pages = this.#keyframes.map((_, i) => this.#newPages(i));
  }
}
