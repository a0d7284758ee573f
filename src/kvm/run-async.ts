import { yieldToHost } from "../machine/index.ts";
import type { KvmExit } from "./exit.ts";
import type { RunBounds, RunSteps } from "./run.ts";

export interface RunAsyncOptions extends Omit<RunBounds, "slice"> {
  /** An abort ends the run with "intr", as a signal to the thread would. */
  readonly signal?: AbortSignal;
}

const FIRST_SLICE = 2_000;
const SMALLEST_SLICE = 100;
const SLICE_MS = 10;

/** KVM_RUN in slices of about 10 ms, with the event loop served between them. Slices change no count. */
export async function runInSlices(
  runSteps: (bounds: RunBounds) => RunSteps<KvmExit>,
  options: RunAsyncOptions,
): Promise<KvmExit> {
  const { signal, ...bounds } = options;
  let work = FIRST_SLICE;
  const steps = runSteps({ ...bounds, slice: signal?.aborted ? 1n : BigInt(work) });
  let begun = performance.now();
  let step = steps.next();
  while (!step.done) {
    const elapsed = Math.max(performance.now() - begun, 0.1);
    work = Math.max(SMALLEST_SLICE, Math.min(Math.floor((work * SLICE_MS) / elapsed), work * 4));
    await yieldToHost();
    begun = performance.now();
    step = steps.next(signal?.aborted ? 0n : BigInt(work));
  }
  return step.value;
}
