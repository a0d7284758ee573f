// Places of a run to come back to: few, near each other at the start and further apart the longer the run is.
import type { Mark, Session } from "./session.ts";

/** Instructions between two keyframes at first. */
const INTERVAL = 200_000;
const MOST = 48;

export interface Keyframe {
  readonly count: number;
  readonly mark: Mark;
  /** Bytes that the console had then. */
  readonly console: number;
}

export class Keyframes {
  #interval = INTERVAL;
  #frames: Keyframe[] = [];

  /** Keeps the present place when it is far enough from the last one. */
  pass(session: Session, console: number): void {
    if (!session.keep) return;
    const { count } = session;
    const last = this.#frames.at(-1);
    if (last && count < last.count + this.#interval) return;
    this.#frames.push({ count, mark: session.keep(), console });
    if (this.#frames.length <= MOST) return;
    this.#frames = this.#frames.filter((_, i) => i % 2 === 0);
    this.#interval *= 2;
  }

  /** The last place at or before a count; those after it are forgotten, since another future may come. */
  before(count: number): Keyframe | undefined {
    const found = this.#frames.findLast((frame) => frame.count <= count);
    this.#frames = this.#frames.filter((frame) => frame.count <= count);
    return found;
  }
}
