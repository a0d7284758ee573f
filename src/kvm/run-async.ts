import { FIRST_SLICE, nextSlice, yieldToHost } from "../machine/yield.ts";
import type { KvmExit } from "./exit.ts";
import type { RunBounds, RunSteps } from "./run.ts";

export interface RunAsyncOptions extends Omit<RunBounds, "slice"> {
  /** An abort ends the run with "intr", as a signal to the thread would. */
  readonly signal?: AbortSignal;
}

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
    work = nextSlice(work, performance.now() - begun);
    await yieldToHost();
    begun = performance.now();
    step = steps.next(signal?.aborted ? 0n : BigInt(work));
  }
  return step.value;
}
