/** Lets the event loop turn once, timers, signals and messages included. */
export function yieldToHost(): Promise<void> {
  if (typeof setImmediate === "function") return new Promise((resolve) => setImmediate(resolve));
  if (typeof MessageChannel === "undefined") return new Promise((resolve) => setTimeout(resolve, 0));
  // browsers clamp nested timers to 4 ms; a message is not clamped
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

export const SLICE_MS = 10;
/** Work of the first slice. */
export const FIRST_SLICE = 2_000;
const SMALLEST_SLICE = 100;
/** More than any slice can use. */
const LARGEST_SLICE = 1e9;

/** Work of the next slice of about 10 ms, after one of `work` that took `elapsed` ms. It may have ended early: other things end slices too. */
export function nextSlice(work: number, elapsed: number): number {
  const wanted = Math.floor((work * SLICE_MS) / Math.max(elapsed, 0.1));
  return Math.max(SMALLEST_SLICE, Math.min(wanted, work * 4, LARGEST_SLICE));
}
